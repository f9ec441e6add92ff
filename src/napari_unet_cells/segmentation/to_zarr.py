"""Segment an image of any size block by block, into an OME-Zarr.

::

    prepare          scale, limits and blocks: plan.json
    segment_unit     a block: network, cells, table          in any order, in any process
    number_units     ids 1 to n, from the blocks' counts; of a movie those of tracks
    write_unit       a block: pixels into the result         in any order, in any process
    finish           coarse levels, metadata, the name

`segment_to_zarr` does all of it in this process, and goes on where an earlier run stopped. The
memory in use does not grow with the image.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np

from napari_unet_cells.core.generators import result_of, translated
from napari_unet_cells.core.instances import MAX_UINT16
from napari_unet_cells.core.measure import Table
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.predict import MemoryFull, Network
from napari_unet_cells.core.tracks import Tracks
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import write_failure
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.block_store import CELLS as CELLS
from napari_unet_cells.segmentation.block_store import CLASSES as CLASSES
from napari_unet_cells.segmentation.block_store import BlockStore
from napari_unet_cells.segmentation.blocks import (
    BlockCells,
    BlockWork,
    Predicted,
    cells_of_block,
    predict_block,
)
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.numbering import number_cells
from napari_unet_cells.segmentation.tta import AugmentedNetwork
from napari_unet_cells.segmentation.zarr_completion import problems_of, tables_of, write_metadata
from napari_unet_cells.segmentation.zarr_output import (
    give_name,
    hidden_folder,
    hold,
    release,
    remove,
    said_of,
    settle,
)
from napari_unet_cells.segmentation.zarr_request import ZarrRequest as ZarrRequest
from napari_unet_cells.segmentation.zarr_request import (
    details_of,
    planes_of_plan,
    planning,
    refuse_changed,
    refuse_places,
    run_key,
)
from napari_unet_cells.segmentation.zarr_tracks import (
    refuse_crowds,
    track_blocks,
    track_ids,
    tracks_of,
)

Tables = Callable[[Iterator[Table]], None]

#: Gives what is entered before the result gets its name, and left after; it may refuse.
Appearing = Callable[[], AbstractContextManager[None]]

#: Ids that the labels can hold, for each cell that was found.
ROOM = 2


@dataclass(frozen=True)
class Work:
    """Blocks of a run that are still to be segmented.

    Attributes
    ----------
    folder : Path
        Hidden, beside the output; the other functions take it.
    total : int
        Blocks.
    todo : tuple of int
        Numbers of the blocks that are not segmented yet.
    note : str
        Where a run goes on, or begins anew; empty for a first one.
    """

    folder: Path
    total: int
    todo: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class UnitDone:
    """A block was segmented, or written.

    Attributes
    ----------
    number : int
    done, total : int
        Blocks.
    stage : str
        "segment" or "write".
    n_cells : int
        Cells that the block owns.
    """

    number: int
    done: int
    total: int
    stage: str
    n_cells: int


@dataclass(frozen=True)
class ZarrDone:
    """The OME-Zarr is there.

    Attributes
    ----------
    path : Path
    n_cells : int
        Of all planes; of a movie that was tracked the number of tracks.
    details : RunDetails
    problems : tuple of str
        Sentences on cells that may not be right; the result is whole all the same.
    seconds : float
        Since the run was begun or taken up again.
    n_blocks : int
    tracks : Tracks or None
        Of a movie that was tracked.
    """

    path: Path
    n_cells: int
    details: RunDetails
    problems: tuple[str, ...]
    seconds: float
    n_blocks: int
    tracks: Tracks | None = None


@dataclass(frozen=True)
class Looking:
    """A huge image is being looked at as a whole; `fraction` of it was, 0 to 1."""

    fraction: float


@dataclass(frozen=True)
class Numbered:
    """All blocks are segmented, and their cells are being written."""

    folder: Path


ZarrEvent = Looking | Work | UnitDone | Numbered | MemoryFull | ZarrDone

#: Puts numbers of blocks in the order in which they are done; see `block_order`.
Order = Callable[[BlockStore, Iterable[int]], Iterator[int]]


def segment_to_zarr(
    image: Path,
    output: Path,
    model: str | Path,
    request: ZarrRequest | None = None,
    network: Network | None = None,
    tables: Tables | None = None,
    watched: Order | None = None,
    appearing: Appearing = nullcontext,
    tracks: Callable[[Table], None] | None = None,
) -> Iterator[ZarrEvent]:
    """Segment an image into an OME-Zarr with the label images cells and classes.

    Parameters
    ----------
    image : Path
        What `files.read_image` reads.
    output : Path
        A folder that ends in ``.zarr``; it appears when all is done.
    model : str or Path
    request : ZarrRequest, optional
    network : Network, optional
        Of the model, where it is open already.
    tables : callable (iterator of Table), optional
        Called before the output gets its name, with one table a block; the ids rise, of a movie
        that is tracked within a block.
    watched : callable (BlockStore, numbers), optional
        Somebody looks on: blocks come in this order, and are to be seen in the result as soon as
        they are done, first their classes, later their cells.
    appearing : callable, optional
        Gives what is entered before the output gets its name, and left after; it may refuse.
    tracks : callable (Table), optional
        Called after `tables`, of a movie that is tracked: one row a track, see `Tracks.table`.

    Yields
    ------
    Looking
        Before all else, where the image is so large that planning takes a while.
    Work
        First.
    UnitDone
        For each block, twice.
    Numbered
        Between them.
    MemoryFull
        Where the run goes on with smaller tiles, or on the CPU.
    ZarrDone
        Last.

    Raises
    ------
    UserError
        Where the image, the model or the output cannot be used. What is done is kept, and the
        next run goes on with it.
    """
    started = time.perf_counter()
    opened = [network] if network is not None else []
    work = yield from _preparing(image, output, model, request, network)
    order = watched or _as_they_come
    try:
        store = BlockStore.open(work.folder)
        if watched is not None:
            with said_of(work.folder):
                deque(store.grow(), maxlen=0)
        yield work
        if work.todo:
            done_before = work.total - len(work.todo)
            run = _Opened.of(store, opened)
            with closing(_segment_all(run, order(store, work.todo), done_before)) as steps:
                for event in steps:
                    yield event
                    if isinstance(event, UnitDone):
                        refuse_crowds(store, [store.place(event.number)[0]])
        number_units(work.folder)
        yield Numbered(work.folder)
        for n_written, number in enumerate(order(store, range(work.total)), 1):
            yield replace(write_unit(work.folder, number), done=n_written)
        done = finish(work.folder, tables, appearing, tracks)
    finally:
        release(work.folder)
    yield replace(done, seconds=time.perf_counter() - started)


def prepare(
    image: Path,
    output: Path,
    model: str | Path,
    request: ZarrRequest | None = None,
    network: Network | None = None,
) -> Work:
    """Plan a run, or find the one that was begun with the same image, model and settings.

    Parameters
    ----------
    image, output, model, request, network
        See `segment_to_zarr`; the network is opened where the size of the cells is estimated.
    """
    return result_of(_preparing(image, output, model, request, network))


def _preparing(
    image: Path,
    output: Path,
    model: str | Path,
    request: ZarrRequest | None,
    network: Network | None,
) -> Generator[Looking, None, Work]:
    """Do as `prepare` does, and say how far it is."""
    request = request or ZarrRequest()
    card = find_model(model)
    refuse_places(image, output, overwrite=True)
    folder = hold(output)
    try:
        settle(output)
        refuse_places(image, output, request.overwrite)
        return (yield from _prepared(image, output, card, request, network))
    except BaseException:
        release(folder)
        raise


def _prepared(
    image: Path, output: Path, card: ModelCard, request: ZarrRequest, network: Network | None
) -> Generator[Looking, None, Work]:
    """Find the run that was begun, or begin one."""
    folder, note = hidden_folder(output), ""
    key = run_key(image, card, request)
    if folder.exists():
        store = _begun(folder, key)
        if store is not None:
            refuse_crowds(store)
            store = store.with_overwrite(request.overwrite)
            todo = tuple(number for number in range(len(store)) if not store.is_done(number))
            done = len(store) - len(todo)
            return Work(folder, len(store), todo, f"goes on after {done} of {len(store)} blocks")
        note = "image, model, settings or version changed since the last run: begun anew"
    plan = yield from translated(planning(image, card, request, key, network), Looking)
    try:
        store = BlockStore.create(folder, plan)
    except OSError as error:
        raise write_failure(output, error) from error
    return Work(folder, len(store), tuple(range(len(store))), note)


def _as_they_come(store: BlockStore, numbers: Iterable[int]) -> Iterator[int]:
    yield from numbers


def _begun(folder: Path, key: str) -> BlockStore | None:
    """Give the run that was begun in a folder, unless it is another one."""
    try:
        store = BlockStore.open(folder)
    except UserError:  # it was killed before it had a plan
        return None
    return store if store.plan.key == key else None


def segment_unit(folder: Path, number: int) -> UnitDone:
    """Segment one block; nothing is done where it is finished already.

    The image, and the network once a process, are opened as the plan says.

    Parameters
    ----------
    folder : Path
        Of `Work`.
    number : int
        Below `Work.total`.
    """
    store = BlockStore.open(folder)
    if not store.is_done(number):
        for _ in _segment_all(_opened(store), iter((number,)), 0):
            pass
        refuse_crowds(store, [store.place(number)[0]])
    return UnitDone(number, 1, len(store), "segment", store.index(number).n_owned)


@dataclass
class _Opened:
    """A run whose image and network are open in this process."""

    store: BlockStore
    planes: Planes
    channel_names: tuple[str, ...]
    card: ModelCard
    network: Network
    grows: bool
    max_tile: int | None = None
    device: str = ""

    @classmethod
    def of(cls, store: BlockStore, networks: list[Network] | None = None) -> _Opened:
        plan = store.plan
        card = find_model(Path(plan.model))
        planes, names = planes_of_plan(plan)
        network = networks[0] if networks else open_network(card, plan.runtime)
        if plan.test_time_augmentation:
            network = AugmentedNetwork(network, card.columns)
        return cls(store, planes, names, card, network, store.grows)

    def spare_memory(self, event: MemoryFull) -> MemoryFull:
        """Go on with what fits into the memory; the event is given back."""
        self.network, self.max_tile = event.network, event.tile
        return event

    def note_device(self) -> None:
        """Note for the record what the network computes on, where that is new."""
        if self.device != self.network.device:
            self.device = self.network.device
            self.store.note_device(self.device)

    def work(self, plane: int) -> BlockWork:
        """Give what all blocks of a plane have in common."""
        plan = self.store.plan
        limits = plan.limits[plane]
        return BlockWork(
            self.planes.plane(self.store.plane_index(plane)),
            self.store.blocks,
            None if limits is None else Limits(*limits),
            plan.options,
            self.card.probabilities,
            plan.pixel_size or (1.0, 1.0),
            plan.unit,
            self.channel_names,
            self.store.result.factor,
        )


#: The run whose block was segmented last by `segment_unit`: its image and network stay open.
_last: list[_Opened] = []


def _opened(store: BlockStore) -> _Opened:
    if not _last or _last[0].store != store:
        _last[:] = [_Opened.of(store)]
    return _last[0]


def _segment_all(
    run: _Opened, todo: Iterator[int], done: int
) -> Generator[UnitDone | MemoryFull, None, None]:
    """Segment blocks; while the network computes one, a thread separates the cells of another."""
    total = len(run.store)
    pending: tuple[int, Future[BlockCells | None]] | None = None
    with ThreadPoolExecutor(1, "unet-cells-block") as pool:
        for number in chain(todo, [None]):
            predicted = None if number is None else (yield from _predicted(run, number))
            if pending is not None:
                before, future = pending
                cells = future.result()
                if cells is None:
                    cells = _cells(run, before, (yield from _predicted(run, before, wide=True)))
                    assert cells is not None  # there is no wider window
                done += 1
                yield UnitDone(before, done, total, "segment", cells.n_owned)
            if number is not None and predicted is not None:
                pending = number, pool.submit(_cells, run, number, predicted)


def _predicted(
    run: _Opened, number: int, wide: bool = False
) -> Generator[MemoryFull, None, Predicted]:
    """Show the network a block, and remember how it goes on where memory was short."""
    plane, block = run.store.place(number)
    steps = predict_block(run.work(plane), block, run.network, wide, run.max_tile)
    predicted = yield from translated(steps, run.spare_memory)
    run.note_device()
    return predicted


def _cells(run: _Opened, number: int, predicted: Predicted) -> BlockCells | None:
    """Separate the cells of a block, and keep them; None where a wider window is needed."""
    plane, _ = run.store.place(number)
    cells = cells_of_block(run.work(plane), predicted)
    if cells is not None:
        if run.grows:
            with said_of(run.store.folder):
                run.store.show_classes(number, cells.classes)
        run.store.save(number, cells)
    return cells


def number_units(folder: Path) -> None:
    """Give ids to the cells of all blocks, and make the arrays that they are written to.

    The cells of a movie that is to be tracked are, so that only ids of tracks are ever written.

    Parameters
    ----------
    folder : Path
        Of `Work`, all of whose blocks are segmented.
    """
    store = BlockStore.open(folder)
    if not store.is_numbered():
        _number(store)
    with said_of(folder):
        track_blocks(store)


def _number(store: BlockStore) -> None:
    missing = sum(not store.is_done(number) for number in range(len(store)))
    if missing:
        raise UserError(f"{missing} of {len(store)} blocks are not segmented yet. Start again.")
    n_cells = 0
    for plane in range(prod(store.planes)):
        numbering = number_cells(store.blocks, partial(store.remembering().of_plane, plane))
        n_cells += numbering.n_cells
        if plane + 1 < prod(store.planes):
            store.save_numbering(plane, numbering)
    # a person draws more of them, and these are numbered after those of all planes
    dtype = np.min_scalar_type(max(ROOM * n_cells, MAX_UINT16))
    with said_of(store.folder):
        if store.plan.options is not None:
            store.result.create(CELLS, dtype)
        if not store.grows:
            store.result.create(CLASSES, np.uint8)
    store.save_numbering(plane, numbering)  # the last one says that all of this is done


def write_unit(folder: Path, number: int) -> UnitDone:
    """Write the pixels of one block into the result; nothing is done where they are there already.

    Parameters
    ----------
    folder : Path
        Of `Work`, whose blocks are numbered.
    number : int
    """
    store = BlockStore.open(folder)
    if not store.is_written(number):
        with said_of(folder):
            _write(store, number)
    return UnitDone(number, number + 1, len(store), "write", store.index(number).n_owned)


def _write(store: BlockStore, number: int) -> None:
    plane, block = store.place(number)
    labels, classes = store.pixels(number)
    index, part = store.plane_index(plane), store.blocks.block(block).core
    if store.plan.options is not None:
        indices = partial(store.remembering().of_plane, plane)
        lut = store.numbering(plane).lut(block, store.blocks, indices)
        lut = track_ids(store, plane, lut)
        dtype = np.min_scalar_type(max(int(lut.max()), 1))
        store.result.write(CELLS, index, part, lut.astype(dtype)[labels], store.grows)
    if not store.grows:  # they are there
        store.result.write(CLASSES, index, part, classes)
    store.mark_written(number)


def finish(
    folder: Path,
    tables: Tables | None = None,
    appearing: Appearing = nullcontext,
    tracks: Callable[[Table], None] | None = None,
) -> ZarrDone:
    """Complete the result, and give it its name.

    Parameters
    ----------
    folder : Path
        Of `Work`, whose blocks are all written.
    tables, appearing, tracks : callable, optional
        See `segment_to_zarr`.

    Raises
    ------
    FileExists
        Where another program made the output meanwhile, and it may not be replaced.
    """
    store = BlockStore.open(folder)
    missing = sum(not store.is_written(number) for number in range(len(store)))
    if missing:
        raise UserError(f"{missing} of {len(store)} blocks are not written yet. Start again.")
    if not store.is_whole():
        raise UserError(f"Parts of the result are missing in {folder}. Remove it and start again.")
    refuse_changed(store.plan)
    details = store.ended(details_of(store.plan, find_model(Path(store.plan.model))))
    numberings = [store.numbering(plane) for plane in range(prod(store.planes))]
    n_cells = sum(numbering.n_cells for numbering in numberings)
    if (found := tracks_of(store)) is not None:
        n_cells = len(found)
        details = replace(details, link=0, parents=found.parents)
    problems, n_blocks = tuple(problems_of(store, numberings)), len(store)
    with said_of(folder) as output:
        write_metadata(store, details, n_cells)
        if tables is not None and store.plan.options is not None:
            tables(tables_of(store, numberings))
        if tracks is not None and found is not None:
            tracks(found.table(store.plan.pixel_size or (1.0, 1.0), store.plan.unit))
        with appearing():
            give_name(store.result.folder, output, store.plan.overwrite)
        remove(folder)
    seconds = details.seconds or 0.0
    return ZarrDone(output, n_cells, details, problems, seconds, n_blocks, found)
