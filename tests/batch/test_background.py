"""The batch of the dock, in its process: followed, stopped, gone on with, killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from napari_unet_cells.batch import background
from napari_unet_cells.batch.background import (
    Began,
    Done,
    DoneBefore,
    Event,
    Listed,
    Said,
    follow,
)
from napari_unet_cells.batch.image_list import LIST, ImageList, save_list
from napari_unet_cells.batch.marks import mark
from napari_unet_cells.batch.request import Request
from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.pipeline import Settings

pytestmark = pytest.mark.slow

ENDINGS = {"_cells.tif", "_classes.tif", "_cells.csv", "_outlines.jpg", ".json"}


@pytest.fixture
def output(images: Path, tmp_path: Path) -> Path:
    """Give the folder of the results of three images and one that is none."""
    (images / "broken.tif").write_bytes(b"II*\0nonsense")
    save(images, tmp_path / "out")
    return tmp_path / "out"


def save(images: Path, output: Path, request: Request | None = None) -> None:
    chosen = request or Request(Settings(diameter=20.0))
    save_list(output, ImageList((str(images),), "cells-fast", chosen))


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "napari_unet_cells.batch.background_child" in child.cmdline()
    ]


def done_in(events: list[Event]) -> dict[str, Done]:
    before = [image for event in events if isinstance(event, DoneBefore) for image in event.images]
    now = [event for event in events if isinstance(event, Done)]
    assert {image.before for image in before} <= {True}
    assert {image.before for image in now} <= {False}
    return {image.name: image for image in [*before, *now]}


def test_images_done_before_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(background, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    images = [Done(f"n{n}", before=True) for n in range(450)]
    new = Done("new")
    events: list[Event | None] = [Said("first"), *images, new, images[0], None, None, images[1]]
    parts = ((0, 200), (200, 400), (400, 450))
    many = [DoneBefore(tuple(images[start:end])) for start, end in parts]
    few = [DoneBefore((images[0],)), DoneBefore((images[1],))]
    assert list(background.gathered(events)) == [Said("first"), *many, new, *few]


def test_no_image_that_was_done_before_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(background, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def slowly() -> Iterator[Event]:
        for number in range(6):
            yield Done(f"n{number}", before=True)
            clock[0] += 0.15

    told = [event for event in background.gathered(slowly()) if isinstance(event, DoneBefore)]
    assert [len(event.images) for event in told] == [3, 3]


def test_all_images_are_done_and_what_is_none_is_said(output: Path) -> None:
    events = list(follow(output, threading.Event()))
    (listed,) = [event for event in events if isinstance(event, Listed)]
    names = ["broken", "n0", "n1", "n2"]
    assert ([name for name, _, _ in listed.rows], listed.first) == (names, True)
    done = done_in(events)
    assert done.keys() == set(names)
    assert "cannot be read as a TIFF" in done["broken"].problem
    for name in names[1:]:
        assert (done[name].problem, done[name].before) == ("", False)
        assert done[name].summary.startswith(f"{done[name].cells} cells in")
    begun = [event.name for event in events if isinstance(event, Began) and not event.fraction]
    assert begun == names
    made = {f"{name}{ending}" for name in names[1:] for ending in ENDINGS}
    assert set(os.listdir(output)) == made | {"cells.csv", "report.html", LIST}
    assert children() == []


def test_a_batch_that_was_stopped_goes_on(output: Path) -> None:
    stop, first = threading.Event(), []
    for event in follow(output, stop):
        first.append(event)
        if isinstance(event, Done) and not event.problem:
            stop.set()
    finished = {name for name, done in done_in(first).items() if not done.problem}
    assert finished == {"n0"}
    assert children() == []
    assert [path for path in os.listdir(output) if path.endswith(".part")] == []
    assert "report.html" in os.listdir(output)
    again = done_in(list(follow(output, threading.Event())))
    assert {name for name, done in again.items() if done.before} >= finished
    assert {name for name, done in again.items() if not done.problem} == {"n0", "n1", "n2"}


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_process_that_is_killed_is_a_sentence_and_what_is_done_stays(output: Path) -> None:
    def kill() -> Iterator[Event]:
        for event in follow(output, threading.Event()):
            yield event
            if isinstance(event, Done) and not event.problem:
                children()[0].send_signal(signal.SIGKILL)

    with pytest.raises(UserError, match=r"was ended by the system \(SIGKILL\).*What is done is"):
        list(kill())
    assert (output / "n0_cells.tif").is_file()
    assert done_in(list(follow(output, threading.Event())))["n0"].before


def test_what_was_approved_stays_under_other_settings(images: Path, output: Path) -> None:
    list(follow(output, threading.Event()))
    mark(output, "n1", approved=True)
    before = (output / "n1_cells.tif").read_bytes()
    save(images, output, Request(Settings(diameter=20.0, min_size=500)))
    events = list(follow(output, threading.Event()))
    done = done_in(events)
    assert (done["n1"].kept, done["n1"].before) == ("approved", True)
    assert done["n0"].why == "other settings: min-size"
    assert (output / "n1_cells.tif").read_bytes() == before
    said = [event.text for event in events if isinstance(event, Said)]
    assert [text for text in said if "1 image stays as it is, such as n1" in text]


def move_away(images: Path, output: Path) -> None:
    images.rename(images.with_name("elsewhere"))


def results_among_images(images: Path, output: Path) -> None:
    save_list(output, ImageList((str(output.parent),), "cells-fast"))


def no_such_model(images: Path, output: Path) -> None:
    save_list(output, ImageList((str(images),), "no-such-model"))


def no_list(images: Path, output: Path) -> None:
    (output / LIST).unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (results_among_images, "lies inside"),
        (no_such_model, "There is no model 'no-such-model'"),
        (no_list, "holds no list of images"),
    ],
)
def test_what_prevents_it_is_a_sentence(
    images: Path, output: Path, change: Callable[[Path, Path], None], said: str
) -> None:
    (output.parent / "a.tif").write_bytes((images / "n0.tif").read_bytes())
    change(images, output)
    with pytest.raises(UserError, match=said):
        list(follow(output, threading.Event()))


def test_a_folder_that_is_gone_is_said(images: Path, output: Path) -> None:
    move_away(images, output)
    events = list(follow(output, threading.Event()))
    (said,) = [event for event in events if isinstance(event, Said)]
    assert (said.missing, "does not exist" in said.text) == (True, True)


def test_nothing_begins_where_it_was_stopped_before(output: Path) -> None:
    stop = threading.Event()
    stop.set()
    assert list(follow(output, stop)) == []


def test_the_report_alone_is_written_anew(output: Path) -> None:
    list(follow(output, threading.Event()))
    cells = (output / "n1_cells.tif").stat().st_mtime_ns
    for name in ("cells.csv", "report.html", "n2.json"):
        (output / name).unlink()
    events = list(follow(output, threading.Event(), report_only=True))
    assert [event for event in events if isinstance(event, Began)] == []
    assert {name for name, done in done_in(events).items() if done.before} == {"n0", "n1"}
    images = {row.split(",")[0] for row in (output / "cells.csv").read_text().splitlines()[1:]}
    assert images == {"n0", "n1"}
    assert (output / "report.html").is_file()
    assert (output / "n1_cells.tif").stat().st_mtime_ns == cells
