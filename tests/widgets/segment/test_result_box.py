"""The list of results as the user sees it."""

from __future__ import annotations

import pytest

from napari_unet_cells.widgets.segment.earlier_results import Choice
from napari_unet_cells.widgets.segment.result_box import ResultBox

pytestmark = pytest.mark.gui


@pytest.fixture
def box(qtbot):
    box = ResultBox()
    qtbot.addWidget(box)
    return box


def test_results_are_offered_and_the_choice_is_told(qtbot, box):
    assert box.isHidden()
    box.show_choice(Choice(("14:33, shown", "14:32, 2 cells"), 0))
    assert not box.isHidden()
    assert box.box.currentText() == "14:33, shown"
    with qtbot.waitSignal(box.chosen) as told:
        box.box.setCurrentIndex(1)
        box.box.activated.emit(1)
    assert told.args == [1]
    box.show_choice(Choice())
    assert box.isHidden()


def test_showing_results_chooses_none(qtbot, box):
    with qtbot.assertNotEmitted(box.chosen):
        box.show_choice(Choice(("14:33, shown", "14:32, 2 cells"), 1))
        box.show_choice(Choice(("14:34, removed",), -1))
    assert box.box.currentText() == ""
    assert box.box.placeholderText() == "removed; choose one"


def test_the_names_are_brought_up_to_date_before_the_list_opens(qtbot, box):
    box.show_choice(Choice(("14:33, corrected", "14:32, 2 cells"), 0))
    box.opening.connect(lambda: box.show_choice(Choice(("14:33, 3 cells", "14:32, 2 cells"), 0)))
    box.show()
    box.box.showPopup()
    assert box.box.itemText(0) == "14:33, 3 cells"
    box.box.hidePopup()
