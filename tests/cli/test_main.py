"""The command line, as a biologist types it: files, sentences and exit codes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_unet_cells import __version__
from napari_unet_cells.cli import main as cli
from napari_unet_cells.cli.image_options import request_of
from napari_unet_cells.cli.main import main
from napari_unet_cells.files import read_image, read_provenance
from napari_unet_cells.sample_data import simulate_nuclei

if TYPE_CHECKING:
    from napari_unet_cells.training.trainer import TrainOptions

DONE, SOME_FAILED, BAD_INPUT = 0, 1, 2

network = pytest.mark.network


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in (1, 2):
        image, _ = simulate_nuclei((96, 80), seed=i)
        tifffile.imwrite(
            folder / f"n{i}.tif", image, imagej=True, resolution=(4, 2), metadata={"unit": "um"}
        )
    return folder


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three annotated images, the last one for validation."""
    folder = tmp_path_factory.mktemp("sets") / "simulated"
    for i in range(3):
        for kind, pixels in zip(
            ("images", "masks"), simulate_nuclei((160, 160), seed=i), strict=True
        ):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / kind / f"{i}.tif", pixels.astype(np.uint16))
    records = [{"name": f"{i}.tif", "kind": "sim", "split": "train"} for i in range(2)]
    records.append({"name": "2.tif", "kind": "sim", "split": "val"})
    (folder / "index.json").write_text(json.dumps(records))
    return folder


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was said on stderr, which is no traceback."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


# --- without the network ----------------------------------------------------------------


def test_as_a_program_a_mistake_is_one_sentence_on_stderr(tmp_path: Path, images: Path) -> None:
    command = [sys.executable, "-m", "napari_unet_cells.cli.main", "segment", str(images)]
    command += ["-o", str(tmp_path / "out"), "--model", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == BAD_INPUT
    assert done.stdout == ""
    assert done.stderr.startswith("There is no model 'nothing'")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["fly"], ["segment"], ["segment", "a.tif"], ["train"]])
def test_an_incomplete_command_is_bad_input(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == BAD_INPUT
    assert "usage: napari-unet-cells" in sentence(capsys)


@pytest.mark.parametrize("command", ["segment", "train", "evaluate", "models"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "usage: napari-unet-cells" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


_MODELS = """
import json, sys
from napari_unet_cells.cli.main import main
code = main(["models"])
slow = ("scipy", "skimage", "tifffile", "zarr", "PIL", "psutil", "keras", "tensorflow", "openvino")
print(json.dumps([code, [name for name in slow if name in sys.modules]]))
"""


@pytest.mark.slow
def test_listing_models_loads_nothing_that_is_slow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MODELS], capture_output=True, text=True, check=True, timeout=60
    )
    assert "cells-fast: " in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


def test_a_runtime_that_does_not_exist_is_a_sentence(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["segment", str(images), "-o", str(tmp_path / "out"), "--runtime", "onnx"]
    assert main(arguments) == BAD_INPUT
    assert "There is no runtime 'onnx'" in sentence(capsys)


@pytest.mark.parametrize(
    ("options", "augmented"),
    [
        ([], False),
        (["--tta"], True),
        (["--test-time-augmentation"], True),
        (["--quality", "high"], True),
        (["--quality", "normal"], False),
    ],
)
@pytest.mark.parametrize("command", [["segment", "a.tif", "-o", "out"], ["evaluate", "cells", "a"]])
def test_test_time_augmentation_has_an_old_name(
    command: list[str], options: list[str], augmented: bool
) -> None:
    assert cli._parser().parse_args([*command, *options]).tta is augmented


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("1", 1), ("GFP", "GFP"), ("0,2", (0, 2)), ("DAPI, 2", ("DAPI", 2)), ("-1", -1)],
)
def test_channels_are_numbers_or_names(text: str, chosen: Any) -> None:
    arguments = ["segment", "a.tif", "-o", "out", f"--channel={text}", "--projection", "max"]
    request = request_of(cli._parser().parse_args(arguments))
    assert request.channel == chosen
    assert request.projection == "max"


