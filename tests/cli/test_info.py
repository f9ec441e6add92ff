"""The command ``info``: what a bug report needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_unet_cells import __version__
from napari_unet_cells.cli.main import main


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, str]:
    assert main(["info", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split(": ", 1) for line in lines)


def test_versions_folders_and_models_are_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.keras").write_bytes(b"x")
    facts = printed(capsys, "--no-device")
    assert facts["napari-unet-cells"] == __version__
    assert facts["folder of models"] == str(tmp_path / "models")
    assert {"cells", "cells-fast"} <= set(facts["models"].split(", "))
    assert facts["damaged models"].startswith("bad: ")
    assert "device" not in facts
    assert "tensorflow" in facts["runtimes"]
    assert facts["runtimes"].endswith("; chosen: auto")


def test_a_missing_library_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "napari_unet_cells.cli.info.DISTRIBUTIONS"
    monkeypatch.setattr(module, ("no-such-distribution",))
    assert printed(capsys, "--no-device")["no-such-distribution"] == "not installed"


@pytest.mark.parametrize(
    "error", [ImportError("no libcudart\nand more"), TypeError("Descriptors"), MemoryError()]
)
def test_what_is_broken_is_said_and_the_rest_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(card: object) -> None:
        raise error

    monkeypatch.setattr("napari_unet_cells.engine.opening.open_network", fail)
    facts = printed(capsys)
    assert facts["device"].startswith(f"unknown ({type(error).__name__}")
    assert "cells" in facts["models"]


def test_a_home_that_cannot_be_found_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", "~nobody-of-this-name/x")
    assert "unknown" in printed(capsys, "--no-device")["folder of models"]


def test_a_console_without_the_letters_gets_all_lines(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_unet_cells.cli", "info", "--no-device"],
        env=os.environ
        | {"PYTHONIOENCODING": "ascii", "NAPARI_UNET_CELLS_HOME": str(tmp_path / "\xe9")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "damaged models: none" in done.stdout
    assert r"\xe9" in done.stdout


def test_without_the_device_no_network_library_is_loaded() -> None:
    code = (
        "import sys; from napari_unet_cells.cli.main import main; main(['info', '--no-device']); "
        "assert not {'tensorflow', 'keras', 'torch', 'napari'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.network
def test_the_device_is_the_one_that_segments(capsys: pytest.CaptureFixture[str]) -> None:
    assert "PU" in printed(capsys)["device"]  # CPU or GPU
