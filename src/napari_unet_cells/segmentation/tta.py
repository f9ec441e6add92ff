"""Test-time augmentation: the mean of what a network predicts for four mirrored copies.

A network that was trained on mirrored crops should not care how an image lies. Where it does, it
is unsure, and the mean of the four predictions is nearer to the truth than any of them (Moshkov et
al., "Test-time augmentation for deep learning-based cell segmentation on microscopy images",
Scientific Reports 10, 2020). The network takes four times as long; the estimate of the cell
diameter, which uses the network without it, does not.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.predict import Network

#: Axes of a batch (n, y, x, c) along which each copy is mirrored.
MIRRORS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))


@dataclass(frozen=True)
class AugmentedNetwork:
    """A network whose predictions are means over four mirrored copies; see `predict.Network`.

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
        """As the network's own; a mirrored side is still a multiple of it."""
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
        """As the network's own: one copy is computed at a time."""
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
        mirrored = (np.flip(batch, axes) for batch in batches for axes in MIRRORS)
        outputs = self.network.predict(mirrored)
        try:
            while group := list(islice(outputs, len(MIRRORS))):
                yield self._mean(group)
        finally:
            if isinstance(outputs, Generator):
                outputs.close()

    def recover(self, cpu: bool) -> AugmentedNetwork:
        """Give the network ready to go on after `OutOfMemory`.

        Raises
        ------
        OutOfMemory
            Where it computes on the CPU already, and `cpu` is asked for.
        """
        return AugmentedNetwork(self.network.recover(cpu), self.columns)

    def _mean(self, outputs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        total = np.zeros((*outputs[0].shape[:-1], outputs[0].shape[-1] - 1), np.uint16)
        for output, axes in zip(outputs, MIRRORS, strict=True):
            total += np.flip(output, axes)[..., 1:]
        half = len(MIRRORS) // 2
        mean = ((total + half) // len(MIRRORS)).astype(np.uint8)
        cell, boundary = total[..., 0], total[..., 1]
        # Rounded, the two may be a little more than all.
        background = len(MIRRORS) * 255 - np.minimum(cell + boundary, len(MIRRORS) * 255)
        best = np.stack([background, cell, boundary]).argmax(axis=0)
        classes = np.array(self.columns, np.uint8)[best]
        return np.concatenate([classes[..., np.newaxis], mean], axis=-1)
