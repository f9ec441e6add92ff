"""A run on a large image, see `MOST_SIDE`: its result grows on the disk, and is shown from there.

::

    values --> Asked --> batch.large_image (a process) --> OME-Zarr
                               |                              |
                               +--> Grown, BlockDone ...  --> LargeLayers: read-only, multiscale

No Qt here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet_cells.batch.large_image import (
    Asked,
    Begun,
    CellsBegun,
    Event,
    Made,
    Sample,
)
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import LabelLevel, label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.results import OF_ONE_FILE
from napari_unet_cells.files.zarr_metadata import zarr_record
from napari_unet_cells.layers.image_planes import pixels_of, planes_for, stack_axes
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    INPUT,
    OURS,
    ZARR,
    file_of,
    image_id,
    result_metadata,
)
from napari_unet_cells.layers.reader import class_colors
from napari_unet_cells.layers.transforms import place_of, world_matrix
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.messages import describe_duration
from napari_unet_cells.segmentation.zarr_output import output_of
from napari_unet_cells.segmentation.zarr_place import folder_beside
from napari_unet_cells.settings import preferences
from napari_unet_cells.untrusted.result_record import parse_record
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.widgets.camera import middle_of_view
from napari_unet_cells.widgets.folder.at_hand import at_hand
from napari_unet_cells.widgets.napari_versions import add_hidden, levels_of
from napari_unet_cells.widgets.segment.found_layers import zarr_layers
from napari_unet_cells.widgets.segment.values import SegmentValues

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

#: A plane of more pixels than a square of this side has its result on the disk.
MOST_SIDE = 16_384

#: Seconds between two looks at a result that grows.
LOOK_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Grown:
    """A label image on the disk from which a layer is to read now.

    Attributes
    ----------
    role : str
        `CELLS` or `CLASSES`.
    folder : Path
        The OME-Zarr.
    levels : sequence of LabelLevel
    card : ModelCard
    provenance : dict
        Empty while it grows.
    """

    role: str
    folder: Path
    levels: Sequence[LabelLevel]
    card: ModelCard
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """Remaining step of a layer, in a turn of the window of its own."""

    role: str


LargeEvent = Event | Grown | Shown


def is_large(image: Image) -> bool:
    """Whether the result of an image goes to the disk."""
    first = len(stack_axes(image))
    height, width = pixels_of(image).shape[first : first + 2]
    return int(height) * int(width) > MOST_SIDE**2


def asked_for(viewer: Viewer, values: SegmentValues, folders: Mapping[Path, Path]) -> Asked:
    """Find what a process is asked for; nothing is looked up on the disk.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    values : SegmentValues
        Of a large image.
    folders : mapping of Path to Path
        Where the user chose another folder for results that should go into one.

    Raises
    ------
    UserError
        Where the image came from no file.
    """
    image: Any = values.image
    path = file_of(image)
    if path is None:
        raise UserError(
            f"'{image.name}' is larger than {MOST_SIDE:,} x {MOST_SIDE:,} pixels, so its cells are "
            "written to the disk, by a process that reads the image from its file. It has none. "
            "Save it as an OME-Zarr or a TIFF, open that, and segment it."
        )
    if values.stack.link is not None:
        raise UserError(
            f"Cells of images beyond {MOST_SIDE:,} x {MOST_SIDE:,} pixels are not linked across "
            "planes. Choose no axis to link along."
        )
    first = len(stack_axes(image))
    height, width = pixels_of(image).shape[first : first + 2]
    request = at_hand(viewer, values, None).request.zarr_request()
    chosen = preferences().results_folder
    place = Path(os.path.expanduser(chosen)) if chosen else folder_beside(path)
    place = folders.get(place, place)
    return Asked(path, place, values.model, request, (int(height), int(width)))


@dataclass(frozen=True)
class NoFolder:
    """Nothing can be written into the folder of the result."""

    folder: Path

    def __str__(self) -> str:
        """Say so."""
        return (
            f"The result of this image goes to the disk, and nothing can be written into "
            f"{self.folder}. Choose another folder."
        )


def checked(asked: Asked) -> NoFolder | None:
    """Look on the disk whether the image is there and its result can be written; for a thread.

    Raises
    ------
    UserError
        Where the file of the image is gone.
    """
    if not asked.image.exists():
        raise UserError(
            f"{asked.image} is not there any more. See that its disk is connected, or open the "
            "image again."
        )
    is_usable = asked.folder.is_dir() and os.access(asked.folder, os.W_OK)
    return None if is_usable else NoFolder(asked.folder)


def samples_of(image: Image, shown: Sequence[int] | None, asked: Asked) -> tuple[Sample, ...]:
    """Take some pixels of a layer, by which its file is recognised; for a thread.

    They lie in a grid, and around the brightest pixel of the coarsest level. A projection is made
    of the file by this program, and is not looked at.
    """
    if asked.request.projection is not None:
        return ()
    planes = planes_for(image, shown)
    height, width = planes.shape[-2:]
    starts = {(y * height // 5, x * width // 5) for y in range(5) for x in range(5)}
    if image.multiscale and not getattr(image, "rgb", False):
        index = (0,) * (len(stack_axes(image))) if shown is None else tuple(shown)
        coarse = np.asarray(image.data[-1][index])
        brightest = np.unravel_index(int(np.argmax(coarse)), coarse.shape)
        y, x = (
            min(int(at) * whole // own, whole - 1)
            for at, whole, own in zip(brightest, (height, width), coarse.shape, strict=True)
        )
        starts.add((y, x))
    return tuple(Sample.of(planes, 0, start) for start in sorted(starts))


def place_looked_at(viewer: Viewer, image: Image) -> tuple[float, ...]:
    """Middle of the view in pixels of the planes of an image, (..., y, x)."""
    matrix = np.linalg.inv(world_matrix(image))
    point = middle_of_view(viewer)[-image.ndim :]
    pixels = matrix[:-1, :-1] @ point + matrix[:-1, -1]
    return tuple(float(at) for at in pixels)


def large_events(events: Iterator[Event], model: str, n_before: int) -> Iterator[LargeEvent]:
    """Add the label images to what a process says; this opens files, and is for a thread.

    Parameters
    ----------
    events : iterator of Event
        See `batch.large_image.follow`.
    model : str
    n_before : int
        See `LabelLevel`.
    """
    card = find_model(model)
    roles = [CLASSES, CELLS] if card.makes_cells else [CLASSES]
    for event in events:
        yield event
        if isinstance(event, Begun):
            yield from _growing(CLASSES, event.folder, card, n_before)
        elif isinstance(event, CellsBegun) and card.makes_cells:
            yield from _growing(CELLS, event.folder, card, n_before)
        elif isinstance(event, Made):
            for role in roles:
                yield from _grown(role, event.output, card, n_before, True)


def _growing(
    role: str, folder: Path, card: ModelCard, n_before: int
) -> Generator[LargeEvent, None, None]:
    """Open a label image that grows; one that got its name meanwhile is opened by what follows."""
    try:
        yield from _grown(role, folder, card, n_before)
    except UserError:
        if (folder / "labels" / role).exists():
            raise


def _grown(
    role: str, folder: Path, card: ModelCard, n_before: int, is_whole: bool = False
) -> Generator[LargeEvent, None, None]:
    record: dict[str, Any] = {}
    if is_whole:
        try:
            record = dict(parse_record(zarr_record(folder / "labels" / role)).document)
        except Malformed:
            record = {}
        try:
            LabelVersions(folder, role).settle()  # what was put back, and the program killed
        except UserError as error:  # the labels are shown as they are; napari shows what is said
            warnings.warn(str(error), stacklevel=2)
    made = {key: value for key, value in record.items() if key not in OF_ONE_FILE}
    yield Grown(role, folder, label_levels(folder, role, n_before, is_whole), card, made)
    yield Shown(role)


class LargeLayers:
    """Shows the label images of a run where the image was when it started; nothing is edited.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari image layer
    shown : sequence of int, or None
        Index of the plane that is segmented along the axes before (y, x); None for all.
    """

    def __init__(self, viewer: Viewer, image: Image, shown: Sequence[int] | None) -> None:
        self._viewer, self._name, self._image = viewer, image.name, image_id(image)
        self._place = place_of(image, shown)
        told = image.metadata.get(INPUT, {}).get("pixel_size")
        self._told = {} if told is None else {INPUT: {"pixel_size": told}}
        self._layers: dict[str, Labels] = {}
        self._looked = 0.0

    @property
    def last(self) -> Labels | None:
        """Layer of the cells, else of the classes."""
        return self._layers.get(CELLS, self._layers.get(CLASSES))

    def grow(self, event: Grown) -> None:
        """Let a layer read from a label image; the first time it is added, hidden."""
        layer: Any = self._layers.get(event.role) or self._older(event.role, event.folder)
        metadata = result_metadata(event.role, self._image, event.provenance)
        metadata[OURS][ZARR] = str(event.folder)
        if layer is not None and layer in self._viewer.layers:
            is_like = layer.ndim == len(event.levels[0].shape)
            if is_like and layer.dtype == event.levels[0].dtype:
                layer.data = levels_of(event.levels)
                for name, value in self._place.items():
                    setattr(layer, name, value)  # it may have been of another plane
                layer.metadata.update(metadata)
                layer.name = f"{self._name} {event.role}"
                self._layers[event.role] = layer
                return
            self._viewer.layers.remove(layer)
        self._add(event, metadata)

    def _add(self, event: Grown, metadata: dict[str, Any]) -> None:
        from napari.layers import Labels
        from napari.utils.colormaps import DirectLabelColormap

        options: dict[str, Any] = {}
        if event.role == CLASSES:
            colors = class_colors(len(event.card.classes), event.card.colors)
            options["colormap"] = DirectLabelColormap(color_dict=colors)
        layer = Labels(
            levels_of(event.levels),
            multiscale=True,
            name=f"{self._name} {event.role}",
            metadata=self._told | metadata,
            **options,
            **self._place,
        )
        self._layers[event.role] = layer
        add_hidden(self._viewer, layer)

    def _older(self, role: str, folder: Path) -> Labels | None:
        """Find a layer of the same run, whole or left in the middle; hide those of others."""
        found = None
        for layer in zarr_layers(self._viewer, self._image, role):
            there = Path(layer.metadata[OURS][ZARR])
            if found is None and _output_of(there) == _output_of(folder):
                found = layer
            else:
                layer.visible = False
        return found

    def show(self, role: str) -> None:
        """Show a layer, and hide the classes below the cells."""
        layer = self._layers.get(role)
        if layer is None or layer not in self._viewer.layers:
            return
        if role == CELLS and CLASSES in self._layers:
            self._layers[CLASSES].visible = False
        is_below = role == CLASSES and CELLS in self._layers
        layer.visible = not is_below

    def refresh(self, box: tuple[tuple[int, int], tuple[int, int]], now: float) -> bool:
        """Draw the layer anew where a block in view was written, at most once in a while.

        Returns
        -------
        bool
            Whether it was.
        """
        layer: Any = self.last
        if layer is None or layer not in self._viewer.layers or not layer.visible:
            return False
        if now < self._looked + LOOK_SECONDS:
            return False
        corners = np.asarray(layer.corner_pixels, float)[:, -2:]
        corners = corners * np.asarray(layer.downsample_factors[layer.data_level])[-2:]
        (top, bottom), (left, right) = box
        (y0, x0), (y1, x1) = corners
        is_seen = bool(top <= y1 and bottom >= y0 and left <= x1 and right >= x0)
        if is_seen:
            layer.refresh(extent=False)
            self._looked = now
        return is_seen

    def end_early(self, word: str) -> None:
        """Say in its name how the run of a layer ended, such as "cancelled"."""
        layer = self.last
        if layer is not None and layer in self._viewer.layers:
            layer.name = f"{layer.name} ({word})"

    def select(self) -> None:
        """Make the result active."""
        if self.last is not None and self.last in self._viewer.layers:
            self._viewer.layers.selection.active = self.last


def _output_of(folder: Path) -> Path:
    """Give the name that an OME-Zarr has, or gets once it is whole."""
    return output_of(folder.parent) if folder.parent.suffix == ".part" else folder


def describe_made(made: Made) -> str:
    """Say what a run has made, and where it lies."""
    if not made.seconds:
        return (
            f"This image was segmented in this way before: {made.output.name} is shown. For "
            "another result change the model or the cell size."
        )
    what = "Classes" if made.n_cells is None else f"{made.n_cells:,} cells"
    time = f"{describe_duration(made.seconds, digits=1)} on {made.device}"
    said = f"{what} in {time}. They lie in {made.output}."
    return " ".join([said, *made.problems])


def describe_ended(begun: Begun | None, fraction: float, word: str) -> str:
    """Say what is left of a run that ended early."""
    if begun is None:
        return f"{word} before the first block was begun."
    return f"{word} at {100 * fraction:.0f} %. What is done is kept: Segment goes on with it."
