"""The command `batch`, as a biologist types it."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
import tifffile

from napari_unet_cells.cli import batch as cli_batch
from napari_unet_cells.cli.image_options import request_of
from napari_unet_cells.cli.main import _parser, main
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.sample_data import simulate_nuclei

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for day in (1, 2):
        folder = tmp_path / f"day{day}"
        folder.mkdir()
        tifffile.imwrite(folder / "n.tif", simulate_nuclei((96, 80), seed=day)[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def batch(*arguments: str) -> int:
    return main(["batch", *arguments, "-o", "out", "--model", "cells-fast"])


@pytest.mark.slow
def test_folders_go_through_and_a_second_run_has_nothing_to_do(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "day2" / "bad.tif").write_bytes(b"")
    assert batch("day*/*.tif", "nowhere", "day1/n.tif") == SOME_FAILED
    said = capsys.readouterr()
    assert "nowhere does not exist" in said.err
    assert "n.tif was named more than once" in said.err
    assert "day2/bad: bad.tif is empty (0 bytes)" in said.err
    assert "day1/n: " in said.out
    assert f"2 of 4 done; report: {Path('out') / 'report.html'}" in said.out
    assert "day2/n," in (images / "out" / "cells.csv").read_text()

    (images / "day2" / "bad.tif").unlink()
    assert batch("day*/*.tif") == DONE
    said = capsys.readouterr()
    assert "2 were done by an earlier run." in said.out
    assert "2 of 2 done" in said.out

    tifffile.imwrite(images / "day1" / "n.tif", simulate_nuclei((96, 80), seed=5)[0])
    assert batch("day*/*.tif", "--min-size", "5") == DONE
    said = capsys.readouterr()
    assert "(began anew: the image was changed; other settings: min-size)" in said.out
    assert "(began anew: other settings: min-size)" in said.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["day1", "day2"], "would both be written as n_cells.tif"),
        (["."], "The folder of the results, out, lies inside ."),
        (["day1", "--link", "z"], "--link needs --plane all"),
        (["day1", "--runtime", "onnx"], "There is no runtime 'onnx'"),
        (["day1", "--track", "--link", "t", "--plane", "all"], "either linked (--link) or tracked"),
        (["day1", "--track", "--plane", "3"], "--track needs all planes"),
        (["day1", "--no-divisions"], "say how cells are tracked: add --track"),
        (["day1", "--track", "--track-distance", "0"], "from frame to frame, not by 0 "),
        (["day1", "--track", "--track-missing", "-1"], "in 0 to 100 frames, not in -1"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_nothing_is_made(
    images: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    tifffile.imwrite(images / "top.tif", simulate_nuclei((96, 80), seed=1)[0])
    assert batch(*arguments) == BAD_INPUT
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not (images / "out").exists()


def test_ctrl_c_leaves_a_report_and_says_how_to_go_on(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_batch, "_line", stop)
    (images / "day1" / "n.tif").write_bytes(b"")
    assert batch("day*/*.tif") == INTERRUPTED
    assert "The same command goes on where it was interrupted" in capsys.readouterr().err
    assert "1</b> failed" in (images / "out" / "report.html").read_text()


def test_what_decides_on_a_result_is_noted_as_json() -> None:
    """Options that say where and how files are kept are none of it."""

    def decisive(*arguments: str) -> dict[str, object]:
        options: argparse.Namespace = _parser().parse_args(["batch", "a", "-o", "b", *arguments])
        return request_of(options).decisive()

    assert decisive() == decisive("--overwrite") == decisive("--runtime", "auto")
    for option in (["--diameter", "9"], ["--channel", "1,2"], ["--tta"], ["--keep-holes"]):
        assert decisive(*option) != decisive()
    assert "track" not in decisive()  # results of earlier versions are not made anew
    track = decisive("--track", "--track-distance", "0.5", "--no-divisions")["track"]
    assert track == {"distance": 0.5, "missing": 2, "division_distance": 0.0}
    assert decisive("--track")["plane"] == "all"
    assert json.loads(json.dumps(decisive("--channel", "0,GFP")))["channel"] == [0, "GFP"]


def test_of_a_model_the_scale_decides_on_a_result() -> None:
    request = request_of(_parser().parse_args(["batch", "a", "-o", "b"]))
    card = find_model("cells")
    usual = request.decisive(card)
    assert "tuned_diameter" not in usual["card"]  # results of earlier versions are not made anew
    for change in ({"tuned_diameter": 30.0}, {"diameter_window": (27.0, 54.0)}):
        assert request.decisive(replace(card, **change)) != usual


@pytest.mark.slow
def test_parts_together_are_the_whole_and_leave_table_and_report_to_the_last(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As jobs of an array do, on computers that do not know of each other."""
    for number in (1, 2, 3):
        assert batch("day*/*.tif", "--part", f"{number}/3") == DONE
    assert sorted(path.name for path in (images / "out").iterdir()) == ["day1", "day2"]
    said = capsys.readouterr().out
    assert "1 of 1 done; part 1/3" in said
    assert "1 of 1 done; part 2/3" in said
    assert "part 3/3" not in said  # two images only
    assert batch("day*/*.tif") == DONE
    assert "2 were done by an earlier run." in capsys.readouterr().out
    assert (images / "out" / "report.html").exists()
    rows = (images / "out" / "cells.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows} == {"image", "day1/n", "day2/n"}


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", f"1/{'9' * 5000}"])
def test_a_part_that_cannot_be_is_a_sentence(
    images: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    assert batch("day1", f"--part={part}") == BAD_INPUT
    said = capsys.readouterr().err
    assert "--part is a number and how many there are, such as 3/10, not '" in said
    assert len(said) < 200
