"""An image of the list and its cells as layers: read in a thread, added in the window.

No Qt here. The cells are a result like any other: review, tools, table and export know them, and
they are saved while they are corrected. Corrections that a napari left which was closed, or killed,
are taken up again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.batch.corrected import files_due, with_tracks_of_result
from napari_unet_cells.core.labels import digest_in_file
from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.restoring import (
    Restored,
    restore,
    sessions,
)
from napari_unet_cells.files.file_set import finish_all
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.zarr_metadata import ZARR_SUFFIX
from napari_unet_cells.layers.image_planes import stack_axes
from napari_unet_cells.layers.metadata import (
    INPUT,
    OURS,
    PART_OF,
    REVIEW,
    ZARR,
    file_of,
    image_id,
    set_input_metadata,
)
from napari_unet_cells.layers.reader import open_result
from napari_unet_cells.layers.selection import labels_layers
from napari_unet_cells.layers.transforms import place_of
from napari_unet_cells.layers.zarr_result import (
    is_large,
    zarr_attributes,
    zarr_cells,
    zarr_levels,
)
from napari_unet_cells.widgets.camera import fit_to
from napari_unet_cells.widgets.correct.restored_layers import image_of
from napari_unet_cells.widgets.folder.rows import Row
from napari_unet_cells.widgets.napari_versions import add_hidden, levels_of
from napari_unet_cells.widgets.segment.channels import show_plane
from napari_unet_cells.widgets.segment.live import bare, follow

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer


@dataclass(frozen=True, eq=False)
class ReadPair:
    """Pixels of an image and its cells, ready to become layers.

    Attributes
    ----------
    name : str
        Of the image in the list.
    path, target : Path
        Of the image, and of its cells.
    labels : integer array, or list of LabelLevel
        Levels of those that stay on the disk, see `layers.zarr_result`.
    attributes : mapping
        Of the layer of the cells.
    review : Review or None
        None of levels.
    checksum : int
        See `OpenPair`.
    tracks : mapping or None
        Of the record in the file.
    image : mapping
        Description of the image, see `corrections.description.describe`, and the index of the
        ``plane`` that was segmented.
    layers : sequence or None
        What napari's reader made of the image; None where it is read when it is added.
    restored : Restored or None
        Corrections that are not in the file yet; `labels` and `review` are theirs.
    due : bool
        See `OpenPair`.
    """

    name: str
    path: Path
    target: Path
    labels: Any
    attributes: Mapping[str, Any]
    review: Review | None
    checksum: int
    tracks: Any
    image: Mapping[str, Any]
    layers: Sequence[Any] | None = None
    restored: Restored | None = None
    due: bool = False


@dataclass(frozen=True, eq=False)
class OpenPair:
    """An image and its cells that are open as layers.

    Attributes
    ----------
    name : str
    output : Path
        Folder of the results.
    cells : napari labels layer
    added : tuple of layers
        That were added for it, and go with it.
    checksum : int or None
        `digest_in_file` of the labels in the file; of labels that stay on the disk the number of
        their last version; None where it is not known.
    tracks : mapping or None
        Of the record in the file.
    file : Path or None
        See `target`.
    due : bool
        Whether its table, picture and record are to be written although no label differs.
    """

    name: str
    output: Path
    cells: Labels
    added: tuple[Layer, ...] = ()
    checksum: int | None = None
    tracks: Any = None
    file: Path | None = None
    due: bool = False

    @property
    def target(self) -> Path:
        """File of the cells, or the folder of their OME-Zarr."""
        return self.file or self.output / f"{self.name}_cells.tif"

    @property
    def is_zarr(self) -> bool:
        """Whether the cells lie in an OME-Zarr."""
        return self.target.suffix == ZARR_SUFFIX

    @property
    def is_on_disk(self) -> bool:
        """Whether the cells stay on the disk and are edited part by part."""
        return ZARR in self.cells.metadata.get(OURS, {})

    def saved(self, checksum: int, tracks: Any, due: bool = False) -> OpenPair:
        """Give the pair with what lies in the file now."""
        return replace(self, checksum=checksum, tracks=tracks, due=due)


@dataclass(frozen=True)
class Found:
    """Image of a pair, opened or found.

    Attributes
    ----------
    image : napari image layer, or None
    added : list of layers
    problem : str
        Why there is no image; empty where there is one.
    """

    image: Image | None = None
    added: list[Layer] = field(default_factory=list)
    problem: str = ""


def read_pair(output: Path, row: Row) -> ReadPair:
    """Read an image and its cells; this takes a thread a moment.

    Raises
    ------
    UserError
        Where the cells cannot be read.
    """
    target = row.cells_file(output)
    finish_all(target.parent)  # a correction that a killed program left
    if row.format != "tiff" and is_large(target):
        return _read_levels(target, row, files_due(output, row.name))
    labels, attributes = _read_cells(target)
    due = target.suffix == ZARR_SUFFIX and files_due(output, row.name)
    metadata = attributes["metadata"]
    provenance = metadata.get(OURS, {}).get("provenance", {})
    if target.suffix == ZARR_SUFFIX and not due:
        provenance = with_tracks_of_result(output, row.name, provenance)
        ours = {**metadata.get(OURS, {}), "provenance": dict(provenance)}
        attributes = {**attributes, "metadata": {**metadata, OURS: ours}}
    described = _describe_image(row.path, provenance.get("source", {}))
    layers = _read_layers(row.path)
    left = _left_corrections(target, labels)
    pair = ReadPair(
        row.name,
        row.path,
        target,
        labels,
        attributes,
        Review(labels) if left is None else left.review,
        digest_in_file(labels),
        provenance.get("tracks"),
        described,
        layers,
        left,
        due,
    )
    return pair if left is None else replace(pair, labels=left.labels, attributes=_of(left, pair))


def cells_in(target: Path) -> NDArray[Any]:
    """Read the cells of a file, or of an OME-Zarr, as `read_pair` does.

    Raises
    ------
    UserError
        Where they cannot be read.
    """
    if target.suffix == ZARR_SUFFIX:
        return zarr_cells(target)
    ((labels, _, _),) = open_result(target)
    return np.asarray(labels)


def _read_cells(target: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    if target.suffix == ZARR_SUFFIX:
        cells = zarr_cells(target)
        return cells, zarr_attributes(target, cells)
    ((labels, attributes, _),) = open_result(target)
    return labels, attributes


def _read_levels(target: Path, row: Row, due: bool) -> ReadPair:
    """Read where cells lie that stay on the disk."""
    levels = list(zarr_levels(target))
    attributes = zarr_attributes(target, None)
    source = attributes["metadata"][OURS]["provenance"].get("source", {})
    described, last = _describe_image(row.path, source), LabelVersions(target).last
    layers = _read_layers(row.path)
    return ReadPair(
        row.name,
        row.path,
        target,
        levels,
        attributes,
        None,
        last,
        None,
        described,
        layers,
        due=due,
    )


def _of(left: Restored, pair: ReadPair) -> Mapping[str, Any]:
    """Give the attributes of the layer with how the restored labels were made, and tracked."""
    metadata = pair.attributes["metadata"]
    ours = left.description.get("metadata", {}).get(OURS) or metadata.get(OURS, {})
    return {**pair.attributes, "metadata": {**metadata, OURS: ours}}


def _left_corrections(target: Path, labels: NDArray[Any]) -> Restored | None:
    """Take up corrections of a file of cells that are in no file yet; `labels` are in it now."""
    for summary in sessions():
        is_of_it = bool(summary.file) and Path(summary.file) == target
        if is_of_it and not summary.problem and not summary.exported.complete:
            left = restore(summary.folder)
            if _go_on_from(left, target, labels):
                return left
            left.session.release()  # the user can still ask for them
    return None


def _go_on_from(left: Restored, target: Path, labels: NDArray[Any]) -> bool:
    """Whether corrections go on from what lies in their file now.

    They do where they were the last that was written to it; or were never, and began from its
    labels. Into an OME-Zarr they are written plane by plane: who was killed meanwhile has left
    labels that are as before, or as corrected. Else somebody wrote others since, which saving these
    would replace.
    """
    written = [one for one in left.session.exports if Path(one.path) == target.absolute()]
    if written:
        return any(one.is_there for one in written)
    before = left.review.baseline.unpacked()
    if target.suffix == ZARR_SUFFIX and before.shape == labels.shape == left.labels.shape:
        return bool(((labels == before) | (labels == left.labels)).all())
    return np.array_equal(before, labels)  # also of another data type


def _read_layers(path: Path) -> list[Any] | None:
    """Read an image as napari does, but in this thread; None where only the window can."""
    if path.is_dir():  # a zarr: what it holds is read when it is looked at
        return None
    try:
        from npe2 import read

        return list(read([str(path)], stack=False, plugin_name="napari"))
    except Exception:  # a reader may be anybody's; then napari says it when it opens the file
        return None


def _describe_image(path: Path, source: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the layer that cells lie on: a channel of a file, or all of it."""
    shape, axes = list(source.get("shape", ())), str(source.get("axes", ""))
    fixed = source.get("fixed") or {}
    told: dict[str, Any] = {}
    if source.get("projection"):
        told = {"projection": source["projection"], "channels": source.get("channels", [])}
    elif "C" in fixed:
        told = {"channel": fixed["C"]}
    if told and axes.find("C") in range(len(shape)):
        del shape[axes.index("C")]
    letters = axes.partition("YX")[0]
    letters = letters.replace("C", "") if told else letters
    plane = [int(fixed.get(letter, 0)) for letter in letters]
    return {"path": str(path), "name": path.stem, "shape": shape, "told": told, "plane": plane}


