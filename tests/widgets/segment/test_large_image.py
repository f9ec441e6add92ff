"""Runs on large images without Qt: what is asked for, the layers that grow, what is said."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from numpy.typing import NDArray

from napari_unet_cells.batch import large_image_child
from napari_unet_cells.batch.large_image import (
    Asked,
    Begun,
    CellsBegun,
    Event,
    LookedAt,
    Made,
    event_of,
)
from napari_unet_cells.core import normalize
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_zarr
from napari_unet_cells.layers.export_source import export_problem
from napari_unet_cells.layers.image_planes import stack_axes
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    OURS,
    ZARR,
    image_id,
    set_input_metadata,
)
from napari_unet_cells.layers.selection import image_layers, review_problem
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation import run as run_module
from napari_unet_cells.segmentation import to_zarr, zarr_request
from napari_unet_cells.settings import Preferences, set_preferences
from napari_unet_cells.widgets.segment import controller as controller_module
from napari_unet_cells.widgets.segment import large_image, large_run
from napari_unet_cells.widgets.segment.controller import SegmentController
from napari_unet_cells.widgets.segment.found_layers import layers_of, zarr_layers
from napari_unet_cells.widgets.segment.large_image import (
    asked_for,
    place_looked_at,
)
from napari_unet_cells.widgets.segment.values import DRAWN, VISIBLE, SegmentValues, StackValues
from napari_unet_cells.widgets.segment.view import Runners
from napari_unet_cells.widgets.segment.view_run import Revealed, ViewRun

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

CARD = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)


def bright(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    inside = (pixels[..., :1] > 0.4).astype(np.uint8)
    return np.concatenate([inside, inside * 255, inside * 0], axis=-1)


NETWORK = FunctionNetwork(bright, stride=16, halo=32, max_tile=128)


class Window:
    """Writes down what it is told to show, and names a folder where it is asked."""

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.folder: Path | None = None

    def __getattr__(self, name: str) -> Any:
        """Give a method of this name."""
        return lambda *values: self.shown.append((name, *values))

    def ask_folder(self, sentence: str) -> Path | None:
        self.shown.append(("ask_folder", sentence))
        return self.folder

    def last(self, name: str) -> Any:
        return [said[1:] for said in self.shown if said[0] == name][-1]


class Controlled(SegmentController):
    """A controller with its window and its thread at hand."""

    def __init__(self, viewer: Any, make_thread: Any) -> None:
        self.window, self.thread = Window(), make_thread()
        engine: Any = SimpleNamespace(open=lambda card, stop: NETWORK, pid=1)
        runners = Runners(self.thread, make_thread(), make_thread())
        super().__init__(viewer, engine, self.window, runners)

    def glance(self) -> None:
        """Take over the look at what is in view, which comes first."""
        for answer in self.thread.events:
            self.receive(answer)
            if isinstance(answer.event, Revealed):
                return

    def step(self, n: int | None = None) -> None:
        """Take over so many events of the run, or all."""
        for number, answer in enumerate(self.thread.events, 1):
            self.receive(answer)
            if number == n:
                return
        self.thread.events = None
        self.finished()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 22,500 pixels be large, blocks be small, and a threshold be the network."""

    def follow_here(asked: Asked, looked: Any, stop: threading.Event) -> Iterator[Event]:
        for frame in large_image_child.events_of(asked, looked, NETWORK):
            if stop.is_set():
                return
            yield event_of(frame)

    monkeypatch.setattr(large_run, "follow", follow_here)
    monkeypatch.setattr(large_image, "MOST_SIDE", 150)
    for module in (large_image_child, to_zarr, large_image, run_module):
        monkeypatch.setattr(module, "find_model", lambda model: CARD)
    for module in (to_zarr, zarr_request):
        monkeypatch.setattr(module, "open_network", lambda card, runtime="": NETWORK)
    monkeypatch.setattr(zarr_request, "side_of_blocks", lambda shape, zoom: 128)
    monkeypatch.setattr(label_zarr, "COARSEST", 64)


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    if hasattr(viewer, "canvas"):
        viewer.canvas.size = (200, 300)
    else:  # napari before 0.9
        viewer._canvas_size = (200, 300)
    return viewer


