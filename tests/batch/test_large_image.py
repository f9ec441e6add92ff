"""A large image in a process of its own: it grows, is stopped, killed, gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zarr
from numpy.typing import NDArray

from napari_unet_cells.batch import large_image_child
from napari_unet_cells.batch.large_image import (
    Asked,
    Begun,
    BlockDone,
    CellsBegun,
    Event,
    LookedAt,
    Made,
    described,
    event_of,
    follow,
)
from napari_unet_cells.core import normalize
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation import to_zarr, zarr_request
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.to_zarr import segment_to_zarr
from napari_unet_cells.segmentation.zarr_request import ZarrRequest

CARD = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)


def bright(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    inside = (pixels[..., :1] > 0.4).astype(np.uint8)
    return np.concatenate([inside, inside * 255, inside * 0], axis=-1)


NETWORK = FunctionNetwork(bright, stride=16, halo=32, max_tile=128)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    pixels, _ = simulate_nuclei((200, 260), seed=3)
    image = tmp_path / "slide.zarr"
    zarr.create_array(image, data=np.asarray(pixels), chunks=(64, 64))
    (tmp_path / "out").mkdir()
    request = ZarrRequest(Settings(diameter=18.0))
    return Asked(image, tmp_path / "out", "cells-fast", request, (200, 260))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a threshold in the network's place, and cut blocks of 64 pixels, at three levels."""
    for module in (large_image_child, to_zarr):
        monkeypatch.setattr(module, "find_model", lambda model: CARD)
    for module in (to_zarr, zarr_request):
        monkeypatch.setattr(module, "open_network", lambda card, runtime="": NETWORK)
    monkeypatch.setattr(zarr_request, "side_of_blocks", lambda shape, zoom: 64)
    monkeypatch.setattr(label_zarr, "COARSEST", 32)


def events_here(asked: Asked, place: Any = None) -> Iterator[Event]:
    for frame in large_image_child.events_of(asked, lambda: place, NETWORK):
        yield event_of(frame)


def labels_in(folder: Path, name: str) -> list[NDArray[Any]]:
    return [np.asarray(level) for level in label_levels(folder, name)]


def test_what_is_asked_for_comes_through_the_pipe(asked: Asked) -> None:
    request = replace(asked.request, channel=(0, "DAPI"), projection="max", pixel_size=0.5)
    wanted = replace(asked, request=request)
    assert large_image_child.asked_of(described(wanted)) == wanted


@pytest.mark.usefixtures("small_blocks")
def test_that_a_huge_image_is_looked_at_as_a_whole_is_said(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_request, "HUGE", 100)
    monkeypatch.setattr(normalize, "SAMPLE_PIXELS", 1000)
    *looked, begun = takewhile_with(events_here(asked), lambda event: isinstance(event, LookedAt))
    assert [type(event) for event in looked] == [LookedAt] * len(looked)
    assert looked[-1] == LookedAt(1.0)
    assert isinstance(begun, Begun)


def takewhile_with(events: Iterator[Event], matches: Any) -> Iterator[Event]:
    """Give events as long as they match, and the first that does not."""
    for event in events:
        yield event
        if not matches(event):
            return


@pytest.mark.usefixtures("small_blocks")
def test_blocks_are_seen_at_all_levels_as_soon_as_they_are_done(asked: Asked) -> None:
    events = events_here(asked, (150.0, 200.0))
    begun = next(events)
    assert isinstance(begun, Begun)
    assert (begun.done, begun.total, begun.fraction) == (0, 20, 0.0)
    assert begun.output == asked.folder / "slide_cells.ome.zarr"
    assert not any(level.any() for level in labels_in(begun.folder, "classes"))

    first = next(events)
    assert isinstance(first, BlockDone)
    assert first.box == ((128, 192), (192, 256))  # where the user looks
    seen = labels_in(begun.folder, "classes")
    assert len(seen) == 5
    assert seen[0][128:192, 192:256].any()
    assert not seen[0][:64].any()
    assert seen[4][8:12, 12:16].any()

    rest = list(events)
    (cells,) = [event for event in rest if isinstance(event, CellsBegun)]
    assert cells.folder == begun.folder
    fractions = [event.fraction for event in rest if isinstance(event, BlockDone)]
    assert len(fractions) == 39
    assert fractions == sorted(fractions)
    made = rest[-1]
    assert isinstance(made, Made)
    assert made.output == begun.output
    assert made.n_cells
    labels = labels_in(made.output, "cells")[0]
    assert made.n_cells == labels.max() == len(np.unique(labels)) - 1
    lines = (asked.folder / "slide_cells.csv").read_text().splitlines()
    assert len(lines) == made.n_cells + 1
    assert not begun.folder.exists()


