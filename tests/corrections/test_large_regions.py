"""Regions of a large result that were approved in parts of it: noted, and put into a dataset."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.regions import RegionGrid, Review
from napari_unet_cells.corrections.dataset_writer import Added, Unchanged, add, files_of
from napari_unet_cells.corrections.large_regions import (
    approved_windows,
    folder_of_approved,
    labels_as_made,
    large_approved,
    note_approved,
)
from napari_unet_cells.datasets.index import current, first_path, read_index
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_zarr, read_image, write_json
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.untrusted.approved_windows import (
    ApprovedWindow,
    document_of,
    parse_approved_windows,
)
from napari_unet_cells.untrusted.rules import Malformed

CLASSES = ["background", "cell", "boundary"]
BOX = slice(100, 300), slice(50, 350)
GRID = RegionGrid((200, 300), (2, 3))


class Slide:
    """An image, its cells in an OME-Zarr, and parts that are put back."""

    def __init__(self, folder: Path) -> None:
        self.labels = np.zeros((400, 500), np.uint16)
        for number in range(80):
            y, x = divmod(number, 10)
            self.labels[50 * y + 10 : 50 * y + 30, 50 * x + 10 : 50 * x + 40] = number + 1
        self.found = self.labels.copy()
        self.pixels = np.random.default_rng(0).integers(0, 4_000, (400, 500), np.uint16)
        self.image, self.zarr = folder / "slide.tif", folder / "slide_cells.ome.zarr"
        tifffile.imwrite(self.image, self.pixels)
        made = LabelZarr(self.zarr, (400, 500), "yx", 512, Scale((0.5, 0.5), "micrometer", None))
        made.create("cells", np.uint16)
        made.write("cells", (), (slice(0, 400), slice(0, 500)), self.labels)
        source = {"path": str(self.image), "shape": [400, 500], "axes": "YX"}
        size = {"y": 0.5, "x": 0.5, "unit": "micrometer"}
        record = {"cells": 80, "source": source, "classes": CLASSES, "pixel_size": size}
        made.finish("cells", record, {})

    def put_back(self, box: Any, *approved: int, edit: Any = None) -> None:
        """Put a part back in which regions were approved."""
        before = self.labels[box].copy()
        review = Review(before, grid=GRID)
        for number in approved:
            review.approve(((), number), f"2026-01-0{number + 1}")
        after = before.astype(np.int64)
        if edit is not None:
            edit(after)
            LabelVersions(self.zarr).replace((), box, before.astype(np.int64), after, 80)
            self.labels[box] = after
        assert (note_approved(self.zarr, (), box, review) is None) == (not approved)


@pytest.fixture
def slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slide:
    monkeypatch.setattr(label_zarr, "COARSEST", 128)
    return Slide(tmp_path)


def window(top: int, bottom: int, left: int, right: int, date: str = "") -> ApprovedWindow:
    return ApprovedWindow((), (top, bottom), (left, right), date)


def test_approved_regions_are_noted_in_the_place_that_they_have_in_the_image(slide: Slide) -> None:
    assert approved_windows(slide.zarr) == ()
    slide.put_back(BOX)
    assert not folder_of_approved(slide.zarr).exists()
    slide.put_back(BOX, 1, 5)
    first = window(100, 200, 150, 250, "2026-01-02")
    second = window(200, 300, 250, 350, "2026-01-06")
    assert approved_windows(slide.zarr) == (first, second)

    # a later one takes the place of those that it holds the larger part of
    moved = slice(120, 320), slice(60, 360)
    slide.put_back(moved, 1)
    assert approved_windows(slide.zarr) == (second, window(120, 220, 160, 260, "2026-01-02"))


def clear(number: int) -> Any:
    def edit(part: NDArray[np.int64]) -> None:
        part[part == number] = 0

    return edit


def test_the_dataset_gets_image_labels_as_they_are_and_as_they_were_made(
    slide: Slide, tmp_path: Path
) -> None:
    slide.put_back(BOX, 1, edit=clear(24))
    slide.put_back(BOX, edit=clear(25))
    folder = tmp_path / "dataset"
    (event,) = add(folder, large_approved(slide.zarr, "slide cells"))
    assert isinstance(event, Added)
    rows, columns = slice(100 - 64, 200 + 64), slice(150 - 64, 250 + 64)
    image, mask = files_of(folder, event)
    np.testing.assert_array_equal(np.asarray(read_image(image).data), slide.pixels[rows, columns])
    written = np.asarray(read_image(mask).data)
    np.testing.assert_array_equal(written, slide.labels[rows, columns])
    assert not np.isin(written, (24, 25)).any()
    (record,) = current(read_index(folder) or ())
    first = np.asarray(read_image(first_path(folder, record)).data)
    inside = record.inside
    assert inside is not None
    np.testing.assert_array_equal(first[inside.slices], slide.found[100:200, 150:250])
    assert (first == 24).any()
    assert (record.classes, record.edited, record.approved) == (tuple(CLASSES), True, "2026-01-02")
    # normalised as the whole image is, not as the region
    low, high = np.percentile(slide.pixels, [1, 99.8])
    assert isinstance(record.limits, Limits)
    np.testing.assert_allclose([record.limits.low, record.limits.high], [low, high], rtol=0.01)

    (event,) = add(folder, large_approved(slide.zarr, "slide cells"))
    assert isinstance(event, Unchanged)
    slide.put_back(BOX, edit=clear(34))
    (event,) = add(folder, large_approved(slide.zarr, "slide cells"))
    assert (type(event), event.version) == (Added, 2)


def test_labels_as_made_are_those_before_all_versions(slide: Slide) -> None:
    for number, left in ((23, 50), (24, 90), (33, 70)):
        slide.put_back((slice(100, 300), slice(left, left + 300)), edit=clear(number))
    assert not np.isin(slide.labels, (23, 24, 33)).any()
    finest = label_levels(slide.zarr, "cells")[0]
    whole = window(0, 400, 0, 500)
    np.testing.assert_array_equal(labels_as_made(slide.zarr, finest, whole), slide.found)
    part = window(110, 180, 95, 400)
    np.testing.assert_array_equal(
        labels_as_made(slide.zarr, finest, part), slide.found[110:180, 95:400]
    )


def test_without_approvals_or_without_the_image_it_says_what_to_do(slide: Slide) -> None:
    with pytest.raises(UserError, match=r"No region of 'cells' is approved yet\. Press 'Edit"):
        large_approved(slide.zarr, "cells")
    slide.put_back(BOX, 0)
    slide.image.unlink()
    with pytest.raises(UserError, match=r"slide\.tif, the image of the cells, is not there"):
        large_approved(slide.zarr, "cells")
    (folder_of_approved(slide.zarr) / "000001.json").write_text("{}")
    with pytest.raises(UserError, match=r"000001\.json cannot be read \(has no 'approved'\)"):
        approved_windows(slide.zarr)


@pytest.mark.parametrize(
    "outside",
    [
        {"plane": [0]},
        {"rows": [0, 401]},
        {"columns": [10**9 - 1, 10**9]},
        {"plane": [5, 5]},
    ],
)
def test_windows_of_another_result_are_refused(slide: Slide, outside: dict[str, Any]) -> None:
    listed = {"plane": [], "rows": [0, 90], "columns": [0, 90], "date": "2026-01-01"}
    place = folder_of_approved(slide.zarr)
    place.mkdir(exist_ok=True)
    for changed in (listed, listed | outside):
        (place / "000001.json").write_text(json.dumps({"approved": [changed]}))
        if changed == listed:
            assert large_approved(slide.zarr, "cells").dates
        else:
            with pytest.raises(
                UserError, match=r"lies outside of 'cells': the lists in .*approved"
            ):
                large_approved(slide.zarr, "cells")


def test_lists_of_thousands_of_windows_are_read_at_once(tmp_path: Path) -> None:
    place = folder_of_approved(tmp_path)
    place.mkdir(parents=True)
    listed = [
        window(row, row + 1, column, column + 2)
        for row in range(0, 120, 2)
        for column in range(0, 120, 2)
    ]
    for number in (1, 2):
        write_json(place / f"{number:06}.json", document_of(tuple(listed)))
    start = time.perf_counter()
    assert len(approved_windows(tmp_path)) == len(listed)
    assert time.perf_counter() - start < 10  # one by one it took half a minute


def test_windows_are_read_as_they_were_written() -> None:
    windows = (window(1, 5, 2, 9, "today"), ApprovedWindow((3,), (0, 4), (0, 4), "2026-01-01"))
    assert parse_approved_windows(document_of(windows)) == windows
    assert windows[0].overlap(window(4, 9, 0, 4)) == 2
    assert windows[0].overlap(windows[1]) == 0


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {"plane": [], "rows": [3, 3], "columns": [0, 4], "date": ""},
        {"plane": [], "rows": [5, 3], "columns": [0, 4], "date": ""},
        {"plane": [-1], "rows": [0, 3], "columns": [0, 4], "date": ""},
        {"plane": [], "rows": [0], "columns": [0, 4], "date": ""},
        {"plane": [], "rows": [0, 3], "columns": [0, 4]},
    ],
)
def test_what_is_no_window_is_refused(entry: object) -> None:
    with pytest.raises(Malformed):
        parse_approved_windows({"approved": [entry]})
