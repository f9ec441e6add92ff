"""Test-time flips: a network looks at every tile four times, and the mean counts.

A network that was trained on flipped crops should not care how an image lies; where it does, it
is unsure, and the mean of the four ways to flip a tile is nearer to the truth than any of them
(test-time augmentation; Moshkov et al., "Test-time augmentation for deep learning-based cell
segmentation on microscopy images", Scientific Reports 10, 2020). The network takes four times as
long; the estimate of the diameter, which it makes plain, does not.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.predict import Network

#: What a user can choose: one look at everything, or four.
QUALITIES = ("normal", "high")

#: Axes of a batch (n, y, x, c) along which it is turned over.
FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))


@dataclass(frozen=True)
class FlippedNetwork:
    """A network whose predictions are means over four flips; see `predict.Network`.

    Attributes
    ----------
    network : Network
        Of cells: it gives the probabilities of cell and boundary after the class.
    columns : tuple of int
        Number of the class background, of cell and of boundary.
    """

    network: Network
    columns: tuple[int, int, int] = (0, 1, 2)

    @property
    def stride(self) -> int:
        """As the network's own; a flipped side is still a multiple of it."""
        return self.network.stride

    @property
    def halo(self) -> int:
        """As the network's own."""
        return self.network.halo

    @property
    def channels(self) -> int:
        """As the network's own."""
        return self.network.channels

    @property
    def probabilities(self) -> int:
        """As the network's own."""
        return self.network.probabilities

    @property
    def max_tile(self) -> int:
        """As the network's own: one flip is computed at a time."""
        return self.network.max_tile

    @property
    def device(self) -> str:
        """As the network's own."""
        return self.network.device

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Predict batches in order, each four times; see `predict.Network.predict`.

        The class is the largest of the mean probabilities, of which the background has what
        cell and boundary leave.
        """
        flipped = (np.flip(batch, axes) for batch in batches for axes in FLIPS)
        outputs = self.network.predict(flipped)
        try:
            while group := list(islice(outputs, len(FLIPS))):
                yield self._mean(group)
        finally:
            if isinstance(outputs, Generator):
                outputs.close()

    def recover(self, cpu: bool) -> FlippedNetwork:
        """Give the network ready to go on after `OutOfMemory`.

        Raises
        ------
        OutOfMemory
            Where it computes on the CPU already, and `cpu` is asked for.
        """
        return FlippedNetwork(self.network.recover(cpu), self.columns)

    def _mean(self, outputs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        total = np.zeros((*outputs[0].shape[:-1], outputs[0].shape[-1] - 1), np.uint16)
        for output, axes in zip(outputs, FLIPS, strict=True):
            total += np.flip(output, axes)[..., 1:]
        half = len(FLIPS) // 2
        mean = ((total + half) // len(FLIPS)).astype(np.uint8)
        cell, boundary = total[..., 0], total[..., 1]
        # Rounded, the two may be a little more than all.
        background = len(FLIPS) * 255 - np.minimum(cell + boundary, len(FLIPS) * 255)
        best = np.stack([background, cell, boundary]).argmax(axis=0)
        classes = np.array(self.columns, np.uint8)[best]
        return np.concatenate([classes[..., np.newaxis], mean], axis=-1)
