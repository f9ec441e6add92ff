"""A network in the child process, as a `predict.Network`."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.engine.process import Child, Inbox
from napari_unet_cells.errors import LostDevice, OutOfMemory
from napari_unet_cells.models.card import CardNetwork

if TYPE_CHECKING:
    from napari_unet_cells.engine.engine import Engine

#: Tiles sent ahead, so that the child never waits for the next one.
IN_FLIGHT = 2


@dataclass(frozen=True)
class ChildNetwork(CardNetwork):
    """A network in the child; see `predict.Network`.

    A child that was refused memory on the CPU is discarded: oneDNN goes on with the scratch
    memory that it did not get, so that the next large tile is a segmentation fault, or might be
    wrong. TensorFlow's allocator for GPUs is sound. A child whose GPU failed is discarded, too.

    Attributes
    ----------
    card : ModelCard
    device : str
        For the user, such as "CPU, 2 threads".
    max_tile : int
    on_cpu : bool
        Whether it computes on the CPU.
    """

    device: str
    max_tile: int
    on_cpu: bool
    _asked: dict[str, Any]
    _child: Child
    _engine: Engine
    _stop: threading.Event
    _closings: int

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Predict batches in order, `IN_FLIGHT` of them ahead.

        Raises
        ------
        Cancelled
            Where the stop event of `Engine.open` was set, or the engine was closed.
        OutOfMemory
            Where the device has no memory for a batch, or the child died as one does that
            has none: go on with `recover`.
        UserError
            Where the child failed or died in another way.
        """
        if not self._child.alive:  # lost by an image before, of those that this network is for
            fresh = self._engine.reopen(self.card, self._asked, self._stop, self._closings)
            yield from fresh.predict(batches)
            return
        job = self._engine.next_job()
        pending = 0
        with self._child.inbox(job) as inbox:
            try:
                for batch in batches:
                    batch = np.ascontiguousarray(batch, np.float32)
                    request = {"request": "predict", "job": job, "shape": batch.shape}
                    self._child.send(request | self._asked, batch)
                    pending += 1
                    if pending == IN_FLIGHT:
                        yield self._output(inbox)
                        pending -= 1
                while pending:
                    yield self._output(inbox)
                    pending -= 1
            finally:
                if pending:
                    self._child.forget(job)

    def recover(self, cpu: bool) -> ChildNetwork:
        """Give the network ready to go on after `OutOfMemory`, in a fresh child if it is gone.

        Parameters
        ----------
        cpu : bool
            Compute on the CPU from now on.

        Raises
        ------
        OutOfMemory
            Where it computes on the CPU already.
        Cancelled
            As for `predict`.
        UserError
            Where the model cannot be opened again.
        """
        # Asked for counts too, so that nobody who halves and recovers does so for ever.
        if cpu and (self.on_cpu or self._asked["device"] == "cpu"):
            raise OutOfMemory
        asked = self._asked | {"device": "cpu"} if cpu else self._asked
        return self._engine.reopen(self.card, asked, self._stop, self._closings)

    def _output(self, inbox: Inbox) -> NDArray[np.uint8]:
        try:
            reply = self._child.receive(inbox, self._stop)
        except OutOfMemory as error:
            if self.on_cpu or isinstance(error, LostDevice):
                self._child.discard()
            raise
        assert reply.pixels is not None
        return reply.pixels
