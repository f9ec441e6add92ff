"""Threads of the window: what becomes of them at the end. What they do is tested with the dock."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A Worker is a Qt object, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

#: Ends while a thread writes letters into pictures, and says what the thread came to.
WRITING = """
import threading
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from qtpy.QtCore import QCoreApplication
from napari_unet_cells.widgets.worker import Worker

begun = threading.Event()

def write(stop):
    font = FT2Font(findfont("DejaVu Sans"))
    while True:
        begun.set()
        font.set_text("letter by letter " * 50)
        font.draw_glyphs_to_bitmap()
        yield "written"

application = QCoreApplication([])
worker = Worker()
worker.start(write)
begun.wait()
"""


def test_the_program_ends_well_while_a_thread_is_in_a_library():
    ended = subprocess.run(
        [sys.executable, "-c", WRITING], capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")
