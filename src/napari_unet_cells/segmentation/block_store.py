"""The hidden folder of a run that writes an OME-Zarr, and what its blocks leave there.

::

    .NAME.ome.zarr.part/      beside NAME.ome.zarr, which is not there yet
        plan.json             what all blocks have in common
        blocks/00000007.pixels.npz   pixels and table of a block
               00000007.index.npz    its keys, written last: the block is finished
        devices/              what computed blocks
        numbers-0.npz         ids of the cells of a plane
        tracks-0.npz          ids of the tracks of its cells, of a movie that is tracked
        tracks.npz            its tracks, written last
        written/00000007        its pixels are in the result
        growing               it is looked at meanwhile: finished blocks have shown their classes
        result.zarr           gets its name once it is whole

Each file appears whole or not at all, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.plane_blocks import UNIT, PlaneBlocks
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.files.array_file import load_arrays, write_arrays
from napari_unet_cells.files.atomic import atomic_write
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.zarr_metadata import AxisPlace
from napari_unet_cells.segmentation.blocks import SIDES, BlockCells
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.numbering import BlockIndex, Numbering
from napari_unet_cells.segmentation.zarr_output import PLAN, RESULT
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.zarr_plan import ZarrPlan, parse_plan

#: Names of the label images.
CELLS, CLASSES = "cells", "classes"

#: Indices of blocks that are remembered: some rows of blocks of the largest planes.
_REMEMBERED = 512


@dataclass(frozen=True)
class BlockStore:
    """Files of a run.

    Attributes
    ----------
    folder : Path
    plan : ZarrPlan
    """

    folder: Path
    plan: ZarrPlan

    @classmethod
    def create(cls, folder: Path, plan: ZarrPlan) -> BlockStore:
        """Begin a run, in place of an older one in the folder."""
        if folder.exists():
            shutil.rmtree(folder)
        (folder / "blocks").mkdir(parents=True)
        (folder / "written").mkdir()
        (folder / "devices").mkdir()
        write_json(folder / PLAN, asdict(plan))
        return cls(folder, plan)

    @classmethod
    def open(cls, folder: Path) -> BlockStore:
        """Open the folder of a run.

        Raises
        ------
        UserError
            Where it is missing or damaged.
        """
        try:
            return cls(folder, parse_plan(read_json(folder / PLAN)))
        except (OSError, Malformed) as error:
            raise UserError(
                f"The folder {folder} of a run cannot be read ({error}). Start the run again."
            ) from error

    def with_overwrite(self, overwrite: bool) -> BlockStore:
        """Give the run with another answer to whether an older output may be replaced."""
        if self.plan.overwrite == overwrite:
            return self
        plan = replace(self.plan, overwrite=overwrite)
        write_json(self.folder / PLAN, asdict(plan), overwrite=True)
        return BlockStore(self.folder, plan)

    @property
    def blocks(self) -> PlaneBlocks:
        """Blocks of each plane."""
        plan = self.plan
        height, width = plan.shape[-2:]
        return PlaneBlocks((height, width), plan.scaled, plan.side, plan.margin, plan.stride)

    @property
    def planes(self) -> tuple[int, ...]:
        """Lengths of the axes before (y, x)."""
        return self.plan.shape[:-2]

    def __len__(self) -> int:
        """Count the blocks of all planes."""
        return prod(self.planes) * len(self.blocks)

    def place(self, number: int) -> tuple[int, int]:
        """Give the plane of a block, counted through all of them, and its number there."""
        plane, block = divmod(number, len(self.blocks))
        return plane, block

    def plane_index(self, plane: int) -> tuple[int, ...]:
        """Index of a plane along the axes before (y, x)."""
        return tuple(int(i) for i in np.unravel_index(plane, self.planes)) if self.planes else ()

    @property
    def result(self) -> LabelZarr:
        """Label images that the blocks are written into."""
        plan = self.plan
        scale = Scale(plan.pixel_size, plan.unit, plan.z_step)
        place = {name: AxisPlace(*known) for name, known in (plan.place or {}).items()}
        folder = self.folder / RESULT
        return LabelZarr(folder, plan.shape, plan.axes, plan.side, scale, plan.version, place)

    # --- blocks ---------------------------------------------------------------------------

    def _block(self, number: int, ending: str) -> Path:
        return self.folder / "blocks" / f"{number:08}{ending}"

    def is_done(self, number: int) -> bool:
        """Whether a block is finished."""
        return self._block(number, ".index.npz").exists()

    def save(self, number: int, cells: BlockCells) -> None:
        """Keep the cells of a block."""
        (self.folder / "blocks").mkdir(exist_ok=True)
        table = {f"table_{name}": column for name, column in cells.table.items()}
        write_arrays(
            self._block(number, ".pixels.npz"),
            {
                "labels": cells.labels,
                "classes": cells.classes,
                "overview": cells.overview,
                "uncertainty": cells.uncertainty,
                **table,
            },
        )
        index = BlockIndex.of(cells)
        lines = {
            f"{kind}_{side}": lines[side]
            for kind, lines in (("beyond", index.beyond), ("rims", index.rims))
            for side in SIDES
        }
        n_owned = np.array(index.n_owned)
        write_arrays(
            self._block(number, ".index.npz"),
            {
                "keys": index.keys,
                "n_owned": n_owned,
                "is_cut": index.is_cut,
                "is_written": index.is_written,
                **lines,
            },
        )

    def pixels(self, number: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give the labels and the classes of a block, by its own numbers."""
        arrays = load_arrays(self._block(number, ".pixels.npz"), self.folder)
        return arrays["labels"], arrays["classes"]

    def table(self, number: int) -> dict[str, NDArray[Any]]:
        """Give the columns of the table of the cells that a block owns."""
        arrays = load_arrays(self._block(number, ".pixels.npz"), self.folder)
        return {
            name.removeprefix("table_"): column
            for name, column in arrays.items()
            if name.startswith("table_")
        }

    def overviews(self) -> Iterator[NDArray[Any]]:
        """Give the planes of the image, (y, x) or (y, x, c), at the size of the coarsest labels."""
        factor = self.result.factor
        size = [-(-length // factor) for length in self.plan.shape[-2:]]
        for plane in range(prod(self.planes)):
            whole: NDArray[Any] | None = None
            for block in range(len(self.blocks)):
                path = self._block(plane * len(self.blocks) + block, ".pixels.npz")
                part = load_arrays(path, self.folder)["overview"]
                if whole is None:
                    whole = np.zeros((*size, *part.shape[2:]), part.dtype)
                y, x = (one.start // factor for one in self.blocks.block(block).core)
                whole[y : y + part.shape[0], x : x + part.shape[1]] = part
            assert whole is not None  # a plane has a block
            yield whole

    def uncertainty(self) -> NDArray[np.uint8] | None:
        """Give the mean uncertainty of each square of `plane_blocks.UNIT` pixels.

        Returns
        -------
        uint8 array, (..., rows, columns), or None
            None where a block was made before it was kept.
        """
        n_rows, n_columns = (-(-length // UNIT) for length in self.plan.shape[-2:])
        whole = np.zeros((prod(self.planes), n_rows, n_columns), np.uint8)
        for number in range(len(self)):
            plane, block = self.place(number)
            arrays = load_arrays(self._block(number, ".pixels.npz"), self.folder)
            if "uncertainty" not in arrays:
                return None
            part = arrays["uncertainty"]
            y, x = (one.start // UNIT for one in self.blocks.block(block).core)
            whole[plane, y : y + part.shape[0], x : x + part.shape[1]] = part
        return whole.reshape(*self.planes, n_rows, n_columns)

    def index(self, number: int) -> BlockIndex:
        """Give the index of a block."""
        arrays = load_arrays(self._block(number, ".index.npz"), self.folder)
        beyond, rims = (
            {side: arrays[f"{kind}_{side}"] for side in SIDES} for kind in ("beyond", "rims")
        )
        return BlockIndex(
            arrays["keys"],
            int(arrays["n_owned"]),
            arrays["is_cut"],
            arrays["is_written"],
            beyond,
            rims,
        )

    # --- while somebody looks on ------------------------------------------------------------

    @property
    def grows(self) -> bool:
        """Whether blocks write their classes into the result as soon as they are finished."""
        return self._growing.exists()

    @property
    def _growing(self) -> Path:
        return self.folder / "growing"

    def grow(self) -> Iterator[int]:
        """Begin to show blocks in the result while the run goes on: first those that are done.

        Yields
        ------
        int
            How many were shown.
        """
        if self.grows:
            return
        if not self.result.is_there(CLASSES):  # blocks may be in it that are not written again
            self.result.create(CLASSES, np.uint8)
        for number in filter(self.is_done, range(len(self))):
            self.show_classes(number, self.pixels(number)[1])
            yield number
        self._growing.touch()

    def show_classes(self, number: int, classes: NDArray[Any]) -> None:
        """Write the classes of a block at all sizes; only one process does at a time."""
        plane, block = self.place(number)
        part = self.blocks.block(block).core
        self.result.write(CLASSES, self.plane_index(plane), part, classes, all_levels=True)

    # --- ids ------------------------------------------------------------------------------

    def _numbers(self, plane: int) -> Path:
        return self.folder / f"numbers-{plane}.npz"

    def is_numbered(self) -> bool:
        """Whether the cells of all planes have ids."""
        return self._numbers(max(0, prod(self.planes) - 1)).exists()

    def save_numbering(self, plane: int, numbering: Numbering) -> None:
        """Keep the ids of a plane."""
        arrays = {one.name: np.asarray(getattr(numbering, one.name)) for one in fields(Numbering)}
        write_arrays(self._numbers(plane), arrays)

    def numbering(self, plane: int) -> Numbering:
        """Give the ids of a plane."""
        arrays = load_arrays(self._numbers(plane), self.folder)
        n_disputed = int(arrays.pop("n_disputed"))
        return Numbering(**arrays, n_disputed=n_disputed)

    @property
    def tracks_file(self) -> Path:
        """Tracks of the cells of a movie, see `zarr_tracks`."""
        return self.folder / "tracks.npz"

    def track_names(self, frame: int) -> Path:
        """Ids of the tracks of the cells of a frame, by their ids there."""
        return self.folder / f"tracks-{frame}.npz"

    def _mark(self, number: int) -> Path:
        return self.folder / "written" / f"{number:08}"

    def is_written(self, number: int) -> bool:
        """Whether the pixels of a block are in the result."""
        return self._mark(number).exists()

    def is_whole(self) -> bool:
        """Whether all arrays of the result are there."""
        result, plan = self.result, self.plan
        names = [CLASSES, *([CELLS] * (plan.options is not None))]
        return all(result.is_there(name) for name in names)

    def mark_written(self, number: int) -> None:
        """Note that they are."""
        self._mark(number).touch()

    # --- for the record -------------------------------------------------------------------

    def note_device(self, device: str) -> None:
        """Note on what a block was computed."""
        name = hashlib.sha256(device.encode(errors="replace")).hexdigest()[:16]
        with atomic_write(self.folder / "devices" / name, overwrite=True) as temporary:
            temporary.write_text(device, encoding="utf-8", errors="replace")

    def ended(self, details: RunDetails) -> RunDetails:
        """Add what is known at the end: all devices, and the time since the run was begun."""
        files = sorted((self.folder / "devices").glob("[0-9a-f]*"))
        devices = [path.read_text(encoding="utf-8") for path in files]
        begun = (self.folder / PLAN).stat().st_mtime
        return details.ended("; ".join(devices), max(0.0, time.time() - begun))

    def remembering(self) -> Remembered:
        """Give indices that are not read again each time."""
        return Remembered(self)


class Remembered:
    """Indices of blocks, of which the last ones are kept in memory.

    Parameters
    ----------
    store : BlockStore
    """

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._index = lru_cache(_REMEMBERED)(store.index)

    def of_plane(self, plane: int, block: int) -> BlockIndex:
        """Give the index of a block by its number in a plane."""
        return self._index(plane * len(self._store.blocks) + block)
