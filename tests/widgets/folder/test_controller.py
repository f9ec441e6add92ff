"""The list without Qt: threads that wait until the test lets them run."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.batch.background import Began, Done, DoneBefore, Event, Listed, Said
from napari_unet_cells.batch.image_list import LIST, ImageList, read_list, save_list
from napari_unet_cells.batch.marks import MARKS, read_marks
from napari_unet_cells.errors import UserError
from napari_unet_cells.settings import recall
from napari_unet_cells.widgets.folder import controller as controller_module
from napari_unet_cells.widgets.folder.controller import (
    LAST_LIST,
    FolderController,
    ListState,
    Runners,
)
from napari_unet_cells.widgets.folder.rows import State


class Window:
    """Notes what it is told to show."""

    def __init__(self) -> None:
        self.states: list[ListState] = []
        self.warnings: list[str] = []
        self.shown: list[int] = []
        self.resets = 0

    def show_rows(self) -> None:
        self.resets += 1

    def show_row(self, index: int) -> None:
        self.shown.append(index)

    def show_state(self, state: ListState) -> None:
        self.states.append(state)

    def show_failed(self) -> None:
        pass

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


class Desk:
    """A controller with its threads and its window."""

    def __init__(self, make_thread: Any) -> None:
        self.window = Window()
        self.run_thread, self.looking, self.marking = make_thread(), make_thread(), make_thread()
        self.reporting = make_thread()
        runners = Runners(self.run_thread, self.looking, self.marking, self.reporting)
        self.controller = FolderController(self.window, runners)
        controller = self.controller
        self.run_thread.connect(controller.receive, controller.failed, cancelled=controller.ended)
        self.looking.connect(controller.found, controller.looking_failed)
        self.marking.connect(controller.marked, controller.marking_failed)

    def let_run(self) -> None:
        """Run the batch to its end."""
        self.run_thread.work()
        self.controller.ended()

    def let_look(self) -> None:
        self.looking.work()
        self.controller.refresh()

    def let_mark(self) -> None:
        self.marking.work()
        self.controller.marking_ended()

    @property
    def texts(self) -> dict[str, str]:
        return {row.name: row.text for row in self.controller.rows}

    @property
    def state(self) -> ListState:
        return self.window.states[-1]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_thread: Any) -> Desk:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / "in" / f"{name}.tif").touch()
    return Desk(make_thread)


#: What a batch of three images says; the second one fails.
EVENTS: tuple[Event, ...] = (
    Began("a", 0.0),
    Done("a", "", "12 cells in 1.0 s", 12),
    Began("b", 0.0),
    Began("b", 0.5),
    Done("b", "b.tif is damaged."),
    Began("c", 0.0),
    Done("c", "", "3 cells in 1.0 s", 3),
)


def says(monkeypatch: pytest.MonkeyPatch, *events: Event, problem: str = "") -> None:
    """Let batches say something, after the images that they list."""

    def follow(output: Path, stop: threading.Event) -> Generator[Event, None, None]:
        images = Path(read_list(output).named[0])
        yield Listed(tuple((path.stem, str(path), "") for path in sorted(images.iterdir())))
        yield from events
        if problem:
            raise UserError(problem)

    monkeypatch.setattr(controller_module, "follow", follow)


def chosen(tmp_path: Path) -> ImageList:
    return ImageList((str(tmp_path / "in"),), "cells", said="Model cells.")


def test_a_new_list_is_kept_and_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says(monkeypatch, Said("Something."), *EVENTS)
    output = tmp_path / "out"
    desk.controller.start(chosen(tmp_path), output)
    assert (desk.state.running, desk.state.button, desk.state.settings) == (
        True,
        "Pause",
        "Model cells.",
    )
    assert not (output / LIST).exists()
    desk.let_run()
    assert read_list(output) == chosen(tmp_path)
    assert recall(LAST_LIST) == str(output)
    assert desk.texts == {"a": "12 cells", "b": "failed: b.tif is damaged.", "c": "3 cells"}
    state = desk.state
    assert (state.running, state.said) == (False, "2 of 3 done, 1 failed")
    assert (state.button, state.can_press, state.note) == ("Try again", True, "Something.")


def test_the_rows_show_how_it_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says(monkeypatch, *EVENTS)
    desk.controller.start(chosen(tmp_path), tmp_path / "out")
    seen = []
    for event in desk.run_thread.events:
        desk.controller.receive(event)
        seen.append(desk.texts.get("b", ""))
    assert seen == [
        *["waiting"] * 4,
        "segmenting",
        "segmenting, 50%",
        *["failed: b.tif is damaged."] * 3,
    ]
    assert desk.window.shown == [0, 0, 1, 1, 1, 2, 2]


def test_images_done_before_are_taken_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = [Done(name, "", "7 cells in 1.0 s", 7, before=True) for name in ("c", "a", "gone")]
    says(monkeypatch, DoneBefore(tuple(before)))
    desk.controller.start(chosen(tmp_path), tmp_path / "out")
    seen = []
    for event in desk.run_thread.events:
        resets, states = desk.window.resets, len(desk.window.states)
        desk.controller.receive(event)
        if isinstance(event, DoneBefore):
            seen.append((desk.window.resets - resets, len(desk.window.states) - states))
    assert seen == [(1, 1)]
    assert desk.window.shown == []
    assert desk.texts == {"a": "7 cells", "b": "waiting", "c": "7 cells"}
    assert desk.state.said == "2 of 3 done"


def test_a_paused_run_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    says(monkeypatch, *EVENTS)
    desk.controller.start(chosen(tmp_path), tmp_path / "out")
    events: Iterator[Any] = desk.run_thread.events
    for _ in range(5):
        desk.controller.receive(next(events))
    assert desk.texts == {"a": "12 cells", "b": "segmenting", "c": "waiting"}
    desk.controller.press()
    assert desk.texts == {"a": "12 cells", "b": "not done", "c": "not done"}
    assert (desk.state.running, desk.state.button) == (False, "Go on")
    desk.controller.press()
    assert desk.texts == {"a": "12 cells", "b": "waiting", "c": "waiting"}
    desk.let_run()
    assert desk.texts["c"] == "3 cells"


def test_what_ends_a_run_is_said_and_what_is_done_stays(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says(monkeypatch, *EVENTS[:2], problem="The disk is full.")
    desk.controller.start(chosen(tmp_path), tmp_path / "out")
    desk.let_run()
    assert desk.window.warnings == ["The disk is full."]
    assert (desk.state.note, desk.state.button) == ("The disk is full.", "Go on")
    assert desk.texts == {"a": "12 cells", "b": "not done", "c": "not done"}


@pytest.mark.parametrize(
    ("images", "output", "said"),
    [
        ("in", "in/out", "lies inside"),
        ("empty", "out", "is a folder without images"),
        ("gone", "out", "does not exist"),
        ("in", "home.txt/out", "home.txt"),
    ],
)
def test_a_list_that_cannot_begin_is_said_and_leaves_nothing(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    images: str,
    output: str,
    said: str,
) -> None:
    says(monkeypatch, *EVENTS)
    (tmp_path / "empty").mkdir()
    (tmp_path / "home.txt").touch()
    wanted = ImageList((str(tmp_path / images),), "cells")
    desk.controller.start(wanted, tmp_path / output)
    desk.let_run()
    (warning,) = desk.window.warnings
    assert said in warning
    assert not (tmp_path / output).exists()
    assert (desk.controller.output, desk.state.can_press) == (None, False)
    assert recall(LAST_LIST) is None


def test_the_list_of_the_last_time_is_opened_and_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_thread: Any
) -> None:
    says(monkeypatch, *EVENTS)
    assert not desk.controller.reopen()
    desk.controller.start(chosen(tmp_path), tmp_path / "out")
    desk.let_run()
    later = Desk(make_thread)  # napari was closed, and opened again
    assert later.controller.reopen()
    assert later.state.said == "Reading the list..."
    later.let_look()
    assert later.texts == dict.fromkeys("abc", "not done")  # there are no files of it
    assert (later.state.settings, later.state.button) == ("Model cells.", "Start")
    later.controller.press()
    later.let_run()
    assert later.state.said == "2 of 3 done, 1 failed"


def test_a_list_that_is_gone_is_said(desk: Desk, tmp_path: Path) -> None:
    desk.controller.open(tmp_path / "in")
    desk.let_look()
    assert "holds no list of images" in desk.state.note
    assert (desk.controller.output, desk.state.can_press) == (None, False)


def finished(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    says(monkeypatch, *EVENTS)
    desk.controller.start(chosen(tmp_path), tmp_path / "out")
    desk.let_run()
    return tmp_path / "out"


def test_marks_are_kept_and_shown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_thread: Any
) -> None:
    output = finished(desk, monkeypatch, tmp_path)
    desk.controller.approve("a", True)
    desk.controller.approve("c", True)  # while the other one is written
    desk.controller.approve("b", True)  # it failed
    desk.let_mark()
    desk.let_mark()
    assert read_marks(output).approved.keys() == {"a", "c"}
    assert [row.approved for row in desk.controller.rows] == [True, False, True]
    assert desk.state.said == "2 of 3 done, 1 failed, 2 approved"
    desk.controller.approve("a", False)
    desk.let_mark()
    assert read_marks(output).approved.keys() == {"c"}
    later = Desk(make_thread)
    later.controller.open(output)
    later.let_look()
    assert [row.approved for row in later.controller.rows] == [False, False, True]


def test_a_mark_that_cannot_be_kept_is_said(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = finished(desk, monkeypatch, tmp_path)
    (output / MARKS).write_text("{")
    desk.controller.approve("a", True)
    desk.let_mark()
    assert "which says what you approved, cannot be read" in desk.window.warnings[0]
    assert [row.approved for row in desk.controller.rows] == [False, False, False]


def test_marks_of_the_list_before_are_kept_and_are_not_shown_in_another(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = finished(desk, monkeypatch, tmp_path)
    save_list(tmp_path / "other", chosen(tmp_path))
    desk.controller.approve("a", True)
    desk.controller.approve("c", True)  # waits until the other one is written
    desk.controller.open(tmp_path / "other")
    desk.let_look()
    desk.let_mark()
    desk.let_mark()
    assert read_marks(output).approved.keys() == {"a", "c"}
    assert read_marks(tmp_path / "other").approved == {}
    assert [row.approved for row in desk.controller.rows] == [False] * 3


def test_marks_are_kept_where_the_next_list_cannot_be_opened(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = finished(desk, monkeypatch, tmp_path)
    desk.controller.approve("a", True)
    desk.controller.approve("c", True)
    desk.controller.open(tmp_path / "in")  # holds no list
    desk.let_look()
    desk.let_mark()
    desk.let_mark()
    assert read_marks(output).approved.keys() == {"a", "c"}


def test_another_list_pauses_the_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says(monkeypatch, *EVENTS)
    save_list(tmp_path / "other", chosen(tmp_path))
    desk.controller.start(chosen(tmp_path), tmp_path / "out")
    desk.controller.receive(next(desk.run_thread.events))
    desk.controller.open(tmp_path / "other")
    assert not desk.run_thread.running
    assert desk.controller.rows == []
    desk.let_look()
    assert [row.state for row in desk.controller.rows] == [State.LEFT] * 3