@pytest.fixture
def controller(viewer: ViewerModel, make_thread: Any) -> Controlled:
    return Controlled(viewer, make_thread)


def opened(viewer: Any, folder: Path, pixels: Any = None, **options: Any) -> Any:
    """Write an image of 180 x 250, or pixels, and open it as napari does."""
    if pixels is None:
        pixels = np.asarray(simulate_nuclei((180, 250), seed=3)[0])
    path = folder / "slide.zarr"
    zarr.create_array(path, data=pixels, chunks=(64,) * pixels.ndim)
    layer = viewer.add_image(zarr.open_array(path, mode="r"), name="slide", **options)
    set_input_metadata(layer, path=str(path))
    return layer


def values_of(image: Any, **stack: Any) -> SegmentValues:
    return SegmentValues(image, StackValues(stack_axes(image), **stack), "bright", diameter=18)


def names(viewer: ViewerModel) -> list[tuple[str, bool]]:
    return [(layer.name, layer.visible) for layer in viewer.layers]


def results(viewer: ViewerModel) -> list[tuple[str, bool]]:
    """Give the layers but for the image and the look at it."""
    return [one for one in names(viewer)[1:] if one[0] != "slide preview"]


def test_classes_grow_then_cells_and_both_stay_on_the_disk(
    viewer: ViewerModel, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path, scale=(0.5, 0.5), translate=(3, 4))
    assert controller.start(values_of(image))
    controller.glance()
    viewer.layers.remove("slide preview")
    controller.step(1)
    assert controller.window.last("say")[0].startswith("Looking for cells of about 18 px.")
    assert names(viewer) == [("slide", True)]
    controller.step(1)
    assert names(viewer)[1:] == [("slide classes", False)]
    controller.step(1)
    assert names(viewer)[1:] == [("slide classes", True)]
    (classes,) = zarr_layers(viewer, image_id(image), CLASSES)
    assert (classes.multiscale, classes.editable) == (True, False)
    assert not np.asarray(classes.data[0]).any()
    assert tuple(classes.scale) == (0.5, 0.5)
    assert tuple(classes.translate) == (3, 4)

    controller.step(1)
    assert np.asarray(classes.data[0]).any()
    done, text = controller.window.last("show_progress")
    assert (done, text[:4]) == (0.225, "22 %")

    controller.step()
    assert names(viewer) == [("slide", True), ("slide classes", False), ("slide cells", True)]
    (cells,) = zarr_layers(viewer, image_id(image), CELLS)
    output = tmp_path / "slide_cells.ome.zarr"
    assert cells.metadata[OURS]["zarr"] == classes.metadata[OURS]["zarr"] == str(output)
    assert cells.metadata[OURS]["provenance"]["model"]["name"] == "bright"
    assert viewer.layers.selection.active is cells
    labels = np.asarray(cells.data[0])
    n_cells = int(labels.max())
    assert n_cells > 3
    assert controller.window.last("say")[0].startswith(f"{n_cells} cells in ")
    assert str(output) in controller.window.last("say")[0]
    assert [level.shape for level in cells.data] == [(180, 250), (90, 125), (45, 63)]
    assert image_layers(viewer.layers) == [image]


def test_a_result_that_got_its_name_meanwhile_is_no_damaged_one(tmp_path: Path) -> None:
    gone = tmp_path / ".slide.ome.zarr.part" / "result.zarr"
    begun: list[Event] = [CellsBegun(gone)]
    assert list(large_image.large_events(iter(begun), "bright", 0)) == begun
    (gone / "labels" / CELLS / "0").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be read"):
        list(large_image.large_events(iter(begun), "bright", 0))


def test_a_run_that_was_cancelled_goes_on(
    viewer: ViewerModel, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path)
    controller.start(values_of(image))
    controller.glance()
    controller.step(5)
    controller.thread.told_to_stop.set()
    controller.thread.events.close()
    controller.thread.events = None
    controller.cancelled()
    assert controller.window.last("say") == (
        "Cancelled at 45 %. What is done is kept: Segment goes on with it.",
    )
    assert results(viewer) == [("slide classes (cancelled)", True)]

    controller.start(values_of(image))
    controller.glance()
    controller.step(1)
    assert "goes on after 2 of 4 blocks" in controller.window.last("say")[0]
    controller.step()
    assert results(viewer) == [("slide classes", False), ("slide cells", True)]

    controller.start(values_of(image))  # now it is there
    controller.step()
    assert "was segmented in this way before" in controller.window.last("say")[0]
    assert results(viewer) == [("slide classes", False), ("slide cells", True)]