def test_values_of_old_names_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["segment", "a.tif", "-o", "out", "--quality", "best"])
    assert caught.value.code == BAD_INPUT
    assert "choose from normal, high" in sentence(capsys)
    with pytest.raises(SystemExit):
        main(["segment", "--help"])
    said = capsys.readouterr().out
    assert "--tta" in said
    assert "--quality" not in said


def test_ctrl_c_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_models", interrupted)
    assert main(["models"]) == 130
    assert "Stopped" in sentence(capsys)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("nowhere.tif", r"nowhere.tif does not exist"),
        ("*.bmp", "matches no image"),
        ("empty", "is a folder without images"),
    ],
)
def test_nothing_to_segment(
    tmp_path: Path, named: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["segment", str(tmp_path / named), "-o", str(tmp_path / "out")]) == BAD_INPUT
    assert said in sentence(capsys)


def broken_model(path: Path, kind: str) -> str:
    if kind == "text":
        path.write_text("Hello, I am a text.")
    elif kind == "h5":
        path = path.with_suffix(".h5")
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
    elif kind == "code":
        code = {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}}
        layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}}
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(layer))
            archive.writestr("model.weights.h5", "")
    return str(path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "There is no model"),
        ("text", "m.keras is damaged"),
        ("h5", "m.h5 is not a model file"),
        ("code", "was not opened: it contains __lambda__, keras.layers.Lambda"),
    ],
)
@pytest.mark.parametrize("command", ["segment", "evaluate"])
def test_a_model_that_cannot_be_used(
    tmp_path: Path,
    images: Path,
    command: str,
    kind: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = broken_model(tmp_path / "m.keras", kind)
    if command == "segment":
        arguments = [str(images), "-o", str(tmp_path / "out"), "--model", model]
    else:
        arguments = [model, str(images)]
    assert main([command, *arguments]) == BAD_INPUT
    assert said in sentence(capsys)


def test_models_are_listed_and_broken_ones_named(
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    folder = tmp_path / "models"
    folder.mkdir()
    for path in (tiny_model, tiny_model.with_suffix(".json")):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "bad.keras").write_bytes(b"no zip")

    assert main(["models"]) == DONE

    said = capsys.readouterr()
    assert "tiny: Untrained." in said.out
    assert "for cells 10 to 40 pixels wide; finds background, cell, boundary" in said.out
    assert str(folder) in said.out
    assert "bad.keras is damaged" in said.err


@pytest.mark.parametrize("name", [[], ["odd"]])
def test_an_architecture_that_is_not_known_is_said(
    name: list[str],
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "odd.keras"
    path.write_bytes(tiny_model.read_bytes())
    card = json.loads(tiny_model.with_suffix(".json").read_text())
    # A sign that turns text around is shown as what it is.
    said = r"architecture that this version does not know ('vision_\u202eformer'). It segments, and"
    for architecture, there in (("vision_\u202eformer", True), (card["architecture"], False)):
        path.with_suffix(".json").write_text(json.dumps(card | {"architecture": architecture}))
        assert main(["models", *name]) == DONE
        assert (said in " ".join(capsys.readouterr().out.split())) == there


def test_one_model_is_described(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(tiny_model)]) == DONE
    said = capsys.readouterr().out
    assert said.startswith("tiny\nUntrained.\n\nWorks on\nNobody wrote down")
    assert "- It learned mostly from cells 10 to 40 pixels wide.\n" in said
    assert main(["models", "cells-fast"]) == DONE
    assert "\n\nScores\nmeasured on" in capsys.readouterr().out


def test_a_model_that_is_not_there_cannot_be_described(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "nothing"]) == BAD_INPUT
    assert "There is no model 'nothing'" in sentence(capsys)


def test_a_diameter_that_is_no_number_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", "a.tif", "-o", str(tmp_path), "--diameter", "nan"]) == BAD_INPUT
    assert "--diameter must be above 0, not nan" in sentence(capsys)


