"""Segment in a real window on large images whose channels only the user knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from napari_unet_cells.files.zarr_metadata import zarr_record
from napari_unet_cells.layers.metadata import CELLS, CLASSES, OURS, ZARR, image_id
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.widgets.segment import large_image
from napari_unet_cells.widgets.segment.found_layers import zarr_layers

pytestmark = [pytest.mark.gui, pytest.mark.timeout(300)]

PLUGIN = "napari-unet-cells"


@pytest.fixture
def viewer(make_napari_viewer, tiny_home, monkeypatch):
    """Open a viewer for which 300 x 340 pixels are large, with a small model."""
    monkeypatch.setattr(large_image, "MOST_SIDE", 200)
    return make_napari_viewer()


@pytest.fixture
def dock(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN)[1]


def channels() -> NDArray[np.uint8]:
    """One dark channel, one of nuclei, and one of others."""
    one, other = (simulate_nuclei((300, 340), seed=seed)[0] for seed in (3, 4))
    return np.stack([one // 50, one, other])


def as_zarr(folder: Path, pixels: NDArray[Any]) -> Path:
    chunks = (*([1] * (pixels.ndim - 2)), 128, 128)
    zarr.create_array(folder / "a.zarr", data=pixels, chunks=chunks, zarr_format=2)
    return folder / "a.zarr"


def as_tiff(folder: Path, pixels: NDArray[Any]) -> Path:
    tifffile.imwrite(folder / "a.tif", pixels, photometric="minisblack")
    return folder / "a.tif"


def choose(qtbot, dock, axis: int, channel: Any):
    form = dock.segment.image_form.stack_form
    qtbot.waitUntil(lambda: form.axis_box.count() > 1, timeout=10_000)
    qtbot.wait(300)  # the file was looked at
    form.axis_box.setCurrentIndex(form.axis_box.findData(axis))
    form.channel_box.setCurrentIndex(form.channel_box.findData(channel))
    return form


def segment(qtbot, viewer, dock) -> Any:
    """Press Segment, and give the cells once they are whole."""
    dock.segment.button.click()
    qtbot.waitUntil(lambda: dock.segment.button.isEnabled(), timeout=120_000)
    found = [
        layer
        for layer in viewer.layers
        if layer.metadata.get(OURS, {}).get("role") == CELLS and ZARR in layer.metadata[OURS]
    ]
    assert len(found) == 1, dock.segment.message.text()
    return found[0]


def made_of(layer: Any) -> dict[str, Any]:
    record = zarr_record(Path(layer.metadata[OURS][ZARR]) / "labels" / CELLS)
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize(("write", "channel"), [(as_zarr, 2), (as_tiff, 1)])
def test_a_channel_of_an_axis_that_the_user_names(
    qtbot, viewer, dock, tmp_path, write, channel
) -> None:
    pixels = channels()
    viewer.open(str(write(tmp_path, pixels)), plugin="napari")
    choose(qtbot, dock, 0, channel)
    cells = segment(qtbot, viewer, dock)
    image = dock.segment.values.image
    assert np.array_equal(np.asarray(image.data), pixels[channel])
    assert cells.data[0].shape == image.data.shape == (300, 340)
    assert list(zarr_layers(viewer, image_id(image), CLASSES))
    for corner in ((0, 0), (299, 339)):
        np.testing.assert_allclose(cells.data_to_world(corner), image.data_to_world(corner))
    source = made_of(cells)["source"]
    assert source["fixed"] == {"C": channel}
    assert source["axes"] == "CYX"


def test_a_projection_of_channels_that_the_user_names(qtbot, viewer, dock, tmp_path):
    viewer.open(str(as_zarr(tmp_path, channels())), plugin="napari")
    form = choose(qtbot, dock, 0, "max")
    form.together.boxes[0].setChecked(False)
    assert form.values.channels == (1, 2)
    cells = segment(qtbot, viewer, dock)
    source = made_of(cells)["source"]
    assert (source["projection"], source["channels"]) == ("max", [1, 2])
    image = dock.segment.values.image
    assert np.asarray(image.data).any()  # it was empty


@pytest.mark.parametrize(("write", "axis"), [(as_zarr, 0), (as_tiff, 1)])
def test_a_plane_of_a_channel_that_the_user_names(qtbot, viewer, dock, tmp_path, write, axis):
    pixels = np.stack([channels(), np.roll(channels(), 9, axis=-1)])  # z, c, y, x
    pixels = np.swapaxes(pixels, 0, 1) if axis == 0 else pixels
    viewer.open(str(write(tmp_path, pixels)), plugin="napari")
    choose(qtbot, dock, axis, 2)
    viewer.dims.set_current_step(1 - axis, 1)
    cells = segment(qtbot, viewer, dock)
    made = made_of(cells)
    shown = np.take(np.take(pixels, [2], axis), [1], 1 - axis)[0, 0]
    image = dock.segment.values.image
    assert np.array_equal(np.asarray(image.data)[1], shown)
    assert made["source"]["fixed"]["C"] == 2
    labels = np.asarray(cells.data[0])
    assert labels.shape[-2:] == (300, 340)


def test_the_next_press_goes_on_with_the_channel(qtbot, viewer, dock, tmp_path):
    """The channel that was split off is a layer of its own by now."""
    viewer.open(str(as_zarr(tmp_path, channels())), plugin="napari")
    choose(qtbot, dock, 0, 1)
    first = segment(qtbot, viewer, dock)
    folder = first.metadata[OURS][ZARR]
    again = segment(qtbot, viewer, dock)
    assert again.metadata[OURS][ZARR] == folder
    form = dock.segment.image_form.stack_form
    form.channel_box.setCurrentIndex(form.channel_box.findData(2))
    dock.segment.button.click()
    qtbot.waitUntil(lambda: dock.segment.button.isEnabled(), timeout=120_000)
    image = dock.segment.values.image
    (cells,) = [layer for layer in zarr_layers(viewer, image_id(image), CELLS) if layer.visible]
    assert made_of(cells)["source"]["fixed"] == {"C": 2}
