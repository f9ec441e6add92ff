"""Open a network to predict with: in this process, or in the child."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.predict import Network
from napari_unet_cells.engine.engine import shared_engine
from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.models.card import CardNetwork, ModelCard


def open_network(card: ModelCard) -> Network:
    """Open a model here, or in the child where this process has, or may get, a window."""
    if any(name in sys.modules for name in ("napari", "qtpy", "PyQt6", "PySide6", "PyQt5")):
        return shared_engine().open(card)
    return _open_here(card)


#: The network that was opened last in this process, by the sha256 of its file.
_opened_here: dict[str, Network] = {}

#: Set where this process was refused memory on the CPU: see `ChildNetwork`.
_refused = threading.Event()


def _open_here(card: ModelCard) -> Network:
    from napari_unet_cells.models.runtimes.tensorflow import open_network as open_on_device

    if _refused.is_set():
        return shared_engine().open(card, cpu=True)
    network = _opened_here.get(card.sha256)
    if network is None:
        _opened_here.clear()
        network = _opened_here[card.sha256] = _LocalNetwork(card, open_on_device(card))
    return network


@dataclass(frozen=True)
class _LocalNetwork(CardNetwork):
    """A network in this process, until it is refused memory on the CPU; then in the child."""

    _network: Any  # a `models.runtimes.tensorflow.DeviceNetwork`

    @property
    def device(self) -> str:
        return str(self._network.device)

    @property
    def max_tile(self) -> int:
        return int(self._network.max_tile)

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        if _refused.is_set():
            yield from shared_engine().open(self.card, cpu=True).predict(batches)
            return
        try:
            yield from self._network.predict(batches)
        except OutOfMemory:
            if self._network.on_cpu:
                _refused.set()
            raise

    def recover(self, cpu: bool) -> Network:
        if _refused.is_set() and not cpu:
            return shared_engine().open(self.card, cpu=True)
        return _LocalNetwork(self.card, self._network.recover(cpu))