@pytest.mark.parametrize("name", ["split", "min-probability", "certainty"])
@pytest.mark.parametrize("value", ["-0.1", "1.2", "nan"])
def test_a_limit_out_of_range_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    assert main(["segment", "a.tif", "-o", str(tmp_path), f"--{name}={value}"]) == BAD_INPUT
    option = "min-probability" if name == "certainty" else name  # the old name still works
    assert f"--{option} must lie between 0 and 1, not {value}" in sentence(capsys)


#: Names of as many classes as the masks of the tests have values.
_MANY = ",".join(f"class {number}" for number in range(40))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{out}/nowhere", "-o", "{out}/m.keras"], "is not an annotated data set"),
        (["{out}", "-o", "{out}/m.keras"], "needs the folders images and masks"),
        (["{data}", "-o", "{out}/m.h5"], "ends in .keras"),
        (["{data}", "-o", "{out}/none/m.keras"], "There is no folder"),
        (["{data}", "-o", "{out}/m.keras", "--minutes", "0"], "must be above 0"),
        (["{data}", "-o", "{out}/m.keras", "--alpha", "-1"], "--alpha must be at least 0.03125"),
        (["{data}", "-o", "{out}/m.keras", "--alpha", "0"], "--alpha must be at least 0.03125"),
        (
            ["{data}", "-o", "{out}/m.keras", "--arch", "vgg16_unet", "--alpha", "1"],
            "--alpha is the width of a MobileNet; vgg16_unet has none",
        ),
        (["{data}", "-o", "{out}/m.keras", "--classes", "a"], "must be 2 to 255 different names"),
        (["{data}", "-o", "{out}/m.keras", "--classes", "a,b,a"], "different names"),
        (["{data}", "-o", "{out}/m.keras", "--classes", "a,,b"], "different names"),
        (
            ["{data}", "-o", "{out}/m.keras", "--classes", "cell,rim,boundary"],
            "one number a cell: leave out --classes",
        ),
        (
            ["{data}", "-o", "{out}/m.keras", "--classes", "background,nucleus"],
            "masks/0.tif holds the value",
        ),
        (
            ["{data}", "-o", "{out}/m.keras", "--classes", f"{_MANY},{'n' * 201}"],
            "its classes[40] must be a text of 1 to 200 characters, and it has 201",
        ),
        (
            ["{data}", "-o", f"{{out}}/{'m' * 201}.keras"],
            "its name must be a text of 0 to 200 characters, and it has 201",
        ),
        (["{data}", "-o", "{out}/m.keras", "--seed", "4294967296"], "--seed must be at most"),
        (["{data}", "-o", "{out}/m.keras", "--batch", "10001"], "--batch must be at most 10000"),
        (["{data}", "-o", "{out}/m.keras", "--steps", f"1{'0' * 400}"], "--steps must be at most"),
        (["{data}", "-o", "{out}/m.keras", "--minutes", "1e308"], "--minutes must be at most"),
        (["{data}", "-o", "{out}/m.keras", "--channels", "0"], "1 to 16 channels, not 0"),
        (
            ["{data}", "-o", "{out}/m.keras", "--channels", "2"],
            "images/0.tif has 1 channels, and the network is to have 2. Choose --channels 1",
        ),
        (["{data}", "-o", "{out}/old.keras"], "--resume goes on with it, --overwrite starts anew"),
    ],
)
def test_a_training_that_cannot_be_says_so_at_once(
    tmp_path: Path,
    annotated: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "old.keras").write_bytes(b"a day of training")
    filled = [argument.format(out=tmp_path, data=annotated) for argument in arguments]
    assert main(["train", *filled]) == BAD_INPUT
    assert said in sentence(capsys)
    assert os.listdir(tmp_path) == ["old.keras"]
    assert (tmp_path / "old.keras").read_bytes() == b"a day of training"


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((64, 64), np.uint8), "not one cell to learn from"),
        (np.kron(np.tile([[1, 0], [0, 0]], (8, 8)), np.ones((4, 4))), "have the same number"),
        (np.ones((64, 32), np.uint8), "is 64 x 32 pixels and its image 64 x 64"),
    ],
)
def test_masks_to_learn_nothing_from(
    tmp_path: Path, mask: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, pixels in (("images", simulate_nuclei((64, 64))[0]), ("masks", mask)):
        (tmp_path / "set" / kind).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "set" / kind / "a.tif", pixels.astype(np.uint8))
    assert main(["train", str(tmp_path / "set"), "-o", str(tmp_path / "m.keras")]) == BAD_INPUT
    assert said in sentence(capsys)
    assert os.listdir(tmp_path) == ["set"]


