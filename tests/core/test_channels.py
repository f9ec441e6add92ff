"""Several channels as one image, read part by part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.channels import ManyChannels, channel_numbers, list_channels
from napari_unet_cells.core.planes import many_channels, planes_of
from napari_unet_cells.errors import UserError


def bright_and_dim() -> Any:
    """Make z, c, y, x: a bright square in channel 0, a dim one in channel 2, noise in 1."""
    rng = np.random.default_rng(0)
    image = rng.normal(100, 2, (3, 3, 40, 50))
    image[:, 0, 5:15, 5:15] += 9000
    image[:, 2, 20:30, 30:40] += 60
    return image


@pytest.mark.parametrize(("projection", "expected"), [("max", 1.0), ("mean", 0.5)])
def test_a_bright_channel_does_not_hide_a_dim_one(projection: str, expected: float) -> None:
    image = bright_and_dim()
    assert image[1].max(axis=0)[25, 35] < 0.02 * image[1].max()
    planes = planes_of(image, "ZCYX", (0, 2), projection)
    assert planes.shape == (3, 40, 50)
    assert planes.channels == 0
    plane = planes.plane((1,))[:, :]
    assert plane.dtype == np.float32
    for square in (plane[6:14, 6:14], plane[21:29, 31:39]):
        assert square.mean() == pytest.approx(expected, abs=0.1)
    assert plane[35:, :25].mean() < 0.1
    assert many_channels(planes) == {"channels": [0, 2], "projection": projection}


def test_all_channels_are_projected_where_none_is_named() -> None:
    planes = planes_of(bright_and_dim(), "ZCYX", projection="max")
    assert many_channels(planes)["channels"] == [0, 1, 2]


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
@pytest.mark.parametrize("projection", ["max", "mean", ""])
def test_a_part_is_what_lies_there_in_the_whole(axes: str, projection: str) -> None:
    image = bright_and_dim()
    if axes == "CZYX":
        image = image.swapaxes(0, 1)
    many = ManyChannels(image, axes.index("C"), (2, 0), projection)
    whole = np.asarray(many)
    assert whole.shape == many.shape
    keys: list[Any] = [
        (1, 0), (0, 0, slice(3, 9), slice(None, None, 7)), (slice(None), 0, 4), (..., slice(2, 5)),
        (slice(0, 1), slice(None), slice(5, 6)), (0, slice(0, 1), 3, 4), 0,
    ]  # fmt: skip
    for key in keys:
        if axes == "CZYX" and isinstance(key, tuple) and len(key) > 1 and key[0] is not Ellipsis:
            key = (key[1], key[0], *key[2:])
        np.testing.assert_array_equal(many[key], whole[key])


def test_chosen_channels_become_one_image() -> None:
    image = bright_and_dim().astype(np.float32)
    planes = planes_of(image, "ZCYX", (2, 0))
    assert planes.channels == 2
    assert planes.shape == (3, 40, 50)
    pixels = planes.plane((1,))[2:9, :]
    np.testing.assert_array_equal(pixels, np.moveaxis(image[1, [2, 0], 2:9], 0, -1))
    four = planes_of(np.zeros((4, 9, 9)), "CYX", range(4))
    assert four.channels == 4  # no alpha


def test_nothing_is_read_before_it_is_its_turn() -> None:
    class Watched:
        def __init__(self, data: Any) -> None:
            self.data, self.shape, self.dtype = data, data.shape, data.dtype
            self.most = 0

        def __getitem__(self, key: Any) -> Any:
            part = self.data[key]
            self.most = max(self.most, part.size)
            return part

    watched = Watched(bright_and_dim())
    planes = planes_of(watched, "ZCYX", (0, 2), "max")
    assert planes.lazy
    assert watched.most == 0
    planes.plane((0,))[:8, :8]
    assert watched.most <= 40 * 50  # a channel of one plane, to learn its intensities
    assert not planes_of(watched.data, "ZCYX", (0, 2), "max").lazy


def test_nan_is_background_and_a_channel_of_one_value_shows_nothing() -> None:
    image = bright_and_dim()[0]
    image[0, :3] = np.nan
    image[1] = 7
    plane = planes_of(image, "CYX", projection="max").plane(())[:, :]
    assert np.isfinite(plane).all()
    assert plane[6:14, 6:14].min() > 0.9


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [(1, (1,)), ("gfp", (1,)), (("DAPI", 1), (0, 1)), (-1, (1,)), (range(2), (0, 1))],
)
def test_channels_are_chosen_by_number_or_name(chosen: Any, numbers: Any) -> None:
    assert channel_numbers(chosen, 2, ("DAPI", "GFP")) == numbers


@pytest.mark.parametrize(
    ("image", "axes", "channel", "projection", "sentence"),
    [
        ((2, 9, 9), "CYX", "Cy5", None, r"no channel Cy5: the image has 0 \(DAPI\), 1 \(GFP\)"),
        ((2, 9, 9), "CYX", (0, 2), "max", "no channel 2"),
        ((2, 9, 9), "CYX", (0, 0), "max", "Choose each channel once"),
        ((2, 9, 9), "CYX", (), None, "Choose each channel once"),
        ((2, 9, 9), "CYX", None, None, r"Choose one of them, 0 \(DAPI\), 1 \(GFP\), or several"),
        ((2, 9, 9), "CYX", None, "sum", "max or mean, not 'sum'"),
        ((2, 9, 9), "ZYX", None, "max", "no axis of channels"),
        ((9, 9, 3), "YXC", (0, 1), None, "has colours"),
        ((2, 9, 9), None, (0, 1), None, "Say which axis holds the channels"),
    ],
)
def test_what_cannot_be_chosen_is_a_sentence(
    image: Any, axes: Any, channel: Any, projection: Any, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        planes_of(np.zeros(image), axes, channel, projection, ("DAPI", "GFP"))


def test_channels_are_listed_with_their_names() -> None:
    assert list_channels(3) == list_channels(3, ("DAPI",)) == "0 to 2"
    assert list_channels(2, ("DAPI", "GFP")) == "0 (DAPI), 1 (GFP)"
