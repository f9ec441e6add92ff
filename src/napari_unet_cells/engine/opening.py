"""Open a network to predict with: in this process, or in the child."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.predict import Network
from napari_unet_cells.engine.engine import shared_engine
from napari_unet_cells.errors import LostDevice, OutOfMemory
from napari_unet_cells.models.card import CardNetwork, ModelCard
from napari_unet_cells.models.runtimes import table
from napari_unet_cells.models.runtimes.library import SecondLibrary, refuse_inherited
from napari_unet_cells.models.runtimes.network import RuntimeNetwork
from napari_unet_cells.models.runtimes.table import chosen_runtime


def open_network(card: ModelCard, runtime: str = "") -> Network:
    """Open a model here, or in the child where this process cannot hold it.

    It cannot where it has, or may get, a window, where the runtime needs one of TensorFlow and
    PyTorch and the other one is here, or where it was forked from a process that had computed.

    Parameters
    ----------
    card : ModelCard
    runtime : str
        See `models.runtimes.table.open_network`.

    Raises
    ------
    UserError
    """
    if any(name in sys.modules for name in ("napari", "qtpy", "PyQt6", "PySide6", "PyQt5")):
        return shared_engine().open(card, runtime=runtime)
    try:
        return _open_here(card, runtime)
    except SecondLibrary:
        return shared_engine().open(card, runtime=runtime)


#: The network that was opened last in this process, with its card and runtime: two cards may
#: describe one file differently.
_opened_here: list[tuple[ModelCard, str, Network]] = []

#: Set where this process was refused memory on the CPU, or its GPU failed: see `ChildNetwork`.
_refused = threading.Event()


def _leave_to_parent() -> None:
    """Keep what a forked process cannot take down: its end would wait for threads it has not."""
    for _, _, network in _opened_here:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(network))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _open_here(card: ModelCard, runtime: str = "") -> Network:
    refuse_inherited()
    if _refused.is_set():
        return shared_engine().open(card, cpu=True, runtime=runtime)
    chosen = chosen_runtime(runtime)
    for known, by, network in _opened_here:
        if (known, by) == (card, chosen):
            return network
    _opened_here.clear()
    opened = _LocalNetwork(card, table.open_network(card, chosen), chosen)
    _opened_here.append((card, chosen, opened))
    return opened


@dataclass(frozen=True)
class _LocalNetwork(CardNetwork):
    """A network in this process, until it is refused memory on the CPU; then in the child."""

    _network: RuntimeNetwork
    _runtime: str = ""
    _process: int = field(default_factory=os.getpid)

    @property
    def device(self) -> str:
        return self._network.device

    @property
    def max_tile(self) -> int:
        return self._network.max_tile

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        if os.getpid() != self._process:
            yield from shared_engine().open(self.card, runtime=self._runtime).predict(batches)
            return
        if _refused.is_set():
            yield from self._in_the_child().predict(batches)
            return
        try:
            yield from self._network.predict(batches)
        except OutOfMemory as error:
            if self._network.on_cpu or isinstance(error, LostDevice):
                _refused.set()
            raise

    def recover(self, cpu: bool) -> Network:
        if _refused.is_set() and not cpu:
            return self._in_the_child()
        if cpu and not self._network.on_cpu:  # as the child does: perhaps by another runtime
            try:
                opened = table.open_network(self.card, self._runtime, cpu=True)
            except SecondLibrary:
                return self._in_the_child()
            return _LocalNetwork(self.card, opened, self._runtime)
        return _LocalNetwork(self.card, self._network.recover(cpu), self._runtime)

    def _in_the_child(self) -> Network:
        return shared_engine().open(self.card, cpu=True, runtime=self._runtime)
