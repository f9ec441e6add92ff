"""Comparison of a result with a new model: a viewer without a window, and a pretended network."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import CELLS, COMPARISON, OURS, image_id, result_metadata
from napari_unet_cells.layers.selection import labels_layers, review_problem
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.widgets.retrain import comparison as comparison_module
from napari_unet_cells.widgets.retrain.comparison import Compared, Comparison

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

CARD = ModelCard("cells-2", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")


def squares_are_cells(batch):
    cell = (batch > 0.5).astype(np.uint8)
    return np.concatenate([cell, cell * 204, np.zeros_like(cell)], axis=-1)


def two_squares():
    image = np.zeros((40, 50), np.uint8)
    image[5:15, 5:15] = image[20:35, 20:40] = 100
    return image


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def comparison(viewer, monkeypatch) -> Comparison:
    cards = {"cells-2": CARD, "tissue-2": replace(CARD, classes=("background", "vessel", "other"))}
    monkeypatch.setattr(comparison_module, "find_model", cards.__getitem__)
    network = FunctionNetwork(squares_are_cells)
    engine: Any = SimpleNamespace(open=lambda card, stop: network)
    return Comparison(viewer, engine)


def add_result(viewer, image, shown=(), **parameters):
    """Add a result with one of the two cells, as a run and its user left it."""
    labels = np.zeros((1,) * len(shown) + (40, 50), np.uint16)
    labels[..., 5:15, 5:15] = 7
    place = np.zeros(len(shown) + 2)
    place[: len(shown)] = shown
    source = {"plane": list(shown)} if shown else {}
    provenance = {"source": source, "parameters": parameters}
    return viewer.add_labels(
        labels,
        name=f"{image.name} cells",
        translate=place,
        metadata=result_metadata(CELLS, image_id(image), provenance),
    )


def compared(comparison) -> Compared:
    *_, last = comparison.job("cells-2")(threading.Event())
    assert isinstance(last, Compared)
    comparison.show(last)
    return last


def test_qt_is_not_imported():
    code = (
        "import sys, napari_unet_cells.widgets.retrain.comparison; "
        "assert not {'qtpy', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_outlines_lie_above_a_result_that_stays_as_it_is(viewer, comparison):
    image = viewer.add_image(two_squares(), name="nuclei")
    cells = add_result(viewer, image)
    before = cells.data.copy()
    assert len(viewer.layers) == 2

    told = compared(comparison)

    assert [layer.name for layer in viewer.layers] == [
        "nuclei",
        "nuclei cells",
        "nuclei cells (cells-2)",
    ]
    new = viewer.layers["nuclei cells (cells-2)"]
    assert comparison.layer is new
    assert new.contour == 2
    assert new.data.max() == 2
    assert not new.editable
    assert new.metadata[OURS]["role"] == COMPARISON
    assert new.metadata[OURS]["provenance"]["model"]["name"] == "cells-2"
    assert viewer.layers.selection.active is cells
    np.testing.assert_array_equal(cells.data, before)
    assert told.counts == (1, 2)
    assert told.sentence.startswith("cells-2 finds 2 cells, the result has 1. The same in both: 1")
    # It is no result to correct, to export or to compare with.
    assert labels_layers(viewer.layers) == [cells]
    assert "cannot be edited" in review_problem(new)
    viewer.layers.selection.active = new
    assert comparison.result() is cells

    comparison.remove()

    assert [layer.name for layer in viewer.layers] == ["nuclei", "nuclei cells"]
    comparison.remove()
    assert len(viewer.layers) == 2


def test_outlines_that_the_user_removed_are_not_missed(viewer, comparison):
    add_result(viewer, viewer.add_image(two_squares(), name="nuclei"))
    compared(comparison)
    viewer.layers.remove(comparison.layer)
    comparison.remove()
    assert len(viewer.layers) == 2


def test_the_plane_of_the_result_is_compared_and_not_the_one_shown(viewer, comparison):
    stack = np.stack([two_squares() * 0, two_squares(), two_squares().T.copy().reshape(40, 50)])
    image = viewer.add_image(stack, name="stack")
    cells = add_result(viewer, image, shown=(1,))
    viewer.dims.set_point(0, 2)

    told = compared(comparison)

    assert told.counts == (1, 2)
    layer = comparison.layer
    assert layer is not None
    assert layer.data.shape == cells.data.shape == (1, 40, 50)
    assert layer.data_to_world((0, 3, 4)) == cells.data_to_world((0, 3, 4)) == (1, 3, 4)


@pytest.mark.parametrize(
    ("scale", "given"),
    [({"diameter": 23.0, "estimated": False}, True), ({"diameter": 9.0, "estimated": True}, False)],
)
def test_a_diameter_that_was_typed_holds_for_the_new_model_too(viewer, comparison, scale, given):
    add_result(viewer, viewer.add_image(two_squares(), name="nuclei"), scale=scale)
    details = compared(comparison).result.details
    assert details.diameter_given is given
    if given:
        assert details.diameter == 23.0


def test_the_active_image_says_which_result_is_compared(viewer, comparison):
    first = viewer.add_image(two_squares(), name="first")
    second = viewer.add_image(two_squares(), name="second")
    of_first, of_second = add_result(viewer, first), add_result(viewer, second)
    for active, cells in (
        (first, of_first),
        (second, of_second),
        (of_first, of_first),
        (None, of_second),
    ):
        viewer.layers.selection.active = active
        assert comparison.result() is cells
    hidden = add_result(viewer, first)
    hidden.visible = False
    viewer.layers.selection.active = first
    assert comparison.result() is of_first


def test_what_cannot_be_compared_is_said(viewer, comparison):
    with pytest.raises(UserError, match="There is no result to compare with"):
        comparison.job("cells-2")
    image = viewer.add_image(two_squares(), name="nuclei")
    cells = add_result(viewer, image)
    with pytest.raises(UserError, match="tissue-2 finds no single cells"):
        comparison.job("tissue-2")
    viewer.layers.remove(image)
    with pytest.raises(UserError, match="The image of 'nuclei cells' is not open any more"):
        comparison.job("cells-2")
    viewer.layers.remove(cells)
    assert comparison.result() is None


def test_a_result_that_is_removed_meanwhile_gets_no_outlines(viewer, comparison):
    cells = add_result(viewer, viewer.add_image(two_squares(), name="nuclei"))
    *_, last = comparison.job("cells-2")(threading.Event())
    viewer.layers.remove(cells)
    comparison.show(last)
    assert comparison.layer is None
    assert [layer.name for layer in viewer.layers] == ["nuclei"]
