"""Values of the forms of the Segment section, and what is wrong with them.

No Qt here: the forms fill these in, `problem` gives the sentence that the user reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import StackAxis, planes_for
from napari_unet_cells.segmentation.pipeline import Settings


@dataclass(frozen=True)
class StackValues:
    """Channel and planes of a stack to segment.

    Attributes
    ----------
    axes : tuple of StackAxis
        Of the layer, before (y, x); empty for a plane.
    channel_axis : int or None
        Axis of the layer that holds channels.
    channel : int
        The one to segment.
    all_planes : bool
        Else the plane that is shown.
    link : int or None
        Axis, among those that are left without the channels, along which cells keep their id.
    """

    axes: tuple[StackAxis, ...] = ()
    channel_axis: int | None = None
    channel: int = 0
    all_planes: bool = False
    link: int | None = None

    @property
    def left(self) -> tuple[StackAxis, ...]:
        """Axes of the planes: all but that of the channels."""
        return tuple(axis for axis in self.axes if axis.axis != self.channel_axis)

    @property
    def n_planes(self) -> int:
        """Number of planes of one channel."""
        return prod(axis.length for axis in self.left)

    @property
    def memory(self) -> str:
        """Key of `settings` under which the channel axis is remembered; empty for a plane."""
        return channel_memory(self.axes)

    def problem(self) -> str | None:
        """Say why there are no such planes."""
        if self.channel_axis is not None:
            if not 0 <= self.channel_axis < len(self.axes):
                return (
                    f"The image has no axis {self.channel_axis} of channels. Choose another one "
                    "under Channels."
                )
            n = self.axes[self.channel_axis].length
            if not 0 <= self.channel < n:
                return (
                    f"There is no channel {self.channel}: the image has 0 to {n - 1}. Choose one "
                    "of them under Channels."
                )
        if self.link is not None and not (self.all_planes and 0 <= self.link < len(self.left)):
            return "Cells are linked across all planes of an axis: choose all planes, and the axis."
        return None


def channel_memory(axes: tuple[StackAxis, ...]) -> str:
    """Key of `settings` for the channel axis of images with so many axes; empty for a plane."""
    return f"channel axis of {len(axes) + 2} axes" if axes else ""


@dataclass(frozen=True)
class SegmentValues:
    """One press of the Segment button: the image to segment, and how.

    Making it changes nothing in the viewer; channels are split once it has no problem.

    Attributes
    ----------
    image : napari image layer, or None
    stack : StackValues
    model : str
        Name of an installed model; empty where there is none.
    diameter : int
        Of a typical cell, in pixels of the image; 0 = automatic.
    augment : bool
        Test-time augmentation.
    """

    image: Any = None
    stack: StackValues = StackValues()
    model: str = ""
    diameter: int = 0
    augment: bool = False

    @property
    def settings(self) -> Settings:
        """Options of the run."""
        return Settings(
            diameter=float(self.diameter) if self.diameter else None,
            link=self.stack.link,
            quality="high" if self.augment else "normal",
        )

    def problem(self) -> str | None:
        """Say why nothing can be segmented."""
        if self.image is None:
            return (
                "There is no image to segment. Open one: File > Open Files, or drop a file on "
                "the window."
            )
        if not self.model:
            return "No model is installed. Install the package again."
        if self.diameter < 0:
            return f"No cell is {self.diameter} pixels wide. Type 0 to have it estimated."
        try:
            planes_for(self.image, None)
        except UserError as error:
            return str(error)
        return self.stack.problem()