def test_a_result_of_other_settings_stays_below(
    viewer: ViewerModel, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path)
    for diameter in (18, 40):
        values = SegmentValues(image, StackValues(()), "bright", diameter=diameter)
        assert controller.start(values)
        controller.step()
    cells = zarr_layers(viewer, image_id(image), CELLS)
    assert [layer.visible for layer in cells] == [True, False]
    there = [Path(layer.metadata[OURS]["zarr"]).name for layer in cells]
    assert there == ["slide_cells-2.ome.zarr", "slide_cells.ome.zarr"]
    # a result on the disk is none that a run may write into
    assert layers_of(viewer, image_id(image), CELLS) == []


def test_a_plane_of_a_stack_is_shown_in_its_plane(
    viewer: ViewerModel, controller: Controlled, tmp_path: Path
) -> None:
    planes = np.stack([np.asarray(simulate_nuclei((180, 250), seed=s)[0]) for s in (1, 2, 3)])
    image = opened(viewer, tmp_path, planes, axis_labels=("z", "y", "x"))
    viewer.dims.set_point(0, 2)
    assert asked_for(viewer, values_of(image), {}).request.plane == 2
    assert controller.start(values_of(image))
    controller.step()
    (cells,) = zarr_layers(viewer, image_id(image), CELLS)
    assert cells.data[0].shape == (1, 180, 250)
    assert tuple(cells.translate) == (2, 0, 0)
    labels = np.asarray(cells.data[0])[0] > 0
    assert planes[2][labels].mean() > 2 * planes[2][~labels].mean()
    place = place_looked_at(viewer, image)
    assert place[0] == 2


def test_an_image_without_a_file_is_refused(viewer: ViewerModel, controller: Controlled) -> None:
    image = viewer.add_image(np.zeros((180, 250), np.uint8), name="made")
    assert not controller.start(values_of(image))
    assert "'made' is larger than 150 x 150 pixels" in controller.window.last("warn")[0]
    assert "Save it as an OME-Zarr" in controller.window.last("warn")[0]


