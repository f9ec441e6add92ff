"""Labels written into an OME-Zarr, block by block, at several scales.

::

    NAME.ome.zarr/          a small image, to find one's way; the record of the run
        0 1 2
        labels/             lists the label images
            cells/          image-label, the record of the run
                0 1 2       written by the blocks, each its own shard or chunks
                3 ...       made of the level before, once all blocks are written

Versions 0.4 (zarr 2) and 0.5 (zarr 3, with shards) of https://ngff.openmicroscopy.org. A level has
half the size of the one before; of four pixels the most frequent label stays. Chunks that would
hold nothing but background are not written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet_cells.core.mode import halve_by_mode, halved_shape
from napari_unet_cells.core.resample import shrink
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import atomic_write
from napari_unet_cells.files.failures import read_failure
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.synced_store import synced
from napari_unet_cells.files.zarr_metadata import AxisPlace
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import plain_mapping
from napari_unet_cells.untrusted.zarr_nodes import RECORD, RUN

VERSIONS = ("0.4", "0.5")

#: Longest side of the coarsest level, in pixels.
COARSEST = 1024

#: Levels that a block writes: its side is a multiple of four chunks of the smallest size.
OF_BLOCKS = 3

#: Sides of chunks in pixels, the usual one first.
_CHUNKS = (512, 256, 128)

_KINDS = {"t": "time", "c": "channel"}


@dataclass(frozen=True)
class LabelZarr:
    """Label images of an OME-Zarr that is being written.

    Attributes
    ----------
    folder : Path
        Of the OME-Zarr.
    shape : tuple of int
        Of the labels, (..., y, x).
    axes : str
        One letter for each axis, of "tczyx" in this order.
    side : int
        Of a block in pixels, a multiple of `core.plane_blocks.UNIT`.
    scale : Scale
    version : str
        One of `VERSIONS`.
    place : mapping of str to AxisPlace
        Where an OME-Zarr puts the image, by the letters of its axes: its labels lie on it in every
        program, also where no unit is stated.
    """

    folder: Path
    shape: tuple[int, ...]
    axes: str
    side: int
    scale: Scale
    version: str = VERSIONS[-1]
    place: Mapping[str, AxisPlace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a version that is not known."""
        if self.version not in VERSIONS:
            raise UserError(
                f"OME-Zarr is written in the versions {' and '.join(VERSIONS)}, not {self.version}."
            )

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of all levels, the finest first."""
        shapes = [self.shape]
        while max(shapes[-1][-2:]) > COARSEST:
            *others, height, width = shapes[-1]
            shapes.append((*others, *halved_shape((height, width))))
        return tuple(shapes)

    @property
    def factor(self) -> int:
        """Size of the labels divided by that of their coarsest level."""
        return int(2 ** (len(self.shapes) - 1))

    def create(self, name: str, dtype: DTypeLike) -> None:
        """Make the arrays of a label image, empty; one that is there is replaced."""
        import zarr  # takes half a second

        for level, shape in enumerate(self.shapes):
            chunk, shard = self._chunks(level)
            ones = (1,) * (len(shape) - 2)
            is_old = self.version == "0.4"
            zarr.create_array(
                synced(self._level(name, level)),
                shape=shape,
                chunks=(*ones, chunk, chunk),
                shards=None if is_old or shard is None else (*ones, shard, shard),
                dtype=np.dtype(dtype),
                fill_value=0,
                zarr_format=2 if is_old else 3,
                compressors="auto",
                chunk_key_encoding={"name": "v2" if is_old else "default", "separator": "/"},
                dimension_names=None if is_old else list(self.axes),
                overwrite=True,
            )

    def _chunks(self, level: int) -> tuple[int, int | None]:
        """Side of a chunk, and of a shard where one block writes it."""
        if level >= OF_BLOCKS:
            return _CHUNKS[0], None
        own = self.side >> level
        return next((chunk for chunk in _CHUNKS if own % chunk == 0), own), own

    def is_there(self, name: str) -> bool:
        """Whether the arrays of a label image were made."""
        metadata = ".zarray" if self.version == "0.4" else "zarr.json"
        levels = range(len(self.shapes))
        return all((self._level(name, level) / metadata).is_file() for level in levels)

    def _level(self, name: str, level: int) -> Path:
        return self.folder / "labels" / name / str(level)

    def write(
        self,
        name: str,
        plane: tuple[int, ...],
        part: tuple[slice, slice],
        labels: NDArray[Any],
        all_levels: bool = False,
    ) -> None:
        """Write what a block holds, at all levels that blocks write.

        Parameters
        ----------
        name : str
        plane : tuple of int
            Index along the axes before (y, x).
        part : (slice, slice)
            Begins at multiples of `side`, and ends there or where the plane ends.
        labels : integer array, (y, x)
        all_levels : bool
            Write the coarse levels too, whose chunks hold pixels of several blocks: for a result
            that is looked at while one process writes it. `finish` makes them anew.
        """
        import zarr

        top, left = part[0].start, part[1].start
        for level in range(len(self.shapes) if all_levels else min(OF_BLOCKS, len(self.shapes))):
            if level:
                labels = halve_by_mode(labels)
            y, x = top >> level, left >> level
            array: Any = zarr.open_array(synced(self._level(name, level)), mode="r+")
            where = slice(y, y + labels.shape[0]), slice(x, x + labels.shape[1])
            array[(*plane, *where)] = labels

    def finish(self, name: str, record: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Make the coarse levels and the metadata: now it is a label image.

        Parameters
        ----------
        name : str
        record : mapping
            See `files.results.result_record`.
        about : mapping
            Of "image-label": colours and properties; may be empty.
        """
        for level in range(OF_BLOCKS, len(self.shapes)):
            self._coarsen(name, level)
        axes, levels = list(self._axes(self.axes)), range(len(self.shapes))
        datasets = [self._dataset(self.axes, str(level), 2**level) for level in levels]
        image = {"name": name, "axes": axes, "datasets": datasets}
        folder = self.folder / "labels" / name
        said = {
            "multiscales": [image],
            "image-label": {"source": {"image": "../../"}, **about},
        }
        self._write_group(folder, said, {RECORD: record})

    def _coarsen(self, name: str, level: int) -> None:
        """Make a level of the one before, a few chunks at a time."""
        import zarr

        source: Any = zarr.open_array(self._level(name, level - 1), mode="r")
        target: Any = zarr.open_array(synced(self._level(name, level)), mode="r+")
        step = 2 * _CHUNKS[0]
        *others, height, width = target.shape
        for plane in product(*map(range, others)):
            for y, x in product(range(0, height, step), range(0, width, step)):
                fine = source[(*plane, slice(2 * y, 2 * (y + step)), slice(2 * x, 2 * (x + step)))]
                coarse = halve_by_mode(np.asarray(fine))
                where = slice(y, y + coarse.shape[0]), slice(x, x + coarse.shape[1])
                target[(*plane, *where)] = coarse

    def _axes(self, letters: str) -> Iterator[dict[str, str]]:
        for letter in letters:
            axis = {"name": letter, "type": _KINDS.get(letter, "space")}
            if unit := self._places[letter].unit:
                axis["unit"] = unit
            yield axis

    @property
    def _places(self) -> dict[str, AxisPlace]:
        """Place of the pixels along each axis: that of the image, else what is known of its size.

        Channels have none: those of the small image are others than those of the image.
        """
        size, unit, z_step = self.scale
        known = dict(zip("zyx", (z_step, *(size or (None, None))), strict=True))
        told = {name: AxisPlace(step, unit=unit) for name, step in known.items() if step}
        place = {name: self.place[name] for name in "tzyx" if name in self.place}
        flat = [name for name in "yx" if name in place]
        if size is not None and not all(place[name].unit for name in flat):  # the user told it
            place |= {name: told[name]._replace(origin=place[name].origin) for name in flat}
        return dict.fromkeys("tczyx", AxisPlace(1.0)) | told | place

    def _dataset(self, letters: str, path: str, factor: int) -> dict[str, Any]:
        """Describe an array whose pixels are so many times as large as those of the labels."""
        places = [self._places[letter] for letter in letters]
        steps = [place.step for place in places]
        by = [factor if letter in "yx" else 1 for letter in letters]
        scale = [step * larger for step, larger in zip(steps, by, strict=True)]
        # the middle of the first pixel lies between those of the pixels it is made of
        shift = [
            place.origin + place.step * (larger - 1) / 2
            for place, larger in zip(places, by, strict=True)
        ]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(shift):
            transforms.append({"type": "translation", "translation": shift})
        return {"path": path, "coordinateTransformations": transforms}

    def complete(
        self,
        names: Sequence[str],
        overviews: Iterable[NDArray[Any]],
        record: Mapping[str, Any],
        run: str = "",
    ) -> None:
        """Write what is around the label images: now all of it is an OME-Zarr.

        Parameters
        ----------
        names : sequence of str
            Of the label images.
        overviews : iterable of array, (y, x) or (y, x, c)
            The planes of the image, smaller by `factor`.
        record : mapping
            See `finish`.
        run : str
            Digest of what the labels were made of, by which a run like it is recognised.
        """
        letters, levels = self.axes, range(len(self.shapes))
        for number, plane in enumerate(overviews):
            index = np.unravel_index(number, self.shape[:-2]) if self.shape[:-2] else ()
            at = {letter: int(i) for letter, i in zip(self.axes, index, strict=False)}
            for level in levels:  # as many as the labels have, which the format demands
                pixels = shrink(plane, 2**level)
                pixels = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels
                if not number:
                    letters = self._create_overview(level, pixels)
                self._write_overview(level, letters, at, pixels)
        datasets = [self._dataset(letters, str(level), self.factor * 2**level) for level in levels]
        image = {"name": "overview", "axes": list(self._axes(letters)), "datasets": datasets}
        self._write_group(self.folder / "labels", {"labels": list(names)}, {})
        self._write_group(self.folder, {"multiscales": [image]}, {RECORD: record, RUN: run})

    def _create_overview(self, level: int, plane: NDArray[Any]) -> str:
        """Make an array of the small image, and name its axes; channels come before z."""
        import zarr

        letters, lengths = self.axes, dict(zip(self.axes, self.shape, strict=True))
        if plane.ndim == 3:
            at = min(letters.find(letter) for letter in "zy" if letter in letters)
            letters = f"{letters[:at]}c{letters[at:]}"
        lengths |= {"y": plane.shape[-2], "x": plane.shape[-1], "c": plane.shape[0]}
        is_old = self.version == "0.4"
        zarr.create_array(
            synced(self.folder / str(level)),
            shape=[lengths[letter] for letter in letters],
            chunks=tuple(lengths[letter] if letter in "yx" else 1 for letter in letters),
            dtype=plane.dtype,
            fill_value=0,
            zarr_format=2 if is_old else 3,
            chunk_key_encoding={"name": "v2" if is_old else "default", "separator": "/"},
            dimension_names=None if is_old else list(letters),
            overwrite=True,
        )
        return letters

    def _write_overview(
        self, level: int, letters: str, index: Mapping[str, int], plane: NDArray[Any]
    ) -> None:
        import zarr

        array: Any = zarr.open_array(synced(self.folder / str(level)), mode="r+")
        array[tuple(index.get(letter, slice(None)) for letter in letters)] = plane

    def _write_group(self, folder: Path, ome: dict[str, Any], others: dict[str, Any]) -> None:
        """Write the metadata of a group in the format of the version."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.version == "0.4":
            for image in ome.get("multiscales", ()):
                image["version"] = self.version
            if "image-label" in ome:
                ome["image-label"]["version"] = self.version
            _write(folder / ".zgroup", {"zarr_format": 2})
            _write(folder / ".zattrs", ome | others)
            return
        attributes = ({"ome": {"version": self.version, **ome}} if ome else {}) | others
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        _write(folder / "zarr.json", group)


def replace_record(group: Path, record: Mapping[str, Any]) -> None:
    """Write another record of a result into the attributes of a group; the others stay.

    Parameters
    ----------
    group : Path
        Of a label image, see `LabelZarr.finish`.
    record : mapping

    Raises
    ------
    Malformed
        Where the group is damaged.
    UserError
        Where the disk refuses; the group is as it was.
    """
    old, new = group / ".zattrs", group / "zarr.json"
    try:
        path = new if new.exists() else old
        document = plain_mapping(read_json(path))
    except OSError as error:
        raise read_failure(group, error) from error
    if path == old:
        _write(old, document | {RECORD: record})
        return
    attributes = plain_mapping(document.get("attributes"))
    _write(new, document | {"attributes": attributes | {RECORD: record}})


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON whatever the ending of the file."""
    text = json.dumps(jsonable(document), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def plane_axes(axes: str) -> str:
    """Letters of NGFF for the axes of labels, such as "ZYX"; what it has no letter for is z."""
    letters = axes.lower()
    unknown = [letter for letter in letters if letter not in "tczyx"]
    if len(unknown) == 1 and "z" not in letters:
        letters = letters.replace(unknown[0], "z")
    is_known = all(letter in "tczyx" for letter in letters) and len(set(letters)) == len(letters)
    if not is_known or sorted(letters, key="tczyx".find) != list(letters):
        raise UserError(
            f"Labels of the axes {axes} are not written as an OME-Zarr, which has t, c, z, y and x "
            "in this order. Segment one plane, with --plane and its number, or write TIFFs."
        )
    return letters
