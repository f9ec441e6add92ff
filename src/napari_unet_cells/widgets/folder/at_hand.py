"""Model and options of the image at hand, for all images of a list. Without Qt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet_cells.batch.image_list import ImageList
from napari_unet_cells.batch.request import Request
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import file_axes
from napari_unet_cells.layers.metadata import INPUT, file_of
from napari_unet_cells.layers.pixel_size import typed_pixel_size
from napari_unet_cells.layers.selection import source_image
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.settings import preferences
from napari_unet_cells.tracking import TrackingOptions, require_laptrack
from napari_unet_cells.widgets.folder.values import FolderValues
from napari_unet_cells.widgets.segment.channels import shown_plane, split_of
from napari_unet_cells.widgets.segment.live import current
from napari_unet_cells.widgets.segment.values import UNSAID, SegmentValues, StackValues

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer


def at_hand(viewer: Viewer, values: SegmentValues, cells: Labels | None) -> AtHand:
    """Take the options of the page Segment, and of the sliders below it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    values : SegmentValues
        As a press of Segment would take them now.
    cells : napari labels layer, or None
        That the sliders act on.
    """
    image, details, plane = values.image, None, 0
    if image is not None and cells is not None and source_image(cells, [image]) is not None:
        state = current(cells)  # active cells of another image say nothing of this one
        details = None if state is None else state.origin.details
    if image is not None and values.stack.n_planes > 1 and values.stack.problem() is None:
        left, shown = values.stack.left, shown_plane(viewer, image)
        index = [shown[axis.axis] for axis in left]
        plane = int(np.ravel_multi_index(index, [axis.length for axis in left]))
    return AtHand(values, details, preferences().runtime, plane)


@dataclass(frozen=True)
class AtHand:
    """Model and options of the image at hand, for all images of a list.

    Attributes
    ----------
    values : SegmentValues
        As a press of Segment would take them now.
    details : RunDetails or None
        Of the cells at hand, whose sliders may have been moved; None without any.
    runtime : str
        Library that computes networks.
    plane : int
        The one that is shown of a stack, counted through all of them from 0.
    format : str
        Of the results, see `Request`.
    track : bool
        Whether cells of movies are tracked.
    """

    values: SegmentValues = field(default_factory=SegmentValues)
    details: RunDetails | None = None
    runtime: str = ""
    plane: int = 0
    format: str = "tiff"
    track: bool = False

    def asked(self, values: FolderValues) -> AtHand:
        """Take what is chosen for a list besides."""
        return replace(self, format=values.format, track=values.track)

    def problem(self) -> str | None:
        """Say why nothing can be segmented like this."""
        if not self.values.model:
            return "No model is installed. Install the package again."
        if self.values.diameter < 0:
            return f"The cell size is 0 pixels (automatic) or more, not {self.values.diameter:g}."
        of_stack = None if self.values.image is None else self.values.stack.problem()
        return of_stack or self._problem_of_format()

    def _problem_of_format(self) -> str | None:
        """Say what an OME-Zarr does not hold, and what no library is there for."""
        if self.format != "tiff" and self.request.link is not None:
            return (
                "In an OME-Zarr each plane has its own numbers. Choose TIFF, or leave the linking "
                "of the planes out (page Segment, Planes)."
            )
        try:
            if self.track:
                require_laptrack()
        except UserError as error:
            return str(error)
        return None

    @property
    def request(self) -> Request:
        """Options of the batch."""
        values = self.values
        settings = replace(Settings(**self._thresholds), test_time_augmentation=values.augment)
        settings = replace(settings, diameter=float(values.diameter) or None)
        options = self._planes | self._pixel_size | {"format": self.format}
        if self.track:
            options |= {"plane": "all", "track": TrackingOptions(), "stills": True}
        return Request(settings, runtime=self.runtime, **options)

    @property
    def path(self) -> Path | None:
        """File of the image at hand; None where it came from none."""
        return None if self.values.image is None else file_of(self.values.image)

    def chosen(self, named: Sequence[str]) -> ImageList:
        """Make the list of some images."""
        return ImageList(tuple(named), self.values.model, self.request, self.sentence)

    @property
    def sentence(self) -> str:
        """The options in words."""
        whose = "" if self.values.image is None else f" (as set for '{self.values.image.name}')"
        return f"{', '.join(self._words())}{whose}."

    def _words(self) -> Iterator[str]:
        request = self.request
        settings = request.settings
        yield f"Model {self.values.model}"
        size = settings.diameter
        yield "cell size automatic for each image" if size is None else f"cell size {size:g} px"
        for name, words in _WORDS.items():
            value = getattr(settings, name)
            if value is not None:
                yield words[int(value)] if isinstance(words, tuple) else f"{words} {value:g}"
        if settings.test_time_augmentation:
            yield "test-time augmentation"
        if request.axes:
            yield f"axis {request.axes.index('C') + 1} for channels where the file does not say it"
        if request.projection:
            numbers = request.channel if isinstance(request.channel, tuple) else ()
            of = ", ".join(str(int(number) + 1) for number in numbers)
            yield f"{request.projection} of the channels {of}" if of else request.projection
        elif request.channel is not None:
            yield f"channel {int(str(request.channel)) + 1}"
        if request.plane == "all":
            yield "all planes of stacks" + ("" if request.link is None else ", linked")
        elif request.plane is not None:
            yield f"plane {int(request.plane) + 1} of stacks"
        if request.pixel_size is not None:
            yield f"{request.pixel_size:g} µm a pixel where the file does not say it"
        if request.track is not None:
            yield "cells of movies tracked"
        if request.format != "tiff":
            yield "written as OME-Zarr"

    @property
    def _thresholds(self) -> dict[str, Any]:
        """Options of the sliders that are not those of the model."""
        details = self.details
        if details is None or details.options is None or details.card.name != self.values.model:
            return {}
        own, zoom = details.card.instances, details.zoom
        moved = {name: getattr(details.options, name) for name in _WORDS}
        moved = {name: value for name, value in moved.items() if value != getattr(own, name)}
        if "min_size" in moved:
            moved["min_size"] = round(moved["min_size"] / zoom**2)
        return moved

    @property
    def _planes(self) -> dict[str, Any]:
        """Channel and planes, as files of the same kind have them."""
        image, stack = self.values.image, self.values.stack
        if image is None:
            return {}
        told = {"axes": axes} if (axes := _told_axes(image, stack)) else {}
        return (
            told | _channel_of(image.metadata.get(INPUT, {}), stack) | _planes_of(stack, self.plane)
        )

    @property
    def _pixel_size(self) -> dict[str, Any]:
        """Width of a pixel that the user typed; files that state theirs keep it."""
        typed = typed_pixel_size(self.values.image)
        return {} if typed is None or typed.unit != "micrometer" else {"pixel_size": typed.x}


#: Options of the sliders, and how they are called; of a choice the words for no and yes.
_WORDS: dict[str, Any] = {
    "min_size": "minimum size",
    "split": "split",
    "min_probability": "min. probability",
    "fill_holes": ("holes are kept", "holes are filled"),
    "drop_border": ("cut cells are kept", "cut cells are dropped"),
}


def _channel_of(known: Mapping[str, Any], stack: StackValues) -> dict[str, Any]:
    """Channel, or channels that become one; of a layer that was split off, its own."""
    if stack.projection:
        return {"channel": tuple(stack.channels), "projection": stack.projection}
    if stack.channel_axis is not None:
        return {"channel": stack.channel}
    if "projection" in known:
        return {"channel": tuple(known.get("channels", ())), "projection": known["projection"]}
    channel = stack.channel if stack.n_split else known.get("channel")
    return {} if channel is None else {"channel": int(channel)}


def _told_axes(image: Image, stack: StackValues) -> str:
    """Letters of the axes, C where the user says that the channels are; empty where a file does.

    Axes of length 1 are none where a file is read.
    """
    split = split_of(image)
    if split is not None:
        named = "C" in file_axes(split.path or "").letters
        at, lengths = split.axis, split.levels[0].shape[:-2]
    else:
        known = None if stack.channel_axis in (None, UNSAID) else stack.channel_axis
        if known is None:
            return ""
        named, at = stack.axes[known].is_channel, known
        lengths = tuple(axis.length for axis in stack.axes)
    if named or at >= len(lengths):
        return ""
    letters = ["C" if axis == at else "?" for axis, length in enumerate(lengths) if length > 1]
    return f"{''.join(letters)}YX" if "C" in letters else ""


def _planes_of(stack: StackValues, shown: int) -> dict[str, Any]:
    """Planes of a stack: all, or that which is shown; of no stack nothing is said."""
    if stack.n_planes < 2:
        return {}
    if not stack.all_planes:
        return {"plane": shown}
    letter = "" if stack.link is None else stack.left[stack.link].name[:1].upper()
    return {"plane": "all", "link": letter if letter in ("Z", "T") else None}