# --- segment ----------------------------------------------------------------------------


@network
@pytest.mark.parametrize("named", ["images/n1.tif", "images", "images/*.tif"])
def test_a_file_a_folder_or_a_pattern_is_segmented(
    tmp_path: Path,
    images: Path,
    tiny_model: Path,
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    arguments = ["segment", str(tmp_path / named), "-o", str(output), "--model", str(tiny_model)]

    assert main(arguments) == DONE

    stems = ["n1"] if named.endswith("n1.tif") else ["n1", "n2"]
    ends = ("_cells.tif", "_cells.csv", "_classes.tif", ".json")
    names = {f"{stem}{end}" for stem in stems for end in ends}
    assert set(os.listdir(output)) == names
    for end in ("cells", "classes"):
        image = read_image(output / f"n1_{end}.tif")
        assert image.data.shape == (96, 80)
        assert (image.pixel_size, image.unit) == ((0.5, 0.25), "micrometer")
        assert read_provenance(image.path)["model"]["name"] == "tiny"
    record = json.loads((output / "n1.json").read_text())
    assert record["source"]["path"] == str(images / "n1.tif")
    said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.out.splitlines()[: len(stems)]] == [
        f"{stem}.tif" for stem in stems
    ]

    # once more: what is there is kept, and then replaced when asked
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert main(arguments) == (BAD_INPUT if len(stems) == 1 else SOME_FAILED)
    assert "exists and was kept; --overwrite replaces it" in sentence(capsys)
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before
    assert main([*arguments, "--overwrite"]) == DONE
    assert all(path.stat().st_mtime_ns > before[path] for path in output.iterdir())


@network
def test_bad_ones_among_several_are_named_and_the_rest_is_done(
    tmp_path: Path, images: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "a text.tif").write_text("Hello, I am a text.")
    (images / "cut.tif").write_bytes((images / "n1.tif").read_bytes()[:3000])
    tifffile.imwrite(images / "black.tif", np.zeros((50, 50), np.uint8))
    output = tmp_path / "out"
    arguments = ["segment", str(images), str(tmp_path / "lost.tif"), "-o", str(output)]

    assert main([*arguments, "--model", str(tiny_model)]) == SOME_FAILED

    said = capsys.readouterr()
    assert "Traceback" not in said.err
    for part in (
        "lost.tif does not exist",
        "a text.tif is not a TIFF",
        "cut.tif cannot be read as a TIFF: the file ends too early",
        "black.tif: The image is constant: every value is 0",
    ):
        assert part in said.err
    assert said.out.splitlines()[-1] == f"2 of 6 done; results in {output}"
    assert {name[:2] for name in os.listdir(output)} == {"n1", "n2"}


