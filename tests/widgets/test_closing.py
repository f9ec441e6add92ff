"""What is taken out of its window ends, once its work has."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_unet_cells.widgets.closing import EndWhenClosed

pytestmark = pytest.mark.gui


@pytest.fixture
def frame(qtbot):
    window = QMainWindow()
    qtbot.addWidget(window)
    frame = QDockWidget(window)
    frame.setWidget(QWidget())
    yield frame
    window.close()


def test_it_ends_when_it_loses_its_frame(qtbot, frame):
    content, said = frame.widget(), []
    EndWhenClosed(content, lambda: said.append("stopped"))
    content.destroyed.connect(lambda: said.append("gone"))
    content.setParent(None)
    qtbot.waitUntil(lambda: said == ["stopped", "gone"], timeout=2000)


def test_it_waits_for_what_has_to_come_to_its_end(qtbot, frame):
    content, said, running = frame.widget(), [], [True]
    EndWhenClosed(content, lambda: said.append("finish"), busy=lambda: running[0])
    content.destroyed.connect(lambda: said.append("gone"))
    content.setParent(None)
    qtbot.wait(500)
    assert said == ["finish"]
    running[0] = False
    qtbot.waitUntil(lambda: said == ["finish", "gone"], timeout=2000)


def test_another_frame_is_no_end(qtbot, frame):
    content, said = frame.widget(), []
    EndWhenClosed(content, lambda: said.append("stopped"))
    other = QDockWidget(frame.parentWidget())
    content.setParent(None)
    other.setWidget(content)
    qtbot.wait(100)
    assert said == []
