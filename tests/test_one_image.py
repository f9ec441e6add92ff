"""The bench of one image: its halves share no pixel, and what was measured is kept."""

from __future__ import annotations

import json

import numpy as np
import one_image
import pytest
from one_image import Half, Halves, table
from PIL import Image

from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.models.catalogue import find_model

RESULTS = [
    {"image": "a", "k": 0, "ap50": 0.1},
    {"image": "a", "k": 8, "ap50": 0.5},
    {"image": "a", "k": 8, "ap50": 0.7},
    {"image": "b", "k": 0, "ap50": 0.0},
    {"image": "b", "k": 8, "ap50": 0.8},
    {"image": "c", "k": 0, "ap50": 0.9},
]


@pytest.fixture
def item(tmp_path):
    """Make an annotated image of eight columns, whose pixels and labels tell where they are."""
    columns = np.tile(np.arange(8, dtype=np.uint8), (4, 1))
    for name, pixels in (("images", columns + 10), ("masks", columns)):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "data" / name / "a.png")
    return read_annotated_images([tmp_path / "data"])[0]


def test_what_is_scored_was_not_corrected(item):
    left, right = Half.pair(item)
    assert left.truth[0].tolist() == [0, 1, 2, 3]
    assert right.truth[0].tolist() == [4, 5, 6, 7]
    assert right.image[0].tolist() == [14, 15, 16, 17]
    assert (left.name, right.name) == ("a", "a")


def test_the_median_is_of_the_images_that_were_retrained():
    assert table(RESULTS).splitlines()[2:] == [
        "| a | 0.10 | 0.50, 0.70 | 0.60 |",
        "| b | 0.00 | 0.80 | 0.80 |",
        "| **median** | **0.05** | | **0.70** |",
    ]


def test_what_was_measured_is_not_measured_again(item, tmp_path, monkeypatch):
    learned = []

    def learn(self, left, right, seed):
        learned.append(seed)
        return {"ap50": 0.5}

    monkeypatch.setattr(Halves, "_learned", learn)
    monkeypatch.setattr(one_image.Half, "score", lambda half, card: {"ap50": 0.1})
    for seeds in (1, 2):
        Halves(find_model("cells-fast"), tmp_path, k=8, steps=10).measure(item, seeds)

    assert learned == [0, 1]
    lines = (tmp_path / "one-image.jsonl").read_text().splitlines()
    assert [json.loads(line)["k"] for line in lines] == [0, 8, 8]
