"""Pictures of the loop for the README: what is right in them, and the table beside them."""

from __future__ import annotations

import json

import loop_pictures
import numpy as np
import pytest
from loop_pictures import BY_HAND, RIGHT, chinese_table, densest, matched, panel, same, slug, table

from napari_unet_cells.models.card import ModelCard

KIND = "rods in colonies, phase contrast"
RESULT = {
    "model": "cells",
    "sha256": "ab",
    "regions": 4,
    "steps": 350,
    "seconds": 60,
    "strokes": {"add": 30, "split": 4},
    "before": 0.021,
    "after": 0.618,
    "images": 3,
}


def labels(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    made = np.zeros((40, 40), np.int32)
    for number, (top, bottom, left, right) in enumerate(boxes, 1):
        made[top:bottom, left:right] = number
    return made


def test_cells_are_matched_by_their_overlap():
    found = labels((0, 10, 0, 10), (20, 30, 20, 30))
    true = labels((20, 30, 20, 29), (0, 10, 5, 15))
    assert matched(found, true, 0.5) == {2}
    assert matched(found, true, 0.3) == {1, 2}
    assert matched(found, np.zeros_like(true), 0.1) == set()


@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3)])
def test_a_panel_has_outlines_in_the_colour_of_what_they_are(shape):
    pixels = np.random.default_rng(0).integers(0, 250, shape).astype(np.uint8)
    cells = labels((2, 12, 2, 12), (20, 30, 20, 30))
    drawn = panel(pixels, cells, {1}, (RIGHT, BY_HAND))
    assert drawn.shape == (40, 40, 3)
    assert tuple(drawn[2, 5]) == RIGHT
    assert tuple(drawn[20, 25]) == BY_HAND
    assert tuple(drawn[35, 35]) not in (RIGHT, BY_HAND)


def test_the_panel_is_where_most_cells_are():
    truth = np.zeros((512, 700), np.uint16)
    truth[300:480, 420:600] = 1
    truth[10:40, 10:40] = 2
    window = densest(truth)
    assert (truth[window] == 1).sum() == 180 * 180
    assert [part.stop - part.start for part in window] == [loop_pictures.PANEL] * 2
    assert densest(np.zeros((100, 256)))[0].start == 0  # smaller than a panel


def test_the_table_names_the_picture_the_strokes_and_both_scores():
    rows = table({KIND: RESULT}).splitlines()
    assert "`cells` (ab) has not learned, 4 regions of 256 x 256" in rows[0]
    assert "two quiet cores take in 60 seconds, and is scored on 3 other images" in rows[1]
    row = rows[-1]
    assert "docs/images/loop-rods-in-colonies-phase-contrast.jpg" in row
    assert slug(KIND) in row
    assert "| 4 regions, 34 strokes | 0.02 to **0.62** |" in row


def test_the_readme_has_the_table_and_the_pictures_of_what_was_measured():
    results = json.loads(loop_pictures.RESULTS.read_text(encoding="utf-8"))
    readme = loop_pictures.README.read_text(encoding="utf-8")
    assert f"<!-- loop: start -->\n\n{table(results)}\n\n<!-- loop: end -->" in readme
    assert chinese_table(results) in loop_pictures.CHINESE_README.read_text(encoding="utf-8")
    for kind in results:
        assert 0 < (loop_pictures.IMAGES / slug(kind)).stat().st_size < 300_000


def test_another_base_or_other_steps_are_measured_anew():
    card = ModelCard("cells", "none", ("a", "b"), 1, 1, 0, sha256="ab")
    assert same(RESULT, card, 350)
    assert not same(RESULT, card, 100)
    assert not same(RESULT | {"sha256": "cd"}, card, 350)
    assert not same(None, card, 350)
