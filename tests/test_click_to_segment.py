"""The benchmark of clicks: what counts as missed, and what mending costs the simulated user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click_to_segment as benchmark
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.regions import Region
from napari_unet_cells.datasets.annotated_images import AnnotatedImage
from napari_unet_cells.segmentation.click import FoundCell


def squares(*places: tuple[int, int]) -> NDArray[np.int32]:
    labels = np.zeros((60, 90), np.int32)
    for number, (y, x) in enumerate(places, 1):
        labels[y : y + 10, x : x + 10] = number
    return labels


TRUTH = squares((5, 5), (5, 30), (5, 55), (30, 5))
IMAGE = planes_of(TRUTH).plane(())


class Knowing:
    """A clicker that finds the true cell at a point, but none of some numbers."""

    def __init__(self, *unknown: int) -> None:
        self.unknown = unknown

    def click(self, image: Any, point: tuple[int, int], cells: Any, diameter: float) -> FoundCell:
        number = int(TRUTH[point])
        whole = Region(0, TRUTH.shape[0], 0, TRUTH.shape[1])
        if number in self.unknown:
            return FoundCell(whole, reason="Nothing.")
        return FoundCell(whole, (np.equal(TRUTH, number),), replaces=int(cells[point]))


def mend(cells: NDArray[np.int32], clicker: Any) -> tuple[int, int, int]:
    work = benchmark.mend(IMAGE, TRUTH, cells, 10.0, clicker)
    return work.clicks, work.keys, work.strokes


def test_missed_cells_and_their_deepest_points():
    cells = np.where(TRUTH == 2, 0, TRUTH)
    cells[TRUTH == 4] = 0
    cells[30:34, 5:15] = 9  # less than half of the fourth
    missed = benchmark.missed_cells(TRUTH, cells)
    assert [one.number for one in missed] == [2, 4]
    assert missed[0].point in [(y, x) for y in (9, 10) for x in (34, 35)]
    assert benchmark.missed_cells(TRUTH, TRUTH) == []


def test_mending_with_and_without_the_tool():
    cells = np.where(TRUTH > 2, 0, TRUTH)
    assert mend(TRUTH, Knowing()) == (0, 0, 0)
    assert mend(cells, Knowing()) == (2, 0, 0)
    assert mend(cells, Knowing(3)) == (2, 0, 1)
    assert mend(cells, None) == (0, 0, 2)


def test_a_wrong_cell_is_replaced_and_a_false_one_deleted():
    both = np.where(TRUTH == 2, 1, TRUTH)  # the first two are one, with what lies between
    both[5:13, 15:25] = 1
    assert mend(both, Knowing()) == (1, 0, 0)  # what is left of it is the second
    false = TRUTH + 9 * squares((45, 70))
    assert mend(false, Knowing()) == (1, 0, 0)
    assert mend(false, None) == (1, 0, 0)


def test_a_stroke_takes_longer_than_a_click():
    work = benchmark.Work(clicks=2, keys=1, strokes=3, computing=0.5)
    assert work.seconds == pytest.approx(2 * 1.5 + 1 * 1.0 + 3 * 8.0 + 0.5)


@pytest.mark.parametrize(
    ("modality", "folder", "name"),
    [
        ("fluorescence", "dsb2018", "nuclei"),
        ("phase-contrast", "usiigaci", "whole cells"),
        ("whole-cell fluorescence", "a", "whole cells"),
        ("bacteria, phase", "b", "bacteria"),
    ],
)
def test_modalities(modality, folder, name):
    item = AnnotatedImage(Path("i.png"), Path("m.png"), modality, "val", folder=folder)
    assert benchmark.modality_of(item) == name
