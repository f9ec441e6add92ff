"""Complete an OME-Zarr all of whose blocks are written: levels, metadata, tables, remarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from napari_unet_cells.core.measure import Table
from napari_unet_cells.files.array_file import write_arrays
from napari_unet_cells.files.results import result_record
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.block_store import CELLS, CLASSES, BlockStore
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.numbering import Numbering
from napari_unet_cells.segmentation.uncertain_places import uncertainty_file
from napari_unet_cells.segmentation.zarr_tracks import track_ids
from napari_unet_cells.untrusted.zarr_plan import ZarrPlan

#: Part of the cells that two blocks may see differently before it is said: rounding does it.
MOST_DISPUTED = 0.001

#: Places of cells that a sentence names.
_MOST_NAMED = 3


def write_metadata(store: BlockStore, details: RunDetails, n_cells: int) -> None:
    """Write coarse levels and metadata.

    Parameters
    ----------
    store : BlockStore
        Whose blocks are all written.
    details : RunDetails
    n_cells : int
        Of all planes.
    """
    result, plan = store.result, store.plan
    roles = [CELLS, CLASSES] if plan.options is not None else [CLASSES]
    for role in roles:
        record = result_record(
            details.provenance(),
            plan.pixel_size,
            plan.unit,
            role=role,
            **({"cells": n_cells} if role == CELLS else {}),
        )
        result.finish(role, record, {} if role == CELLS else _about_classes(details.card))
    if plan.options is not None and (uncertainty := store.uncertainty()) is not None:
        write_arrays(uncertainty_file(result.folder), {"uncertainty": uncertainty})
    record = result_record(details.provenance(), plan.pixel_size, plan.unit, cells=n_cells)
    result.complete(roles, store.overviews(), record, plan.key)


def _about_classes(card: ModelCard) -> dict[str, Any]:
    """Name the classes, as "image-label" does it."""
    named = [
        {"label-value": value, "class": name} for value, name in enumerate(card.classes) if value
    ]
    colors = [
        {"label-value": value, "rgba": [*bytes.fromhex(color[1:7]), 255]}
        for value, color in enumerate(card.colors)
        if value and len(color) >= 7
    ]
    return {"properties": named} | ({"colors": colors} if colors else {})


def tables_of(store: BlockStore, numberings: Sequence[Numbering]) -> Iterator[Table]:
    """Give the tables of all blocks, with the ids of their cells or of the tracks of these.

    Parameters
    ----------
    store : BlockStore
    numberings : sequence of Numbering
        One a plane.
    """
    stack = tuple(store.plan.axes[:-2])
    size, unit = store.plan.pixel_size or (1.0, 1.0), store.plan.unit
    for number in range(len(store)):
        plane, block = store.place(number)
        index, numbering = store.index(number), numberings[plane]
        kept = np.isin(index.owned, numbering.numbered(index))
        columns = {name: column[kept] for name, column in store.table(number).items()}
        ids = int(numbering.offsets[block]) + 1 + np.arange(np.count_nonzero(kept))
        places = zip(stack, store.plane_index(plane), strict=True)
        where = {name: np.full(len(ids), at) for name, at in places}
        columns.pop("label")
        table = {"label": track_ids(store, plane, ids), **where, **columns}
        order = np.argsort(table["label"], kind="stable")  # of tracks they do not rise
        rising = {name: column[order] for name, column in table.items()}
        yield Table(rising, size, unit, stack)


def problems_of(store: BlockStore, numberings: Sequence[Numbering]) -> Iterator[str]:
    """Say which cells may not be right; as `tables_of`."""
    n_cut = sum(len(numbering.cut) for numbering in numberings)
    if n_cut:
        first = next(numbering.cut for numbering in numberings if len(numbering.cut))
        places = ", ".join(_place(store.plan, key) for key in first[:_MOST_NAMED].tolist())
        more = ", ..." if n_cut > _MOST_NAMED else ""
        yield (
            f"{n_cut} cells are so large that no block of the image held all of them ({places}"
            f"{more}). They were put together from what the blocks saw; parts and holes may be "
            "missing, and their measures are those of a part. Does the cell diameter fit the image?"
        )
    n_disputed = sum(numbering.n_disputed for numbering in numberings)
    if n_disputed > MOST_DISPUTED * sum(numbering.n_cells for numbering in numberings):
        yield (
            f"{n_disputed} cells were seen a little differently by two blocks. Each is one cell in "
            "the result, and its outline may be off by a few pixels."
        )


def _place(plan: ZarrPlan, key: int) -> str:
    """Say where a cell begins, in pixels of the image."""
    at = divmod(key, plan.scaled[1])
    y, x = (
        round(i * size / scaled)
        for i, size, scaled in zip(at, plan.shape[-2:], plan.scaled, strict=True)
    )
    return f"y {y} x {x}"