@network
@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((40, 40), 7, np.uint16), "constant: every value is 7"),
        (np.full((40, 40), np.nan, np.float32), "all are NaN"),
        (np.stack([np.arange(1600).reshape(40, 40)] * 5).astype(np.uint16), "stack"),
    ],
)
def test_a_single_bad_image_is_bad_input(
    tmp_path: Path, tiny_model: Path, pixels: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "bad.tif", pixels)
    arguments = ["segment", str(tmp_path / "bad.tif"), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--model", str(tiny_model)]) == BAD_INPUT
    assert said in sentence(capsys)
    assert os.listdir(tmp_path / "out") == []


@network
def test_one_pixel_can_be_segmented(tmp_path: Path, tiny_model: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", np.full((1, 1), 7, np.uint8))
    arguments = ["segment", str(tmp_path / "one.tif"), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--model", str(tiny_model)]) == DONE
    assert read_image(tmp_path / "out" / "one_cells.tif").data.shape == (1, 1)


def test_an_output_that_is_a_file(
    images: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(images / "n1.tif")
    assert main(["segment", path, "-o", path, "--model", str(tiny_model)]) == BAD_INPUT
    assert "n1.tif is a file, not a folder" in sentence(capsys)


@pytest.mark.parametrize("command", [["models"], ["models", "cells"], ["retrain", "."]])
def test_a_home_of_no_user_is_a_sentence(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", "~nobody-of-this-name/x")
    assert main(command) == BAD_INPUT
    said = sentence(capsys)
    assert "NAPARI_UNET_CELLS_HOME is ~nobody-of-this-name/x, and there is no user" in said


def test_an_error_that_nobody_foresaw_without_a_home_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> int:
        raise RuntimeError("of a library")

    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", "~nobody-of-this-name/x")
    monkeypatch.setattr(cli, "_models", fail)
    assert main(["models"]) == BAD_INPUT
    assert "nobody foresaw (RuntimeError: of a library). Please report it." in sentence(capsys)


# --- evaluate ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "said"),
    [("none/s.json", "There is no folder"), ("file/s.json", "There is no folder")],
)
def test_where_scores_cannot_be_written_nothing_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, said: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    # There is no data: what is refused is refused before it is looked for.
    arguments = ["evaluate", "cells", str(tmp_path / "no"), "-o", str(tmp_path / target)]
    assert main(arguments) == BAD_INPUT
    assert said in sentence(capsys)


@network
def test_evaluate_prints_scores_and_writes_json(
    tmp_path: Path, annotated: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "scores.json"
    arguments = ["evaluate", str(tiny_model), str(annotated), "-o", str(target)]

    assert main(arguments) == DONE

    assert "sim" in capsys.readouterr().out
    report = json.loads(target.read_text())
    assert report["model"]["name"] == "tiny"
    assert [image["name"] for image in report["images"]] == ["simulated/2"]
    assert set(report["scores"]) == {"all", "sim"}
    assert main(arguments) == BAD_INPUT
    assert "exists and was kept" in sentence(capsys)
    assert main([*arguments, "--overwrite", "--split", "all"]) == DONE
    assert len(json.loads(target.read_text())["images"]) == 3

    # without a file the scores are JSON on the last line
    capsys.readouterr()
    assert main(arguments[:3]) == DONE
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scores == report["scores"]


# --- train ------------------------------------------------------------------------------


def state_of(checkpoint: Path) -> tuple[int, int, float]:
    """Return steps counted by us, and by the optimizer, and the minutes of a checkpoint."""
    state = json.loads((checkpoint / "state.json").read_text())
    with np.load(checkpoint / state["slot"] / "optimizer.npz") as optimizer:
        return state["step"], int(optimizer["arr_0"]), state["seconds"] / 60


@network
def test_a_training_makes_a_model_resumes_and_segments(
    tmp_path: Path,
    annotated: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "mine.keras"
    arguments = ["train", str(annotated), "-o", str(model), "--arch", "unet_mini", "--batch", "1"]
    arguments += ["--synthetic", "0.25"]

    assert main([*arguments, "--minutes", "0.01"]) == DONE

    assert f"Model: {model}" in capsys.readouterr().out
    names = {"mine.keras", "mine.json", "mine.csv", "mine.png", "mine.checkpoint", "images"}
    assert set(os.listdir(tmp_path)) == names
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
    card = json.loads((tmp_path / "mine.json").read_text())
    assert card["architecture"] == "unet_mini"
    assert card["trained_on"] == [{"name": "simulated", "images": 2}]
    assert card["description"].endswith("0.01 minutes, 25% of the crops simulated.")
    assert 10 < card["diameters"][0] <= card["diameters"][1] < 40
    steps, iterations, minutes = state_of(tmp_path / "mine.checkpoint")
    assert steps == iterations > 0
    rows = list(csv.DictReader((tmp_path / "mine.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, steps + 1))
    assert float(rows[-1]["validation_loss"]) > 0

    assert main(arguments) == BAD_INPUT  # nothing is replaced unasked
    assert "mine.keras exists and was kept: --resume" in sentence(capsys)
    link = tmp_path / "link.keras"
    link.symlink_to(tmp_path / "mine.keras")
    there = [str(link) if one == str(model) else one for one in arguments]
    assert main([*there, "--overwrite"]) == BAD_INPUT  # before the training, not after
    assert "link.keras is a link to another place" in sentence(capsys)
    assert main([*arguments, "--resume", "--minutes", "0.01"]) == BAD_INPUT
    assert "has used up its 0.01 minutes" in sentence(capsys)
    assert main([*arguments, "--resume", "--minutes", str(minutes + 0.01)]) == DONE

    more, iterations, _ = state_of(tmp_path / "mine.checkpoint")
    assert more == iterations > steps
    rows = list(csv.DictReader((tmp_path / "mine.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, more + 1))
    assert json.loads((tmp_path / "mine.json").read_text())["sha256"] != card["sha256"]

    output = tmp_path / "out"
    found = main(["segment", str(images), "-o", str(output), "--model", str(model)])
    assert found == DONE
    assert len(os.listdir(output)) == 8


@pytest.fixture
def tissue(tmp_path: Path) -> Path:
    """Make two images of three classes, told by brightness, the last one for validation."""
    folder = tmp_path / "tissue"
    rng = np.random.default_rng(0)
    for i in range(2):
        mask = np.kron(rng.permutation(np.arange(16) % 3).reshape(4, 4), np.ones((24, 24)))
        image = mask * 80 + rng.normal(40, 3, mask.shape)
        for kind, pixels in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / kind / f"{i}.tif", pixels.astype(np.uint8))
    records = [{"name": "0.tif", "split": "train"}, {"name": "1.tif", "split": "val"}]
    (folder / "index.json").write_text(json.dumps(records))
    return folder


@network
def test_class_masks_train_as_they_are_and_are_scored_by_class(
    tmp_path: Path, tissue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "tissue.keras"
    names = ["background", "nucleus", "vessel"]
    arguments = ["train", str(tissue), "-o", str(model), "--arch", "unet_mini", "--batch", "1"]
    arguments += ["--classes", ",".join(names), "--minutes", "0.02"]

    assert main(arguments) == DONE

    card = json.loads(model.with_suffix(".json").read_text())
    assert card["classes"] == names
    assert card["diameters"] == [0, 0]
    assert list(card["scores"]["val"]["all"]["iou"]) == names
    assert 0 <= card["scores"]["val"]["all"]["mean_iou"] <= 1
    state = json.loads((tmp_path / "tissue.checkpoint" / "state.json").read_text())
    weights = state["options"]["augment"]["class_weights"]
    assert len(weights) == 3
    assert 0.8 < min(weights) < max(weights) < 1.2  # they are about as frequent

    capsys.readouterr()
    # A card has the scores of 32-bit floats.
    assert main(["evaluate", str(model), str(tissue), "--runtime", "tensorflow"]) == DONE
    said = capsys.readouterr().out
    assert "IoU of vessel" in said
    assert json.loads(said.splitlines()[-1])["all"] == card["scores"]["val"]["all"]

    output = tmp_path / "out"
    image = str(tissue / "images" / "1.tif")
    assert main(["segment", image, "-o", str(output), "--model", str(model)]) == DONE
    assert set(np.ravel(read_image(output / "1_classes.tif").data[...])) <= {0, 1, 2}
    assert not (output / "1_cells.tif").exists()

    assert main([*arguments, "--resume"]) == BAD_INPUT
    assert "has used up its 0.02 minutes" in sentence(capsys)
    other = [a.replace("vessel", "gland") for a in arguments]
    assert main([*other, "--resume"]) == BAD_INPUT
    assert "another classes" in sentence(capsys)


@network
def test_class_masks_of_one_value_teach_nothing(
    tmp_path: Path, tissue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tissue / "masks" / "0.tif", np.zeros((96, 96), np.uint8))
    arguments = ["train", str(tissue), "-o", str(tmp_path / "m.keras"), "--classes", "a,b,c"]
    assert main(arguments) == BAD_INPUT
    assert "hold one class only, a: there is nothing to tell apart" in sentence(capsys)


@network
def test_images_of_five_channels_train_and_are_scored(
    tmp_path: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "five"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for i in range(3):
        image = tifffile.imread(annotated / "images" / f"{i}.tif")
        stack = np.stack([image // (n + 1) for n in range(5)])
        tifffile.imwrite(
            folder / "images" / f"{i}.tif", stack, imagej=True, metadata={"axes": "CYX"}
        )
        (folder / "masks" / f"{i}.tif").write_bytes((annotated / "masks" / f"{i}.tif").read_bytes())
    (folder / "index.json").write_bytes((annotated / "index.json").read_bytes())
    arguments = ["train", str(folder), "-o", str(tmp_path / "m.keras"), "--arch", "unet_mini"]
    arguments += ["--batch", "1", "--minutes", "0.01"]
    assert main(arguments) == BAD_INPUT
    assert "has 5 channels, and the network is to have 3. Choose --channels 5" in sentence(capsys)

    assert main([*arguments, "--channels", "5"]) == DONE

    card = json.loads((tmp_path / "m.json").read_text())
    assert card["channels"] == 5
    assert card["scores"]["val"]["all"]["n_images"] == 1
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "m.keras"), str(folder)]) == DONE


@network
def test_a_full_memory_is_said_and_the_training_goes_on(
    tmp_path: Path,
    annotated: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import keras
    import tensorflow as tf

    real = keras.Model.train_on_batch

    def train_on_batch(self: Any, images: Any, *arguments: Any, **options: Any) -> Any:
        if len(images) > 1:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return real(self, images, *arguments, **options)

    monkeypatch.setattr(keras.Model, "train_on_batch", train_on_batch)
    arguments = ["train", str(annotated), "-o", str(tmp_path / "m.keras"), "--arch", "unet_mini"]
    assert main([*arguments, "--batch", "4", "--minutes", "0.01"]) == DONE
    said = sentence(capsys)
    assert "The memory is full: from here on the batch is 2." in said
    assert "The memory is full: from here on the batch is 1." in said


@network
def test_what_cannot_be_resumed(
    tmp_path: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(annotated), "-o", str(tmp_path / "m.keras"), "--minutes", "0.01"]
    assert main([*arguments, "--resume"]) == BAD_INPUT
    assert "There is no training to resume" in sentence(capsys)
    assert main([*arguments, "--init", str(tmp_path / "none.npz")]) == BAD_INPUT
    assert "cannot be read as pretrained weights" in sentence(capsys)
    assert main([*arguments, "--arch", "unet", "--init", "imagenet"]) == BAD_INPUT
    assert "has no encoder that imagenet could be loaded into" in sentence(capsys)
    assert not (tmp_path / "m.keras").exists()


def train_options(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> TrainOptions:
    """Give what a training is asked for, without one."""
    asked: list[TrainOptions] = []

    def train(folders: object, output: object, options: TrainOptions, *_: object) -> Iterator[None]:
        asked.append(options)
        return iter(())

    monkeypatch.setattr("napari_unet_cells.training.train.train", train)
    assert main(["train", "data", "-o", "m.keras", *arguments]) == DONE
    return asked[0]


@pytest.mark.network
def test_old_names_of_options_of_a_training_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_options(monkeypatch).backend == "tensorflow"
    assert train_options(monkeypatch, "--backend", "torch").backend == "torch"
    assert train_options(monkeypatch, "--engine", "torch").backend == "torch"
    assert train_options(monkeypatch, "--mild", "0.5").augment.mild == 0.5
    assert train_options(monkeypatch, "--calm", "0.5").augment.mild == 0.5


@pytest.mark.network
def test_width_scale_and_teacher_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = train_options(monkeypatch)
    assert usual.build == {"alpha": 0.25}
    assert (usual.augment.window, usual.teacher) == (None, None)
    assert usual.augment.mild == usual.augment.synthetic == 0
    scale = ["--diameters", "8,90", "--window", "18,36", "--mild", "0.7", "--teacher", "big.keras"]
    chosen = train_options(monkeypatch, "--alpha", "0.75", "--decoder", "128,64,32", *scale)
    assert chosen.build == {"alpha": 0.75, "decoder": [128, 64, 32]}
    assert chosen.augment.diameters == (8.0, 90.0)
    assert chosen.augment.window == (18.0, 36.0)
    assert chosen.augment.mild == 0.7
    assert train_options(monkeypatch, "--synthetic", "0.2").augment.synthetic == 0.2
    assert chosen.teacher == "big.keras"


@pytest.mark.network
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--decoder", "64,32"], "--decoder takes three numbers of filters"),
        (["--decoder", "64,32,16", "--arch", "unet"], "and a MobileNet only"),
        (["--window", "36,18"], "--window takes two numbers, the lower one first"),
        (["--diameters", "7"], "--diameters takes two numbers, the lower one first"),
        (["--diameters", "8,1e308"], "--diameters is in pixels, from 1 to 100000"),
        (["--window", "1e308,1e308"], "--window is in pixels, from 1 to 100000"),
        (["--mild", "1.5"], "--mild must lie between 0 and 1, not 1.5"),
        (["--synthetic", "1"], "--synthetic must be at least 0 and below 1, not 1"),
        (["--synthetic", "nan"], "--synthetic must be at least 0 and below 1, not nan"),
        (["--synthetic", "0.1", "--channels", "2"], "--synthetic makes grey or RGB images"),
        (["--synthetic", "0.1", "--classes", "a,b"], "leave out --classes and --channels"),
        (["--alpha", "0.02"], "--alpha must be at least 0.03125"),
        (["--alpha", "nan"], "--alpha must be at least 0.03125"),
        # There is no folder `data`: what is refused is refused before it is looked for.
        (["--alpha", "5"], "and at most 4, not 5"),
        (["--alpha", "1e308"], "and at most 4, not 1e+308"),
        (["--decoder", "5000,64,32"], "its decoder[0] must be a whole number from 1 to 4096"),
        (["--minutes", "nan"], "--minutes must be above 0"),
        (["--seed", "-1"], "--seed must not be negative"),
        (["--learning-rate", "0"], "--learning-rate must be above 0 and at most 1, not 0"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0 and at most 1, not nan"),
    ],
)
def test_numbers_that_make_no_network_are_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    assert main(["train", "data", "-o", "m.keras", *arguments]) == BAD_INPUT
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("numbers", ["a,b,c", "0,2,3", "nan,1,2", "-1,2"])
def test_what_is_no_number_is_said_by_the_parser(
    capsys: pytest.CaptureFixture[str], numbers: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "data", "-o", "m.keras", f"--decoder={numbers}"])
    assert stopped.value.code == BAD_INPUT
    assert "--decoder" in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_is_a_sentence_and_a_file_for_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))

    def fail() -> None:
        raise RuntimeError("of a library\x1b[2J")

    monkeypatch.setattr("napari_unet_cells.models.catalogue.found_models", fail)
    assert main(["models"]) == 2
    out, err = capsys.readouterr()
    log = tmp_path / "home" / "napari-unet-cells-errors.log"
    assert out == ""
    assert err == (
        "It failed in a way that nobody foresaw (RuntimeError: of a library [2J). Please report it "
        f"with the file {log}.\n"
    )
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--diameter", "1e9"], "The diameter of a cell must be above 0 and at most 100000 pixels"),
        (["--smallest", "-5"], "The minimum size must be between 0 and 10000000000 pixels, not -5"),
        (["--pixel-size", "1e308"], "--pixel-size must lie between 1e-05 and 1e+06 micrometers"),
        (["--pixel-size", "1e-308"], "--pixel-size must lie between"),
    ],
)
def test_numbers_that_no_image_has_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main(["segment", str(tmp_path), "-o", str(tmp_path), *options]) == 2
    assert sentence in capsys.readouterr().err
