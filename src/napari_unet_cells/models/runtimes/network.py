"""Protocol of the networks that runtimes open, and what they have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.predict import Network
from napari_unet_cells.errors import LostDevice, OutOfMemory
from napari_unet_cells.models.architectures import ARCHITECTURES
from napari_unet_cells.models.card import CardNetwork, ModelCard
from napari_unet_cells.models.runtimes.full_memory import is_out_of_memory

#: Beyond this a tile takes so long that Cancel and progress become sluggish.
LONGEST_TILE = 2048


#: Why the CPU computes after it, for the device line.
GPU_FULL = "the GPU failed, or its memory was full"


class RuntimeNetwork(Network, Protocol):
    """A network that a runtime opened; see `core.predict.Network`.

    `device` names the processor, the runtime and its precision: "CPU, OpenVINO int8, 2 threads".
    """

    @property
    def card(self) -> ModelCard:
        """Of the model."""

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU."""

    @property
    def why(self) -> str:
        """Reason why it is the second choice, which `device` names; empty for the first."""

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Predict one batch; see `core.predict.Network.predict`."""

    def recover(self, cpu: bool) -> RuntimeNetwork:
        """Give the network ready to go on after `OutOfMemory`: this one, or one on the CPU.

        Raises
        ------
        OutOfMemory
            Where it computes on the CPU already, and `cpu` is asked for.
        """


@dataclass(frozen=True)
class LocalNetwork(CardNetwork):
    """Properties that the networks of all runtimes have.

    Attributes
    ----------
    card : ModelCard
    device : str
        For the user, such as "CPU, OpenVINO int8, 2 threads".
    max_tile : int
        On the CPU from the memory that was free when the network was opened.
    on_cpu : bool
        Whether it computes on the CPU.
    why : str
        See `RuntimeNetwork`.
    """

    device: str
    max_tile: int
    on_cpu: bool
    why: str

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Predict batches in order, lazily; see `predict.Network.predict`."""
        for batch in batches:
            yield self.forward(batch)

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Predict one batch (n, y, x, c): c is `channels`, or 1 where that is 3."""
        raise NotImplementedError


@dataclass(frozen=True)
class DeviceNetwork(LocalNetwork):
    """A network on a GPU or the CPU, whose memory may be full, and whose GPU may fail."""

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Predict one batch (n, y, x, c): c is `channels`, or 1 where that is 3.

        Raises
        ------
        OutOfMemory
            Where the memory of the device is full. On the CPU the process may end instead:
            see `full_memory.is_out_of_memory`.
        LostDevice
            Where the GPU fails.
        """
        try:
            return self._computed(batch)
        except Exception as error:
            full = is_out_of_memory(error)
            if not full and (self.on_cpu or not self._says_lost(error)):
                raise
        # Raised out here, because the traceback of the error keeps the batch on the device.
        if not full:
            raise LostDevice
        if self.on_cpu:
            raise OutOfMemory
        self._free()
        raise OutOfMemory(
            "The memory of the GPU is full. Close other programs that use it, and try again."
        )

    def recover(self, cpu: bool) -> Self:
        """Give the network ready to go on after `OutOfMemory`: this one, or one on the CPU.

        Raises
        ------
        OutOfMemory
            Where it computes on the CPU already, and `cpu` is asked for.
        """
        if not cpu:
            return self
        if self.on_cpu:
            raise OutOfMemory
        return self._opened_on_cpu()

    def _computed(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Compute a batch; the library may raise whatever it has."""
        raise NotImplementedError

    def _says_lost(self, error: BaseException) -> bool:
        """Whether an error is of the GPU or its driver, and not of what was asked of them."""
        raise NotImplementedError

    def _free(self) -> None:
        """Give back what the library keeps of a GPU's memory for itself."""

    def _opened_on_cpu(self) -> Self:
        """Open the same model on the CPU."""
        raise NotImplementedError


def usable_cores() -> int:
    """Count the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def cpu_name(runtime: str, threads: int, why: str = "") -> str:
    """Name the CPU as the device line does.

    Parameters
    ----------
    runtime : str
        With its precision.
    threads : int
    why : str
        Reason for a second choice; empty where it is the first.
    """
    name = f"CPU, {runtime}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{name} ({why})" if why else name


def max_tile_of(card: ModelCard) -> int:
    """Longest side of a tile that the free memory of the computer allows."""
    import psutil  # a tenth of what a small image takes from the shell

    known = ARCHITECTURES.get(card.architecture)
    a_pixel = (known or ARCHITECTURES["unet"]).bytes_per_pixel
    pixels = psutil.virtual_memory().available / 4 / a_pixel
    return int(min(LONGEST_TILE, max(256, pixels**0.5)))


def warm_up(network: Any, channels: int, strides: int = 16) -> None:
    """Run a network once: what it allocates and chooses then should not be the user's wait.

    Parameters
    ----------
    network : RuntimeNetwork
    channels : int
        Of the batch.
    strides : int
        Side of the batch; more where more of what it chooses is kept for other sizes.
    """
    side = strides * network.card.stride
    network.forward(np.zeros((1, side, side, channels), np.float32))
