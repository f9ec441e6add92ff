"""Images, and a threshold in the place of a network."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.batch import run as batch_run
from napari_unet_cells.batch import work
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation import details, pipeline


def bright(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    inside = (pixels[..., :1] > 0.4).astype(np.uint8)
    return np.concatenate([inside, inside * 255, inside * 0], axis=-1)


@pytest.fixture
def threshold_model(monkeypatch: pytest.MonkeyPatch) -> list[ModelCard]:
    return use_threshold(monkeypatch)


def use_threshold(monkeypatch: pytest.MonkeyPatch) -> list[ModelCard]:
    """Put a threshold in the network's place in this process; count how often one was opened.

    Other processes call it too.
    """
    card = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)
    other = ModelCard("other", "none", ("background", "cell", "boundary"), 1, 16, 32, "cd" * 32)
    cards: list[ModelCard] = []

    def open_network(card: ModelCard, runtime: str) -> FunctionNetwork:
        cards.append(card)
        return FunctionNetwork(bright, stride=16, halo=32, max_tile=128)

    models = {"bright": card, "other": other}
    for module in (batch_run, work):
        monkeypatch.setattr(module, "find_model", models.__getitem__)
    monkeypatch.setattr(work, "open_network", open_network)
    work.model_card.cache_clear()
    # files of two runs are the same, byte for byte
    monkeypatch.setattr(details, "_now", lambda: datetime(2026, 11, 29, tzinfo=UTC))
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    return cards


@pytest.fixture
def write_image() -> Callable[..., Path]:
    return _write_image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Write three images of 120 x 160 and known pixel size."""
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(3):
        _write_image(folder / f"n{n}.tif", seed=n)
    return folder


def _write_image(path: Path, seed: int, shape: tuple[int, int] = (120, 160)) -> Path:
    image, _ = simulate_nuclei(shape, seed=seed)
    options: dict[str, Any] = {"resolution": (4, 2), "metadata": {"unit": "um"}}
    tifffile.imwrite(path, image, imagej=True, **options)
    return path
