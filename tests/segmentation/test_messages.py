"""The words of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet_cells.core.parts import Part, PartCells
from napari_unet_cells.core.predict import FunctionNetwork, MemoryFull
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.messages import (
    describe_difference,
    describe_memory,
    describe_part,
    describe_progress,
    describe_result,
    describe_start,
)
from napari_unet_cells.segmentation.part_run import FoundPart
from napari_unet_cells.segmentation.result import Result

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")


@pytest.mark.parametrize(
    ("done", "total", "seconds", "words"),
    [
        (0, 100, 0.0, "0 %"),
        (25, 100, 2.0, "25 % - 6 s left"),
        (1, 100, 2.0, "1 % - 3 min 18 s left"),
        (99, 100, 1.0, "99 % - 1 s left"),
        (100, 100, 9.0, "100 %"),
        (3 * 10**9, 6 * 10**9, 7.0, "50 % - 7 s left"),
    ],
)
def test_progress(done, total, seconds, words):
    assert describe_progress(done, total, seconds) == words


def test_a_run_says_what_it_looks_for():
    assert describe_start(18.7) == "Looking for cells of about 19 px."
    assert describe_start(0) == "Segmenting."  # a model that knows no size


def made(cells):
    card = replace(CARD, classes=("a", "b"))
    details = RunDetails(card=card, options=None, device="CPU, 2 threads", seconds=1.94)
    n = 0 if cells is None else int(cells.max())
    return Result(cells, np.zeros((1, 1), np.uint8), details, n)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (np.array([[0, 214]], np.uint16), "214 cells in 1.9 s on CPU, 2 threads"),
        (np.array([[0, 1]], np.uint16), "1 cell in 1.9 s on CPU, 2 threads"),
        (np.array([[0, 0]], np.uint16), "0 cells in 1.9 s on CPU, 2 threads. Is the right channel"),
        (np.array([[0, 70_000]], np.uint32), "70000 cells in 1.9 s on CPU, 2 threads. So many ids"),
        (None, "2 classes in 1.9 s on CPU, 2 threads"),
    ],
)
def test_result(cells, words):
    assert describe_result(made(cells)).startswith(words)


def test_cells_of_a_part_are_not_taken_for_those_of_the_image():
    result = made(np.array([[0, 3]], np.uint16))
    details = replace(result.details, parts=({"where": "visible part"},))
    said = describe_result(replace(result, details=details))
    assert said == "3 cells in the part in 1.9 s on CPU, 2 threads"


@pytest.mark.parametrize(
    ("other", "rival"), [(0.0, "is a guess."), (61.4, "is a guess; it may be 61 px.")]
)
def test_a_guess_of_the_cell_size_is_said_with_the_way_out(other, rival):
    sure = made(np.array([[0, 3]], np.uint16))
    details = replace(sure.details, diameter=12.3, diameter_unsure=True, other_diameter=other)
    said = describe_result(replace(sure, details=details))
    assert "guess" not in describe_result(sure)
    assert f"2 threads. The cell size of 12 px {rival} If the outlines are wrong, type" in said
    assert said.endswith("segment again.")


def test_full_memory():
    network = FunctionNetwork(lambda batch: batch.astype(np.uint8))
    said = describe_memory(MemoryFull(256, network))
    assert (
        said == f"The memory was full; the run went on in tiles of 256 pixels on {network.device}."
    )


def test_the_difference_between_two_models_counts_what_is_the_same():
    before, after = np.zeros((20, 40), int), np.zeros((20, 40), int)
    before[2:8, 2:8] = after[2:8, 2:8] = 1
    before[10:18, 2:10], after[10:18, 2:6] = 2, 2  # another outline
    before[2:8, 12:18] = 3  # gone
    after[2:8, 22:28] = after[2:8, 30:36] = 5
    after[2:8, 30:36] = 6
    assert describe_difference(before, after, "cells-2") == (
        "cells-2 finds 4 cells, the result has 3. The same in both: 1. Without a match: 3 of "
        "cells-2, 2 of the result."
    )


@pytest.mark.parametrize(
    ("labels", "is_change", "words"),
    [
        ([[0, 1], [2, 3]], True, "2 cells in the part, 214 in all,"),
        ([[0, 1], [0, 3]], False, "1 cell in the part, 214 in all,"),
        (None, True, "3 classes in the part"),
    ],
)
def test_the_end_of_a_part_says_what_it_found_and_the_way_back(labels, is_change, words):
    details = RunDetails(card=CARD, options=None, device="CPU, 2 threads", seconds=1.94)
    part, whole = Part(np.s_[1:2, 0:2]), np.s_[0:2, 0:2]
    cells = None if labels is None else PartCells(part, whole, np.array(labels))
    nothing = np.zeros((2, 2), np.uint8)
    found = FoundPart(part, (2, 2), details, nothing, cells, nothing, whole, (2, 2))
    end = "Ctrl+Z takes this back." if is_change else "Nothing changed."
    assert describe_part(found, 214, is_change) == f"{words} in 1.9 s on CPU, 2 threads. {end}"
