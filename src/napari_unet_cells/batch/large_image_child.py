"""The process that segments one large image: ``python -m ...batch.large_image_child``.

The first frame on its input says what is asked for, later ones where the user looks. It ends when
its input does; finished blocks are kept, and the next run goes on with them.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from napari_unet_cells.batch.large_image import Asked, Sample
from napari_unet_cells.core.measure import Table
from napari_unet_cells.core.predict import MemoryFull, Network
from napari_unet_cells.engine.followed import serve
from napari_unet_cells.engine.frames import write_frame
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image
from napari_unet_cells.files.tables import write_tables
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.block_order import Looked, nearest_first
from napari_unet_cells.segmentation.block_store import BlockStore
from napari_unet_cells.segmentation.messages import describe_memory
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.to_zarr import (
    Looking,
    Numbered,
    UnitDone,
    Work,
    ZarrDone,
    segment_to_zarr,
)
from napari_unet_cells.segmentation.zarr_output import tidy
from napari_unet_cells.segmentation.zarr_place import place_for, table_of
from napari_unet_cells.segmentation.zarr_request import MOST_HELD, ZarrRequest, open_planes

#: It stands back for the window and for the child that segments what is looked at.
NICENESS = 7

#: Part of the time that the network and the separation take; the rest is writing.
SEGMENTING = 0.9


def asked_of(values: dict[str, Any]) -> Asked:
    """Turn a description of `large_image.described` into what is asked for."""
    request = dict(values["request"])
    channel = request["channel"]
    request["channel"] = tuple(channel) if isinstance(channel, list) else channel
    request["settings"] = Settings(**request["settings"])
    height, width = values["shape"]
    samples = tuple(
        Sample(one["plane"], tuple(one["start"]), _tuples(one["values"]))
        for one in values["samples"]
    )
    return Asked(
        Path(values["image"]),
        Path(values["folder"]),
        values["model"],
        ZarrRequest(**request),
        (height, width),
        samples,
    )


def _tuples(values: Any) -> Any:
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


def events_of(
    asked: Asked, looked: Looked, network: Network | None = None
) -> Iterator[dict[str, Any]]:
    """Segment an image, and say what happens as JSON holds it.

    Parameters
    ----------
    asked : Asked
    looked : callable
        See `nearest_first`.
    network : Network, optional
        Of the model, where it is open already.

    Raises
    ------
    UserError
        Where it cannot begin or go on.
    """
    card = find_model(asked.model)
    _refuse_other_pixels(asked)
    place = place_for(asked.image, asked.folder, card, asked.request)
    if place.is_there:
        tidy(place.output)
        yield {"event": "made", "output": str(place.output), "n_cells": place.n_cells} | _NOTHING
        return
    table = table_of(place.output) if card.makes_cells else None
    steps = segment_to_zarr(
        asked.image,
        place.output,
        card.path,
        asked.request,
        network,
        None if table is None else partial(_write, table),
        nearest_first(looked),
    )
    store: BlockStore | None = None
    for event in steps:
        if isinstance(event, Looking):
            yield {"event": "looking", "fraction": event.fraction}
            continue
        if isinstance(event, Work):
            store = BlockStore.open(event.folder)
        assert store is not None  # Work comes before the others
        yield _described(event, store, place.output, card)


def _write(path: Path, tables: Iterable[Table]) -> None:
    write_tables(path, tables)


#: What is not said of a result that was there before.
_NOTHING: dict[str, Any] = {"seconds": 0.0, "device": "", "problems": []}


def _refuse_other_pixels(asked: Asked) -> None:
    """Refuse a file that does not hold the pixels of the layer."""
    name, request = asked.image.name, asked.request
    found = read_image(asked.image, request.allow_missing_chunks, MOST_HELD)
    if "C" in found.axes and not found.axes.endswith("C") and request.channel is None:
        n = found.data.shape[found.axes.index("C")]
        if n > 1 and request.projection is None:
            raise UserError(
                f"The file {name} holds {n} channels, and it is not known which of them the layer "
                "is. Save the layer as an image of its own (File > Save Selected Layers...), open "
                "that, and segment it."
            )
    _, planes, _ = open_planes(asked.image, request)
    shape = planes.shape[-2:]
    if shape != asked.shape:
        (height, width), (own_height, own_width) = asked.shape, shape
        raise UserError(
            f"The layer has {height:,} x {width:,} pixels, and its file {name} has "
            f"{own_height:,} x {own_width:,}. {_SAVE_IT}"
        )
    for sample in asked.samples:
        if sample.plane >= len(planes) or Sample.of(planes, sample.plane, sample.start) != sample:
            raise UserError(
                f"The layer holds other pixels than its file {name}: it was changed since it was "
                f"opened. {_SAVE_IT}"
            )


_SAVE_IT = "Save what the layer holds as an OME-Zarr or a TIFF, open that, and segment it."


def _described(
    event: Work | UnitDone | Numbered | MemoryFull | ZarrDone,
    store: BlockStore,
    output: Path,
    card: ModelCard,
) -> dict[str, Any]:
    if isinstance(event, Work):
        return {
            "event": "begun",
            "folder": str(store.result.folder),
            "output": str(output),
            "done": event.total - len(event.todo),
            "total": event.total,
            "note": event.note,
            "diameter": float(store.plan.details["diameter"]),
            "fraction": SEGMENTING * (1 - len(event.todo) / max(event.total, 1)),
        }
    if isinstance(event, UnitDone):
        part = event.done / max(event.total, 1)
        is_first = event.stage == "segment"
        fraction = SEGMENTING * part if is_first else SEGMENTING + (1 - SEGMENTING) * part
        core = store.blocks.block(store.place(event.number)[1]).core
        return {
            "event": "block",
            "fraction": fraction,
            "box": [[side.start, side.stop] for side in core],
        }
    if isinstance(event, Numbered):
        return {"event": "cells", "folder": str(store.result.folder)}
    if isinstance(event, MemoryFull):
        return {"event": "memory", "text": describe_memory(event)}
    return {
        "event": "made",
        "output": str(event.path),
        "n_cells": event.n_cells if card.makes_cells else None,
        "seconds": event.seconds,
        "device": event.details.device,
        "problems": list(event.problems),
    }


@dataclass
class _Heard:
    """What the window says: first what it asks for, then where the user looks."""

    asked: queue.SimpleQueue[Asked]
    place: tuple[float, ...] | None = None

    def __call__(self, frame: dict[str, Any]) -> None:
        if "asked" in frame:
            self.asked.put(asked_of(frame["asked"]))
        else:
            self.place = tuple(frame["looked"])


def _work(heard: _Heard, outbox: BinaryIO) -> None:
    for frame in events_of(heard.asked.get(), lambda: heard.place):
        write_frame(outbox, frame)


def main() -> None:
    """Be the process."""
    heard = _Heard(queue.SimpleQueue())
    serve(lambda outbox: _work(heard, outbox), NICENESS, heard)


if __name__ == "__main__":
    main()
