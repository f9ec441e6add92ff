"""Which model searches for cells, and what of the found cells is written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet_cells.core.regions import Region
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import add_cells
from napari_unet_cells.segmentation.add_cells import added, fitting_model
from napari_unet_cells.segmentation.click import FoundCell

CELLS = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")
CARDS = {
    "cells": CELLS,
    "five": replace(CELLS, name="five", channels=5),
    "tissue": replace(CELLS, name="tissue", classes=("background", "tissue")),
}


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch):
    def find(name):
        if name not in CARDS:
            raise UserError(f"There is no model {name}.")
        return CARDS[name]

    monkeypatch.setattr(add_cells, "find_model", find)


def square(top, left, size=4, replaces=0):
    box = Region(top, top + size, left, left + size)
    return FoundCell(box, (np.ones((size, size), bool),), replaces=replaces)


def painted(labels, edit):
    after = labels.copy()
    after[edit.rows, edit.columns] = edit.values
    return after


def test_the_first_model_that_makes_cells_of_such_an_image():
    grey, five = np.zeros((9, 9)), np.zeros((9, 9, 5))
    assert fitting_model(("gone", "tissue", "", "five"), grey).name == "cells"
    assert fitting_model(("tissue", "five"), five).name == "five"
    assert fitting_model((), np.zeros((9, 9, 3))).name == "cells"
    with pytest.raises(UserError, match=r"of an image of 7 channels. Draw the cell"):
        fitting_model(("five",), np.zeros((9, 9, 7)))


def test_cells_get_ids_of_their_own_and_share_no_pixel():
    labels = np.zeros((12, 12), np.uint16)
    edit = added([square(0, 0), square(2, 2), square(8, 8)], labels, 5)
    assert len(set(zip(edit.rows, edit.columns, strict=True))) == len(edit.rows)
    after = painted(labels, edit)
    assert [int((after == n).sum()) for n in (5, 6, 7)] == [16, 12, 16]


def test_what_others_cover_by_now_stays():
    labels = np.zeros((8, 8), np.uint16)
    labels[:, 2:] = 3
    after = painted(labels, added([square(0, 0)], labels, 4))
    assert (after[:, 2:] == 3).all()
    assert (after == 4).sum() == 8
    labels[:, 0:2] = 2
    with pytest.raises(UserError, match="Other cells cover this place"):
        added([square(0, 0)], labels, 4)


def test_the_cell_that_is_replaced_may_be_painted_over_and_no_other():
    labels = np.zeros((8, 8), np.uint16)
    labels[0:4, 0:2], labels[0:4, 2:4] = 1, 2
    after = painted(labels, added([square(0, 0, replaces=1)], labels, 3))
    assert (after[0:4, 2:4] == 2).all()
    assert (after[0:4, 0:2] == 3).all()