def open_cells(viewer: Viewer, target: Path) -> Labels | None:
    """Give the layer of a file of cells that is open already; None where there is none."""
    layers = (layer for layer in labels_layers(viewer.layers) if file_of(layer) == target)
    return bare(next(iter(layers), None))


def is_part_of(layer: Layer, pair: OpenPair) -> bool:
    """Whether a layer is a part of the cells of a pair, see `widgets.correct.part_controller`."""
    part = layer.metadata.get(OURS, {}).get(PART_OF)
    return part is not None and part["zarr"] == pair.cells.metadata.get(OURS, {}).get(ZARR)


def part_of(viewer: Viewer, pair: OpenPair) -> Layer | None:
    """Give the part of the cells of a pair that is being edited; None where there is none."""
    return next((layer for layer in viewer.layers if is_part_of(layer, pair)), None)


def add_image(viewer: Viewer, pair: ReadPair) -> Found:
    """Add the image of a pair, or find the layer that it is open in."""
    before = set(viewer.layers)
    opener = None if pair.layers is None else lambda: _add_layers(viewer, pair)
    image, problem = image_of(viewer, pair.image, opener)
    added = [layer for layer in viewer.layers if layer not in before]
    return Found(image, added, problem)


def _add_layers(viewer: Viewer, pair: ReadPair) -> list[Layer]:
    from napari.layers import Layer

    added = []
    for data, *rest in pair.layers or ():
        attributes = dict(rest[0]) if rest else {}
        kind = rest[1] if len(rest) > 1 else "image"
        layer = Layer.create(data, {"name": pair.path.stem, **attributes}, kind)
        set_input_metadata(layer, path=str(pair.path))
        viewer.add_layer(layer)
        added.append(layer)  # not what napari returned: to a plugin that is a proxy
    return added


