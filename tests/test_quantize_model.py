"""The graph that ships: what it is calibrated on, how it is measured, which precision is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import quantize_model
from PIL import Image

from napari_unet_cells.core.metrics import compare
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.derived import DerivedGraph, read_graph
from napari_unet_cells.models.runtimes import openvino
from napari_unet_cells.sample_data import simulate_nuclei

CLASSES = ("background", "cell", "boundary")
CARD = ModelCard("some", "unet", CLASSES, 3, 16, 16, "5" * 64, diameter_window=(18.0, 36.0))
FLOATS = DerivedGraph("float32", b'<?xml version="1.0"?>\n<net></net>\n', b"1234")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder of images to learn from; the last is constant."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for seed in range(4):
        image, truth = simulate_nuclei((300, 340), diameter=24.0, seed=seed)
        grey = np.full(image.shape, 7) if seed == 3 else image
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "images" / f"{seed}.png")
        Image.fromarray(truth.astype(np.uint16)).save(tmp_path / "masks" / f"{seed}.png")
    return tmp_path


def test_crops_are_as_the_network_sees_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = list(quantize_model.crops(CARD, [folder]))
    assert [crop.shape for crop in crops] == [(1, 256, 256, 3)] * 3
    assert all(crop.min() >= 0 and crop.max() <= 1 and np.ptp(crop) > 0.5 for crop in crops)
    np.testing.assert_array_equal(crops[0], next(quantize_model.crops(CARD, [folder])))
    far = replace(CARD, diameter_window=(6.0, 12.0))  # the whole image, about twice as small
    sides = {side for crop in quantize_model.crops(far, [folder]) for side in crop.shape[1:3]}
    assert all(side % CARD.stride == 0 and 128 <= side <= 192 for side in sides)
    monkeypatch.setattr(quantize_model, "CROPS", 2)
    assert len(list(quantize_model.crops(CARD, [folder]))) == 2


def test_precision_is_the_mean_at_several_diameters(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = read_annotated_images([folder], "train")[:2]
    truths = [item.read()[1] for item in items]
    asked: list[float] = []

    def segmented(image: Any, network: Any, card: Any, settings: Any = None) -> Any:
        asked.append(settings.diameter)
        truth = truths[(len(asked) - 1) % 2]
        return SimpleNamespace(cells=truth if settings.diameter < 20.1 else truth * 0)

    monkeypatch.setattr(quantize_model, "segmented", segmented)
    network: Any = SimpleNamespace(card=CARD)
    found = quantize_model.precision(network, items, [20.0, 20.0])
    assert asked[::2] == [20.0 * factor for factor in quantize_model.FACTORS]
    assert compare(truths[0], truths[0]).n_true > 0
    assert found == {"ap50": pytest.approx(3 / 5), "ap75": pytest.approx(3 / 5)}


@pytest.mark.parametrize(("cost", "precision"), [(0.004, "int8"), (0.006, "float32")])
def test_integers_ship_where_they_cost_little(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cost: float,
    precision: str,
) -> None:
    integers = replace(FLOATS, precision="int8")
    for graph in (integers, FLOATS):  # of the weights before
        graph.write(tmp_path, "some", replace(CARD, sha256="6" * 64))
    monkeypatch.setattr(quantize_model, "find_model", lambda path: CARD)
    monkeypatch.setattr(quantize_model, "quantized", lambda card, folders, floats: integers)
    monkeypatch.setattr(quantize_model, "worst_cost", lambda card, graph, folders: cost)
    monkeypatch.setattr(openvino, "convert", lambda card: FLOATS)
    arguments = ["x", "some", "--train", "a", "--val", "b", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    quantize_model.main()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"some.{precision}.xml", f"some.{precision}.bin"}
    kept = read_graph(tmp_path / f"some.{precision}.xml", CARD)
    assert kept == replace(FLOATS, precision=precision)
    assert ("floats ship" in capsys.readouterr().out) == (precision == "float32")


def test_a_few_floats_ship_where_integers_alone_cost_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quantized(card: ModelCard, folders: Any, floats: Any) -> DerivedGraph:
        return replace(FLOATS, precision="mixed" if floats else "int8")

    def cost(card: ModelCard, graph: DerivedGraph, folders: Any) -> float:
        return {"int8": 0.006, "mixed": 0.004}[graph.precision]

    monkeypatch.setattr(quantize_model, "quantized", quantized)
    monkeypatch.setattr(quantize_model, "worst_cost", cost)
    monkeypatch.setattr(openvino, "convert", lambda card: FLOATS)
    assert quantize_model.smallest(CARD, [tmp_path], [tmp_path], (1,)).precision == "mixed"
    assert quantize_model.smallest(CARD, [tmp_path], [tmp_path], ()).precision == "float32"
