"""Wiring, and every widget that listens to a viewer: when it dies, nothing of it is left there."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import re
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.utils.events import EmitterGroup, Event

from napari_unet_cells import widgets
from napari_unet_cells.core.regions import Review
from napari_unet_cells.layers.metadata import CELLS, REVIEW, result_metadata
from napari_unet_cells.layers.selection import labels_for, labels_layers
from napari_unet_cells.models import catalogue
from napari_unet_cells.widgets.napari_versions import camera_of
from napari_unet_cells.widgets.wiring import Wired, Wiring, emitters

FOLDER = Path(widgets.__file__).parent


class Listener:
    """Owner of callbacks that counts their events."""

    def __init__(self, emitters) -> None:
        self.wiring = Wiring()
        self.heard: list[str] = []
        self.wiring.connect(self.hear, emitters.one, emitters.two)

    def hear(self, event):
        self.heard.append(event.type)


@pytest.fixture
def events():
    return EmitterGroup(one=Event, two=Event, three=Event)


def test_events_are_heard_until_the_release(events):
    listener = Listener(events)
    events.one()
    events.two()
    events.three()
    assert listener.heard == ["one", "two"]
    listener.wiring.release()
    events.one()
    assert listener.heard == ["one", "two"]
    assert not events.one.callbacks
    assert not events.two.callbacks
    listener.wiring.release()  # again does nothing
    listener.wiring.connect(listener.hear, events.three)
    events.three()
    assert listener.heard == ["one", "two", "three"]
    listener.wiring.release()
    assert not events.three.callbacks


def test_a_part_ends_before_or_with_the_whole(events):
    listener = Listener(events)
    part = listener.wiring.part()
    part.connect(listener.hear, events.three)
    part.release()
    events.three()
    events.one()
    assert listener.heard == ["one"]
    part.connect(listener.hear, events.three)
    listener.wiring.release()
    events.three()
    assert listener.heard == ["one"]


def test_the_end_is_heard_once_the_last_one_first():
    wiring, ended = Wiring(), []
    callbacks: list[Any] = [print]
    wiring.at_end(ended.append, 1)
    wiring.at_end(ended.append, 2)
    wiring.append(callbacks, repr)
    assert callbacks == [print, repr]
    callbacks.remove(repr)  # as napari does with the callbacks of a layer that is removed
    wiring.release()
    wiring.release()
    assert ended == [2, 1]
    assert callbacks == [print]


def test_an_owner_is_not_kept_alive(events):
    listener = Listener(events)
    reference = weakref.ref(listener)
    del listener
    gc.collect()
    assert reference() is None
    events.one()  # reaches nobody, and fails for nobody


def test_emitters_that_a_layer_lacks_are_left_out(events):
    layer = SimpleNamespace(events=events)
    assert emitters(layer, ("one", "four", "three")) == [events.one, events.three]


def test_nobody_connects_to_napari_but_by_a_wiring():
    by_hand = re.compile(r"(events\.\w+|emitter)\.(dis)?connect\(|callbacks\.(append|remove)\(")
    found = {
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.rglob("*.py")
        if by_hand.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"wiring.py"}


# --- every widget ------------------------------------------------------------------------


class NoEngine:
    """Engine of a section that starts no run."""

    pid = None


def _layer_box(viewer, layer):
    from napari_unet_cells.widgets.layer_box import LayerBox

    return LayerBox(viewer, labels_layers, labels_for)


def _measuring(viewer, layer):
    from napari_unet_cells.widgets.export.measuring import Measuring

    return Measuring(viewer, layer)


def _table(viewer, layer):
    from napari_unet_cells.widgets.export.table import TableView

    return TableView(viewer, layer)


def _large_table(viewer, layer):
    from napari_unet_cells.layers.metadata import OURS, ZARR
    from napari_unet_cells.widgets.export.large_table import LargeTable

    layer.metadata[OURS][ZARR] = str(FOLDER / "none.ome.zarr")
    return LargeTable(viewer, layer)


def _column_histogram(viewer, layer):
    from napari_unet_cells.widgets.export.column_histogram import ColumnHistogram

    return ColumnHistogram(viewer)


def _tools(viewer, layer):
    from napari_unet_cells.widgets.correct.tools_form import ToolsForm

    form = ToolsForm(viewer)
    form.choose("merge")
    return form


def _review(viewer, layer):
    from napari_unet_cells.widgets.correct.review_form import ReviewForm

    form = ReviewForm(viewer)
    form.review_button.click()
    form.review_button.click()
    return form


def _tracks(viewer, layer):
    from napari_unet_cells.widgets.correct.tracks_form import TracksForm

    return TracksForm(viewer, lambda: layer)


def _part(viewer, layer):
    from napari_unet_cells.widgets.correct.part_form import PartForm

    return PartForm(viewer, lambda: layer)


def _learning(viewer, layer):
    from napari_unet_cells.widgets.correct.learning_form import LearningForm
    from napari_unet_cells.widgets.correct.review_form import ReviewForm

    engine: Any = NoEngine()
    review = ReviewForm(viewer)
    form = LearningForm(viewer, engine, review.controller, lambda: "cells")
    review.setParent(form)
    return form


def _autosave(viewer, layer):
    from napari_unet_cells.widgets.correct.autosave import Autosave

    return Autosave(viewer)


def _correct(viewer, layer):
    from napari_unet_cells.widgets.correct.section import CorrectSection

    return CorrectSection(viewer)


def _segment(viewer, layer):
    from napari_unet_cells.widgets.segment.section import SegmentSection

    engine: Any = NoEngine()
    return SegmentSection(viewer, engine)


def _export(viewer, layer):
    from napari_unet_cells.widgets.export.section import ExportSection

    return ExportSection(viewer)


def _status_line(viewer, layer):
    from qtpy.QtWidgets import QLabel

    from napari_unet_cells.widgets.status_line import StatusLine

    line = StatusLine(QLabel())
    line.follow(layer)
    return line


def _size_circle(viewer, layer):
    from napari.layers import Image

    from napari_unet_cells.widgets.segment.size_circle import SizeCircle

    below = viewer.window._qt_viewer.canvas.native
    return SizeCircle(viewer, below, Image(np.zeros((4, 5))), 20.0)


def _cell_outlines(viewer, layer):
    from qtpy.QtWidgets import QWidget

    from napari_unet_cells.widgets.export.cell_outlines import CellOutlines

    return CellOutlines(viewer, layer, QWidget())


def _folder(viewer, layer):
    from qtpy.QtWidgets import QWidget

    from napari_unet_cells.widgets.folder.at_hand import AtHand
    from napari_unet_cells.widgets.folder.section import FolderSection

    parent = QWidget()
    section = FolderSection(viewer, AtHand, parent)
    section.kept = parent  # it goes with its parent
    return section


def _dock(viewer, layer):
    from napari_unet_cells.widgets.dock import UNetCellsDock

    return UNetCellsDock(viewer)


MAKERS = {
    "LayerBox": _layer_box,
    "Measuring": _measuring,
    "TableView": _table,
    "LargeTable": _large_table,
    "ColumnHistogram": _column_histogram,
    "ToolsForm": _tools,
    "ReviewForm": _review,
    "LearningForm": _learning,
    "TracksForm": _tracks,
    "PartForm": _part,
    "Autosave": _autosave,
    "SegmentSection": _segment,
    "StatusLine": _status_line,
    "SizeCircle": _size_circle,
    "CellOutlines": _cell_outlines,
    "FolderSection": _folder,
    "UNetCellsDock": _dock,
    # These hold some of them.
    "CorrectSection": _correct,
    "ExportSection": _export,
}


def _subclasses(cls):
    """Names of the classes of the package that are no base of others."""
    found = set()
    for child in cls.__subclasses__():
        if child.__module__.startswith("napari_unet_cells"):
            found |= _subclasses(child) or {child.__name__}
    return found


@pytest.mark.gui
def test_every_one_is_tested():
    for module in pkgutil.walk_packages(widgets.__path__, f"{widgets.__name__}."):
        importlib.import_module(module.name)
    assert {"ToolsForm", "LayerBox"} <= _subclasses(Wired)
    assert _subclasses(Wired) <= set(MAKERS)


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch, tmp_path):
    """Open a viewer with cells; without a model, no section warms one up."""
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "none")
    viewer = make_napari_viewer()
    labels = np.zeros((40, 50), np.uint16)
    labels[5:20, 5:20] = 1
    metadata = result_metadata(CELLS, "none", {}) | {REVIEW: Review(labels)}
    viewer.add_labels(labels, name="cells", metadata=metadata)
    return viewer


def listeners(viewer):
    """Everything that the viewer and its layers would call."""
    model = (
        viewer, viewer.layers, viewer.layers.selection, viewer.dims, camera_of(viewer),
        viewer.cursor, *viewer.layers,
    )  # fmt: skip
    found = {
        (number, name): list(emitter.callbacks)
        for number, thing in enumerate(model)
        for name, emitter in thing.events.emitters.items()
    }
    for number, thing in enumerate((viewer, *viewer.layers)):
        found[number, "keys"] = list(thing.keymap)
        for name in ("drag", "move", "wheel", "double_click"):
            found[number, name] = list(getattr(thing, f"mouse_{name}_callbacks"))
    return found


@pytest.mark.gui
@pytest.mark.parametrize("first", ["qt", "python"])
@pytest.mark.parametrize("name", MAKERS)
def test_one_that_dies_leaves_no_callback(viewer, qtbot, name, first):
    before = listeners(viewer)
    widget = MAKERS[name](viewer, viewer.layers["cells"])
    assert type(widget).__name__ == name
    assert listeners(viewer) != before
    widget.deleteLater()
    kept = [widget] if first == "qt" else []
    del widget
    gc.collect()
    qtbot.waitUntil(lambda: not left_at(viewer, before), timeout=30_000)
    viewer.layers["cells"].data_setitem((np.array([0]), np.array([0])), 1)
    viewer.add_labels(np.zeros((40, 50), np.uint8))
    viewer.dims.ndisplay = 3  # nobody is called who is gone
    kept.clear()


def left_at(viewer, before):
    return {key for key, now in listeners(viewer).items() if now != before[key]}


@pytest.mark.gui
def test_one_that_connects_by_hand_would_be_found(viewer):
    class Careless:
        def hear(self, event=None):
            """Do nothing."""

    before, careless = listeners(viewer), Careless()
    viewer.layers["cells"].events.paint.connect(careless.hear)
    number = 6  # the first layer, after what every viewer has
    assert left_at(viewer, before) == {(number, "paint")}
