"""Splitting channels and the plane that is shown, on a viewer without a window."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet_cells.core.channels import ManyChannels
from napari_unet_cells.layers.metadata import image_id
from napari_unet_cells.widgets.napari_versions import camera_of
from napari_unet_cells.widgets.segment import channels as channels_module
from napari_unet_cells.widgets.segment.channels import (
    Projection,
    choose_channel,
    chosen_plane,
    drop_unmade,
    show_plane,
    show_projection,
    shown_plane,
    split_channels,
    split_of,
    unmade,
)

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

#: Axes z, c, y, x.
DATA = np.arange(4 * 2 * 5 * 6, dtype=np.uint16).reshape(4, 2, 5, 6)


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def test_a_layer_for_each_channel_takes_the_place_of_the_image(viewer):
    viewer.add_image(np.zeros((5, 6)), name="below")
    image = viewer.add_image(DATA, name="multi", scale=(3, 1, 0.5, 0.25), translate=(1, 2, 3, 4))
    viewer.add_points(name="above", ndim=2)
    expected = np.delete(image.data_to_world((2, 1, 3, 4)), 1)

    chosen = split_channels(viewer, image, axis=1, chosen=1)

    names = ["below", "multi channel 1", "multi channel 2", "above"]
    assert [layer.name for layer in viewer.layers] == names
    assert chosen is viewer.layers["multi channel 2"] is viewer.layers.selection.active
    np.testing.assert_array_equal(chosen.data, DATA[:, 1])
    np.testing.assert_allclose(chosen.data_to_world((2, 3, 4)), expected)
    np.testing.assert_array_equal(viewer.layers["multi channel 1"].data, DATA[:, 0])
    assert chosen.metadata["napari_unet_cells_input"] == {"channel": 1}


def test_the_camera_stays_where_it_was(viewer):
    viewer.add_image(np.zeros((50, 60)), name="larger")
    image = viewer.add_image(DATA, name="multi")
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0.0, 2.0, 3.0), 7.0
    split_channels(viewer, image, axis=1, chosen=0)
    assert viewer.dims.ndim == 3
    assert camera.center == (0.0, 2.0, 3.0)
    assert camera.zoom == 7.0


def test_channels_are_called_as_their_file_calls_them(viewer):
    image = viewer.add_image(DATA, name="multi")
    chosen = split_channels(viewer, image, axis=1, chosen=1, names=("DAPI", "GFP"))
    assert [layer.name for layer in viewer.layers] == ["multi DAPI", "multi GFP"]
    assert chosen.name == "multi GFP"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_projection_of_all_channels_is_one_more_layer(viewer, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(channels_module, "LARGEST_AT_ONCE", 0)
    rng = np.random.default_rng(0)
    data = rng.normal(100, 1, (4, 2, 20, 30))
    data[2, 0, 2:8, 2:8] += 5000
    data[2, 1, 10:16, 10:16] += 50
    image = viewer.add_image(data, name="multi", scale=(3, 1, 0.5, 0.25), translate=(1, 2, 3, 4))
    viewer.dims.set_current_step((0, 1), (2, 1))
    chosen = Projection("max", (0, 1))
    made = split_channels(viewer, image, axis=1, chosen=0, projection=chosen)
    assert unmade(made) == chosen
    assert not made.data.any()
    show_projection(made, chosen.compute(split_of(made)))
    assert unmade(made) is None
    names = ["multi channel 1", "multi channel 2", "multi max of channels"]
    assert [layer.name for layer in viewer.layers] == names
    assert [layer.visible for layer in viewer.layers] == [False, False, True]
    assert made is viewer.layers.selection.active
    assert isinstance(made.data, np.ndarray) == at_once
    pixels = np.asarray(made.data)
    assert pixels.shape == (4, 20, 30)
    assert pixels[2, 2:8, 2:8].min() > 0.9
    assert pixels[2, 10:16, 10:16].min() > 0.8
    assert shown_plane(viewer, made) == (2,)
    known = {"channels": [0, 1], "projection": "max"}
    assert made.metadata["napari_unet_cells_input"] == known


def test_the_window_computes_no_plane_of_a_projection_that_it_was_made_for(viewer, monkeypatch):
    monkeypatch.setattr(channels_module, "LARGEST_AT_ONCE", 0)
    computed = []
    read = ManyChannels.__getitem__
    monkeypatch.setattr(
        ManyChannels, "__getitem__", lambda self, key: computed.append(key) or read(self, key)
    )
    image = viewer.add_image(np.random.default_rng(0).random((9, 2, 20, 30)), name="multi")
    made = split_channels(viewer, image, 1, 0, projection=Projection("max", (0, 1)))
    viewer.dims.set_current_step(0, 7)
    levels = unmade(made).compute(split_of(made), shown_plane(viewer, made))
    before = len(computed)
    assert before
    show_projection(made, levels)
    plane = np.asarray(made.data[7])
    assert not [key for key in computed[before:] if key[0] == slice(7, 8)]
    np.testing.assert_allclose(plane, np.asarray(image.data[7]).max(0), atol=0.2)


def test_another_channel_and_another_projection_are_found_or_made_after_the_split(viewer):
    data = np.random.default_rng(0).integers(0, 99, (3, 20, 30)).astype(np.uint8)
    image = viewer.add_image(data, name="multi", scale=(1, 0.5, 0.25))
    names = ("DAPI", "GFP", "RFP")
    first = split_channels(viewer, image, axis=0, chosen=0, names=names)
    assert choose_channel(viewer, first, 0) is first
    second = choose_channel(viewer, first, 1)
    assert second is viewer.layers["multi GFP"] is viewer.layers.selection.active
    viewer.layers.remove("multi RFP")
    again = choose_channel(viewer, first, 2)
    assert again.name == "multi RFP"
    np.testing.assert_array_equal(again.data, data[2])
    np.testing.assert_array_equal(again.scale, (0.5, 0.25))

    chosen = Projection("mean", (0, 2))
    made = choose_channel(viewer, second, 0, chosen)
    assert made.name == "multi mean of DAPI, RFP"
    assert unmade(made) == chosen
    show_projection(made, chosen.compute(split_of(made)))
    assert choose_channel(viewer, first, 0, chosen) is made
    other = choose_channel(viewer, made, 0, Projection("max", (0, 2)))
    assert other is not made
    assert not made.visible
    assert choose_channel(viewer, other, 1) is second
    assert not other.visible
    assert second.visible


def test_whoever_hears_of_a_new_layer_knows_what_it_is(viewer):
    image = viewer.add_image(DATA, name="multi")
    heard = []
    viewer.layers.events.inserted.connect(
        lambda event: heard.append((split_of(event.value), unmade(event.value)))
    )
    chosen = Projection("max", (0, 1))
    made = split_channels(viewer, image, axis=1, chosen=0, projection=chosen)
    assert heard == [(split_of(made), None)] * 2 + [(split_of(made), chosen)]


def test_a_projection_that_did_not_come_is_taken_away(viewer):
    image = viewer.add_image(DATA, name="multi")
    split_channels(viewer, image, axis=1, chosen=0, projection=Projection("max", (0, 1)))
    drop_unmade(viewer)
    assert [layer.name for layer in viewer.layers] == ["multi channel 1", "multi channel 2"]
    assert all(layer.visible for layer in viewer.layers)


def test_what_a_projection_that_did_not_come_has_hidden_is_shown_again(viewer):
    image = viewer.add_image(DATA, name="multi")
    first = split_channels(viewer, image, axis=1, chosen=0)
    made_of = {"napari_unet_cells": {"role": "cells", "image": image_id(first)}}
    cells = viewer.add_labels(np.zeros(first.data.shape, np.uint8), metadata=made_of)
    viewer.layers["multi channel 2"].visible = False
    choose_channel(viewer, first, 0, Projection("max", (0, 1)))
    assert not cells.visible
    drop_unmade(viewer)
    assert [layer.name for layer in viewer.layers if layer.visible] == [first.name, cells.name]
    assert viewer.layers.selection.active is cells


def test_a_copy_of_a_channel_shares_the_pixels(viewer):
    image = viewer.add_image(DATA, name="multi")
    channel = split_channels(viewer, image, axis=1, chosen=0)
    copied = deepcopy(channel.metadata)
    assert split_of(SimpleNamespace(metadata=copied)) is split_of(channel)


def test_the_levels_of_a_pyramid_are_split_alike(viewer):
    image = viewer.add_image([DATA, DATA[..., ::2, ::2]], name="multi", multiscale=True)
    chosen = split_channels(viewer, image, axis=1, chosen=0)
    assert [level.shape for level in chosen.data] == [(4, 5, 6), (4, 3, 3)]


@pytest.mark.parametrize(
    ("shape", "all_planes", "expected"),
    [((5, 6), False, ()), ((4, 5, 6), False, (2,)), ((4, 5, 6), True, None)],
    ids=["plane", "shown", "all"],
)
def test_the_plane_that_is_shown_or_all_of_them(viewer, shape, all_planes, expected):
    image = viewer.add_image(np.zeros(shape), scale=(7,) * len(shape))
    if len(shape) == 3:
        viewer.dims.set_current_step(0, 2)
    assert chosen_plane(viewer, image, all_planes) == expected


def test_a_slider_beyond_the_image_shows_its_last_plane(viewer):
    viewer.add_image(np.zeros((9, 5, 6)), name="long")
    short = viewer.add_image(np.zeros((4, 5, 6)), name="short")
    viewer.dims.set_current_step(0, 8)
    assert chosen_plane(viewer, short, False) == (3,)


def test_the_same_plane_stays_shown_when_channels_are_split(viewer):
    image = viewer.add_image(DATA, name="multi", scale=(3, 1, 0.5, 0.25), translate=(1, 2, 3, 4))
    viewer.dims.set_current_step((0, 1), (2, 1))
    assert shown_plane(viewer, image) == (2, 1)
    channel = split_channels(viewer, image, axis=1, chosen=0)
    assert shown_plane(viewer, channel) == (2,)
    assert viewer.dims.point[0] == pytest.approx(image.data_to_world((2, 1, 0, 0))[0])


def test_sliders_of_other_layers_stay_when_channels_are_split(viewer):
    viewer.add_image(np.zeros((6, 4, 3, 5, 6)), name="other")
    image = viewer.add_image(DATA, name="multi")
    viewer.dims.set_current_step((0, 1, 2), (5, 3, 1))
    channel = split_channels(viewer, image, axis=1, chosen=0)
    assert shown_plane(viewer, channel) == (3,)
    assert viewer.dims.current_step[:2] == (5, 3)


def test_a_plane_is_found_where_the_viewer_has_another_unit(viewer):
    viewer.add_image(np.zeros((4, 5, 6)), units=("nm",) * 3, scale=(500,) * 3)
    image = viewer.add_image(np.zeros((4, 5, 6)), units=("um",) * 3, scale=(0.5,) * 3)
    viewer.dims.set_current_step(0, 2)
    assert shown_plane(viewer, image) == (2,)
    show_plane(viewer, image, (3,))
    assert viewer.dims.current_step[0] == 3
    assert shown_plane(viewer, image) == (3,)


def test_a_stack_that_is_turned_shows_the_plane_that_napari_shows(viewer):
    affine = np.eye(4)
    affine[0, 2] = 0.8  # z also rises with x
    image = viewer.add_image(np.zeros((9, 5, 60)), affine=affine)
    viewer.dims.set_point(0, 4)
    viewer.dims.set_point(2, 30)  # of no meaning while x is displayed
    assert shown_plane(viewer, image) == (int(image._data_slice.point[0]),) == (4,)
