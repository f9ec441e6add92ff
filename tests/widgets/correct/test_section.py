"""The page Correct as a whole: it fits the dock at 1280 x 720, and all in it says what it does."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QAbstractButton, QProgressBar

from napari_unet_cells.core.regions import Review
from napari_unet_cells.layers.metadata import CELLS, REVIEW, result_metadata
from napari_unet_cells.widgets.correct.learning import LearningState
from napari_unet_cells.widgets.correct.section import CorrectSection

pytestmark = pytest.mark.gui

#: Pixels of a page of the dock.
WIDTH, HEIGHT = 300, 500


@pytest.fixture
def section(make_napari_viewer, qtbot, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    viewer = make_napari_viewer(show=True)
    section = CorrectSection(viewer)
    viewer.window.add_dock_widget(section, name="correct", area="right")
    labels = np.zeros((60, 90), np.uint16)
    labels[10:30, 10:30] = 1
    metadata = result_metadata(CELLS, "", {}) | {REVIEW: Review(labels)}
    viewer.add_labels(labels, name="cells", metadata=metadata)
    qtbot.wait(50)
    return section


def test_it_fits_without_scrolling_whatever_it_says(section):
    section.tools.choose("merge")
    section.review.controller.fail("The memory is full. Close other programs and try again.")
    section.learning.show_learning(
        LearningState(True, "Learned from 12 regions; looking at the image again...", "cells")
    )
    section.message.setText("Now click the cell that belongs to it; press Escape to start over.")
    assert section.minimumSizeHint().width() <= WIDTH
    assert section.layout().totalHeightForWidth(WIDTH) <= HEIGHT


def test_every_control_says_what_it_does(section):
    controls = section.findChildren((QAbstractButton, QProgressBar))
    assert len(controls) > 12
    assert [control.objectName() for control in controls if not control.toolTip()] == []


def test_a_chosen_tool_says_what_to_do(section):
    assert section.message.text() == ""
    section.tools.choose("merge")
    assert section.message.text().startswith("Click two cells that belong together")
    section.tools.choose("merge")
    assert section.message.text() == ""
