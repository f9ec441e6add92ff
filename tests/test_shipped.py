"""The model that ships, on images whose truth is known, and the examples of the README."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from napari_unet_cells.nets import DEFAULT_MODEL, SHIPPED, find_model, installed_models
from napari_unet_cells.sample_data import simulate_nuclei

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.keras")), ids=lambda path: path.stem)
def test_every_shipped_model_has_an_honest_card(path):
    card = find_model(path.stem)
    assert path.stat().st_size <= 5_000_000
    assert card.name == path.stem
    assert card.description
    assert card.license
    assert card.scores
    assert all({"name", "license", "images"} <= set(data) for data in card.trained_on)


def test_the_default_model_ships():
    assert DEFAULT_MODEL in installed_models()


@pytest.mark.network
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("inverted", [False, True], ids=["bright", "dark"])
def test_simulated_nuclei_are_found(dtype, inverted):
    from napari_unet_cells import segment
    from napari_unet_cells.metrics import compare, summarize

    image, truth = simulate_nuclei((320, 384), diameter=22.0, seed=11)
    scaled = (image - image.min()) / np.ptp(image)
    if inverted:
        scaled = 1 - scaled
    full = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    result = segment((scaled * full).astype(dtype))
    assert summarize([compare(truth, result.cells)]).ap50 > 0.75


@pytest.mark.network
def test_tiles_of_the_shipped_model_leave_no_seams():
    from napari_unet_cells.engine import open_network
    from napari_unet_cells.normalize import percentile_limits
    from napari_unet_cells.predict import Output, predict_tiles
    from napari_unet_cells.tiling import TileGrid

    card = find_model(DEFAULT_MODEL)
    network = open_network(card)
    plane = simulate_nuclei((700, 650), seed=5)[0]
    limits = percentile_limits(plane)

    def classes(max_tile: int):
        out = Output.empty(plane.shape, boundary=True)
        grid = TileGrid.plan(plane.shape, network.stride, network.halo, max_tile)
        count = sum(1 for _ in predict_tiles(plane, network, limits, grid, out))
        return count, out.classes

    tiles, tiled = classes(2 * network.halo + 128)
    one, whole = classes(2048)
    assert (one, tiles > 8) == (1, True)
    np.testing.assert_array_equal(tiled, whole)


@pytest.mark.network
def test_the_readmes_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "cells" in capsys.readouterr().out
