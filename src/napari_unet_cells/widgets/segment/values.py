"""Values of the forms of the Segment section, and what is wrong with them.

No Qt here: the forms fill these in, `problem` gives the sentence that the user reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import StackAxis, planes_for
from napari_unet_cells.layers.protocols import ImageLayer
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

    image: ImageLayer | None = None
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
            test_time_augmentation=self.augment,
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
            return f"The cell diameter is 0 pixels (automatic) or more, not {self.diameter}."
        try:
            planes_for(self.image, None)
        except UserError as error:
            return str(error)
        return self.stack.problem()


@dataclass(frozen=True)
class PixelSizeValues:
    """Pixel size as the user types it, for an image that does not know its own.

    Attributes
    ----------
    width : float
        Of a square pixel, in micrometers; 0 = unknown.
    """

    width: float = 0.0

    @property
    def told(self) -> tuple[float, float, str] | None:
        """Height, width and unit to keep with the image; None forgets them."""
        return (self.width, self.width, "micrometer") if self.width else None

    def problem(self) -> str | None:
        """Say why no pixel has this size."""
        if not isfinite(self.width) or self.width < 0:
            return f"No pixel is {self.width} µm wide. Type 0 where the size is not known."
        return None


@dataclass(frozen=True)
class AdjustValues:
    """Options that can be changed after a run, in pixels of the image.

    Attributes
    ----------
    min_size : int
        Area below which a cell is dropped.
    split, min_probability : float
        0 to 1.
    fill_holes, drop_border : bool
        See `core.instances.InstanceOptions`.
    """

    min_size: int = 0
    split: float = 0.8
    min_probability: float = 0.0
    fill_holes: bool = True
    drop_border: bool = False

    @classmethod
    def of(cls, options: InstanceOptions, zoom: float) -> AdjustValues:
        """Values of the options that a run was made with.

        Parameters
        ----------
        options : InstanceOptions
            In pixels that the network saw.
        zoom : float
            Size that the network saw by the size of the image.
        """
        return cls(
            round(options.min_size / zoom**2),
            options.split,
            options.min_probability,
            options.fill_holes,
            options.drop_border,
        )

    def options(self, made: InstanceOptions, before: AdjustValues, zoom: float) -> InstanceOptions:
        """Options to separate the cells with.

        Parameters
        ----------
        made : InstanceOptions
            Of the run.
        before : AdjustValues
            As the form showed them first: a slider has few steps, so what the user did not
            move stays exactly as the run had it.
        zoom : float
            See `of`.
        """
        now, then = self._seen(zoom), before._seen(zoom)
        moved = {name: value for name, value in now.items() if value != then[name]}
        return replace(made, **moved)

    def _seen(self, zoom: float) -> dict[str, Any]:
        return vars(self) | {"min_size": round(self.min_size * zoom**2)}

    def problem(self) -> str | None:
        """Say why no cells can be separated with these."""
        if self.min_size < 0:
            return f"The minimum size is 0 pixels or more, not {self.min_size}."
        for name in ("split", "min_probability"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                return f"{WORDS[name]} lies between 0 and 100 %, not at {100 * value:.0f} %."
        return None


#: Fields of the forms in the words of the user.
WORDS = {"split": "Split", "min_probability": "The probability threshold"}
