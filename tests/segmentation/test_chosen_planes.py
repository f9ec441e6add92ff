"""Which planes of a file are segmented, and what their labels' axes are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import Image
from napari_unet_cells.segmentation.chosen_planes import chosen_planes

STACK = Image(np.zeros((2, 3, 8, 9), np.uint8), "TZYX", None, "pixel", Path("a.tif"))
PLANE = Image(np.zeros((8, 9), np.uint8), "YX", None, "pixel", Path("a.tif"))


def test_a_plane_is_taken_as_it_is() -> None:
    planes, axes = chosen_planes(PLANE, None, None, None)
    assert (planes.shape, axes) == ((8, 9), "YX")


def test_a_stack_has_to_be_asked_for() -> None:
    with pytest.raises(UserError, match=r"^It is a stack of 6 planes \(axes TZYX, 2 x 3 x 8 x 9\)"):
        chosen_planes(STACK, None, None, None)
    planes, axes = chosen_planes(STACK, None, None, "all")
    assert (planes.shape, axes) == ((2, 3, 8, 9), "TZYX")


def test_a_number_counts_through_all_planes() -> None:
    planes, axes = chosen_planes(STACK, None, None, 4)
    assert (planes.shape, axes) == ((8, 9), "YX")
    assert planes.fixed == {0: 1, 1: 1}
    for number in (-1, 6):
        with pytest.raises(UserError, match=f"There is no plane {number}: the stack has .* 0 to 5"):
            chosen_planes(STACK, None, None, number)
