"""Annotated folders: which images belong to them, and what is wrong with a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as pillow

from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.regions import Region
from napari_unet_cells.datasets.annotated_images import (
    AnnotatedImage,
    held_out,
    read_annotated_images,
)
from napari_unet_cells.datasets.check import check, summarize
from napari_unet_cells.datasets.index import write_index
from napari_unet_cells.datasets.split import split
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

    items = read_annotated_images([plate])

    assert [item.name for item in items] == ["plate/a", "plate/b"]
    assert {(item.modality, item.split) for item in items} == {("unknown", "train")}
    image, mask = items[1].read()
    assert image.shape == (20, 30, 3)
    np.testing.assert_array_equal(mask, MASK)
    assert mask.dtype == np.int32


def test_an_image_and_its_mask_may_have_different_endings(plate: Path) -> None:
    tifffile.imwrite(plate / "images" / "c.tif", GREY)
    pillow.fromarray(MASK).save(plate / "masks" / "c.png")
    assert read_annotated_images([plate])[2].mask.name == "c.png"


def test_the_index_decides_on_kind_and_split(plate: Path) -> None:
    records = [{"name": "b.png", "kind": "brightfield", "split": "val"}, {"name": "a.png"}]
    (plate / "index.json").write_text(json.dumps(records))
    assert [(i.name, i.modality, i.split) for i in read_annotated_images([plate])] == [
        ("plate/b", "brightfield", "val"),
        ("plate/a", "unknown", "train"),
    ]
    assert [item.name for item in read_annotated_images([plate], "val")] == ["plate/b"]
    assert len(read_annotated_images([plate, plate], "train")) == 2


def test_a_missing_split_is_named_with_those_that_are_there(plate: Path) -> None:
    with pytest.raises(UserError, match=r"split 'val' in .*; there is train\. An index\.json"):
        read_annotated_images([plate], "val")


@pytest.mark.parametrize("missing", ["images", "masks", "both"])
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, missing: str) -> None:
    for name in {"images", "masks"} - {missing}:
        (tmp_path / name).mkdir()
    if missing == "both":
        with pytest.raises(UserError, match="no image with a mask of the same name"):
            read_annotated_images([tmp_path])
    else:
        with pytest.raises(UserError, match=r"is not an annotated data set: .* images and masks"):
            read_annotated_images([tmp_path])
    with pytest.raises(UserError, match="nowhere is not an annotated data set"):
        read_annotated_images([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"index\.json cannot be read: it is no JSON"),
        ('{"name": "a.png"}', "must be a list of records"),
        ('[{"file": "a.png"}]', "a record has no 'name'"),
        ("[1]", "a record must be an object with names and values, not 1"),
        ("[]", "no image with a mask"),
    ],
)
def test_a_damaged_index_is_named(plate: Path, text: str, sentence: str) -> None:
    (plate / "index.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_annotated_images([plate])


def test_an_image_of_the_index_that_is_not_there_is_named(plate: Path) -> None:
    (plate / "index.json").write_text('[{"name": "lost.png"}]')
    with pytest.raises(UserError, match=r"lost\.png does not exist"):
        read_annotated_images([plate])[0].read()


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
    (item,) = read_annotated_images([tmp_path])
    with pytest.raises(UserError, match=sentence):
        item.read()


def test_a_picture_is_no_mask(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 200, (60, 80)).astype(np.uint16)
    put(tmp_path, "m.tif", picture, picture)
    (item,) = read_annotated_images([tmp_path])
    with pytest.raises(UserError, match=r"m.tif is no mask of cells: .* 1.0 pixels large"):
        item.read()
    (finding,) = check(tmp_path)
    assert "no mask of cells" in finding.sentence


def test_the_smallest_cells_that_can_be_seen_are_a_mask(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.uint16)
    for number, (y, x) in enumerate(np.ndindex(15, 20), start=1):
        mask[4 * y : 4 * y + 2, 4 * x : 4 * x + 2] = number
    put(tmp_path, "m.tif", np.zeros((60, 80), np.uint8), mask)
    np.testing.assert_array_equal(read_annotated_images([tmp_path])[0].read()[1], mask)


def test_a_jpeg_is_no_mask(tmp_path: Path) -> None:
    put(tmp_path, "m.png", GREY, MASK)
    (tmp_path / "masks" / "m.png").unlink()
    pillow.fromarray(MASK.astype(np.uint8)).save(tmp_path / "masks" / "m.jpg")
    (item,) = read_annotated_images([tmp_path])
    with pytest.raises(UserError, match=r"m.jpg is a JPEG, which changes the numbers of a mask"):
        item.read()


def test_several_channels_come_last(tmp_path: Path) -> None:
    put(tmp_path, "m.tif", GREY, MASK)
    stack = np.stack([GREY, GREY // 2, GREY // 3, GREY // 4, GREY // 5])
    tifffile.imwrite(tmp_path / "images" / "m.tif", stack, imagej=True, metadata={"axes": "CYX"})
    image, mask = read_annotated_images([tmp_path])[0].read()
    assert image.shape == (20, 30, 5)
    np.testing.assert_array_equal(image[..., 3], GREY // 4)
    assert mask.shape == (20, 30)


def test_masks_of_classes_are_read_as_they_are(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 2:6], mask[10:14, 20:25] = 1, 2
    put(tmp_path, "m.png", GREY, mask)
    (item,) = read_annotated_images([tmp_path])
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
    (item,) = read_annotated_images([tmp_path])
    assert item.read()[1].any()  # as a mask of cells it is good
    with pytest.raises(UserError, match=f"m.tif holds the value {value}, .*values 0 to 1. Save"):
        item.read(("background", "cell"))


@pytest.mark.parametrize("background", [0, 7])
def test_large_ids_are_renumbered(tmp_path: Path, background: int) -> None:
    """Ids are counted in an array as long as the highest of them: 16 GB for these."""
    mask = np.full((20, 30), background, np.uint32)
    mask[2:6, 2:6], mask[10:14, 20:25] = 9, 4_000_000_000
    put(tmp_path, "m.tif", GREY, mask)
    read = read_annotated_images([tmp_path])[0].read()[1]
    assert np.unique(read).tolist() == ([0, 1, 2] if background == 0 else [1, 2, 3])
    assert len(np.unique(read[mask == 4_000_000_000])) == 1


# --- layouts of other programs ----------------------------------------------------------


def write(path: Path, data: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, data)
    else:
        pillow.fromarray(data).save(path)


LAYOUTS: dict[str, tuple[dict[str, str], str]] = {
    "two folders": ({"images/a.png": "masks/a.png"}, "train"),
    "raw and labels": ({"raw/a.tif": "labels/a.tif"}, "train"),
    "names that say what they are": ({"image/a_img.tif": "mask/a_mask.png"}, "train"),
    "StarDist": ({"train/images/a.tif": "train/masks/a.tif"}, "train"),
    "held out": ({"val/images/a.tif": "val/masks/a.tif"}, "val"),
    "test for val": ({"test/images/a.tif": "test/masks/a.tif"}, "val"),
    "Cellpose": ({"a.tif": "a_masks.tif"}, "train"),
    "Cellpose from the command line": ({"a.png": "a_cp_masks.png"}, "train"),
    "Cellpose's own data": ({"test/000_img.png": "test/000_masks.png"}, "val"),
    "our pairs": ({"a.tif": "a_mask.tif"}, "train"),
    "a mask in the name of an image": ({"images/face_mask.tif": "masks/face_mask.tif"}, "train"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_other_programs(tmp_path: Path, layout: str) -> None:
    pairs, expected = LAYOUTS[layout]
    for image, mask in pairs.items():
        write(tmp_path / "set" / image, GREY)
        write(tmp_path / "set" / mask, MASK)
    items = read_annotated_images([tmp_path / "set"])
    assert {str(i.image.relative_to(tmp_path / "set")) for i in items} == set(pairs)
    assert {str(i.mask.relative_to(tmp_path / "set")) for i in items} == set(pairs.values())
    assert {item.split for item in items} == {expected}
    assert items[0].name.startswith("set/")
    assert (items[0].limits, items[0].inside, items[0].read_first()) == (None, None, None)
    np.testing.assert_array_equal(items[0].read()[1], MASK)
    assert check(tmp_path / "set") == []


def test_cells_that_share_a_number_are_said_once(tmp_path: Path) -> None:
    black_and_white = (MASK > 0).astype(np.uint8)
    black_and_white[:, ::3] = 0
    for name in "ab":
        write(tmp_path / "set" / "images" / f"{name}.tif", GREY)
        write(tmp_path / "set" / "masks" / f"{name}.tif", MASK)
    assert check(tmp_path / "set") == []
    for name in "ab":
        write(tmp_path / "set" / "masks" / f"{name}.tif", black_and_white)
        (finding,) = check(tmp_path / "set")
        assert finding.severity == "note"
        assert "all cells the same number: those that touch are learned as one" in finding.sentence
    assert "the 2 masks give" in finding.sentence


@pytest.mark.parametrize(("part", "said"), [(0.1, False), (0.5, True)])
def test_an_overexposed_image_is_said(tmp_path: Path, part: float, said: bool) -> None:
    image = GREY.astype(np.uint16)
    image[: round(part * len(image))] = 65535
    write(tmp_path / "set" / "images" / "a.tif", image)
    write(tmp_path / "set" / "masks" / "a.tif", MASK)
    found = check(tmp_path / "set")
    assert [finding.severity for finding in found] == ["note"] * said
    assert all("overexposed: 50% of its pixels" in finding.sentence for finding in found)


def test_that_only_the_first_image_of_a_file_is_used_is_said(tmp_path: Path) -> None:
    frames = [pillow.fromarray(one) for one in (GREY, GREY.T.reshape(GREY.shape))]
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    write(tmp_path / "set" / "masks" / "a.tif", MASK)
    frames[0].save(tmp_path / "set" / "images" / "a.gif")
    assert check(tmp_path / "set") == []
    frames[0].save(tmp_path / "set" / "images" / "a.gif", save_all=True, append_images=frames[1:])
    (finding,) = check(tmp_path / "set")
    assert finding.severity == "note"
    assert "a.gif holds 2 images, and only the first one is used" in finding.sentence


def test_test_is_left_out_where_there_is_val(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        put(tmp_path / part, "a.png", GREY, MASK)
    assert [(i.split, i.image.parts[-3]) for i in read_annotated_images([tmp_path])] == [
        ("train", "train"),
        ("val", "val"),
    ]
    (note,) = check(tmp_path)
    assert "test is left out" in note.sentence


def test_cellposes_pickles_are_not_opened(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", GREY)
    (tmp_path / "a_seg.npy").write_bytes(b"never read")
    with pytest.raises(UserError, match=r"_seg\.npy files only\. .*Save the masks from Cellpose"):
        read_annotated_images([tmp_path])


def test_two_images_of_one_name_are_named(plate: Path) -> None:
    write(plate / "images" / "a.tif", GREY)
    with pytest.raises(UserError, match=r"a\.tif and a\.png have one name, .*Rename"):
        read_annotated_images([plate])
    assert [finding.severity for finding in check(plate)] == ["error"]


def test_two_masks_of_one_image_are_named(plate: Path) -> None:
    write(plate / "masks" / "a.tif", MASK)
    with pytest.raises(UserError, match=r"a\.png has two masks: a\.png and a\.tif"):
        read_annotated_images([plate])


# --- records of corrections -------------------------------------------------------------

RECORD = {
    "name": "a.png",
    "limits": [3, 40],
    "inside": {"top": 2, "bottom": 18, "left": 4, "right": 30},
    "classes": ["background", "cell", "boundary"],
    "source": {"sha256": "ab", "path": "/x/img.tif", "layer": "img"},
    "split": "",
}


def listed(folder: Path, *records: dict[str, Any]) -> Path:
    (folder / "index.json").write_text(json.dumps(records))
    return folder


def test_a_record_of_a_region_is_read(plate: Path) -> None:
    write(plate / "first" / "a.png", MASK * 0)
    (item,) = read_annotated_images([listed(plate, RECORD)])
    assert (item.limits, item.inside) == (Limits(3, 40), Region(2, 18, 4, 30))
    assert item.classes == ("background", "cell", "boundary")
    assert (item.source, item.region, item.split) == ("ab", "a", "train")
    first = item.read_first()
    assert first is not None
    assert first.dtype == np.int32
    assert not first.any()


def test_what_was_replaced_is_not_read(plate: Path) -> None:
    new = {**RECORD, "name": "b.png", "version": 2}
    (item,) = read_annotated_images([listed(plate, {**RECORD, "replaced_by": "b.png"}, new)])
    assert item.image.name == "b.png"


def test_ids_that_are_too_high_are_the_same_in_first_and_mask(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint32)
    mask[2:6, 2:6], mask[10:14, 20:25] = 7, 4_000_000_000
    first = mask.copy()
    first[0, 0], first[2:6, 2:6] = 5, 0  # an id that is in one of the two only
    write(tmp_path / "images" / "a.tif", GREY)
    write(tmp_path / "masks" / "a.tif", mask)
    write(tmp_path / "first" / "a.tif", first)
    (item,) = read_annotated_images([listed(tmp_path, {"name": "a.tif"})])
    read, made = item.read()[1], item.read_first()
    assert made is not None
    assert read.max() < 10
    np.testing.assert_array_equal(read != made, mask != first)


BAD_RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "limits": (
        {"limits": ["low", "high"]},
        r"of a\.png that its limits\[0\] must be a number",
    ),
    "falling": ({"limits": [4, 3]}, "its limits must rise"),
    "inside": ({"inside": [1, 2, 3]}, "its inside must be an object"),
    "half": ({"inside": {"top": 1}}, "its inside has no 'bottom'"),
    "source": ({"source": "here"}, "its source must be an object"),
    "outside": ({"name": "../../secret.png"}, "must name a file inside the folder"),
    "absolute": ({"mask": "/etc/passwd"}, "must name a file inside the folder"),
    "drive": ({"image": "C:\\x.png"}, "must name a file inside the folder"),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_record_that_makes_no_sense_is_named(plate: Path, name: str) -> None:
    changed, sentence = BAD_RECORDS[name]
    with pytest.raises(UserError, match=sentence):
        read_annotated_images([listed(plate, {**RECORD, **changed})])
    (finding,) = check(plate)
    assert finding.severity == "error"


def test_a_name_that_is_listed_twice(plate: Path) -> None:
    with pytest.raises(UserError, match=r"names A\.png twice"):
        read_annotated_images([listed(plate, RECORD, {**RECORD, "name": "A.png"})])


def test_a_region_beyond_its_file_is_named(plate: Path) -> None:
    inside = {"top": 0, "bottom": 21, "left": 0, "right": 30}
    (item,) = read_annotated_images([listed(plate, {**RECORD, "inside": inside})])
    with pytest.raises(UserError, match=r"is 20 x 30 pixels, and its approved region reaches"):
        item.read()


def test_a_dataset_of_other_classes_is_named(plate: Path) -> None:
    three = ("background", "nucleus", "vessel")
    (item,) = read_annotated_images([listed(plate, {**RECORD, "classes": list(three)})])
    with pytest.raises(UserError, match="holds the classes background, nucleus, vessel, and cells"):
        item.read()
    with pytest.raises(UserError, match="and the classes background, nucleus are asked for"):
        item.read(three[:2])
    (item,) = read_annotated_images([listed(plate, RECORD)])
    with pytest.raises(UserError, match="holds cells, and the classes background, nucleus, vessel"):
        item.read(three)


def test_what_nobody_annotated_stays_in_the_mask(tmp_path: Path) -> None:
    mask = np.full((20, 30), 255, np.uint8)
    mask[2:6, 2:6], mask[8:9] = 0, 1
    put(tmp_path, "m.tif", GREY, mask)
    (item,) = read_annotated_images([tmp_path])
    np.testing.assert_array_equal(item.read(("background", "cell"))[1], mask)
    mask[mask == 1] = 255  # strokes of one class: of an unknown origin this is ImageJ's yes
    write(tmp_path / "masks" / "m.tif", mask)
    with pytest.raises(UserError, match="holds the value 255"):
        item.read(("background", "cell"))
    (item,) = read_annotated_images(
        [listed(tmp_path, {"name": "m.tif", "classes": ["background", "nucleus"]})]
    )
    np.testing.assert_array_equal(item.read(("background", "nucleus"))[1], mask)


# --- check ------------------------------------------------------------------------------


def findings(folder: Path) -> list[tuple[str, str]]:
    return [(finding.severity, finding.sentence) for finding in check(folder)]


def test_a_good_folder_has_no_findings(plate: Path) -> None:
    assert check(plate) == []
    summary, _ = summarize(plate)
    assert str(summary) == "2 regions of 2 images (2 undecided)"


def test_images_and_masks_without_the_other_are_noted(plate: Path) -> None:
    put(plate, "lonely.png", GREY, None)
    write(plate / "masks" / "widow.tif", MASK)
    found = findings(plate)
    assert [severity for severity, _ in found] == ["note", "note"]
    assert "lonely.png has no mask and is left out" in found[0][1]
    assert "widow.tif belongs to no image" in found[1][1]


def test_what_a_half_copied_folder_lacks_is_named(plate: Path) -> None:
    write(plate / "images" / "c.tif", GREY)
    write(plate / "masks" / "c.tif", MASK)
    whole = (plate / "images" / "c.tif").read_bytes()
    (plate / "images" / "c.tif").write_bytes(whole[: len(whole) // 2])
    listed(plate, {"name": "a.png"}, {"name": "lost.png"}, {"name": "c.tif"})
    found = findings(plate)
    assert [severity for severity, _ in found[-2:]] == ["error", "error"]
    assert "lost.png does not exist" in found[-2][1]
    assert "c.tif cannot be read as a TIFF" in found[-1][1]
    assert all("b.png is not listed" in sentence for severity, sentence in found[:-2])


def test_masks_without_a_cell_an_empty_list_and_a_broken_one(plate: Path) -> None:
    for name in "ab":
        write(plate / "masks" / f"{name}.png", MASK * 0)
    ((severity, sentence),) = findings(plate)
    assert severity == "error"
    assert "hold no cell at all" in sentence
    listed(plate)
    assert "holds no image with a mask" in findings(plate)[-1][1]
    (plate / "index.json").write_text("[")
    assert "cannot be read: it is no JSON" in findings(plate)[0][1]
    assert "is not an annotated data set" in findings(plate / "images")[0][1]


def test_classes_that_do_not_go_together_and_a_first_of_another_size(plate: Path) -> None:
    other = {**RECORD, "name": "b.png", "classes": ["background", "nucleus"], "inside": None}
    write(plate / "first" / "a.png", MASK[:5])
    listed(plate, RECORD, other)
    found = findings(plate)
    assert "mixes masks of different classes" in found[0][1]
    assert any("first/a.png is 5 x 30 pixels and its mask 20 x 30" in s for _, s in found)
    assert any("b.png holds the value 300" in sentence for _, sentence in found)


# --- what is held out ------------------------------------------------------------------


def items(*sources: int, kinds: str = "") -> list[AnnotatedImage]:
    """Make items, of each source a number of regions."""
    return [
        AnnotatedImage(Path(f"images/{s}-{r}.tif"), Path(), kinds[s : s + 1] or "k", "train",
             source=str(s), region=f"{s}-{r}")
        for s, n in enumerate(sources)
        for r in range(n)
    ]  # fmt: skip


def test_from_five_regions_on_one_in_five_is_held_back() -> None:
    for n, expected in ((1, 0), (4, 0), (5, 1), (9, 1), (10, 2), (100, 20)):
        learned, held = held_out(items(n))
        assert (len(learned), len(held)) == (n - expected, expected)
    assert held_out(items(10)) == held_out(items(10))


def test_from_five_sources_on_they_are_not_cut() -> None:
    learned, held = held_out(items(3, 4, 5, 2, 3))
    assert len({item.source for item in held}) == 1
    assert not {item.source for item in held} & {item.source for item in learned}
    learned, held = held_out(items(3, 4, 5, 2))  # too few sources: by region
    assert len(held) == 2


def test_every_kind_is_held_back_in_proportion() -> None:
    _, held = held_out(items(*[1] * 20, kinds="a" * 10 + "b" * 10))
    assert sorted(item.modality for item in held) == ["a", "a", "b", "b"]


def test_what_the_index_holds_back_is_held_back(plate: Path) -> None:
    listed(plate, {"name": "a.png", "split": "val"}, {"name": "b.png"})
    learned, held = held_out(read_annotated_images([plate]))
    assert [item.image.name for item in held] == ["a.png"]
    assert [item.image.name for item in learned] == ["b.png"]


def many(folder: Path, n: int) -> Path:
    for i in range(n):
        put(folder, f"{i:02}.png", GREY, MASK)
    return folder


def test_split_writes_what_held_out_would_hold_back(tmp_path: Path) -> None:
    folder = many(tmp_path / "set", 12)
    _, held = held_out(read_annotated_images([folder]))

    division = split(folder)

    assert [item.image.name for item in held] == list(division.val)
    assert (len(division.train), len(division.val), division.decided) == (10, 2, 12)
    assert [item.image.name for item in read_annotated_images([folder], "val")] == list(
        division.val
    )
    assert split(folder).decided == 0
    assert split(folder).val == division.val


def test_a_split_stays_when_regions_are_added(tmp_path: Path) -> None:
    folder = many(tmp_path / "set", 10)
    before = split(folder)
    records = json.loads((folder / "index.json").read_text())
    many(folder, 20)
    listed(folder, *records, *({"name": f"{i:02}.png"} for i in range(10, 20)))
    after = split(folder)
    assert set(before.val) < set(after.val)
    assert set(before.train) < set(after.train)
    assert (len(after.val), after.decided) == (4, 10)


def test_a_new_region_of_a_source_goes_where_the_source_is(tmp_path: Path) -> None:
    folder = many(tmp_path / "set", 12)
    records = [
        {"name": f"{i:02}.png", "source": {"sha256": str(i % 6)}, "split": "val" if i == 1 else ""}
        for i in range(12)
    ]
    division = split(listed(folder, *records))
    assert division.val == ("01.png", "07.png")


def test_versions_share_the_split(tmp_path: Path) -> None:
    folder = many(tmp_path / "set", 7)
    old = {"name": "00.png", "replaced_by": "06.png", "source": {"path": "p"}}
    rest = ({"name": f"{i:02}.png", "source": {"path": "p"}} for i in range(1, 6))
    new = {"name": "06.png", "split": "val", "version": 2, "source": {"path": "p"}}
    split(listed(folder, old, *rest, new))
    records = json.loads((folder / "index.json").read_text())
    assert records[0]["split"] == records[-1]["split"] == "val"


@pytest.mark.parametrize("seed", [0, 1])
def test_split_of_other_layouts_writes_a_list_that_is_read(tmp_path: Path, seed: int) -> None:
    for i in range(6):
        write(tmp_path / f"{i}.tif", GREY)
        write(tmp_path / f"{i}_masks.tif", MASK)
    before = [(item.image, item.mask) for item in read_annotated_images([tmp_path])]
    division = split(tmp_path, 0.5, seed)
    assert len(division.val) == 3
    assert [(item.image, item.mask) for item in read_annotated_images([tmp_path])] == before
    assert check(tmp_path) == []
    assert split(many(tmp_path / str(seed), 20), seed=0).val != split(
        many(tmp_path / f"{seed}b", 20), seed=1
    ).val  # fmt: skip


def test_too_few_to_split_and_impossible_parts(plate: Path) -> None:
    with pytest.raises(UserError, match="has 2 images or regions, and validation needs at least 5"):
        split(plate)
    with pytest.raises(UserError, match="must lie between 0 and 1, not 1"):
        split(plate, 1.0)
    with pytest.raises(UserError, match="is not an annotated data set"):
        split(plate / "images")
    assert sorted(path.name for path in (plate / "images").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("name", ["index.json", ".index.lock"])
def test_a_split_is_not_written_through_a_link(plate: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    for letter in "cdefgh":
        put(plate, f"{letter}.png", GREY, MASK)
    if name == "index.json":
        split(plate)
        (plate / name).rename(outside)
    (plate / name).unlink(missing_ok=True)
    (plate / name).symlink_to(outside)
    before = outside.read_bytes() if outside.exists() else None
    with pytest.raises(UserError, match="is a link to another place"):
        split(plate, seed=3)
    assert (outside.read_bytes() if outside.exists() else None) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["images", "masks", "first", "."])
def test_a_pipe_in_a_dataset_is_reported(plate: Path, part: str) -> None:
    listed(plate, {"name": "a.png"})
    path = plate / part / ("index.json" if part == "." else "a.png")
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make_pipe: Any = os.mkfifo  # type: ignore[attr-defined,unused-ignore]
    make_pipe(path)
    found = check(plate)
    if part == "first":  # what is no file is not looked at
        assert {finding.severity for finding in found} == {"note"}
    else:
        assert any("a pipe or a device, not a file" in finding.sentence for finding in found)
    assert not [finding.sentence for finding in found if ".." in finding.sentence]


@pytest.mark.parametrize(
    ("pixels", "severity", "sentence"),
    [
        (np.full((20, 30), np.nan, np.float32), "error", r"holds no number (NaN everywhere)"),
        (np.full((20, 30), 7, np.uint8), "error", "holds the value 7 everywhere"),
        (np.where(np.eye(20, 30), np.nan, GREY / 1), "note", "holds 20 values that are no numbers"),
    ],
)
def test_pixels_to_learn_nothing_from_are_reported(
    tmp_path: Path, pixels: NDArray[Any], severity: str, sentence: str
) -> None:
    put(tmp_path, "b.tif", GREY, MASK)
    assert check(tmp_path) == []
    put(tmp_path, "a.tif", pixels, MASK)
    (found,) = check(tmp_path)
    assert found.severity == severity
    assert f"a.tif {sentence}" in found.sentence


def test_an_empty_image_without_cells_is_a_note(tmp_path: Path) -> None:
    put(tmp_path, "b.tif", GREY, MASK)
    put(tmp_path, "a.tif", np.zeros_like(GREY), np.zeros_like(MASK))
    (found,) = check(tmp_path)
    assert (found.severity, found.file.name) == ("note", "a.tif")


@pytest.mark.parametrize("limit", ["LONGEST", "MOST_RECORDS"])
def test_a_list_that_could_not_be_read_again_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    write_index(tmp_path, [{"name": "a.tif"}])
    before = (tmp_path / "index.json").read_bytes()
    monkeypatch.setattr(f"napari_unet_cells.datasets.index.{limit}", 2)
    with pytest.raises(UserError, match=r"is full: .*is as it was. Add further regions to another"):
        write_index(tmp_path, [{"name": f"{letter}.tif"} for letter in "abc"])
    assert (tmp_path / "index.json").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "index.json"]
