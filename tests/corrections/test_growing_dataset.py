"""A dataset that follows approvals: what is new comes, what changed is renewed, the rest goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.regions import RegionGrid, Review
from napari_unet_cells.corrections import growing_dataset
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.corrections.dataset_writer import add
from napari_unet_cells.corrections.growing_dataset import GrowingDataset, approved_diameter
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.layers.pixel_size import PixelSize

FIRST, SECOND = ((), 0), ((), 1)


def approved(*places, name="image", review=None, labels=None) -> Approved:
    image = np.random.default_rng(len(name)).integers(0, 200, (80, 160)).astype(np.uint8)
    if labels is None:
        labels = np.zeros((80, 160), np.uint16)
        labels[20:30, 20:30], labels[20:40, 100:120] = 1, 2
    review = review or Review(labels, grid=RegionGrid((80, 160), (1, 2)))
    return Approved(
        labels,
        review,
        dict.fromkeys(places, "2026-01-01T00:00:00+00:00"),
        planes_of(image),
        lambda: PixelSize(1.0, 1.0, "pixel"),
        {"role": "cells", "provenance": {"classes": ["background", "cell", "boundary"]}},
        {"layer": name, "path": None, "shape": [80, 160]},
        "labels",
    )


def masks(dataset):
    return [item.read()[1] for item in read_annotated_images([dataset.folder])]


@pytest.fixture
def dataset(tmp_path):
    return GrowingDataset(tmp_path / "regions")


def test_only_what_is_new_is_written(dataset, monkeypatch):
    written = []

    def counted(folder, one):
        written.extend(one.dates)
        return add(folder, one)

    monkeypatch.setattr(growing_dataset, "add", counted)
    first = approved(FIRST)
    assert dataset.update([first]) == 1
    both = approved(FIRST, SECOND, review=first.review)
    assert dataset.update([both]) == 2
    assert dataset.update([both]) == 2
    assert written == [FIRST, SECOND]


def test_a_region_that_was_corrected_since_is_renewed(dataset):
    before = approved(FIRST)
    dataset.update([before])
    assert masks(dataset)[0].max() == 2
    before.labels[50:60, 50:60] = 9
    assert dataset.update([before]) == 1
    (mask,) = masks(dataset)
    assert mask.max() == 9


def test_what_is_withdrawn_goes_and_can_come_back(dataset):
    both = approved(FIRST, SECOND)
    other = approved(FIRST, name="another")
    assert dataset.update([both, other]) == 3
    assert dataset.update([replace(both, dates={SECOND: ""}), other]) == 2
    assert len(masks(dataset)) == 2
    assert dataset.update([other], [both.review]) == 1  # the last one of these labels
    assert dataset.update([both]) == 3  # those of labels that are closed stay
    assert len(masks(dataset)) == 3


def test_the_size_is_that_of_whole_cells_where_there_are_enough():
    labels = np.zeros((80, 160), np.uint16)
    for i in range(5):
        labels[10:20, 3 + 15 * i : 13 + 15 * i] = i + 1
    labels[30:80, 10:70] = 50  # goes on beyond the region
    assert approved_diameter(approved(FIRST, labels=labels)) == pytest.approx(11.3, abs=0.1)
    assert approved_diameter(approved(SECOND, labels=labels)) == 0
    labels[10:20, 3:13] = 0
    assert approved_diameter(approved(FIRST, labels=labels)) == 0