def test_shapes_in_a_large_image_are_refused(
    viewer: ViewerModel, controller: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = opened(viewer, tmp_path)
    monkeypatch.setattr(controller_module, "part_of_image", lambda *values: "a part")
    values = SegmentValues(image, StackValues(()), "bright", where=DRAWN)
    assert not controller.start(values)
    assert "Choose Visible part or Whole image" in controller.window.last("warn")[0]


def test_the_visible_part_is_a_look_that_can_be_cancelled(
    viewer: Any, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path)
    values = SegmentValues(image, StackValues(()), "bright", diameter=18, where=VISIBLE)
    assert controller.start(values)
    controller.thread.events = None
    controller.cancelled()
    assert controller.window.last("say") == ("Cancelled. Nothing was changed.",)
    assert controller.start(values)
    controller.step()
    assert names(viewer) == [("slide", True), ("slide preview", True)]
    assert "cells in view in" in controller.window.last("say")[0]


def test_what_is_in_view_is_seen_before_the_first_block(
    viewer: Any, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path)
    assert controller.start(values_of(image))
    answers = iter(controller.thread.events)
    for answer in answers:
        controller.receive(answer)
        if isinstance(answer.event, Revealed):
            break
    assert names(viewer) == [("slide", True), ("slide preview", True)]
    for answer in answers:
        controller.receive(answer)
    assert names(viewer)[1:] == [
        ("slide preview", False),
        ("slide classes", False),
        ("slide cells", True),
    ]


def test_where_nothing_can_be_written_a_folder_is_asked_for(
    viewer: ViewerModel, controller: Controlled, unprivileged: Path
) -> None:
    folder, other = unprivileged / "shut", unprivileged / "mine"
    folder.mkdir()
    other.mkdir()
    image = opened(viewer, folder)
    os.chmod(folder, 0o555)
    try:
        assert controller.start(values_of(image))
        controller.step()
        assert f"nothing can be written into {folder}" in controller.window.last("ask_folder")[0]
        assert not any(name == "start_again" for name, *_ in controller.window.shown)
        controller.window.folder = other
        assert controller.start(values_of(image))
        controller.step()
        assert controller.window.last("start_again") == ()
        assert controller.start(values_of(image))
        controller.step()
    finally:
        os.chmod(folder, 0o755)
    assert (other / "slide_cells.ome.zarr").is_dir()


def test_the_folder_of_results_is_taken(viewer: ViewerModel, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    image = opened(viewer, tmp_path)
    assert asked_for(viewer, values_of(image), {}).folder == tmp_path
    chosen = {tmp_path: tmp_path / "chosen", tmp_path / "other": tmp_path}
    assert asked_for(viewer, values_of(image), chosen).folder == tmp_path / "chosen"
    set_preferences(Preferences(results_folder=str(tmp_path / "results")))
    try:
        asked = asked_for(viewer, values_of(image), {})
    finally:
        set_preferences(Preferences())
    assert asked.folder == tmp_path / "results"
    assert (asked.shape, asked.request.settings.diameter) == ((180, 250), 18.0)


def test_cells_are_not_linked_there(viewer: ViewerModel, tmp_path: Path) -> None:
    image = opened(viewer, tmp_path, np.zeros((2, 180, 250), np.uint8))
    with pytest.raises(UserError, match="are not linked across planes"):
        asked_for(viewer, values_of(image, all_planes=True, link=0), {})


def test_what_is_not_there_for_such_a_result_is_said(
    viewer: ViewerModel, controller: Controlled, tmp_path: Path
) -> None:
    controller.start(values_of(opened(viewer, tmp_path)))
    controller.step()
    cells: Any = viewer.layers["slide cells"]
    assert controller.adjust_problem == review_problem(cells)
    assert "is read from the disk" in review_problem(cells)
    assert str(tmp_path / "slide_cells.ome.zarr") in (export_problem(cells) or "")


def test_a_strip_that_a_layer_can_hold_stays_in_memory(
    viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_image, "MOST_SIDE", 16_384)
    strip = viewer.add_image(np.zeros((50, 17_000), np.uint8))
    assert not large_image.is_large(strip)
    whole = viewer.add_image(np.broadcast_to(np.uint8(0), (16_400, 16_400)))
    assert large_image.is_large(whole)


def test_another_plane_after_a_cancelled_one_lies_in_its_plane(
    viewer: Any, controller: Controlled, tmp_path: Path
) -> None:
    planes = np.stack([np.asarray(simulate_nuclei((180, 250), seed=s)[0]) for s in (1, 2, 3)])
    image = opened(viewer, tmp_path, planes, axis_labels=("z", "y", "x"))
    viewer.dims.set_point(0, 0)
    assert controller.start(values_of(image))
    controller.glance()
    controller.step(4)
    controller.thread.events.close()
    controller.thread.events = None
    controller.cancelled()
    viewer.dims.set_point(0, 2)
    assert controller.start(values_of(image))
    controller.step()
    for role in (CELLS, CLASSES):
        layer, *others = zarr_layers(viewer, image_id(image), role)
        assert tuple(layer.translate) == (2, 0, 0)
        assert [(tuple(one.translate), one.visible) for one in others] in ([], [((0, 0, 0), False)])


def test_the_layers_of_a_run_are_found_again_and_follow_the_image(
    viewer: Any, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path)
    controller.start(values_of(image))
    controller.step()
    other = SegmentValues(image, StackValues(()), "bright", diameter=40)
    controller.start(other)
    controller.glance()
    controller.step(4)
    controller.thread.events.close()
    controller.thread.events = None
    controller.cancelled()
    image.scale = (2, 2)
    controller.start(values_of(image))  # the first one is there
    controller.step()
    shown = [
        (layer.name, layer.visible)
        for layer in viewer.layers
        if ZARR in layer.metadata.get(OURS, {})
    ]
    assert sorted(shown) == [
        ("slide cells", True),
        ("slide classes", False),
        ("slide classes [1] (cancelled)", False),
    ]
    for name in ("slide cells", "slide classes"):
        assert tuple(viewer.layers[name].scale) == (2, 2)


@pytest.mark.parametrize("is_changed", [True, False])
def test_a_layer_that_was_changed_is_not_taken_for_its_file(
    viewer: Any, controller: Controlled, tmp_path: Path, is_changed: bool
) -> None:
    image = opened(viewer, tmp_path)
    pixels = np.asarray(image.data)
    image.data = pixels[::-1].copy() if is_changed else pixels
    assert controller.start(values_of(image))
    if is_changed:
        with pytest.raises(UserError, match="holds other pixels than its file"):
            controller.step()
        assert list(tmp_path.glob("*cells*")) == []
    else:
        controller.step()
        assert (tmp_path / "slide_cells.ome.zarr").is_dir()


def test_a_channel_that_is_not_known_is_a_sentence(
    viewer: Any, controller: Controlled, tmp_path: Path
) -> None:
    channels = np.stack([np.asarray(simulate_nuclei((180, 250), seed=s)[0]) for s in (1, 2)])
    path = tmp_path / "slide.zarr"
    zarr.create_array(path, data=channels, chunks=(1, 64, 64), dimension_names=("c", "y", "x"))
    image = viewer.add_image(channels[1], name="slide")  # as other readers split it
    set_input_metadata(image, path=str(path))
    assert controller.start(values_of(image))
    with pytest.raises(UserError, match="holds 2 channels, and it is not known which"):
        controller.step()


def test_a_reader_that_fails_in_the_look_does_not_end_the_run(
    viewer: Any, controller: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*values: Any) -> Any:
        raise OSError("a codec of somebody else")

    monkeypatch.setattr(ViewRun, "_pixels", fails)
    monkeypatch.setattr(large_run, "samples_of", fails)
    controller.start(values_of(opened(viewer, tmp_path)))
    controller.step()
    assert (tmp_path / "slide_cells.ome.zarr").is_dir()


def test_a_file_that_is_gone_is_a_sentence(
    viewer: Any, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path)
    shutil.rmtree(tmp_path / "slide.zarr")
    assert controller.start(values_of(image))
    with pytest.raises(UserError, match="is not there any more"):
        controller.step()


def test_a_version_that_cannot_be_read_is_said_and_the_labels_are_shown(
    viewer: Any, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path)
    controller.start(values_of(image))
    controller.step()
    versions = tmp_path / "slide_cells.ome.zarr" / "labels" / "cells" / "versions"
    versions.mkdir()
    (versions / "000001.npz").write_bytes(b"half a file")
    controller.start(values_of(image))
    with pytest.warns(UserWarning, match=r"000001\.npz cannot be read"):
        controller.step()
    (cells,) = zarr_layers(viewer, image_id(image), CELLS)
    assert np.asarray(cells.data[0]).any()


def test_how_far_the_whole_image_is_looked_at_is_shown(
    viewer: Any, controller: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_request, "HUGE", 100)
    monkeypatch.setattr(normalize, "SAMPLE_PIXELS", 1000)
    image = opened(viewer, tmp_path)
    controller.start(values_of(image))
    said = []
    for answer in controller.thread.events:
        controller.receive(answer)
        if isinstance(answer.event, Begun):
            said.append(controller.window.last("show_progress"))
            break
        if isinstance(answer.event, LookedAt):
            said.append(controller.window.last("show_progress"))
    *reading, begun = said
    assert reading[-1] == (1.0, "reading the whole image, 100 %")
    assert all(0 < done <= 1 for done, _ in reading)  # at 0 the bar moves, and says nothing
    assert begun == (0.0, "")


def test_cancelled_when_the_result_has_its_name_it_is_shown_by_the_next_press(
    viewer: Any, controller: Controlled, tmp_path: Path
) -> None:
    image = opened(viewer, tmp_path)
    controller.start(values_of(image))
    for answer in controller.thread.events:
        if isinstance(answer.event, Made):
            break  # which the window does not hear of any more
        controller.receive(answer)
    assert controller.window.last("show_progress") == (1.0, "writing the table")
    controller.thread.events = None
    controller.cancelled()
    assert "had come to its end" in controller.window.last("say")[0]
    assert not any("cancelled" in layer.name for layer in viewer.layers)
    controller.start(values_of(image))
    controller.step()
    (cells,) = zarr_layers(viewer, image_id(image), CELLS)
    assert np.asarray(cells.data[0]).any()
