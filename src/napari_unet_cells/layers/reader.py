"""Results of ours as labels layers: napari's reader for ``*_cells.tif`` and ``*_classes.tif``.

The pixels come from the TIFF; the place in the world, where one was recorded, from its
provenance or from the JSON of the same name beside it::

    NAME_cells.tif   pixels, pixel size, provenance ──┐
                                                      ├──> (labels, attributes, "labels")
    NAME_cells.json  the same record, for people ─────┘

No other names are claimed: napari asks at every file that two readers claim.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import digest
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.files import Image, read_image
from napari_unet_cells.files.labels import read_record
from napari_unet_cells.files.results import OF_ONE_FILE
from napari_unet_cells.layers.image_planes import axis_letters
from napari_unet_cells.layers.metadata import CELLS, CLASSES, INPUT, result_metadata
from napari_unet_cells.sample_data import LayerData
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.result_record import ResultRecord, Transform, parse_record
from napari_unet_cells.untrusted.rules import Malformed

PathLike: TypeAlias = str | Path

#: Names of results, as `batch` and the proposals of an export make them; as in the manifest.
PATTERNS = ("*_cells.tif", "*_cells.tiff", "*_classes.tif", "*_classes.tiff")

#: Colours of the classes: background is not drawn, later classes repeat.
CLASS_COLORS = ("#00000000", "#2ca25f", "#fdae61", "#5e9cd3", "#d7503d", "#9e6ebd")

#: No value of `core.labels.digest`, so that labels once corrected count as corrected.
_CORRECTED = -1


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """Give napari the function that reads a path; None for several, to be read as a stack."""
    return open_result if isinstance(path, str) else None


def open_result(path: PathLike) -> list[LayerData]:
    """Read a label image as a layer in its place; the file may have any name.

    Parameters
    ----------
    path : str or Path
        A TIFF that we exported or saved, or any label image.

    Returns
    -------
    list of (labels, attributes, "labels")
        One layer. Its labels are uint8 (classes), uint16, or where the ids need it uint32,
        with a length of 1 along the axes that the layer had when it was exported. Its
        metadata are those of `layers.metadata.result_metadata`, without an image, where the file or
        the JSON beside it names us as its maker. Its digest is that of the pixels, or none
        that can occur where they had been corrected by hand before they were written.

    Raises
    ------
    UserError
        Where the file cannot be read, or holds no labels: colours, channels, fractions or
        negative numbers.
    """
    path = Path(path)
    image = read_image(path)
    record = _record_of(path)
    role = _role_of(path, record)
    labels = _labels_in(image, np.uint8 if role == CLASSES else np.uint16)
    labels, place = _placed(labels, image, record.transform)
    attributes: dict[str, Any] = {"name": path.stem, "metadata": {}, **place}
    if record.document:
        attributes["metadata"] |= _metadata(labels, role, record)
    if image.pixel_size is not None and set(place["units"][-2:]) == {"pixel"}:
        # The layer lay in pixels over an image without a scale; its size is not lost by that.
        attributes["metadata"][INPUT] = {"pixel_size": (*image.pixel_size, image.unit)}
    if role == CLASSES and labels.dtype == np.uint8:
        n_named, n_drawn = len(record.classes), int(labels.max()) + 1
        attributes["colormap"] = class_colors(max(n_named, n_drawn), record.colors)
    return [(labels, attributes, "labels")]


def class_colors(n: int, chosen: Sequence[str] = ()) -> dict[int | None, str]:
    """Colours of `n` classes, as napari takes them: what is no class is not drawn.

    Parameters
    ----------
    n : int
    chosen : sequence of str
        What the user chose; that of the first class, mostly the background, is not drawn.
    """
    others = CLASS_COLORS[1:]
    colors: dict[int | None, str] = {None: CLASS_COLORS[0], 0: CLASS_COLORS[0]}
    colors.update({index: others[(index - 1) % len(others)] for index in range(1, n)})
    colors.update({index: chosen[index] for index in range(1, min(n, len(chosen)))})
    return colors


def prefer_reader(chosen: Mapping[str, str], plugin: str) -> dict[str, str]:
    """Add our names to napari's setting ``plugins.extension2reader``.

    napari's own reader claims every TIFF, so without this napari asks which of the two
    shall open a result.

    Parameters
    ----------
    chosen : mapping of str to str
        Pattern to plugin, as the user chose; a choice for one of our names is kept.
    plugin : str
        Our name.
    """
    # Of patterns with as many stars, napari takes the first: ours come before "*.tif".
    return {**{name: plugin for name in PATTERNS if name not in chosen}, **chosen}


def _record_of(path: Path) -> ResultRecord:
    """Record of a label image; an empty one where we did not make it, or it is damaged.

    The one inside the file belongs to its pixels for certain, so it comes first; the one
    beside it is left where another program wrote the file anew.
    """
    record = ResultRecord({})
    with contextlib.suppress(UserError):  # no TIFF in spite of its name
        record = read_record(path)
    if record.transform is not None:
        return record
    try:
        beside = parse_record(read_json(path.with_suffix(".json")))
        if beside.transform is None:
            return record
        return parse_record({**beside.document, **record.document})
    except (OSError, Malformed):
        return record


def _role_of(path: Path, record: ResultRecord) -> str:
    """Cells or classes: as recorded, else as the file or the exported layer is named."""
    if record.role in (CELLS, CLASSES):
        return record.role
    names = (path.stem.lower(), record.layer.lower())
    return next((r for name in names for r in (CELLS, CLASSES) if name.endswith(r)), CELLS)


def _labels_in(image: Image, smallest: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """Pixels as labels, of the smallest of the fast types that holds them."""
    try:
        data = np.asarray(image.data[...])
    except MemoryError as error:
        raise OutOfMemory from error
    kind = ""
    if "C" in image.axes or "S" in image.axes:
        kind = "colours or channels"
    elif data.dtype.kind not in "ui":
        kind = "numbers with fractions"
    elif int(data.min()) < 0:
        kind = "negative numbers"
    if kind:
        raise UserError(
            f"{image.path.name} holds {kind}, not labels. Save its labels as grey values of 8 or "
            "16 bits; if it is an image, give it a name that does not end in _cells or _classes."
        )
    dtype = np.promote_types(np.min_scalar_type(int(data.max())), smallest)
    return data.astype(dtype, copy=False)


def _placed(
    labels: NDArray[Any], image: Image, transform: Transform | None
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Give labels the axes that they had as a layer, and what places such a layer."""
    if transform is not None and len(transform.scale) <= _MOST_AXES:
        n = len(transform.scale)
        letters = axis_letters(transform.axis_labels)
        single = [axis for axis, letter in enumerate(letters) if letter not in image.axes]
        layer = labels
        if labels.ndim + len(single) == n:
            layer = np.expand_dims(labels, single)
        if layer.ndim == n:
            return layer, transform.as_lists()
    return labels, _place_in_file(image)


#: Of a layer of labels that napari shows.
_MOST_AXES = 4


def _place_in_file(image: Image) -> dict[str, Any]:
    """Scale, units and names of the axes as the TIFF states them."""
    sizes: dict[str, float] = {}
    if image.pixel_size is not None:
        sizes = dict(zip("YX", image.pixel_size, strict=True))
        sizes |= {} if image.z_step is None else {"Z": image.z_step}
    return {
        "scale": [sizes.get(axis, 1.0) for axis in image.axes],
        "units": [image.unit if axis in sizes else "pixel" for axis in image.axes],
        "axis_labels": list(image.axes.lower()),
    }


def _metadata(labels: NDArray[Any], role: str, record: ResultRecord) -> dict[str, Any]:
    """Metadata of a result whose image is not known."""
    provenance = {key: value for key, value in record.document.items() if key not in OF_ONE_FILE}
    if role == CLASSES:
        return result_metadata(role, "", provenance)
    checksum = _CORRECTED if record.corrected_by_hand else digest(labels)
    return result_metadata(role, "", provenance, checksum)
