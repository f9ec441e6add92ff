"""``napari-unet-cells dataset``, as it is typed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet_cells.cli import dataset as cli_dataset
from napari_unet_cells.errors import UserError

DONE, BAD_INPUT = 0, 2


def run(*arguments: str | Path) -> int:
    """Run the command the way `cli.main` does."""
    parser = argparse.ArgumentParser()
    cli_dataset.add(parser.add_subparsers(required=True))
    options = parser.parse_args(["dataset", *map(str, arguments)])
    code: int = options.command(options)
    return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(6):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            pixels = rng.integers(0, 9, (20, 30), np.uint16)
            tifffile.imwrite(tmp_path / kind / f"{i}.tif", pixels)
    return tmp_path


def test_a_good_folder_is_fine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(folder / "images" / "lonely.tif", np.zeros((4, 4), np.uint8))
    assert run("check", folder) == DONE
    said = capsys.readouterr()
    assert said.err == ""
    note, summary = said.out.splitlines()
    assert note.startswith("Note: ")
    assert note.endswith("lonely.tif has no mask and is left out.")
    assert summary.endswith("is fine: 6 regions of 6 images (6 undecided).")


def test_errors_go_to_stderr_and_into_the_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(folder / "masks" / "3.tif", np.zeros((5, 30), np.uint16))
    assert run("check", folder) == BAD_INPUT
    said = capsys.readouterr()
    assert "3.tif is 5 x 30 pixels and its image 20 x 30" in said.err
    assert "is fine" not in said.out
    assert run("check", folder / "nowhere") == BAD_INPUT
    assert "is not an annotated data set" in capsys.readouterr().err


def test_split_and_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("split", folder) == DONE
    held, summary = capsys.readouterr().out.splitlines()
    assert held.startswith("held out: ")
    assert summary == "5 for training, 1 held out; 6 of them were assigned now."
    records = json.loads((folder / "index.json").read_text())
    records[0] |= {"version": 2, "approved": "2026-01-02T03:04:05", "edited": True}
    records.append({"name": "5b.tif", "replaced_by": "0.tif"})
    (folder / "index.json").write_text(json.dumps(records))
    assert run("list", folder) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert lines[0].endswith(", unknown, version 2, approved 2026-01-02, corrected")
    assert lines[-1] == "6 regions of 6 images (5 train, 1 val); 1 older versions are kept."
    name = held.removeprefix("held out: ")
    assert f"{name}: val, unknown" in "\n".join(lines)


def test_options_of_the_split(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("split", folder, "--fraction", "0.5", "--seed", "3") == DONE
    assert "3 for training, 3 held out" in capsys.readouterr().out
    with pytest.raises(UserError, match="between 0 and 1"):
        run("split", folder, "--fraction", "2")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["check"], ["split", "x", "--fraction", "a"]])
def test_an_incomplete_command_is_bad_input(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == BAD_INPUT
