"""Which planes an image has, and what they are stretched between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.planes import (
    Planes,
    limits_of,
    planes_of,
    typical_plane,
    usual_contrast,
)
from napari_unet_cells.errors import UserError


def numbered(*shape: int) -> Any:
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "axes", "channel", "planes"),
    [
        ((4, 5), None, None, (4, 5)),
        ((4, 5, 3), None, None, (4, 5)),
        ((6, 4, 5), "ZYX", None, (6, 4, 5)),
        ((2, 4, 5), "cyx", 1, (4, 5)),
        ((1, 4, 5), "CYX", None, (4, 5)),
        ((7, 6, 2, 4, 5), "TZCYX", 0, (7, 6, 4, 5)),
        ((6, 4, 5, 3), "ZYXC", None, (6, 4, 5)),
    ],
)
def test_what_is_left_is_the_shape_of_the_labels(
    shape: Any, axes: Any, channel: Any, planes: Any
) -> None:
    image = numbered(*shape)
    found = planes_of(image, axes, channel)
    assert found.shape == planes
    assert len(found) == len(list(found.indices())) == np.prod(planes[:-2])
    for index in found.indices():
        plane = found.plane(index)
        assert plane[:, :].shape == plane.shape
        assert plane.shape[:2] == (4, 5)


def test_a_plane_holds_the_pixels_at_its_index() -> None:
    image = numbered(7, 6, 2, 4, 5)
    planes = planes_of(image, "TZCYX", channel=1)
    np.testing.assert_array_equal(planes.plane((3, 2))[1:3, :], image[3, 2, 1, 1:3])
    fixed = Planes(image, fixed={0: 6, 1: 5, 2: 0})
    np.testing.assert_array_equal(fixed.plane(())[:, 2:], image[6, 5, 0, :, 2:])


def test_pixels_in_memory_are_not_copied() -> None:
    image = numbered(3, 4, 5)
    assert np.shares_memory(planes_of(image, "ZYX").plane((1,))[:, :], image)
    assert planes_of(np.array([[True, False]])).plane(())[:, :].dtype == np.uint8


def test_alpha_is_not_a_channel() -> None:
    assert planes_of(numbered(4, 5, 4)).plane(()).shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("shape", "axes", "channel", "sentence"),
    [
        ((4, 5), "ZYX", None, r"axes 'ZYX' do not fit an image of the shape \(4, 5\)"),
        ((4, 5, 6), "YYX", None, "do not fit"),
        ((4, 5, 6), "YXZ", None, "must end in YX"),
        ((2, 5, 6), "CYX", None, r"has 2 channels \(axes CYX\). Choose one of them, 0 to 1"),
        ((2, 5, 6), "CYX", 2, "no channel 2: the image has 0 to 1"),
        ((2, 0, 6), "ZYX", None, r"empty: its shape is \(2, 0, 6\)"),
    ],
)
def test_axes_that_do_not_say_enough_are_a_sentence(
    shape: Any, axes: str, channel: Any, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        planes_of(numbered(*shape), axes, channel)


def test_a_plane_of_noise_is_not_stretched_to_that_of_cells() -> None:
    noise = np.random.default_rng(0).normal(10, 1, (5, 60, 60))
    stack = noise.copy()
    stack[1:, 10:30, 10:30] += 100
    planes = planes_of(stack, "ZYX")
    usual = usual_contrast(planes)
    assert usual == pytest.approx(103, abs=3)
    empty, cells = limits_of(planes.plane((0,)), usual), limits_of(planes.plane((2,)), usual)
    assert empty is not None
    assert cells is not None
    assert empty.high - empty.low == usual
    assert cells.high == pytest.approx(112, abs=3)
    assert usual_contrast(planes_of(noise[0])) == 0
    assert typical_plane(planes).index != (0,)


def test_a_plane_of_one_value_has_limits_only_when_it_is_alone() -> None:
    flat = np.full((4, 4), 7.0)
    assert limits_of(planes_of(flat).plane(())) == Limits(7, 14)
    stack = planes_of(np.stack([flat, numbered(4, 4), numbered(4, 4)]), "ZYX")
    assert limits_of(stack.plane((0,)), usual_contrast(stack)) is None


@pytest.mark.parametrize("axes", ["YX", "ZYX", "YXC"])
def test_a_channel_that_is_not_there_is_refused(axes: str) -> None:
    image = np.zeros((9, 8, 3)[: len(axes)])
    assert planes_of(image, axes).data is image
    with pytest.raises(UserError, match=r"There is no channel 9 to choose: the image has"):
        planes_of(image, axes, 9)
    if axes != "YXC":
        assert planes_of(image, axes, 0).data is image
        assert planes_of(image, axes, "DAPI").data is image
