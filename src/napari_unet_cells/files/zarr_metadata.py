"""Find the image in a zarr folder and its axes, without reading a pixel.

Zarr keeps its metadata as JSON files, in two formats::

    x.zarr/.zgroup .zattrs   0/.zarray  0/0/0 ...     zarr 2, OME-Zarr up to 0.4
    x.zarr/zarr.json         0/zarr.json 0/c/0/0 ...  zarr 3, OME-Zarr 0.5

OME-Zarr (https://ngff.openmicroscopy.org) puts `multiscales` into the attributes of a group:
axes with units, and the resolution levels with their scales, the finest first.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import NamedTuple

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.failures import damaged, read_failure
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.zarr_nodes import (
    Axis,
    Multiscale,
    Node,
    Transform,
    finest_transform,
    only,
    read_node,
)

ZARR_SUFFIX = ".zarr"
KIND = "zarr image"

#: Missing chunks that an error names.
_MOST_NAMED = 3

_METADATA_FILES = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})

# by the number of axes, where the metadata do not name them
_GUESSED_AXES = {1: "", 2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
_LETTERS = {"time": "T", "channel": "C"}


#: Units of lengths and times that OME-Zarr has.
_UNIT = re.compile(
    "(?:atto|centi|deca|deci|exa|femto|giga|hecto|kilo|mega|micro|milli|nano|peta|pico|tera|yocto|"
    "yotta|zepto|zetta)?(?:meter|second)|minute|hour|day|angstrom|foot|inch|mile|parsec|yard"
)


class AxisPlace(NamedTuple):
    """Place that an OME-Zarr gives the pixels along an axis: ``step * pixel + origin``, in `unit`.

    As it stands in the file: `unit` is empty where none is stated.
    """

    step: float
    origin: float = 0.0
    unit: str = ""

    @property
    def known_unit(self) -> str:
        """The unit, where it is one that the format has; else a pixel, as napari takes no other."""
        return self.unit if _UNIT.fullmatch(self.unit) else "pixel"


@dataclass(frozen=True)
class ZarrImage:
    """The first image of a zarr folder.

    Attributes
    ----------
    levels : tuple of Path
        Folders of the arrays, the finest first.
    axes : str
        One letter for each axis of the arrays, of TCZYX where they are named so.
    lengths : mapping of str to (float, str)
        Pixel size of the finest level by "y", "x", "z", and its unit; only where a unit is
        stated.
    place : mapping of str to AxisPlace
        Of the finest level, by the letters of the axes in lower case; empty where none is stated.
    channel_names : tuple of str
    n_images : int
        Images in the folder.
    is_labels : bool
        Whether its numbers are said to be labels.
    is_guessed : bool
        Whether the axes are not named, and their letters follow from their number alone.
    """

    levels: tuple[Path, ...]
    axes: str
    lengths: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    n_images: int = 1
    is_labels: bool = False
    place: Mapping[str, AxisPlace] = field(default_factory=dict)
    is_guessed: bool = False


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder that zarr wrote, or is named so."""
    if not path.is_dir():
        return False
    if path.suffix.lower() == ZARR_SUFFIX:
        return True
    return any((path / name).is_file() for name in _METADATA_FILES)


def zarr_image(path: Path) -> ZarrImage:
    """Find the image of a zarr folder, of a group in it, or of one of its arrays.

    Raises
    ------
    UserError
        Where the metadata are missing or damaged, or name several images to choose from.
    """
    try:
        return _image_of(path)
    except UserError:
        raise
    except OSError as error:
        raise read_failure(path, error) from error
    except (Malformed, RecursionError) as error:
        raise damaged(path, KIND, error) from error


def plane_pixels(path: Path) -> int:
    """Count the pixels of a plane of a zarr folder's first image, at full resolution.

    Raises
    ------
    UserError
        Where the metadata are missing or damaged.
    """
    found = zarr_image(path)
    try:
        node = read_node(found.levels[0])
    except (OSError, Malformed) as error:
        raise damaged(path, KIND, error) from error
    if node is None or node.shape is None:
        return 0
    return prod(
        length for name, length in zip(found.axes, node.shape, strict=False) if name in "YX"
    )


@dataclass(frozen=True)
class MissingChunks:
    """Chunks that an array lacks: how many, of how many, and the names of the first files."""

    n: int
    total: int
    named: tuple[str, ...] = ()


def missing_chunks(folder: Path) -> MissingChunks:
    """Look for the files of chunks that an array lacks, and read none of them.

    Raises
    ------
    UserError
        Where the metadata are damaged.
    """
    try:
        node = read_node(folder)
    except (OSError, Malformed) as error:
        raise damaged(folder, KIND, error) from error
    if node is None or not node.shape or node.chunks is None:
        return MissingChunks(0, 0)
    counts = _counts(node)
    begin, between = node.key_form
    n = prod(counts) - sum(_is_chunk(key, begin, between, counts) for key in _files_in(folder))
    if not n:
        return MissingChunks(0, prod(counts))
    there = set(_files_in(folder))
    # no more are looked for than are there, and a few: metadata may claim any number
    keys = (begin + between.join(map(str, _index(i, counts))) for i in range(prod(counts)))
    named = tuple(islice((key for key in keys if key not in there), _MOST_NAMED))
    return MissingChunks(n, prod(counts), named)


