"""``napari-unet-cells simulate``, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_unet_cells.cli.main import main

DONE, BAD_INPUT = 0, 2


def test_images_are_written_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sim"
    kinds = "colonies, phase-contrast"
    code = main(
        ["simulate", "-o", str(folder), "-n", "3", "--seed", "4", "--kinds", kinds, "--size", "96"]
    )
    assert code == DONE
    records = json.loads((folder / "index.json").read_text())
    cells = sum(record["cells"] for record in records)
    assert cells > 0
    assert capsys.readouterr().out == f"3 images with {cells} cells: {folder}\n"
    assert {record["world"]["shape"] for record in records} == {"colonies"}
    assert {record["kind"] for record in records} == {"simulated-phase-contrast"}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["-n", "0"], "At least 1 image must be asked for, not 0."),
        (["-n", "50001"], "One dataset can have 50000 images, not 50001."),
        (["--kinds", "worms"], "There is no kind 'worms'. Shapes: round, ellipses"),
        (["--size", "4000"], "Images can have 64 to 1024 pixels a side, not 4000."),
    ],
)
def test_mistakes_are_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert main(["simulate", "-o", str(tmp_path / "sim"), *more]) == BAD_INPUT
    said = capsys.readouterr()
    assert said.err.startswith(sentence)
    assert said.out == ""


def test_what_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", "-o", str(tmp_path / "sim"), "-n", "1", "--size", "64"]
    assert main(arguments) == DONE
    before = (tmp_path / "sim" / "index.json").read_bytes()
    assert main([*arguments, "--seed", "9"]) == BAD_INPUT
    assert "is not empty and was left as it is" in capsys.readouterr().err
    assert (tmp_path / "sim" / "index.json").read_bytes() == before
