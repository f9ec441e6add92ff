"""Test-time augmentation, with networks that are plain functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.segmentation.tta import MIRRORS, AugmentedNetwork


def brightness(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Say cell as far as a pixel is bright, and never boundary: no matter how it lies."""
    cell = np.round(batch[..., :1] * 255)
    return np.concatenate([cell > 127, cell, np.zeros_like(cell)], axis=-1).astype(np.uint8)


def leaning(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Say what depends on where in the batch a pixel lies, and nothing else."""
    n, height, width, _ = batch.shape
    y, x = np.mgrid[:height, :width]
    cell = np.where(y < height // 2, 200, 40) + np.where(x < width // 2, 40, 0)
    output = np.stack([cell > 127, cell, np.full_like(cell, 10), y], axis=-1)
    return np.broadcast_to(output, (n, height, width, 4)).astype(np.uint8)


def batches(n: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [rng.random((2, 8, 12, 1), dtype=np.float32) for _ in range(n)]


def test_what_does_not_depend_on_mirroring_stays_as_it_is() -> None:
    network = FunctionNetwork(brightness)
    plain, augmented = (
        list(net.predict(batches(3))) for net in (network, AugmentedNetwork(network))
    )
    assert len(augmented) == 3
    for a, b in zip(plain, augmented, strict=True):
        assert b.dtype == np.uint8
        np.testing.assert_array_equal(a, b)


def test_what_depends_on_it_is_the_mean_of_four() -> None:
    network = AugmentedNetwork(FunctionNetwork(leaning, probabilities=3))
    (output,) = network.predict(batches(1))
    assert output.shape == (2, 8, 12, 4)
    assert (output[..., 1] == 140).all()  # (240 + 200 + 80 + 40) / 4
    assert (output[..., 2] == 10).all()
    assert (output[..., 3] == 4).all()  # (y + 7 - y) / 2 = 3.5, rounded up
    assert (output[..., 0] == 1).all()


def test_the_class_is_that_of_the_mean() -> None:
    def unsure(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        top = batch[:, :1, :1, 0] > 0.5  # how the batch lies
        cell = np.where(top, 255, 90).reshape(-1, 1, 1)
        shape = batch.shape[:3]
        values = [np.full(shape, 7), np.broadcast_to(cell, shape), np.full(shape, 0)]
        return np.stack(values, axis=-1).astype(np.uint8)

    image = np.zeros((1, 4, 4, 1), np.float32)
    image[0, 0, 0] = 1.0
    network = AugmentedNetwork(FunctionNetwork(unsure), columns=(2, 0, 1))
    (output,) = network.predict([image])
    assert (output[..., 1] == 131).all()  # (255 + 3 * 90) / 4, rounded
    assert (output[..., 0] == 0).all()  # cell, 131 of 255; three of four copies say background
    (dark,) = network.predict([image * 0])
    assert (dark[..., 0] == 2).all()


def test_batches_are_drawn_only_as_they_are_needed() -> None:
    drawn = []

    def source() -> Iterator[NDArray[np.float32]]:
        for batch in batches(5):
            drawn.append(batch)
            yield batch

    outputs = AugmentedNetwork(FunctionNetwork(brightness)).predict(source())
    next(outputs)
    assert len(drawn) == 1


def test_it_closes_what_it_opened() -> None:
    closed = []

    class Streaming(FunctionNetwork):
        def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
            try:
                yield from map(self.function, batches)
            finally:
                closed.append(True)

    outputs = AugmentedNetwork(Streaming(brightness)).predict(batches(3))
    next(outputs)
    outputs.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_it_looks_like_the_network_within() -> None:
    within = FunctionNetwork(brightness, 4, 8, 3, 2, max_tile=99, device="a toaster")
    network = AugmentedNetwork(within)
    for name in ("stride", "halo", "channels", "probabilities", "max_tile", "device"):
        assert getattr(network, name) == getattr(within, name)
    assert network.recover(cpu=False) == replace(network)
    with pytest.raises(OutOfMemory):
        network.recover(cpu=True)
    assert len(MIRRORS) == 4