def chunk_grid(folder: Path) -> tuple[int, ...] | None:
    """Shape of what each file of an array holds, a chunk or a shard; None where it is not known."""
    try:
        node = read_node(folder)
    except (OSError, Malformed):
        return None
    return None if node is None or not node.shape or node.chunks is None else tuple(node.chunks)


def chunks_there(folder: Path) -> Iterator[tuple[int, ...]]:
    """Iterate over the places of the chunks of an array that are stored, and read none of them."""
    node = read_node(folder)
    if node is None or not node.shape or node.chunks is None:
        return
    counts = _counts(node)
    begin, between = node.key_form
    for key in _files_in(folder):
        if _is_chunk(key, begin, between, counts):
            yield tuple(map(int, key.removeprefix(begin).split(between)))


def _counts(node: Node) -> list[int]:
    """Count the chunks along each axis of an array."""
    return [-(-n // chunk) for n, chunk in zip(node.shape or (), node.chunks or (), strict=True)]


def _files_in(folder: Path) -> Iterator[str]:
    """Iterate over the files of an array, by their paths in it."""
    for root, _, names in os.walk(folder):
        inside = os.path.relpath(root, folder).replace(os.sep, "/")
        yield from (name if inside == "." else f"{inside}/{name}" for name in names)


def _index(number: int, counts: Sequence[int]) -> Sequence[int]:
    """Give the place of a chunk along each axis by its number, the last axis first."""
    index = []
    for n in reversed(counts):
        number, at = divmod(number, n)
        index.append(at)
    return index[::-1]


def _is_chunk(key: str, begin: str, between: str, counts: Sequence[int]) -> bool:
    """Whether a file is one of the chunks of an array."""
    numbers = key.removeprefix(begin).split(between)
    if not key.startswith(begin) or len(numbers) != len(counts):
        return False
    return all(
        re.fullmatch("0|[1-9][0-9]{0,17}", number) is not None and int(number) < n
        for number, n in zip(numbers, counts, strict=True)
    )


def zarr_record(folder: Path) -> object:
    """Give the record of a result among the attributes of a folder, unchecked; None without one."""
    try:
        node = read_node(folder)
    except (OSError, Malformed):
        return None
    return None if node is None else node.record


def zarr_run(folder: Path) -> str:
    """Read which run made a result of ours, see `label_zarr.LabelZarr.complete`; else empty."""
    try:
        node = read_node(folder)
    except (OSError, Malformed):
        return ""
    return "" if node is None else node.run


def _image_of(path: Path) -> ZarrImage:
    node = read_node(path)
    if node is None:
        raise UserError(
            f"{path.name} holds no zarr metadata (zarr.json, .zgroup or .zarray): it is "
            "incomplete, or no zarr. Copy the whole folder again, hidden files too."
        )
    if node.shape is not None:
        return _array_image(path, node)
    if node.images:
        return _multiscale_image(path, node, node.images[0])
    inside = _images_inside(path, node)
    if not inside:
        raise _nothing_inside(path)
    parts = node.well_images if node.plate_wells is None else node.plate_wells
    if parts is not None:
        kind = "well of {} fields" if node.plate_wells is None else "plate of {} wells"
        raise UserError(
            f"{path.name} is a {kind.format(len(parts))}. Name one image in it, such as "
            f"{path / inside[0]}."
        )
    return replace(_image_of(path / inside[0]), n_images=len(inside))


@dataclass(frozen=True)
class InnerImage:
    """An image in a zarr folder.

    Attributes
    ----------
    path : Path
    well : str
        Of a plate, such as "B3"; empty elsewhere.
    field : str
        Its name in the well.
    problem : str
        Why there is none although it is listed; empty where it is there.
    """

    path: Path
    well: str = ""
    field: str = ""
    problem: str = ""


def images_in(path: Path) -> list[InnerImage]:
    """List the images of a zarr folder: one, those of a plate or a well, or of a series.

    Raises
    ------
    UserError
        Where the metadata are missing or damaged.
    """
    try:
        node = read_node(path)
        if node is None or node.shape is not None or node.images:
            return [InnerImage(path)]
        if node.plate_wells is not None:
            return [image for well in node.plate_wells for image in _in_well(path / well, well)]
        if node.well_images is not None:
            return _in_well(path, "/".join(path.parts[-2:]))
        return [InnerImage(path / inside) for inside in _images_inside(path, node)] or [
            InnerImage(path)
        ]
    except OSError as error:
        raise read_failure(path, error) from error
    except (Malformed, RecursionError) as error:
        raise damaged(path, KIND, error) from error


def _in_well(folder: Path, path: str) -> list[InnerImage]:
    """List the images of a well; `path` is that in its plate, such as ``B/3``."""
    well = path.replace("/", "")
    try:
        node = read_node(folder)
    except (OSError, Malformed) as error:
        return [InnerImage(folder, well, problem=str(damaged(folder, KIND, error)))]
    if node is None or node.well_images is None:
        lacks = "is not there" if node is None else "is no well"
        problem = f"The plate lists the well {path}, and it {lacks}. Copy the whole folder again."
        return [InnerImage(folder, well, problem=problem)]
    return [InnerImage(folder / inside, well, inside) for inside in node.well_images]


def _images_inside(path: Path, node: Node) -> Sequence[str]:
    """List the images of a group that is none itself, by their paths in it."""
    if node.well_images is not None:
        return node.well_images
    if node.plate_wells is not None:
        for well in node.plate_wells:
            found = read_node(path / well)
            if found is not None and found.well_images:
                return [f"{well}/{inside}" for inside in found.well_images]
        return []
    # bioformats2raw numbers them; its folder OME holds none
    numbered = [p for p in path.iterdir() if p.name.isdecimal() and p.name.isascii()]
    nodes = [(p.name, read_node(p)) for p in sorted(numbered, key=lambda p: (len(p.name), p.name))]
    return [name for name, node in nodes if node is not None and node.images]


def _nothing_inside(path: Path) -> UserError:
    arrays = sorted(p for p in path.iterdir() if p.is_dir() and read_node(p) is not None)
    way_out = (
        f"Name an array in it, such as {arrays[0]}" if arrays else "Copy the whole folder again"
    )
    return UserError(f"{path.name} is a zarr group without an OME-Zarr image. {way_out}.")


def _multiscale_image(path: Path, group: Node, image: Multiscale) -> ZarrImage:
    levels = tuple(path / level.path for level in image.levels)
    node = read_node(levels[0])
    if node is None or node.shape is None:
        raise UserError(
            f"{path.name} is incomplete: its full resolution, {levels[0].relative_to(path)}, is "
            "missing. Copy the whole folder again."
        )
    n_axes = len(node.shape)
    names, units = _axes_of(image.axes, n_axes)
    transform = finest_transform(image)
    scale = transform.scale or (0.0,) * n_axes
    if len(names) != n_axes or len(scale) != n_axes:
        n = len(names) if len(names) != n_axes else len(scale)
        raise Malformed(f"{n} axes are described, and the array has {n_axes}")
    lengths = {
        name.lower(): (size, unit)
        for name, size, unit in zip(names, scale, units, strict=True)
        if name in "YXZ" and unit
    }
    labels = group.channel_names
    channel_names = labels if any(labels) and "C" in names else ()
    place = _place(names, units, transform)
    # before axes had names there were five of them, in this order; some wrote less
    is_guessed = image.axes is None and n_axes < 5
    n_images, is_labels = len(group.images), group.is_labels
    return ZarrImage(levels, names, lengths, channel_names, n_images, is_labels, place, is_guessed)


def _place(names: str, units: Sequence[str], transform: Transform) -> dict[str, AxisPlace]:
    """Give where the axes put their pixels; nothing where a step is no length at all."""
    n = len(names)
    scale, shift = transform.scale or (1.0,) * n, transform.translation or (0.0,) * n
    stated = bool(transform.scale or transform.translation)
    usual = stated and len(shift) == n and all(map(math.isfinite, (*scale, *shift)))
    if not usual or not all(scale):
        return {}
    rows = zip(names.lower(), scale, shift, units, strict=True)
    return {name: AxisPlace(step, origin, unit) for name, step, origin, unit in rows}


def _axes_of(axes: Sequence[Axis] | None, n: int) -> tuple[str, list[str]]:
    """Letters and units of the axes; before version 0.3 they have no names, before 0.4 no unit."""
    if axes is None:
        return "TCZYX"[-n:] if n <= 5 else "", [""] * n
    letters = [_LETTERS.get(axis.kind, axis.name[:1].upper()) for axis in axes]
    return "".join(letters), [axis.unit for axis in axes]


def _array_image(path: Path, node: Node) -> ZarrImage:
    """One array: a level of the image around it, or an array without such an image."""
    for group in path.parents[:3]:
        around = read_node(group)
        if around is None:
            break
        for image in around.images:
            for level in image.levels:
                if group / level.path == path:
                    # the level alone, with its own scale
                    return _multiscale_image(group, around, only(image, level))
    assert node.shape is not None
    if letters := _named_axes(node.shape, node.axis_names):
        return ZarrImage((path,), letters)
    return ZarrImage((path,), _guessed_axes(path, node.shape), is_guessed=True)


def _named_axes(shape: tuple[int, ...], names: Sequence[str]) -> str:
    """Letters of an array as its axes are named; empty where they are not, or not for an image."""
    letters = "".join((name or "?")[0].upper() for name in names)
    is_image = len(letters) == len(shape) == len(set(letters)) and letters.endswith("YX")
    return letters if is_image else ""


def _guessed_axes(path: Path, shape: tuple[int, ...]) -> str:
    """Letters of an array whose axes nobody names, by their number."""
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
        return "YXC"
    axes = _GUESSED_AXES.get(len(shape), "")
    if not axes:
        raise UserError(
            f"{path.name} is an array of {len(shape)} axes, and it is not known what they are. "
            "Save it as an OME-Zarr with at most the axes (t, c, z, y, x)."
        )
    return axes
