"""The writer: labels keep pixels, size and place, and no file is replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_unet_cells.core.labels import digest
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image, read_provenance
from napari_unet_cells.layers.metadata import CELLS, CLASSES, INPUT, OURS, result_metadata
from napari_unet_cells.layers.reader import open_result
from napari_unet_cells.layers.transforms import describe_transform
from napari_unet_cells.layers.writer import write_layer

PROVENANCE = {"program": "napari-unet-cells", "classes": ["background", "cell", "boundary"]}

MICROMETERS = {"scale": [0.5, 0.25], "units": ("micrometer", "micrometer"), "name": "a cells"}


@pytest.fixture
def cells():
    return np.random.default_rng(0).integers(0, 9, (6, 8)).astype(np.uint16)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names_of(paths):
    return [Path(path).name for path in paths]


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("a.tif", "a.tif"),
        ("a.TIFF", "a.TIFF"),
        ("a", "a.tif"),
        ("a.v2", "a.v2.tif"),
        ("a.png", "a.png.tif"),
    ],
)
def test_file_has_a_tiff_ending_and_a_record_beside_it(tmp_path, cells, typed, written):
    mask, record = map(Path, write_layer(str(tmp_path / typed), cells, MICROMETERS))
    assert mask == tmp_path / written
    assert record == mask.with_suffix(".json")
    assert set(content(tmp_path)) == {mask.name, record.name}
    image = read_image(mask)
    np.testing.assert_array_equal(image.data, cells)
    assert image.pixel_size == pytest.approx((0.5, 0.25))
    assert image.unit == "micrometer"
    assert json.loads(record.read_text()) == read_provenance(mask)


def test_record_says_what_it_is_and_where_it_lies(tmp_path, cells):
    made = result_metadata(CLASSES, "7", PROVENANCE)
    attributes = MICROMETERS | {"metadata": made, "translate": [3, 4]}
    mask, _ = write_layer(str(tmp_path / "a.tif"), cells, attributes)
    record = read_provenance(mask)
    assert record["program"] == PROVENANCE["program"]
    assert record["role"] == CLASSES
    assert record["layer"] == "a cells"
    assert record["transform"]["translate"] == [3, 4]
    assert record["pixel_size"] == {"y": 0.5, "x": 0.25, "unit": "micrometer"}


@pytest.mark.parametrize(
    ("shape", "units", "names", "axes", "step"),
    [
        ((3, 6, 8), ("micrometer",) * 3, ("z", "y", "x"), "ZYX", 2),
        ((3, 6, 8), ("nanometer", "micrometer", "micrometer"), ("z", "y", "x"), "ZYX", 0.002),
        ((3, 6, 8), ("pixel", "micrometer", "micrometer"), ("z", "y", "x"), "ZYX", None),
        ((3, 6, 8), ("micrometer",) * 3, ("t", "y", "x"), "TYX", None),
        ((3, 2, 6, 8), ("micrometer",) * 4, ("t", "z", "y", "x"), "TZYX", 2),
        ((1, 3, 6, 8), ("micrometer",) * 4, ("t", "z", "y", "x"), "ZYX", 2),
        ((6, 8), ("micrometer",) * 2, ("y", "x"), "YX", None),
    ],
)
def test_stacks_keep_axes_and_step(tmp_path, shape, units, names, axes, step):
    stack = np.random.default_rng(0).integers(0, 9, shape).astype(np.uint16)
    scale = [1, 2, 0.5, 0.25][-len(shape) :]
    attributes = {"scale": scale, "units": units, "axis_labels": names, "name": "a"}
    mask, _ = write_layer(str(tmp_path / "a.tif"), stack, attributes)
    image = read_image(mask)
    assert image.axes == axes
    assert image.pixel_size == pytest.approx((0.5, 0.25))
    assert image.z_step == (step if step is None else pytest.approx(step))
    ((labels, place, _),) = open_result(mask)
    np.testing.assert_array_equal(labels, stack)
    assert place["scale"] == scale
    assert place["units"] == list(units)
    assert place["axis_labels"] == list(names)


def test_mirrored_and_plain_layers_are_saved(tmp_path, cells):
    mirrored, _ = write_layer(str(tmp_path / "m.tif"), cells, MICROMETERS | {"scale": [-0.5, 0.25]})
    assert read_image(mirrored).pixel_size == pytest.approx((0.5, 0.25))
    assert read_provenance(mirrored)["transform"]["scale"] == [-0.5, 0.25]
    plain, _ = write_layer(str(tmp_path / "p.tif"), cells, {})
    assert read_image(plain).pixel_size is None
    assert "role" not in read_provenance(plain)


def test_size_that_only_the_user_or_an_older_file_knew_is_kept(tmp_path, cells):
    told = {INPUT: {"pixel_size": (0.3, 0.3, "micrometer")}}
    mask, _ = write_layer(str(tmp_path / "a.tif"), cells, {"metadata": told})
    ((labels, attributes, _),) = open_result(mask)
    assert attributes["scale"] == [1, 1]  # in its place, over an image without a scale
    again, _ = write_layer(str(tmp_path / "b.tif"), labels, attributes)
    assert read_image(again).pixel_size == pytest.approx((0.3, 0.3))


def test_name_with_its_ending_was_asked_about_and_is_replaced(tmp_path, cells):
    write_layer(str(tmp_path / "a.tif"), cells, MICROMETERS)
    before = content(tmp_path)
    assert set(before) == {"a.tif", "a.json"}
    written = write_layer(str(tmp_path / "a.tif"), cells * 0, MICROMETERS | {"name": "b"})
    assert names_of(written) == ["a.tif", "a.json"]
    after = content(tmp_path)
    assert set(after) == set(before)
    assert after["a.tif"] != before["a.tif"]
    assert json.loads(after["a.json"])["layer"] == "b"


@pytest.mark.parametrize(
    ("there", "typed", "written"),
    [
        (["a.tif"], "a", "a-2"),  # napari asked about "a", which is not there
        (["a.tif", "a-2.tif"], "a", "a-3"),
        (["a.tif", "a-2.json"], "a", "a-3"),
        (["a.json"], "a", "a-2"),
        (["a.json"], "a.tif", "a-2"),  # napari does not know of the JSON
        (["a.tif", "a.json"], "a.tif", "a-2"),
    ],
)
def test_nothing_is_replaced_unasked(tmp_path, cells, there, typed, written):
    for name in there:
        (tmp_path / name).write_text('{"mine": 1}')
    before = content(tmp_path)
    paths = write_layer(str(tmp_path / typed), cells, MICROMETERS)
    assert names_of(paths) == [f"{written}.tif", f"{written}.json"]
    after = content(tmp_path)
    assert set(after) == {*before, f"{written}.tif", f"{written}.json"}
    assert {name: after[name] for name in before} == before


def test_no_half_is_left_where_the_disk_refuses(tmp_path, cells, monkeypatch):
    def refuse(*_, **__):
        raise UserError("The disk is full.")

    monkeypatch.setattr("napari_unet_cells.files.results.write_json", refuse)
    with pytest.raises(UserError, match="disk is full"):
        write_layer(str(tmp_path / "a.tif"), cells, MICROMETERS)
    assert content(tmp_path) == {}
    with pytest.raises(UserError, match="there is no folder"):
        write_layer(str(tmp_path / "missing" / "a.tif"), cells, MICROMETERS)


def test_levels_and_five_axes_are_refused(tmp_path, cells):
    levels: Any = [cells, cells[::2]]
    with pytest.raises(UserError, match="'a' was not saved: it has several levels"):
        write_layer(str(tmp_path / "a"), levels, {"name": "a", "multiscale": True})
    with pytest.raises(UserError, match="'a' was not saved: it has 5 axes"):
        write_layer(str(tmp_path / "a"), np.zeros((1, 1, 1, 2, 2), int), {"name": "a"})
    assert content(tmp_path) == {}


# --- in napari -------------------------------------------------------------------------------

PLUGIN = "napari-unet-cells"

TURNED = {
    "scale": [2, 0.5, 0.25], "translate": [7, 3, 4],
    "rotate": [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]], "shear": [0.1, 0, 0.2],
    "affine": [[1, 0, 0, 5], [0, 1, 0.1, 6], [0, 0, 1, 7], [0, 0, 0, 1]],
    "units": ("um", "um", "um"), "axis_labels": ("z", "y", "x"),
}  # fmt: skip


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.mark.gui
@pytest.mark.parametrize("n_planes", [1, 3])
@pytest.mark.parametrize("dtype", ["uint16", "int64"])
def test_saved_and_opened_again_nothing_has_changed(viewer, tmp_path, n_planes, dtype):
    stack = np.random.default_rng(0).integers(0, 9, (n_planes, 6, 8)).astype(dtype)
    made = result_metadata(CELLS, "", PROVENANCE, digest(stack))
    layer = viewer.add_labels(stack, name="a", metadata=made, **TURNED)
    path = str(tmp_path / "a_cells.tif")
    written = viewer.layers.save(path, plugin=PLUGIN)
    assert names_of(written) == ["a_cells.tif", "a_cells.json"]
    (again,) = viewer.open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(again.data, layer.data)
    before, after = (describe_transform(one) for one in (layer, again))
    for name in ("scale", "translate", "rotate", "shear", "affine"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-9)
    assert (after["units"], after["axis_labels"]) == (before["units"], before["axis_labels"])
    np.testing.assert_allclose(again.data_to_world((0, 5, 7)), layer.data_to_world((0, 5, 7)))
    assert again.metadata[OURS]["provenance"] == PROVENANCE


@pytest.mark.gui
@pytest.mark.parametrize(
    ("typed", "there", "written"), [("a", "a.tif", "a-2.tif"), ("a.tif", "a.tif", "a.tif")]
)
def test_the_save_dialog_reaches_us(viewer, cells, tmp_path, monkeypatch, typed, there, written):
    from qtpy.QtWidgets import QFileDialog

    tifffile.imwrite(tmp_path / there, cells)
    viewer.add_labels(cells, scale=(0.5, 0.25), units=("um", "um"))
    offered = []

    def choose(*args, **options):
        offered.extend(options["filter"].split(";;"))
        ours = next(one for one in offered if one.startswith(PLUGIN))
        return str(tmp_path / typed), ours

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    viewer.window._qt_viewer._save_layers_dialog()
    assert f"{PLUGIN} labels with size and place (*.tif *.tiff)" in offered
    assert {there, written} <= set(content(tmp_path))
    assert read_image(tmp_path / written).pixel_size == pytest.approx((0.5, 0.25))


@pytest.mark.gui
def test_other_kinds_of_file_are_not_ours(viewer, cells, tmp_path):
    viewer.add_labels(cells)
    written = viewer.layers.save(str(tmp_path / "a.npz"))
    assert names_of(written) == ["a.npz"]
    assert set(content(tmp_path)) == {"a.npz"}
