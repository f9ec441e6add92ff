"""The simulated annotator: which strokes put labels right, and what is kept of a stopped run."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import learning_strokes
import numpy as np
import pytest
from learning_strokes import Bench, Image, strokes_for, table
from retrain_loop import PAGE, TASKS, Task

from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.widgets.correct.teaching import School


def drawn(*boxes: tuple[int, int, int, int]) -> np.ndarray[Any, Any]:
    labels = np.zeros((60, 60), np.uint16)
    for number, (top, bottom, left, right) in enumerate(boxes, 1):
        labels[top:bottom, left:right] = number
    return labels


TWO = drawn((10, 30, 10, 30), (10, 30, 30, 50))


@pytest.mark.parametrize(
    ("shown", "strokes"),
    [
        (TWO * 7, {}),  # other numbers
        (drawn((10, 30, 10, 30)), {"add": 1}),
        (drawn(), {"add": 2}),
        (drawn((10, 30, 10, 50)), {"split": 1}),
        (drawn((10, 20, 10, 30), (20, 30, 10, 30), (10, 30, 30, 50)), {"merge": 1}),
        (drawn((10, 30, 10, 30), (10, 30, 30, 50), (40, 50, 40, 50)), {"delete": 1}),
        (drawn((10, 22, 10, 28), (10, 30, 30, 50)), {"draw": 1}),  # an IoU of 0.54
        (drawn((10, 24, 10, 28), (10, 30, 30, 50)), {}),
        (drawn((5, 45, 10, 30), (10, 30, 30, 50)), {"draw": 1}),
    ],
)
def test_the_strokes_are_those_that_put_it_right(shown, strokes):
    assert +strokes_for(shown, TWO) == Counter(strokes)


def test_without_cells_there_is_nothing_to_do_but_to_delete():
    assert +strokes_for(drawn(), drawn()) == Counter()
    assert +strokes_for(TWO, drawn()) == Counter({"delete": 2})


def bright(batch):
    cell = (batch > 0.5).astype(np.uint8)
    return np.concatenate([cell, cell * 204, np.zeros_like(cell)], axis=-1)


def test_a_corrected_region_is_right_and_approved():
    truth = np.zeros((512, 512), np.uint16)
    truth[20:60, 20:60], truth[300:340, 300:340] = 1, 2
    pixels = np.where(truth == 1, 200, 0).astype(np.uint8)
    pixels[:10, :10] = 200
    card = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")
    image = Image("one", pixels, truth)
    image.segment(Segmenter.of(card, FunctionNetwork(bright)))
    assert image.review is not None
    assert len(image.review) == 4
    strokes = image.correct(((), 0))
    assert +strokes == Counter({"delete": 1})
    assert +image.correct(((), 3)) == Counter({"add": 1})
    assert (image.layer.data > 0).sum() == (truth > 0).sum()
    assert sorted(image.approved().dates) == [((), 0), ((), 3)]


def test_what_was_counted_is_not_counted_again(tmp_path, monkeypatch):
    runs = []

    class Annotator:
        def __init__(self, card, steps, engine):
            self.school = School()
            runs.append((steps, engine is not None))

        def go_through(self, images):
            yield Counter(add=2)
            yield Counter(split=1, add=1)

    monkeypatch.setattr(learning_strokes, "Annotator", Annotator)
    monkeypatch.setitem(TASKS, "rods", Task(("rods", "dic"), 20))
    for way in ("as they are", "learning", "learning", "as they are"):
        Bench("cells-fast", tmp_path, tmp_path, 7).run("rods", way)
    assert runs == [(0, False), (7, True)]
    lines = [json.loads(line) for line in (tmp_path / "strokes.jsonl").read_text().splitlines()]
    assert [(line["regions"], line["add"], line["split"]) for line in lines] == [([2, 2], 3, 1)] * 2


def test_the_table_puts_both_ways_side_by_side():
    task = next(iter(TASKS))
    counts = {"add": 5, "delete": 1, "merge": 0, "split": 2, "draw": 1}
    made = {"task": task, "way": "as they are", "regions": [1] * 4 + [0, 2, 1, 1, 0, 1], **counts}
    rows = table([made, made | {"way": "learning", "regions": [2, 1]}]).splitlines()
    assert rows[2] == f"| {task} | as they are | 5 | 1 | 0 | 2 | 1 | **9** | 5 |"
    assert rows[3].endswith("| **3** | 3 |")
    assert len(table([made]).splitlines()) == 2  # the other way was not counted yet


def test_the_page_has_the_table_of_what_was_counted():
    lines = learning_strokes.RESULTS.read_text().splitlines()
    page = PAGE.read_text(encoding="utf-8")
    counted = table([json.loads(line) for line in lines])
    assert f"<!-- strokes: start -->\n\n{counted}\n\n<!-- strokes: end -->" in page