@pytest.mark.usefixtures("small_blocks")
def test_the_result_is_that_of_a_run_that_nobody_looks_at(asked: Asked) -> None:
    made = list(events_here(asked, (150.0, 200.0)))[-1]
    assert isinstance(made, Made)
    other = asked.folder / "other.zarr"
    list(segment_to_zarr(asked.image, other, "", asked.request, NETWORK))
    for name in ("cells", "classes"):
        for one, two in zip(labels_in(made.output, name), labels_in(other, name), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_events", [4, 25])
def test_a_run_goes_on_with_what_the_command_line_left(asked: Asked, n_events: int) -> None:
    output = asked.folder / "slide_cells.ome.zarr"
    steps = segment_to_zarr(asked.image, output, "", asked.request, NETWORK)
    for _ in range(n_events):  # a Work, and blocks: of the later one all, and some are written
        next(steps)
    del steps
    assert not output.exists()

    events = events_here(asked)
    begun = next(events)
    assert isinstance(begun, Begun)
    assert begun.done == min(n_events - 1, 20)
    assert "goes on after" in begun.note
    assert any(level.any() for level in labels_in(begun.folder, "classes"))
    made = list(events)[-1]
    assert isinstance(made, Made)

    other = asked.folder / "other.zarr"
    list(segment_to_zarr(asked.image, other, "", asked.request, NETWORK))
    for name in ("cells", "classes"):
        for one, two in zip(labels_in(made.output, name), labels_in(other, name), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.usefixtures("small_blocks")
def test_a_result_that_is_there_is_shown_and_other_settings_make_another(asked: Asked) -> None:
    made = list(events_here(asked))[-1]
    assert isinstance(made, Made)
    again = list(events_here(asked))
    assert again == [Made(made.output, made.n_cells)]
    larger = replace(asked, request=ZarrRequest(Settings(diameter=18.0, min_size=150)))
    other = list(events_here(larger))[-1]
    assert isinstance(other, Made)
    assert other.output == asked.folder / "slide_cells-2.ome.zarr"
    assert other.n_cells is not None
    assert made.n_cells is not None
    assert other.n_cells < made.n_cells


@pytest.mark.usefixtures("small_blocks")
def test_a_run_that_was_stopped_is_kept_while_another_one_is_done(asked: Asked) -> None:
    for event in (events := events_here(asked)):
        if isinstance(event, BlockDone):
            break
    del events
    other = replace(asked, request=ZarrRequest(Settings(diameter=18.0, min_size=150)))
    made = list(events_here(other))[-1]
    assert isinstance(made, Made)
    assert made.output.name == "slide_cells-2.ome.zarr"
    # so is one of another image of this name
    image = asked.image.parent / "elsewhere" / "slide.zarr"
    pixels = np.asarray(zarr.open_array(asked.image)[...])
    zarr.create_array(image, data=pixels[::-1].copy(), chunks=(64, 64))
    made = list(events_here(replace(asked, image=image)))[-1]
    assert isinstance(made, Made)
    assert made.output.name == "slide_cells-3.ome.zarr"

    begun = next(events_here(asked))
    assert isinstance(begun, Begun)
    assert begun.output.name == "slide_cells.ome.zarr"
    assert begun.done == 1


@pytest.mark.usefixtures("small_blocks")
def test_a_table_of_somebody_else_is_never_replaced(asked: Asked) -> None:
    table = asked.folder / "slide_cells.csv"
    table.write_text("mine")
    made = list(events_here(asked))[-1]
    assert isinstance(made, Made)
    assert made.output.name == "slide_cells-2.ome.zarr"
    assert (asked.folder / "slide_cells-2.csv").is_file()
    assert table.read_text() == "mine"


@pytest.mark.usefixtures("small_blocks")
def test_what_a_kill_left_after_the_result_got_its_name_goes(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *values, **options: None)
        made = list(events_here(asked))[-1]
    assert isinstance(made, Made)
    left = asked.folder / ".slide_cells.ome.zarr.part"
    assert left.is_dir()
    assert list(events_here(asked)) == [Made(made.output, made.n_cells)]
    assert not left.exists()


@pytest.mark.usefixtures("small_blocks")
def test_a_file_of_other_pixels_is_refused(asked: Asked) -> None:
    with pytest.raises(UserError, match=r"The layer has 100 x 260 pixels, and its file slide"):
        list(events_here(replace(asked, shape=(100, 260))))
    assert list(asked.folder.iterdir()) == []


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "napari_unet_cells.batch.large_image_child" in child.cmdline()
    ]


@pytest.mark.slow
def test_a_process_does_it_and_ends(asked: Asked) -> None:
    events = list(follow(asked, lambda: (10.0, 10.0), threading.Event()))
    assert [type(event) for event in events] == [Begun, BlockDone, CellsBegun, BlockDone, Made]
    made = events[-1]
    assert isinstance(made, Made)
    assert "CPU" in made.device
    assert made.n_cells
    assert children() == []


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_sentence_and_the_next_run_goes_on(asked: Asked) -> None:
    # a strip of many blocks, so that all but some are still to be done when the first event comes
    piece = np.asarray(simulate_nuclei((128, 1280), seed=5)[0])
    zarr.create_array(asked.image, data=np.tile(piece, (1, 16)), chunks=(128, 512), overwrite=True)
    strip = replace(asked, shape=(128, 20480))
    events = follow(strip, lambda: None, threading.Event())
    first = next(events)
    assert isinstance(first, Begun)
    assert first.total > 4
    (child,) = children()
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"was ended by the system .* is kept\. Press Segment"):
        list(events)
    (begun, *_, made) = follow(strip, lambda: None, threading.Event())
    assert isinstance(begun, Begun)
    assert begun.done < begun.total
    assert isinstance(made, Made)

    (asked.folder / "undisturbed").mkdir()
    other = replace(strip, folder=asked.folder / "undisturbed")
    undisturbed = list(follow(other, lambda: None, threading.Event()))[-1]
    assert isinstance(undisturbed, Made)
    assert made.n_cells == undisturbed.n_cells
    one, two = (labels_in(run.output, "cells")[0] for run in (made, undisturbed))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_a_run_that_is_stopped_says_no_more(asked: Asked) -> None:
    stop = threading.Event()
    events = follow(asked, lambda: None, stop)
    assert isinstance(next(events), Begun)
    stop.set()
    assert list(events) == []
    assert children() == []
    assert not (asked.folder / "slide_cells.ome.zarr").exists()
