"""Which planes of a file are segmented, and what their labels' axes are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import Image, read_image
from napari_unet_cells.segmentation.chosen_planes import chosen_planes, with_told_axes

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


@pytest.mark.parametrize(
    ("axes", "told", "expected"),
    [
        ("QYX", "CYX", "CYX"),
        ("QIYX", "?CYX", "QCYX"),
        ("ZYX", "CYX", "ZYX"),  # the file says what it is
        ("CYX", "CYX", "CYX"),
        ("QYX", "?CYX", "QYX"),  # an image of other axes
        ("QYX", "", "QYX"),
    ],
)
@pytest.mark.parametrize("guessed", [False, True])
def test_the_user_names_the_axis_of_the_channels_where_the_file_does_not(
    axes: str, told: str, expected: str, guessed: bool
) -> None:
    image = Image(
        np.zeros((2,) * len(axes), np.uint8), axes, None, "pixel", Path("a"), is_guessed=guessed
    )
    if guessed and axes == "ZYX":
        expected = "CYX"  # it was taken for planes by the number of its axes
    assert with_told_axes(image, told).axes == expected


@pytest.mark.parametrize(
    ("names", "guessed"), [(None, True), (("z", "y", "x"), False), (("a", "b", "c"), True)]
)
def test_a_zarr_without_names_of_its_axes_says_so(
    tmp_path: Path, names: tuple[str, ...] | None, guessed: bool
) -> None:
    pixels = np.ones((3, 8, 9), np.uint8)
    zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=(1, 8, 9), dimension_names=names)
    image = read_image(tmp_path / "a.zarr")
    assert (image.axes, image.is_guessed) == ("ZYX", guessed)
    planes, _ = chosen_planes(with_told_axes(image, "CYX"), 1 if guessed else None, None, "all")
    assert len(planes) == (1 if guessed else 3)


@pytest.mark.parametrize(("shape", "guessed"), [((3, 8, 9), True), ((1, 3, 1, 8, 9), False)])
def test_an_old_ome_zarr_names_its_axes_by_their_number(
    tmp_path: Path, shape: tuple[int, ...], guessed: bool
) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=np.ones(shape, np.uint8), chunks=shape)
    group.attrs.put({"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]})
    image = read_image(tmp_path / "a.zarr")
    assert (image.axes, image.is_guessed) == ("ZYX" if guessed else "CYX", guessed)


def test_a_number_counts_through_all_planes() -> None:
    planes, axes = chosen_planes(STACK, None, None, 4)
    assert (planes.shape, axes) == ((8, 9), "YX")
    assert planes.fixed == {0: 1, 1: 1}
    for number in (-1, 6):
        with pytest.raises(UserError, match=f"There is no plane {number}: the stack has .* 0 to 5"):
            chosen_planes(STACK, None, None, number)
