"""An image of the list and its cells, read without a window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_unet_cells.core.labels import digest, digest_in_file
from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.autosave import (
    Session,
    note_written,
    session_of,
)
from napari_unet_cells.corrections.restoring import sessions
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.files.label_planes import put_back_planes
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr, replace_record
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.results import write_result
from napari_unet_cells.layers.metadata import INPUT, OURS
from napari_unet_cells.untrusted.unit_record import BATCH, Stamp, UnitRecord
from napari_unet_cells.widgets.folder.pair import (
    add_cells,
    add_image,
    open_cells,
    pixels_of,
    read_pair,
    show_cells,
)
from napari_unet_cells.widgets.folder.rows import Row
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    """Give the row of an image with two cells."""
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 50), np.uint8))
    write(tmp_path, {"path": str(tmp_path / "a.tif"), "shape": [40, 50], "axes": "YX"})
    return Row("a", tmp_path / "a.tif")


def write(output: Path, source: dict[str, Any]) -> None:
    labels = np.zeros((40, 50), np.uint16)
    labels[5:10, 5:10], labels[20:30, 20:30] = 1, 2
    record = {"program": "napari-unet-cells", "role": "cells", "source": source}
    scale = Scale(None, "pixel", None)
    mask = output / "a_cells.tif"
    write_result(mask, labels, record, axes="YX", scale=scale, overwrite=True)


def test_a_pair_is_read_with_its_review(row: Row, tmp_path: Path) -> None:
    pair = read_pair(tmp_path, row)
    assert (pair.name, pair.target, pair.restored) == ("a", tmp_path / "a_cells.tif", None)
    assert set(np.unique(pair.labels)) == {0, 1, 2}
    assert pair.checksum == digest(pair.labels)
    assert pair.review.fits(pair.labels)
    assert pair.attributes["metadata"][OURS]["role"] == "cells"
    assert pair.image == {
        "path": str(row.path),
        "name": "a",
        "shape": [40, 50],
        "told": {},
        "plane": [],
    }


@pytest.mark.parametrize(
    ("source", "shape", "told", "plane"),
    [
        (
            {"shape": [4, 2, 40, 50], "axes": "ZCYX", "fixed": {"C": 1, "Z": 3}},
            [4, 40, 50],
            {"channel": 1},
            [3],
        ),
        (
            {"shape": [2, 40, 50], "axes": "CYX", "channels": [0, 1], "projection": "max"},
            [40, 50],
            {"projection": "max", "channels": [0, 1]},
            [],
        ),
        ({"shape": [40, 50, 3], "axes": "YXC"}, [40, 50, 3], {}, []),
    ],
)
def test_the_layer_of_a_channel_is_described(
    row: Row, tmp_path: Path, source: dict[str, Any], shape: Any, told: Any, plane: Any
) -> None:
    write(tmp_path, {"path": str(row.path), **source})
    image = read_pair(tmp_path, row).image
    assert (image["shape"], image["told"], image["plane"]) == (shape, told, plane)


def test_tracks_that_are_in_no_file_are_taken_up(row: Row, tmp_path: Path) -> None:
    made = {"tracks": {"parents": [[5, 1]]}}
    corrected(row, tmp_path, made)
    pair = read_pair(tmp_path, row)
    assert pair.restored is not None
    assert pair.attributes["metadata"][OURS]["provenance"] == made
    assert pair.tracks is None  # those of the file: these are not saved yet


def corrected(row: Row, tmp_path: Path, made: Any = None) -> tuple[Any, Review, Session]:
    """Correct a cell in a napari that was closed before it was saved to the result."""
    pair = read_pair(tmp_path, row)
    labels = pair.labels.copy()
    labels[labels == 1] = 0
    session = session_of(pair.review)
    ours = {"role": "cells", "provenance": made or {}}
    known = {OURS: ours, INPUT: {"path": str(pair.target)}}
    description = {"name": "a_cells", "place": {}, "metadata": known, "image": None}
    session.claim()
    session.save(labels, pair.review, description=description)
    session.release()
    return labels, pair.review, session


def test_corrections_that_are_in_no_file_are_taken_up(row: Row, tmp_path: Path) -> None:
    in_file = read_pair(tmp_path, row)
    labels, _, _ = corrected(row, tmp_path)
    pair = read_pair(tmp_path, row)
    assert pair.restored is not None
    assert np.array_equal(pair.labels, labels)
    assert pair.review is pair.restored.review
    assert pair.checksum == in_file.checksum != digest(pair.labels)


def test_corrections_that_are_in_the_result_are_not_taken_up(row: Row, tmp_path: Path) -> None:
    labels, review, session = corrected(row, tmp_path)
    noted = note_written(tmp_path / "a_cells.tif", labels, review)
    noted()
    session.release()
    assert read_pair(tmp_path, row).restored is None


@pytest.fixture
def stack(row: Row, tmp_path: Path) -> Row:
    """Give the row of an image of two planes whose cells lie in an OME-Zarr."""
    folder = tmp_path / "a.ome.zarr"
    labels = LabelZarr(folder, (2, 40, 50), "zyx", 512, Scale(None, "pixel", None))
    labels.create("cells", np.uint16)
    plane = np.zeros((40, 50), np.uint16)
    plane[5:10, 5:10], plane[20:30, 20:30] = 1, 2
    for number in range(2):
        labels.write("cells", (number,), (slice(0, 40), slice(0, 50)), plane)
    labels.finish("cells", {"cells": 2, "role": "cells"}, {})
    (tmp_path / "a.json").write_text("{}")
    return replace(row, format="ome-zarr")


@pytest.mark.parametrize("others", [False, True])
def test_corrections_of_which_a_plane_was_written_are_taken_up_unless_others_wrote(
    stack: Row, tmp_path: Path, others: bool
) -> None:
    found = read_pair(tmp_path, stack)
    assert not found.due
    labels, _, _ = corrected(stack, tmp_path)  # of both planes
    half = np.stack([labels[0], found.labels[1]])
    if others:
        half[1, -1, -1] = 9
    put_back_planes(tmp_path / "a.ome.zarr", half)  # and it was killed
    pair = read_pair(tmp_path, stack)
    assert pair.due
    assert pair.checksum == digest_in_file(half) != found.checksum
    assert (pair.restored is None) == others
    np.testing.assert_array_equal(pair.labels, half if others else labels)
    last = LabelVersions(tmp_path / "a.ome.zarr").last
    (tmp_path / "a.json").write_text(f'{{"label_version": {last}}}')
    assert not read_pair(tmp_path, stack).due


def test_tracks_of_an_ome_zarr_are_those_of_the_result_unless_its_files_are_due(
    stack: Row, tmp_path: Path
) -> None:
    folder, known = tmp_path / "a.ome.zarr", UnitRecord("ab" * 32, Stamp(0, 0), {}, {}, cells=2)
    newer, older = ({"parents": [[2, 1]]}, {"parents": []})
    replace_record(folder / "labels" / "cells", {"cells": 2, "tracks": newer})
    assert read_pair(tmp_path, stack).tracks == newer  # nothing else is known
    described: dict[str, Any] = {"cells": 2, "model": {"sha256": known.model}, "tracks": older}
    described[BATCH] = known.document()
    write_json(tmp_path / "a.json", described, overwrite=True)
    pair = read_pair(tmp_path, stack)
    assert pair.tracks == older
    assert pair.attributes["metadata"][OURS]["provenance"] == {"tracks": older}
    labels = np.zeros(pair.labels.shape, np.int64)
    put_back_planes(folder, labels)
    assert read_pair(tmp_path, stack).tracks == newer


def round_of(row: Row, output: Path, label: int) -> Any:
    """Correct a cell, save that into the result, and leave the image."""
    pair = read_pair(output, row)
    labels = pair.labels.copy()
    labels[labels == label] = 0
    session = session_of(pair.review)
    known = {OURS: {"role": "cells"}, INPUT: {"path": str(pair.target)}}
    description = {"name": "a_cells", "place": {}, "metadata": known, "image": None}
    session.save(labels, pair.review, description=description)
    noted = note_written(pair.target, labels, pair.review)
    put(output, labels)
    noted()
    session.release()
    return labels


def put(output: Path, labels: Any) -> None:
    record = {"program": "napari-unet-cells", "role": "cells"}
    scale = Scale(None, "pixel", None)
    mask = output / "a_cells.tif"
    write_result(mask, labels, record, axes="YX", scale=scale, overwrite=True)


def test_the_third_opening_shows_the_second_round(row: Row, tmp_path: Path) -> None:
    round_of(row, tmp_path, 1)
    last = round_of(row, tmp_path, 2)
    pair = read_pair(tmp_path, row)
    assert pair.restored is None
    assert np.array_equal(pair.labels, last)
    # both rounds lie in the file, and are offered no more; they stay on the disk
    assert [one.exported.complete for one in sessions()] == [True, True]


def test_what_one_napari_painted_on_does_not_come_over_what_another_saved(
    row: Row, tmp_path: Path
) -> None:
    first = read_pair(tmp_path, row)
    labels, session = first.labels.copy(), session_of(first.review)
    labels[labels == 1] = 0
    known = {OURS: {"role": "cells"}, INPUT: {"path": str(first.target)}}
    description = {"name": "a_cells", "place": {}, "metadata": known, "image": None}
    session.save(labels, first.review, description=description)
    noted = note_written(first.target, labels, first.review)
    put(tmp_path, labels)
    noted()
    second = read_pair(tmp_path, row)  # in another napari, before the first one paints on
    labels[0, 0] = 7
    session.save(labels, first.review, description=description)
    session.release()  # and is killed
    others = second.labels.copy()
    others[-1, -1] = 9
    noted = note_written(second.target, others, second.review)
    put(tmp_path, others)
    noted()
    pair = read_pair(tmp_path, row)
    assert pair.restored is None
    assert np.array_equal(pair.labels, others)
    assert [one.exported.complete for one in sessions()] == [False]  # it is offered


def test_a_round_that_another_image_replaced_is_still_offered(row: Row, tmp_path: Path) -> None:
    round_of(row, tmp_path, 1)
    others = np.full((40, 50), 3, np.uint16)
    review = Review(others)
    noted = note_written(tmp_path / "a_cells.tif", others, review)
    put(tmp_path, others)
    noted()
    assert [one.exported.complete for one in sessions()] == [False]


def test_corrections_that_went_on_after_a_save_are_taken_up(row: Row, tmp_path: Path) -> None:
    labels, review, session = corrected(row, tmp_path)
    noted = note_written(tmp_path / "a_cells.tif", labels, review)
    put(tmp_path, labels)
    noted()
    session.claim()
    labels[0, 0] = 7
    known = {OURS: {"role": "cells"}, INPUT: {"path": str(tmp_path / "a_cells.tif")}}
    session.save(labels, review, description={"name": "a_cells", "metadata": known})
    session.release()
    pair = read_pair(tmp_path, row)
    assert pair.restored is not None
    assert np.array_equal(pair.labels, labels)


def test_corrections_of_cells_that_somebody_replaced_are_not_taken_up(
    row: Row, tmp_path: Path
) -> None:
    corrected(row, tmp_path)
    others = np.full((40, 50), 3, np.uint16)
    put(tmp_path, others)
    pair = read_pair(tmp_path, row)
    assert pair.restored is None
    assert np.array_equal(pair.labels, others)


def test_cells_that_are_gone_are_said(row: Row, tmp_path: Path) -> None:
    (tmp_path / "a_cells.tif").unlink()
    with pytest.raises(UserError, match=r"a_cells\.tif"):
        read_pair(tmp_path, row)


def test_an_image_that_napari_cannot_read_leaves_that_to_the_window(
    row: Row, tmp_path: Path
) -> None:
    row.path.write_bytes(b"nonsense")
    assert read_pair(tmp_path, row).layers is None


def test_cells_that_are_open_are_found(tmp_path: Path) -> None:
    class Labels(SimpleNamespace):
        """A layer as far as it is looked at."""

    target = tmp_path / "a_cells.tif"
    cells: Any = Labels(metadata={}, source=SimpleNamespace(path=str(target)))
    other: Any = Labels(metadata={}, source=SimpleNamespace(path=None))
    viewer: Any = SimpleNamespace(layers=[other, cells])
    assert open_cells(viewer, target) is cells
    assert open_cells(viewer, tmp_path / "b_cells.tif") is None


def test_what_is_written_is_a_copy() -> None:
    labels = np.ones((4, 5), np.uint8)
    layer: Any = SimpleNamespace(data=labels)
    copied = pixels_of(layer)
    labels[:] = 0
    assert copied.all()


@pytest.mark.parametrize("side", [40, 4000])
def test_the_view_is_fitted_to_the_image_that_is_opened(
    row: Row, tmp_path: Path, side: int
) -> None:
    viewer: Any = ViewerModel()
    viewer.add_image(np.zeros((side, side)), translate=(500, 500))  # as the image before
    viewer.add_image(np.zeros((3, 2, side, side)), name="of somebody")
    pair = read_pair(tmp_path, row)
    image: Any = add_image(viewer, pair).image
    cells = add_cells(viewer, pair, image)
    show_cells(viewer, cells, pair, image)
    camera, canvas = camera_of(viewer), canvas_size(viewer)
    assert np.allclose(camera.center[-2:], (19.5, 24.5), atol=0.51)
    shown = np.array([40, 50]) * camera.zoom / canvas
    assert 0.9 < shown.max() <= 1
    alone: Any = ViewerModel()
    alone.add_image(np.zeros((40, 50)))
    alone.reset_view()
    assert camera.zoom == pytest.approx(camera_of(alone).zoom, rel=0.05)


def test_side_by_side_all_are_in_view(row: Row, tmp_path: Path) -> None:
    viewer: Any = ViewerModel()
    viewer.add_image(np.zeros((400, 400)))
    grid = viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid
    grid.enabled = True
    fitted: list[str] = []
    viewer.events.reset_view.connect(lambda event: fitted.append("all"))
    pair = read_pair(tmp_path, row)
    image: Any = add_image(viewer, pair).image
    fitted.clear()
    show_cells(viewer, add_cells(viewer, pair, image), pair, image)
    assert fitted == ["all"]
