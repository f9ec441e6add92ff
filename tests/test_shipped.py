"""The models that ship, on images whose truth is known, and the examples of the README."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_unet_cells.cli.main import _parser
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, SHIPPED, find_model, installed_models
from napari_unet_cells.models.derived import find_graph
from napari_unet_cells.sample_data import simulate_nuclei

ROOT = Path(__file__).parent.parent

#: Bytes that a user downloads with the package.
LARGEST = {"cells": 16_000_000, "cells-fast": 4_000_000}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.keras")), ids=lambda path: path.stem)
def test_every_shipped_model_has_an_honest_card(path):
    card = find_model(path.stem)
    assert path.stat().st_size <= LARGEST[path.stem]
    assert card.name == path.stem
    assert card.description
    assert card.works_on
    assert card.fails_on
    assert card.license
    assert card.scores
    assert all({"name", "license", "images"} <= set(data) for data in card.trained_on)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.keras")), ids=lambda path: path.stem)
def test_every_shipped_model_has_the_graph_that_was_made_of_it(path, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))  # without what was made there
    graph = find_graph(find_model(path.stem))
    assert graph is not None
    assert len(graph.graph) + len(graph.weights) <= 4_000_000


_FIRST_RUN = """
import json, sys
from napari_unet_cells.cli.main import main
code = main(["segment", sys.argv[1], "-o", sys.argv[2], "--model", sys.argv[3]])
print(json.dumps([code, [name for name in ("keras", "tensorflow") if name in sys.modules]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize("model", sorted(path.stem for path in SHIPPED.glob("*.keras")))
def test_the_first_run_on_a_cpu_needs_no_tensorflow(model, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(simulate_nuclei((128, 128), seed=1)[0].astype(np.uint8)).save(path)
    home = {"NAPARI_UNET_CELLS_HOME": str(tmp_path / "home"), "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_RUN, str(path), str(tmp_path), model],
        env=os.environ | home,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]
    record = json.loads((tmp_path / "image.json").read_text(encoding="utf-8"))
    assert record["device"].startswith("CPU, OpenVINO ")
    assert not (tmp_path / "home").exists()  # nothing had to be converted


def test_the_default_model_ships():
    assert DEFAULT_MODEL in installed_models()


@pytest.mark.network
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("inverted", [False, True], ids=["bright", "dark"])
@pytest.mark.parametrize("model", sorted(path.stem for path in SHIPPED.glob("*.keras")))
def test_simulated_nuclei_are_found(model, dtype, inverted):
    from napari_unet_cells import segment
    from napari_unet_cells.core.metrics import compare, summarize

    image, truth = simulate_nuclei((320, 384), diameter=22.0, seed=11)
    scaled = (image - image.min()) / np.ptp(image)
    if inverted:
        scaled = 1 - scaled
    full = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    result = segment((scaled * full).astype(dtype), model)
    assert summarize([compare(truth, result.cells)]).ap50 > 0.75


@pytest.mark.network
def test_tiles_of_the_shipped_model_leave_no_seams():
    from napari_unet_cells.core.normalize import percentile_limits
    from napari_unet_cells.core.predict import Output, predict_tiles
    from napari_unet_cells.core.tiling import TileGrid
    from napari_unet_cells.engine.opening import open_network

    card = find_model(DEFAULT_MODEL)
    network = open_network(card)
    plane = simulate_nuclei((700, 650), seed=5)[0]
    limits = percentile_limits(plane)

    def classes(max_tile: int):
        out = Output.empty(plane.shape, network.probabilities)
        grid = TileGrid.plan(plane.shape, network.stride, network.halo, max_tile)
        count = sum(1 for _ in predict_tiles(plane, network, limits, grid, out))
        return count, out.classes

    tiles, tiled = classes(2 * network.halo + 128)
    one, whole = classes(2048)
    assert (one, tiles > 8) == (1, True)
    np.testing.assert_array_equal(tiled, whole)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_documentation_has_examples():
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 4
    assert sum(len(blocks(page, "sh")) for page in PAGES) >= 4


@pytest.mark.network
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_example_runs(page):
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_documentation_is_understood(page):
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["napari-unet-cells"]:
                _parser().parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
