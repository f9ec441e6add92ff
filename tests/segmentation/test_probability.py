"""Probability of cells from the fragments of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.measure import measure
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.probability import PROBABILITY, ProbabilityMap
from napari_unet_cells.segmentation.result import Fragments

OPTIONS = InstanceOptions(min_size=1, min_probability=0.0, smoothing=0.0)


def probabilities() -> np.ndarray:
    """Three cells of one probability each, and a ring of a fourth around a hole."""
    cell = np.zeros((60, 80), np.uint8)
    cell[5:15, 5:15], cell[5:15, 30:45], cell[30:50, 10:30] = 250, 200, 150
    cell[25:45, 50:70] = 230
    cell[33:37, 58:62] = 0
    return np.stack([cell, np.zeros_like(cell)])


@pytest.fixture(scope="module")
def fragments() -> Fragments:
    return Fragments.of(probabilities(), OPTIONS, (60, 80), 1.0)


def by_label(labels, fragments) -> dict[int, float]:
    known = ProbabilityMap.of([fragments], labels.shape)
    assert known is not None
    table = measure(labels, means={PROBABILITY: known})
    return dict(zip(table.columns["label"], table.columns[PROBABILITY], strict=True))


def test_a_cell_has_the_mean_of_its_pixels(fragments):
    labels = fragments.cells(OPTIONS)
    cell = probabilities()[0] / 255
    found = by_label(labels, fragments)
    assert len(found) == 4
    for label, probability in found.items():
        own = (labels == label) & (cell > 0)  # the filled hole counts as nothing
        assert probability == pytest.approx(cell[own].mean(), abs=0.02)


def test_it_is_what_the_threshold_is_compared_with(fragments):
    found = sorted(by_label(fragments.cells(OPTIONS), fragments).values())
    for kept, least in enumerate(found):
        options = replace(OPTIONS, min_probability=least + 1e-3)
        assert fragments.cells(options).max() == len(found) - kept - 1


def test_a_corrected_cell_has_that_of_what_it_covers(fragments):
    labels = np.zeros((60, 80), np.uint16)
    labels[5:15, 5:25] = 1  # half of it beside the fragment
    labels[50:60, 60:80] = 2  # where the network saw nothing
    found = by_label(labels, fragments)
    assert found[1] == pytest.approx(250 / 255, abs=0.02)
    assert np.isnan(found[2])


def test_planes_and_windows_are_read(fragments):
    other = Fragments.of(probabilities()[:, :, ::-1].copy(), OPTIONS, (60, 80), 1.0)
    known = ProbabilityMap.of([fragments, other], (2, 60, 80))
    assert known is not None
    part = known[0, slice(5, 15), slice(5, 15)]
    assert part.shape == (10, 10)
    assert part[5, 5] == pytest.approx(250 / 255, abs=0.01)
    assert np.isnan(known[1, slice(5, 15), slice(5, 15)]).all()


@pytest.mark.parametrize("shape", [(60, 81), (2, 60, 80)])
def test_labels_of_another_shape_have_none(fragments, shape):
    assert ProbabilityMap.of([fragments], shape) is None
    assert ProbabilityMap.of([], shape) is None


def test_packed_planes_are_unpacked_when_they_are_read(fragments, monkeypatch):
    kept = KeptFragments([fragments, fragments])
    kept.pack()
    unpacked = []
    ask = KeptFragments.__getitem__
    monkeypatch.setattr(
        KeptFragments, "__getitem__", lambda self, i: unpacked.append(i) or ask(self, i)
    )
    known = ProbabilityMap.of(kept, (2, 60, 80))
    assert known is not None
    assert unpacked == []
    assert known[1, slice(5, 15), slice(5, 15)][5, 5] == pytest.approx(250 / 255, abs=0.01)
    assert unpacked == [1]
    kept.forget()
    assert np.isnan(known[0, slice(5, 15), slice(5, 15)]).all()
