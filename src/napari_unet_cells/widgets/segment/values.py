"""Values of the forms of the Segment section, and what is wrong with them.

No Qt here: the forms fill these in, `problem` gives the sentence that the user reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import Any

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import ORDINALS, StackAxis, planes_for
from napari_unet_cells.layers.protocols import ImageLayer
from napari_unet_cells.segmentation.pipeline import Settings

#: The channel axis of a stack of which nobody has said yet whether it has one.
UNSAID = -1

#: Pixels; no cell is wider.
LARGEST_DIAMETER = 999

#: An unnamed axis of at most so many pages may as well hold channels.
FEW = 4


@dataclass(frozen=True)
class StackValues:
    """Channel and planes of a stack to segment.

    Attributes
    ----------
    axes : tuple of StackAxis
        Of the layer, before (y, x); empty for a plane.
    channel_axis : int or None
        Axis of the layer that holds channels; `UNSAID` where the user has to say it.
    channel : int
        The one to segment, counted from 0.
    all_planes : bool
        Else the plane that is shown.
    link : int or None
        Axis, among those that are left without the channels, along which cells keep their id.
    names : tuple of str
        Of the channels; empty where they are not known.
    projection : str
        "max" or "mean" of several channels instead of one; empty for one.
    channels : tuple of int
        The ones that are projected.
    n_split : int
        Number of channels of the image that the layer was split off; 0 where it was not.
    """

    axes: tuple[StackAxis, ...] = ()
    channel_axis: int | None = None
    channel: int = 0
    all_planes: bool = False
    link: int | None = None
    names: tuple[str, ...] = ()
    projection: str = ""
    channels: tuple[int, ...] = ()
    n_split: int = 0

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
        """Key of `settings` under which the channel axis is remembered; see `channel_memory`."""
        return channel_memory(self.axes)

    def shown(self, index: Sequence[int]) -> str:
        """Words for the plane at an index along `axes`, such as "z 4 of 5"."""
        long = [axis for axis in self.left if axis.length > 1]
        return ", ".join(axis.position(index[axis.axis], len(long) == 1) for axis in long)

    def problem(self) -> str | None:
        """Say why there are no such planes."""
        if self.channel_axis == UNSAID:
            return _question(unclear_axes(self.axes))
        if self.channel_axis is not None:
            if not 0 <= self.channel_axis < len(self.axes):
                return (
                    f"The image has no axis {self.channel_axis + 1} of channels. Choose another "
                    "one under Channels."
                )
            n = self.axes[self.channel_axis].length
            if not 0 <= self.channel < n:
                return (
                    f"There is no channel {self.channel + 1}: the image has the channels 1 to "
                    f"{n}. Choose one of them under Channel."
                )
        if self.projection and len(self.channels) < 2:
            return f"The {self.projection} is of two channels or more: choose them under Together."
        if self.link is not None and not (self.all_planes and 0 <= self.link < len(self.left)):
            return "Cells are linked across all planes of an axis: choose all planes, and the axis."
        return None


def unclear_axes(axes: Sequence[StackAxis]) -> tuple[StackAxis, ...]:
    """Axes that may hold channels as well as planes: short, unnamed, and no other is known to."""
    if any(axis.is_channel for axis in axes):
        return ()
    return tuple(axis for axis in axes if not axis.name and 2 <= axis.length <= FEW)


def _question(axes: Sequence[StackAxis]) -> str:
    """Ask what the unclear axes hold."""
    named = [f"the {ORDINALS[min(a.axis, len(ORDINALS) - 1)]} axis ({a.length})" for a in axes]
    if len(named) == 1:
        return f"Say whether {named[0]} holds channels or planes."
    return f"Say which holds channels, if any: {' or '.join(named)}. Choose it under Channels."


def likely_channel_axis(axes: Sequence[StackAxis], remembered: object, split: bool) -> int | None:
    """Axis that probably holds the channels; `UNSAID` where the user has to say it.

    What the layer or its file says counts, and memory only where they are silent.

    Parameters
    ----------
    axes : sequence of StackAxis
        With the names that the file gives them.
    remembered : object
        What `settings` holds under `channel_memory` of the axes.
    split : bool
        Whether the layer is one channel already.
    """
    named = [axis.axis for axis in axes if axis.is_channel]
    unclear = unclear_axes(axes)
    if named or split or not unclear:
        return named[0] if named else None
    if remembered == NO_CHANNELS:
        return None
    if isinstance(remembered, int) and 0 <= remembered < len(axes):
        return remembered
    return UNSAID


#: How it is remembered that a stack has no channels.
NO_CHANNELS = "none"


def channel_memory(axes: Sequence[StackAxis]) -> str:
    """Key of `settings` for the channel axis of unnamed stacks with the same short axes.

    Empty where nothing is unclear, and nothing has to be remembered.
    """
    if not unclear_axes(axes):
        return ""
    lengths = (str(axis.length) if axis.length <= FEW else "many" for axis in axes)
    return f"channel axis of {' x '.join(lengths)} planes"


#: Parts of an image that can be chosen, as values and as the user reads them.
WHOLE, VISIBLE, DRAWN = "whole", "visible", "drawn"
WHERE = {
    "Whole image": WHOLE,
    "Visible part": VISIBLE,
    "Inside the drawn shapes": DRAWN,
}


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
    diameter : float
        Of a typical cell, in pixels of the image; 0 = automatic.
    augment : bool
        Test-time augmentation.
    where : str
        One of `WHERE`.
    """

    image: ImageLayer | None = None
    stack: StackValues = StackValues()
    model: str = field(default="", metadata={"label": "Model", "widget_type": "ComboBox"})
    diameter: float = field(
        default=0.0,
        metadata={
            "label": "Cell size",
            "tooltip": "Diameter of a typical cell in pixels of the image, 0 = automatic. The "
            "image is zoomed so that the network sees cells of the size it was trained on.",
            "max": LARGEST_DIAMETER,
            "step": 1.0,
        },
    )
    augment: bool = field(
        default=False,
        metadata={
            "label": "Test-time augmentation (slower)",
            "tooltip": "Averages predictions over four mirrored copies: slightly more accurate, "
            "up to 4 times slower. For models that separate cells.",
        },
    )
    where: str = field(
        default=WHOLE,
        metadata={
            "label": "Where",
            "tooltip": "Segment all of the image, or a part of the plane that is shown: what is in "
            "view, or what lies inside of shapes that you drew (rectangles, ellipses, polygons). "
            "Cells beside the part, and what you corrected or approved, stay as they are.",
            "widget_type": "ComboBox",
            "choices": tuple(WHERE.items()),
        },
    )

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
            return f"The cell size is 0 pixels (automatic) or more, not {self.diameter:g}."
        try:
            planes_for(self.image, None)
        except UserError as error:
            return str(error)
        if self.where not in WHERE.values():
            return f"There is no part '{self.where}' of an image. Choose another one under Where."
        if self.where != WHOLE and self.stack.all_planes and self.stack.left:
            return (
                "A part is segmented in the plane that is shown. Choose that one under Planes, or "
                "Whole image under Where."
            )
        return self.stack.problem()


