"""``napari-unet-cells retrain``: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet_cells.cli.main import main
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, default_model
from napari_unet_cells.sample_data import simulate_nuclei


def make_dataset(folder: Path, n: int) -> Path:
    for seed in range(n):
        image, truth = simulate_nuclei((140, 150), seed=seed)
        folder.mkdir(exist_ok=True)
        tifffile.imwrite(folder / f"im{seed}.tif", image)
        tifffile.imwrite(folder / f"im{seed}_masks.tif", truth.astype(np.uint16))  # as Cellpose
    return folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere"),
        (["SET", "--minutes", "0"], "--minutes must be above 0"),
        (["SET", "--base", "gone"], "There is no model 'gone'"),
        (["SET", "-o", "no/where.keras"], "There is no folder no"),
        (["SET", "-o", "~nobody-of-this-name/m.keras"], "There is no folder"),
        (["SET", "-o", "/proc/m.keras"], "Nothing can be written to the folder /proc"),
        (["SET", "-o", ""], "The name of a model is empty"),
        (["SET", "-o", " "], "The name of a model is empty"),
        (["SET", "-o", "."], "The name of a model is empty"),
        (["SET", "--make-default", "-o", "here.keras"], "--make-default is for a model among"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(arguments, sentence, tmp_path, capsys):
    dataset = make_dataset(tmp_path / "set", 1)
    words = [str(dataset) if word == "SET" else word for word in arguments]
    assert main(["retrain", *words]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.network
def test_a_model_is_made_and_said_where_it_lies(tmp_path, tiny_model, capsys):
    dataset = make_dataset(tmp_path / "set", 5)
    output = tmp_path / "better.keras"
    arguments = ["--base", str(tiny_model), "--minutes", "0.02", "-o", str(output)]

    assert main(["retrain", str(dataset), *arguments]) == 0

    assert output.is_file()
    assert output.with_suffix(".json").is_file()
    said = capsys.readouterr()
    text = said.out + said.err
    assert "Learning from 4 images, 1 held out" in text
    assert f"Model: {output}" in text
    assert f"The default model stays {DEFAULT_MODEL}; --make-default changes it." in text
    assert default_model() == DEFAULT_MODEL
    assert main(["retrain", str(dataset), *arguments]) == 2
    assert "exists and was kept" in capsys.readouterr().err


@pytest.mark.network
def test_the_default_changes_where_that_is_asked_for(tmp_path, tiny_model, capsys, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    dataset = make_dataset(tmp_path / "set", 1)
    arguments = ["--base", str(tiny_model), "--minutes", "0.02"]

    assert main(["retrain", str(dataset), *arguments]) == 0
    assert default_model() == DEFAULT_MODEL
    assert main(["retrain", str(dataset), *arguments, "--make-default"]) == 0

    assert default_model() == "tiny-3"
    assert "tiny-3 is the default model from now on." in "".join(capsys.readouterr())
