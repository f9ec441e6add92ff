"""Annotated folders: which images belong to them, and what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as pillow

from napari_unet_cells.dataset import read_items
from napari_unet_cells.errors import UserError


def put(folder: Path, name: str, image: NDArray[Any], mask: NDArray[Any] | None) -> None:
    for kind, pixels in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        if pixels is None:
            continue
        if name.endswith("tif"):
            tifffile.imwrite(folder / kind / name, pixels)
        else:
            pillow.fromarray(pixels).save(folder / kind / name)


GREY = np.arange(600, dtype=np.uint8).reshape(20, 30)
MASK = np.zeros((20, 30), np.uint16)
MASK[2:6, 2:6], MASK[10:14, 20:25] = 1, 300


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    folder = tmp_path / "plate"
    put(folder, "a.png", GREY, MASK)
    put(folder, "b.png", np.dstack([GREY] * 3), MASK)
    return folder


def test_without_an_index_every_image_with_a_mask_is_for_training(plate: Path) -> None:
    put(plate, "no mask.png", GREY, None)
    for name in (".DS_Store", "._a.png", "notes.txt"):
        for kind in ("images", "masks"):
            (plate / kind / name).write_bytes(b"not an image")

    items = read_items([plate])

    assert [item.name for item in items] == ["plate/a", "plate/b"]
    assert {(item.kind, item.split) for item in items} == {("unknown", "train")}
    image, mask = items[1].read()
    assert image.shape == (20, 30, 3)
    np.testing.assert_array_equal(mask, MASK)
    assert mask.dtype == np.int32


def test_an_image_and_its_mask_may_have_different_endings(plate: Path) -> None:
    tifffile.imwrite(plate / "images" / "c.tif", GREY)
    pillow.fromarray(MASK).save(plate / "masks" / "c.png")
    assert read_items([plate])[2].mask.name == "c.png"


def test_the_index_decides_on_kind_and_split(plate: Path) -> None:
    records = [{"name": "b.png", "kind": "brightfield", "split": "val"}, {"name": "a.png"}]
    (plate / "index.json").write_text(json.dumps(records))
    assert [(i.name, i.kind, i.split) for i in read_items([plate])] == [
        ("plate/b", "brightfield", "val"),
        ("plate/a", "unknown", "train"),
    ]
    assert [item.name for item in read_items([plate], "val")] == ["plate/b"]
    assert len(read_items([plate, plate], "train")) == 2


def test_a_missing_split_is_named_with_those_that_are_there(plate: Path) -> None:
    with pytest.raises(UserError, match=r"split 'val' in .*; there is train\. An index\.json"):
        read_items([plate], "val")


@pytest.mark.parametrize("missing", ["images", "masks", "both"])
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, missing: str) -> None:
    for name in {"images", "masks"} - {missing}:
        (tmp_path / name).mkdir()
    if missing == "both":
        with pytest.raises(UserError, match="no image with a mask of the same name"):
            read_items([tmp_path])
    else:
        with pytest.raises(UserError, match=r"is not an annotated data set: .* images and masks"):
            read_items([tmp_path])
    with pytest.raises(UserError, match="nowhere is not an annotated data set"):
        read_items([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"index\.json cannot be read as JSON"),
        ('{"name": "a.png"}', "must be a list of records"),
        ('[{"file": "a.png"}]', "each with the name"),
        ("[1]", "must be a list of records"),
        ("[]", "no image with a mask"),
    ],
)
def test_a_damaged_index_is_named(plate: Path, text: str, sentence: str) -> None:
    (plate / "index.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_items([plate])


def test_an_image_of_the_index_that_is_not_there_is_named(plate: Path) -> None:
    (plate / "index.json").write_text('[{"name": "lost.png"}]')
    with pytest.raises(UserError, match=r"lost\.png does not exist"):
        read_items([plate])[0].read()


BAD_PAIRS: dict[str, tuple[NDArray[Any], NDArray[Any], str]] = {
    "sizes": (GREY, MASK[:10], r"m\.tif is 10 x 30 pixels and its image 20 x 30\. Export"),
    "turned": (GREY, MASK.T, r"m\.tif is 30 x 20 pixels"),
    "colour mask": (GREY, np.dstack([GREY] * 3), "its mask YXC.* with a grey mask"),
    "stack": (np.stack([GREY] * 2), MASK, "are single planes"),
    "probabilities": (GREY, MASK.astype(np.float32), "not a label image: it holds float32"),
    "ignored": (GREY, MASK.astype(np.int16) - np.int16(1), "int16 values from -1"),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_an_image_and_a_mask_that_do_not_fit_are_named(tmp_path: Path, name: str) -> None:
    image, mask, sentence = BAD_PAIRS[name]
    put(tmp_path, "m.tif", image, mask)
    (item,) = read_items([tmp_path])
    with pytest.raises(UserError, match=sentence):
        item.read()


def test_several_channels_come_last(tmp_path: Path) -> None:
    put(tmp_path, "m.tif", GREY, MASK)
    stack = np.stack([GREY, GREY // 2, GREY // 3, GREY // 4, GREY // 5])
    tifffile.imwrite(tmp_path / "images" / "m.tif", stack, imagej=True, metadata={"axes": "CYX"})
    image, mask = read_items([tmp_path])[0].read()
    assert image.shape == (20, 30, 5)
    np.testing.assert_array_equal(image[..., 3], GREY // 4)
    assert mask.shape == (20, 30)


def test_masks_of_classes_are_read_as_they_are(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 2:6], mask[10:14, 20:25] = 1, 2
    put(tmp_path, "m.png", GREY, mask)
    (item,) = read_items([tmp_path])
    np.testing.assert_array_equal(item.read(("background", "nucleus", "vessel"))[1], mask)
    with pytest.raises(
        UserError, match=r"m\.png holds the value 2, and the classes background, nucleus are the"
    ):
        item.read(("background", "nucleus"))


@pytest.mark.parametrize("value", [2, 255, 70_000, 4_000_000_000])
def test_two_classes_are_zero_and_one(tmp_path: Path, value: int) -> None:
    mask = np.zeros((20, 30), np.uint32)
    mask[2:6, 2:6] = value
    put(tmp_path, "m.tif", GREY, mask)
    (item,) = read_items([tmp_path])
    assert item.read()[1].any()  # as a mask of cells it is good
    with pytest.raises(UserError, match=f"m.tif holds the value {value}, .*values 0 to 1. Save"):
        item.read(("background", "cell"))


@pytest.mark.parametrize("background", [0, 7])
def test_large_ids_are_renumbered(tmp_path: Path, background: int) -> None:
    """Ids are counted in an array as long as the highest of them: 16 GB for these."""
    mask = np.full((20, 30), background, np.uint32)
    mask[2:6, 2:6], mask[10:14, 20:25] = 9, 4_000_000_000
    put(tmp_path, "m.tif", GREY, mask)
    read = read_items([tmp_path])[0].read()[1]
    assert np.unique(read).tolist() == ([0, 1, 2] if background == 0 else [1, 2, 3])
    assert len(np.unique(read[mask == 4_000_000_000])) == 1