def add_cells(viewer: Viewer, pair: ReadPair, image: Image | None) -> Labels:
    """Add the cells of a pair, hidden; their corrections are saved from now on."""
    from napari.layers import Labels

    attributes = dict(pair.attributes)
    metadata: dict[str, Any] = dict(attributes.pop("metadata", {}))
    ours = dict(metadata.get(OURS, {}))
    if image is not None:
        ours["image"] = image_id(image)
    known = {**metadata.get(INPUT, {}), "path": str(pair.target)}
    metadata |= {OURS: ours, INPUT: known}
    if pair.review is not None:
        metadata[REVIEW] = pair.review
    if pair.restored is not None:
        pair.restored.adopt()
    if image is not None and (pair.path.is_dir() or pair.target.suffix == ZARR_SUFFIX):
        attributes |= _place_on(image, len(attributes["scale"]))
    is_on_disk = pair.review is None
    labels = levels_of(pair.labels) if is_on_disk else pair.labels
    layer = Labels(labels, metadata=metadata, **attributes, multiscale=is_on_disk)
    add_hidden(viewer, layer)
    return layer


def _place_on(image: Image, n: int) -> dict[str, Any]:
    """Place of labels with so many axes on an image: who reads it may know no place of it."""
    if image.ndim == n:
        return place_of(image)
    of_last = {name: tuple(getattr(image, name))[-n:] for name in ("scale", "translate", "units")}
    return {name: value for name, value in of_last.items() if len(value) == n}


def show_cells(viewer: Viewer, cells: Labels, pair: ReadPair, image: Image | None) -> None:
    """Show the cells of a pair, in the plane that was segmented, and make them active.

    The view is fitted to the image: the one before, which may be larger, is open for a moment more,
    and others may stay.
    """
    cells.visible = True
    fit_to(viewer, cells if image is None else image)
    index = pair.image["plane"]
    if image is not None and any(index) and len(index) == len(stack_axes(image)):
        show_plane(viewer, image, tuple(index))
    viewer.layers.selection.active = cells


def record_of(cells: Labels) -> Mapping[str, Any]:
    """Record of how the cells of a layer were made, as they are now; empty where there is none."""
    follow(cells)  # an undo may have taken the tracks back
    made: Mapping[str, Any] = cells.metadata.get(OURS, {}).get("provenance", {})
    return made


def pixels_of(cells: Labels) -> NDArray[Any]:
    """Labels of a layer as they are now; of a large one no copy is made."""
    labels: NDArray[Any] = cells.data
    return np.array(labels) if labels.nbytes < _COPIED else labels


#: Bytes up to which labels are copied before they are written: it takes some milliseconds.
_COPIED = 2**26
