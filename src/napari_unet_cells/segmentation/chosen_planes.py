"""The planes of a file that a command was asked for, and what the record says of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_unet_cells.core.planes import Channels, Planes, many_channels, planes_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import Image

#: Letters of axes whose meaning a TIFF does not say.
_UNNAMED = frozenset("QI")


def with_told_axes(image: Image, told: str) -> Image:
    """Take from the user which axis holds the channels, where the file does not say it.

    Parameters
    ----------
    image : Image
    told : str
        One letter for each axis, C where the channels are, such as "CYX" or "?CYX"; empty where
        the user said nothing. An image with other axes stays as it is, and so does one whose file
        names them.
    """
    at = told.find("C")
    is_like = len(told) == len(image.axes) and at >= 0 and "C" not in image.axes
    if not is_like or not (image.axes[at] in _UNNAMED or image.is_guessed):
        return image
    return replace(image, axes=f"{image.axes[:at]}C{image.axes[at + 1 :]}")


def chosen_planes(
    image: Image, channel: Channels | None, projection: str | None, plane: int | str | None
) -> tuple[Planes, str]:
    """Choose planes of an image, and name the axes of their labels.

    Parameters
    ----------
    image : Image
    channel, projection
        See `core.planes.planes_of`.
    plane : int, "all" or None
        One plane, counted through all of them from 0, or every plane. None refuses a stack.

    Returns
    -------
    planes : Planes
    axes : str
        Such as "ZYX".

    Raises
    ------
    UserError
        Where it is a stack and nobody said which plane, or there is no such plane.
    """
    planes = planes_of(image.data, image.axes, channel, projection, image.channel_names)
    if len(planes) > 1 and plane is None:
        size = " x ".join(map(str, image.data.shape))
        raise UserError(
            f"It is a stack of {len(planes)} planes (axes {image.axes}, {size}). Say which: "
            "--plane all segments every plane, --plane 0 the first one."
        )
    if isinstance(plane, int) and planes.free:
        planes = replace(planes, fixed={**planes.fixed, **_fixed(planes, plane)})
    return planes, "".join(image.axes[axis] for axis in planes.free) + "YX"


def _fixed(planes: Planes, number: int) -> dict[int, int]:
    """Fix every free axis to select one plane, counted through all of them."""
    if not 0 <= number < len(planes):
        raise UserError(
            f"There is no plane {number}: the stack has the planes 0 to {len(planes) - 1}."
        )
    fixed = {}
    for axis, length in reversed(list(zip(planes.free, planes.shape, strict=False))):
        number, fixed[axis] = divmod(number, length)
    return fixed


def source_of(path: Path, image: Image, planes: Planes) -> dict[str, Any]:
    """Describe where planes came from, for the record of a result."""
    source: dict[str, Any] = {
        "path": os.path.realpath(path),
        "shape": image.data.shape,
        "axes": image.axes,
        **many_channels(planes),
    }
    fixed = {image.axes[axis]: index for axis, index in planes.fixed.items()}
    if "channels" in source:
        del fixed["C"]
    return source | ({"fixed": fixed} if fixed else {})
