"""Where the network was unsure in a large result: means of squares, order, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_unet_cells.core.plane_blocks import PlaneBlocks
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.array_file import write_arrays
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import (
    block_store,
    blocks,
    to_zarr,
    uncertain_places,
    zarr_request,
)
from napari_unet_cells.segmentation.blocks import mean_uncertainty
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.to_zarr import ZarrRequest, segment_to_zarr
from napari_unet_cells.segmentation.uncertain_places import uncertainty_file

CARD = ModelCard("graded", "none", ("background", "cell", "boundary"), 1, 16, 16, "ab" * 32)


def graded(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Take the pixels for the probability of a cell: in the middle it is least sure."""
    cell = np.rint(255 * np.clip(batch[..., :1], 0, 1)).astype(np.uint8)
    return np.concatenate([(cell > 127).astype(np.uint8), cell, cell * 0], axis=-1)


NETWORK = FunctionNetwork(graded, stride=16, halo=16, max_tile=128)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Squares of 64 pixels, blocks of 128, and a network that gives back the image."""
    for module in (blocks, block_store, uncertain_places):
        monkeypatch.setattr(module, "UNIT", 64)
    monkeypatch.setattr(zarr_request, "side_of_blocks", lambda shape, zoom: 128)
    monkeypatch.setattr(to_zarr, "find_model", lambda model: CARD)
    for module in (to_zarr, zarr_request):
        monkeypatch.setattr(module, "open_network", lambda card, runtime="": NETWORK)


@pytest.mark.parametrize("zoom", [1.0, 0.5, 1.7])
def test_means_are_those_of_the_squares(zoom: float) -> None:
    shape = (200, 300)
    scaled = (round(200 * zoom), round(300 * zoom))
    whole = np.random.default_rng(0).integers(0, 256, scaled).astype(np.uint8)
    plane = PlaneBlocks(shape, scaled, 128, 8, 1)
    for number in range(len(plane)):
        block = plane.block(number)
        means = mean_uncertainty(whole[block.needed], block, plane)
        core = block.core
        expected = np.array(
            [
                [
                    whole[
                        int(y * zoom) : int(min(y + 64, core[0].stop) * zoom),
                        int(x * zoom) : int(min(x + 64, core[1].stop) * zoom),
                    ].mean()
                    for x in range(core[1].start, core[1].stop, 64)
                ]
                for y in range(core[0].start, core[0].stop, 64)
            ]
        )
        assert means.shape == expected.shape
        np.testing.assert_allclose(means, expected, atol=8)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """Segment an image with cells that are sure, but for two squares of the eight by six."""
    image = np.zeros((300, 500), np.float32)
    image[8::32, 8::32] = 1
    image = np.kron(image[::8, ::8], np.ones((8, 8), np.float32))[:300, :500]
    image[64:128, 192:256] *= 0.6
    image[256:300, 448:500] *= 0.8
    path, output = tmp_path / "slide.zarr", tmp_path / "slide_cells.ome.zarr"
    zarr.create_array(path, data=image, chunks=(64, 64))
    request = ZarrRequest(settings=replace(Settings(), diameter=20.0))
    for _ in segment_to_zarr(path, output, "graded", request):
        pass
    return output


def test_a_run_keeps_where_it_was_unsure(result: Path) -> None:
    places: Any = uncertain_places.uncertain_places(result, (300, 500))
    assert (places[0].rows, places[0].columns) == ((64, 128), (192, 256))
    assert (places[1].rows, places[1].columns) == ((256, 300), (448, 500))


def test_without_it_or_where_it_is_another_one_it_says_what_to_do(result: Path) -> None:
    with pytest.raises(UserError, match="is of other labels"):
        uncertain_places.uncertain_places(result, (600, 500))
    write_arrays(uncertainty_file(result), {"uncertainty": np.zeros((5, 8))})
    with pytest.raises(UserError, match="is of other labels"):
        uncertain_places.uncertain_places(result, (300, 500))
    uncertainty_file(result).write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be read"):
        uncertain_places.uncertain_places(result, (300, 500))
    uncertainty_file(result).unlink()
    with pytest.raises(UserError, match="does not say where the network was unsure"):
        uncertain_places.uncertain_places(result, (300, 500))
