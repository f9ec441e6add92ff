"""Writer of approved regions into a dataset for training.

::

    FOLDER/images/NAME.tif   pixels of an approved region, with context around it
    FOLDER/masks/NAME.tif    its labels, as they are now
    FOLDER/first/NAME.tif    its labels as the run made them; around the region as they are now
    FOLDER/index.json        a record a file, see `_record`

    +-- images/NAME.tif -----+
    |  context               |     NAME = stem of the source, plane, channel, region, version
    |   +-- inside ------+   |
    |   |   approved     |   |     img_plane3_y512-1024_x0-512.tif
    |   +----------------+   |     img_plane3_y512-1024_x0-512-v2.tif
    +------------------------+

A region that changed since it was exported becomes a new version; the old one stays, and its
record names the one that replaced it. Files come first and the list last, each of them whole, so
a program that is killed leaves a valid dataset, and at most files that no record names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells import __version__
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.planes import Plane, Planes, limits_of, usual_contrast
from napari_unet_cells.core.regions import Place, Region
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.corrections.file_names import bare_name, base_name
from napari_unet_cells.datasets.annotated_images import source_key
from napari_unet_cells.datasets.index import (
    current,
    first_path,
    image_path,
    locked,
    mask_path,
    read_index,
    write_index,
)
from napari_unet_cells.datasets.split import records_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import make_folder, read_image, write_labels
from napari_unet_cells.files.pixels import write_pixels
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.untrusted.dataset_record import DatasetRecord, parse_record
from napari_unet_cells.untrusted.names import is_link
from napari_unet_cells.untrusted.rules import Malformed

#: Version of the records.
FORMAT = 1

#: Pixels around an approved region: context for the network, without a loss.
CONTEXT = 64

#: Bytes; larger sources are identified by their path, since reading them takes minutes.
LARGEST_HASHED = 2**32


@dataclass(frozen=True)
class Added:
    """A region was written.

    Attributes
    ----------
    name : str
        Of its files.
    place : Place
    version : int
        1 for a region that is new in the dataset.
    done, total : int
        Regions.
    """

    name: str
    place: Place
    version: int
    done: int
    total: int


@dataclass(frozen=True)
class Unchanged:
    """A region is in the dataset as it is; see `Added`."""

    name: str
    place: Place
    version: int
    done: int
    total: int


def add(
    folder: str | Path, approved: Approved, context: int = CONTEXT
) -> Generator[Added | Unchanged, None, None]:
    """Add approved regions to a dataset, which is made where there is none.

    Parameters
    ----------
    folder : path
        New, empty, or a dataset; also one that was made by hand.
    approved : Approved
    context : int
        Pixels around a region that are kept with it, as far as the plane reaches.

    Yields
    ------
    Added, Unchanged
        One a region, once it is safely on the disk. A generator that is closed earlier leaves
        those that it yielded.

    Raises
    ------
    UserError
        Where the folder is of another kind or cannot be written to, or holds other classes.
    """
    folder = Path(folder)
    _prepare(folder, approved.classes)
    size = approved.pixel_size()
    source = _described(approved.source, approved.planes)
    usual = usual_contrast(approved.planes)
    limits: dict[tuple[int, ...], Limits | None] = {}
    for number, (place, date) in enumerate(sorted(approved.dates.items())):
        plane = approved.plane(place)
        if plane.index not in limits:
            limits[plane.index] = limits_of(plane, usual)
        crop = _cut(approved, place, context)
        record = _record(approved, crop, source, limits[plane.index], size, date)
        kind, name, version = _store(folder, crop, record)
        yield kind(name, place, version, number + 1, len(approved.dates))


def files_of(folder: Path, event: Added | Unchanged) -> tuple[Path, Path]:
    """Image and mask of a region that lies in a dataset."""
    named = DatasetRecord(event.name)
    return image_path(folder, named), mask_path(folder, named)


def _prepare(folder: Path, classes: tuple[str, ...]) -> None:
    """Make the folder a dataset, with a list of what is in it.

    An empty list comes first: without it, what a killed export leaves would look like images
    and masks that were made by hand.
    """
    make_folder(folder)
    if read_index(folder) is None:
        _found(folder)
        with locked(folder):
            if read_index(folder) is None:
                write_index(folder, _found(folder))
    others = {record.classes for record in current(read_index(folder) or ()) if record.classes}
    for other in others - {classes} if classes else ():
        raise UserError(
            f"The dataset {folder} holds the classes {', '.join(other)}, and these regions "
            f"{', '.join(classes)}. Choose another folder."
        )


def _found(folder: Path) -> list[DatasetRecord]:
    """List what was annotated by hand; nothing in an empty folder."""
    if all(path.name.startswith(".") for path in folder.iterdir()):
        return []
    try:
        return records_of(folder)
    except UserError as error:
        raise UserError(
            f"{folder} holds other files, and no dataset: {error} Choose an empty folder, or a new "
            "name."
        ) from error


@dataclass(frozen=True)
class _Crop:
    """A region as it is written."""

    pixels: NDArray[Any]
    axes: str
    mask: NDArray[Any]
    first: NDArray[Any]
    region: Region
    inside: Region
    plane: tuple[int, ...]


def _cut(approved: Approved, place: Place, context: int) -> _Crop:
    plane, region = approved.plane(place), approved.review.grid[place[1]]
    outer = region.grown(context, (plane.shape[0], plane.shape[1]))
    inside = Region(
        region.top - outer.top,
        region.bottom - outer.top,
        region.left - outer.left,
        region.right - outer.left,
    )
    window: tuple[int | slice, ...] = (*place[0], *outer.slices)
    mask: NDArray[Any] = np.array(approved.labels[window])
    first = mask.copy()
    first[inside.slices] = approved.review.made(place)
    pixels, axes = plane[outer.slices], "YX"
    if pixels.ndim == 3:
        axes = "YXC" if pixels.shape[2] == 3 else "CYX"
        pixels = pixels if axes == "YXC" else np.moveaxis(pixels, 2, 0)
    return _Crop(pixels, axes, mask, first, region, inside, plane.index)


def _record(
    approved: Approved,
    crop: _Crop,
    source: Mapping[str, Any],
    limits: Limits | None,
    size: PixelSize,
    date: str,
) -> dict[str, Any]:
    """Describe a region for the index; name and version are filled in later."""
    provenance = approved.provenance
    return {
        "name": "",
        "kind": "corrected",
        "split": "",
        "version": 1,
        "replaced_by": None,
        "region": asdict(crop.region),
        "inside": asdict(crop.inside),
        "plane": list(crop.plane),
        "channel": source.get("channel"),
        "axes": crop.axes,
        "pixel_size": [size.y, size.x],
        "unit": size.unit,
        "classes": list(approved.classes),
        "colors": list(provenance.get("colors", ())),
        "limits": None if limits is None else [limits.low, limits.high],
        "source": source,
        "labels": approved.labels_name,
        "approved": date,
        "exported": datetime.now().astimezone().isoformat(timespec="seconds"),
        "edited": not np.array_equal(crop.mask, crop.first),
        "model": provenance.get("model", {}),
        "parameters": provenance.get("parameters", {}),
        "program": {"name": "napari-unet-cells", "version": __version__},
        "format": FORMAT,
    }


def _described(source: Mapping[str, Any], planes: Planes) -> dict[str, Any]:
    """Add a checksum that identifies the source, wherever it lies.

    It is that of its file; without one, of its first plane: two layers may have one name.
    """
    path = source.get("path")
    if path is None:
        return {**source, "sha256": None, "pixels": _checksum(planes)}
    checksum = None
    if Path(path).is_file():
        stat = Path(path).stat()
        if stat.st_size <= LARGEST_HASHED:
            checksum = _sha256(str(path), stat.st_size, stat.st_mtime_ns)
    return {**source, "sha256": checksum}


def _checksum(planes: Planes) -> str:
    leading = len(planes.data.shape) - 2 - planes.color
    first = Plane(planes.data, (0,) * leading, planes.channels)
    step = max(1, max(first.shape[:2]) // 1000)
    sample = np.ascontiguousarray(first[::step, ::step])
    described = f"{tuple(planes.data.shape)} {sample.dtype.str}".encode()
    return hashlib.sha256(described + sample.tobytes()).hexdigest()


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, modified: int) -> str | None:
    """SHA-256 of a file; with size and time in the key the cache misses once it changes."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _store(
    folder: Path, crop: _Crop, described: Mapping[str, Any]
) -> tuple[type[Added] | type[Unchanged], str, int]:
    """Write a region, unless it is there already; the list comes last."""
    with locked(folder):
        records = read_index(folder) or []  # another program may have added some
        region = _parsed({**described, "name": "region"})
        same = [other for other in records if _key(other) == _key(region)]
        newest = next(iter(current(same)), None)
        if newest is not None and _is_same(folder, newest, crop):
            return Unchanged, newest.name, newest.version
        base = base_name(records, region) if not same else bare_name(same[0])
        version = max((other.version for other in same), default=0) + 1
        name = f"{base}.tif" if version == 1 else f"{base}-v{version}.tif"
        split = "" if newest is None else newest.split
        record = _parsed({**described, "name": name, "version": version, "split": split})
        _write_files(folder, crop, record)
        before = [other.replaced(name) if other is newest else other for other in records]
        write_index(folder, [*before, record])
    return Added, name, version


