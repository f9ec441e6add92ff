"""Simulated datasets on disk: valid, reproducible, refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.datasets.check import check
from napari_unet_cells.errors import UserError
from napari_unet_cells.training.synthetic.dataset import SHEET, write_dataset


def read(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")
    }


def test_a_dataset_is_one_that_training_reads(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "sim"
    made = list(write_dataset(folder, 6, seed=5, size=96))
    assert check(folder) == []
    items = read_annotated_images([folder])
    assert [item.split for item in items] == ["train"] * 4 + ["val", "train"]
    for item, one in zip(items, made, strict=True):
        image, mask = item.read()
        assert image.shape[:2] == mask.shape == (96, 96)
        assert mask.max() == one.cells
        assert item.modality == f"simulated-{one.world.appearance}"
    records = json.loads((folder / "index.json").read_text())
    assert records[3]["seed"] == [5, 3]
    assert records[3]["world"]["shape"] == made[3].world.shape
    with PILImage.open(folder / SHEET) as sheet:
        assert sheet.size == (5 * 2 * 98, 2 * 98)
        pixels = np.asarray(sheet)
    first = np.asarray(PILImage.open(folder / "images" / "sim-0000.png").convert("RGB"))
    assert np.array_equal(pixels[1:97, 1:97], first)
    assert not np.array_equal(pixels[1:97, 99:195], first)


def test_a_smaller_dataset_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    for name, n, seed in (("a", 2, 1), ("b", 3, 1), ("c", 2, 2)):
        list(write_dataset(tmp_path / name, n, seed=seed, size=64))
    a, b, c = (read(tmp_path / name) for name in "abc")
    shared = [name for name in a if name != SHEET]
    assert len(shared) == 4
    assert [a[name] for name in shared] == [b[name] for name in shared]
    assert not any(a[name] == c[name] for name in shared)


def test_where_it_is_stopped_what_was_written_is_a_dataset(tmp_path: Path) -> None:
    events = write_dataset(tmp_path / "sim", 100, size=64)
    next(events), next(events)
    events.close()
    assert check(tmp_path / "sim") == []
    assert len(read_annotated_images([tmp_path / "sim"])) == 2
    assert (tmp_path / "sim" / SHEET).is_file()


def test_large_images_are_cut_in_the_sheet(tmp_path: Path) -> None:
    list(write_dataset(tmp_path / "sim", 1, size=300))
    with PILImage.open(tmp_path / "sim" / SHEET) as sheet:
        assert sheet.size == (2 * 258, 258)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 0}, "At least 1 image must be asked for, not 0"),
        ({"n": -3}, "At least 1 image must be asked for, not -3"),
        ({"n": 1, "seed": -1}, "seed must not be negative"),
        ({"n": 1, "size": 20}, "64 to 1024 pixels a side, not 20"),
        ({"n": 1, "kinds": ["worms"]}, "There is no kind 'worms'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        next(write_dataset(tmp_path / "sim", **options))
    assert not (tmp_path / "sim").exists()


def test_a_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty and was left as it is\. Choose"):
        next(write_dataset(tmp_path, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match=r"notes\.txt is a file, not a folder"):
        next(write_dataset(tmp_path / "notes.txt", 1))


def test_a_folder_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"Nothing can be written to the folder .*Permission"):
        next(write_dataset(tmp_path / "sim", 1))
