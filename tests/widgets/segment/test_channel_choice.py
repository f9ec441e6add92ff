"""Channels to check, of which one is made."""

from __future__ import annotations

import pytest

from napari_unet_cells.widgets.segment.channel_choice import ChannelChoice

pytestmark = pytest.mark.gui

TITLES = ["Channel 1 of 3 (DAPI)", "Channel 2 of 3 (GFP)", "Channel 3 of 3 (RFP)"]


@pytest.fixture
def choice(qtbot):
    choice = ChannelChoice()
    qtbot.addWidget(choice)
    return choice


def test_what_is_checked_is_named_and_told(qtbot, choice):
    choice.show_channels(TITLES, range(3))
    assert choice.text() == "all 3 channels"
    with qtbot.waitSignal(choice.changed):
        choice.boxes[1].click()
    assert choice.channels == (0, 2)
    assert choice.text() == "1, 3 of 3 channels"
    assert choice.toolTip() == "Channel 1 of 3 (DAPI)\nChannel 3 of 3 (RFP)"
    for box in (choice.boxes[0], choice.boxes[2]):
        box.click()
    assert choice.text() == "none of 3 channels"
    assert choice.channels == ()


def test_the_list_stays_open_while_boxes_are_checked(qtbot, choice):
    choice.show_channels(TITLES, (0,))
    choice.show()
    choice.menu().popup(choice.mapToGlobal(choice.rect().bottomLeft()))
    qtbot.waitUntil(choice.menu().isVisible)
    choice.boxes[2].click()
    assert choice.menu().isVisible()
    choice.menu().close()
    choice.show_channels(TITLES[:2], (1,))  # of another image
    assert choice.channels == (1,)
    assert len(choice.menu().actions()) == 2