@dataclass(frozen=True)
class PixelSizeValues:
    """Pixel size as the user types it, for an image that does not know its own.

    Attributes
    ----------
    width : float
        Of a square pixel, in micrometers; 0 = unknown.
    """

    width: float = field(
        default=0.0,
        metadata={
            "label": "Pixel size",
            "tooltip": "Width of a pixel, for the files and tables that you export.",
            "max": 1000.0,
            "step": 0.0001,
        },
    )

    @property
    def told(self) -> tuple[float, float, str] | None:
        """Height, width and unit to keep with the image; None forgets them."""
        return (self.width, self.width, "micrometer") if self.width else None

    def problem(self) -> str | None:
        """Say why no pixel has this size."""
        if not isfinite(self.width) or self.width < 0:
            return f"No pixel is {self.width} µm wide. Type 0 where the size is not known."
        return None


#: Options of a slider from 0 to 1.
SHARE = {"widget_type": "FloatSlider", "max": 1.0, "step": 0.01}


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

    min_size: int = field(
        default=0,
        metadata={
            "label": "Minimum size",
            "tooltip": "Cells of fewer pixels join a cell that they touch, or are dropped.",
            "widget_type": "Slider",
        },
    )
    split: float = field(
        default=0.8,
        metadata={"label": "Split", "tooltip": "Higher splits touching cells more readily."}
        | SHARE,
    )
    min_probability: float = field(
        default=0.0,
        metadata={
            "label": "Min. probability",
            "tooltip": "Probability threshold: drops cells whose mean probability is lower, such "
            "as debris. 0 keeps every cell.",
        }
        | SHARE,
    )
    fill_holes: bool = field(
        default=True, metadata={"label": "Fill holes", "tooltip": "Fill holes inside cells."}
    )
    drop_border: bool = field(
        default=False,
        metadata={
            "label": "Drop cut cells",
            "tooltip": "Drop cells that touch the border of the image.",
        },
    )

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
                return f"{WORDS[name]} lies between 0 and 1, not at {value:g}."
        return None


#: Fields of the forms in the words of the user.
WORDS = {"split": "Split", "min_probability": "The probability threshold"}