def _parsed(described: Mapping[str, Any]) -> DatasetRecord:
    """Read what is about to be written: the next program has to."""
    try:
        return parse_record(jsonable(described))
    except Malformed as error:
        raise UserError(f"The region cannot be listed: its record {error}.") from error


def _write_files(folder: Path, crop: _Crop, record: DatasetRecord) -> None:
    for path in (image_path, mask_path, first_path):
        part = path(folder, record).parent
        if is_link(part) and part != folder:
            raise UserError(
                f"{part} is a link to another place, and what is written there would not be in "
                "the dataset. Choose another folder, or replace the link by a copy."
            )
        make_folder(part)
    size = record.document["pixel_size"]
    place: dict[str, Any] = {
        "pixel_size": (size[0], size[1]),
        "unit": record.document["unit"],
        "overwrite": True,  # what no record names is a leftover
    }
    made = record.document
    write_pixels(image_path(folder, record), crop.pixels, axes=crop.axes, **place)
    write_labels(mask_path(folder, record), crop.mask, provenance=made, **place)
    write_labels(first_path(folder, record), crop.first, provenance=made, **place)


def _is_same(folder: Path, record: DatasetRecord, crop: _Crop) -> bool:
    """Whether image and mask of a record hold the same pixels; damaged ones do not."""
    try:
        image = np.asarray(read_image(image_path(folder, record)).data)
        mask = np.asarray(read_image(mask_path(folder, record)).data)
    except UserError:
        return False
    pixels = crop.pixels[0] if crop.pixels.shape[0] == 1 and crop.axes == "CYX" else crop.pixels
    is_float = pixels.dtype.kind == "f"
    same = image.dtype == pixels.dtype and np.array_equal(image, pixels, equal_nan=is_float)
    return same and np.array_equal(mask, crop.mask)


def _key(record: DatasetRecord) -> tuple[Any, ...]:
    """Key of a region: equal for its versions, different for all others."""
    return (source_key(record.source) or record.name, record.plane, record.channel, record.region)
