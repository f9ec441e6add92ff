"""Autosave and its banner in a real napari window: painted, killed, restored."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_unet_cells.core.regions import RegionGrid, Review
from napari_unet_cells.corrections.autosave import copy_of, session_of
from napari_unet_cells.corrections.restoring import restore, sessions
from napari_unet_cells.corrections.session_files import sessions_folder
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    INPUT,
    REVIEW,
    file_of,
    image_id,
    result_metadata,
    set_input_metadata,
)
from napari_unet_cells.layers.pixel_size import typed_pixel_size
from napari_unet_cells.layers.selection import source_image
from napari_unet_cells.layers.transforms import describe_transform, place_of
from napari_unet_cells.segmentation.earlier import EarlierResult
from napari_unet_cells.segmentation.replacing import replace_cells
from napari_unet_cells.widgets.correct import autosave as autosave_module
from napari_unet_cells.widgets.segment.live import current, put

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Give each test a user's folder of its own."""
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def warnings(monkeypatch):
    """Collect the sentences that the user would see."""
    said = []
    for module in ("watched_labels", "restore", "restored_layers"):
        name = f"napari_unet_cells.widgets.correct.{module}.show_warning"
        monkeypatch.setattr(name, said.append)
    return said


@pytest.fixture
def start(viewer, qtbot):
    """Give a function that starts saving, and ends it with the test."""
    from qtpy.QtWidgets import QWidget

    from napari_unet_cells.widgets.correct.autosave import Autosave

    started, owners = [], []

    def start(of=None):
        owners.append(QWidget())
        started.append(Autosave(of or viewer, owners[-1]))
        return started[-1]

    yield start
    for saving in started:
        if not saving.ended:
            saving.close()


@pytest.fixture
def saving(start):
    return start()


@pytest.fixture
def open_banner(viewer, qtbot, warnings):
    """Give a function that makes a banner as the dock does."""
    from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

    from napari_unet_cells.widgets.correct.restore import RestoreBanner

    docks = []

    def open_banner():
        windows = [w for w in QApplication.topLevelWidgets() if w.isVisible()]
        banner = RestoreBanner(viewer)
        assert [w for w in QApplication.topLevelWidgets() if w.isVisible()] == windows
        docks.append(QWidget())
        QVBoxLayout(docks[-1]).addWidget(banner)
        qtbot.addWidget(docks[-1])
        docks[-1].show()
        return banner

    return open_banner


@pytest.fixture
def banner(open_banner):
    return open_banner()


def made_labels(shape=(60, 90), dtype="uint16"):
    labels = np.zeros(shape, dtype)
    labels[..., 5:15, 5:15] = 1
    labels[..., 20:30, 30:55] = 2
    return labels


def add(viewer, labels=None, role=CELLS, image=None, counts=(2, 3), **attributes):
    """Add labels as a run does."""
    labels = made_labels() if labels is None else labels
    grid = RegionGrid(labels.shape[-2:], counts)
    provenance = {"classes": ["background", "cell", "boundary"]}
    metadata = result_metadata(role, image_id(image) if image else "", provenance, 1)
    metadata[REVIEW] = Review(labels, None, grid)
    return viewer.add_labels(labels, name="nuclei cells", metadata=metadata, **attributes)


def save(qtbot, saving):
    with qtbot.waitSignal(saving.saved, timeout=5_000):
        saving.save()


def review_of(layer):
    return layer.metadata[REVIEW]


def on_disk(layer):
    """Labels as they would be restored after a crash."""
    session = session_of(review_of(layer))
    session.release()
    back = restore(session.folder)
    session.folder = back.session.folder
    session.claim()
    return back.labels


def paint(layer, y, x, label=3):
    before = layer.data.copy()
    layer.brush_size = 4
    layer.paint((*[0] * (layer.ndim - 2), y, x), label)
    assert (layer.data != before).any()


def test_nothing_is_written_as_long_as_nothing_is_corrected(qtbot, viewer, saving):
    layer = add(viewer)
    save(qtbot, saving)
    layer.refresh()
    save(qtbot, saving)
    assert not sessions_folder().exists()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
@pytest.mark.parametrize("shape", [(60, 90), (2, 60, 90)])
def test_every_way_of_painting_is_saved(qtbot, viewer, saving, dtype, shape):
    layer = add(viewer, made_labels(shape, dtype))
    zeros = (0,) * (len(shape) - 2)
    save(qtbot, saving)
    steps = [
        lambda: paint(layer, 40, 75),
        lambda: layer.fill((*zeros, 10, 10), 9),
        lambda: layer.data_setitem(tuple(np.array([i]) for i in (*zeros, 59, 89)), 5),
        lambda: layer.undo(),
        lambda: layer.redo(),
    ]
    for step in steps:
        before = layer.data.copy()
        step()
        assert (layer.data != before).any()
        save(qtbot, saving)
        np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_an_edit_of_a_plane_that_is_not_shown_is_saved(qtbot, viewer, saving):
    layer = add(viewer, made_labels((3, 60, 90)))
    save(qtbot, saving)
    viewer.dims.set_current_step(0, 2)
    layer.data_setitem((np.array([0]), np.array([50]), np.array([50])), 4)
    saving.timer.setInterval(50)  # other planes are looked at less often
    qtbot.waitUntil(lambda: session_of(review_of(layer)).folder is not None, timeout=70_000)
    saving.flush()
    np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_what_is_undone_leaves_no_session(qtbot, viewer, saving):
    layer = add(viewer)
    paint(layer, 40, 75)
    save(qtbot, saving)
    assert len(os.listdir(sessions_folder())) == 1
    layer.undo()
    save(qtbot, saving)
    assert os.listdir(sessions_folder()) == []


def test_an_approval_is_saved(qtbot, viewer, saving):
    layer = add(viewer)
    review_of(layer).approve(((), 2))
    save(qtbot, saving)
    saving.close()
    (summary,) = sessions()
    assert summary.n_approved == 1


def test_the_timer_saves(qtbot, viewer, saving):
    assert saving.timer.isActive()
    assert saving.timer.interval() == 10_000
    layer = add(viewer)
    paint(layer, 40, 75)
    saving.timer.setInterval(50)
    qtbot.waitUntil(lambda: session_of(review_of(layer)).folder is not None, timeout=5_000)
    qtbot.waitUntil(lambda: not saving.busy, timeout=5_000)
    np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_a_review_that_comes_after_the_layer_is_found(qtbot, viewer, saving):
    layer = viewer.add_labels(made_labels())
    layer.metadata[REVIEW] = Review(layer.data)
    paint(layer, 40, 75)
    save(qtbot, saving)
    np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_a_new_result_in_the_same_layer_begins_anew(qtbot, viewer, saving):
    layer = add(viewer)
    review_of(layer).approve(((), 0))
    save(qtbot, saving)
    old = session_of(review_of(layer))
    assert old.folder is not None

    layer.data[:] = layer.data[::-1].copy()
    layer.metadata[REVIEW] = Review(layer.data)
    layer.refresh()
    save(qtbot, saving)
    assert os.listdir(sessions_folder()) == []
    paint(layer, 40, 75)
    save(qtbot, saving)

    np.testing.assert_array_equal(on_disk(layer), layer.data)


@pytest.mark.parametrize("first", ["insert", "remove"])
@pytest.mark.parametrize("saved", [True, False])
def test_the_session_goes_on_in_a_copy_of_another_data_type(qtbot, viewer, saving, first, saved):
    layer = add(viewer)
    paint(layer, 40, 75)
    if saved:
        save(qtbot, saving)
    folder = session_of(review_of(layer)).folder
    if first == "remove":
        viewer.layers.remove(layer)
    wide = viewer.add_labels(layer.data.astype(np.uint32), metadata=layer.metadata)
    if first == "insert":
        viewer.layers.remove(layer)
    paint(wide, 10, 70, 70_000)
    save(qtbot, saving)

    if saved:
        assert session_of(review_of(wide)).folder == folder
    assert len(os.listdir(sessions_folder())) == 1
    np.testing.assert_array_equal(on_disk(wide), wide.data)
    assert on_disk(wide).max() == 70_000


def test_a_duplicate_has_a_session_of_its_own(qtbot, viewer, saving):
    layer = add(viewer)
    copy = viewer.add_labels(layer.data.copy(), metadata=layer.metadata)
    paint(layer, 40, 75)
    paint(copy, 10, 70)
    save(qtbot, saving)
    saving.close()
    kept = {restore(summary.folder).labels.tobytes() for summary in sessions()}
    assert kept == {layer.data.tobytes(), copy.data.tobytes()}


def test_a_removed_layer_is_saved_once_more_and_offered(qtbot, viewer, saving):
    layer = add(viewer)
    paint(layer, 40, 75)
    assert sessions() == []
    with qtbot.waitSignal(saving.left, timeout=5_000):
        viewer.layers.remove(layer)
        saving.save()
    (summary,) = sessions()
    np.testing.assert_array_equal(restore(summary.folder).labels, layer.data)


def test_what_the_program_replaced_around_corrections_is_saved_with_them(qtbot, viewer, saving):
    layer = add(viewer)
    review, made = layer.metadata[REVIEW], layer.data.copy()
    layer.data_setitem((np.array([0]), np.array([0])), 9)
    save(qtbot, saving)
    state = current(layer)
    cells = np.roll(made, 3, axis=-1)

    put(layer, replace_cells(layer.data, state, (), cells, state.origin))
    folder = session_of(review).folder
    save(qtbot, saving)
    saving.close()

    (summary,) = sessions()
    assert summary.folder.name.partition(".")[0] == folder.name.partition(".")[0]
    back = restore(summary.folder)
    np.testing.assert_array_equal(back.labels, layer.data)
    assert back.labels[0, 0] == 9
    np.testing.assert_array_equal(back.review.baseline.unpacked(), review.baseline.unpacked())
    assert [place for place in review if back.review.is_edited(place)] == [((), 0)]


def test_what_was_kept_of_a_result_goes_once_its_layer_is_saved(qtbot, viewer, saving):
    from napari_unet_cells.corrections.left_results import keep
    from napari_unet_cells.widgets.segment.earlier_results import left_in
    from napari_unet_cells.widgets.segment.live import adopt

    layer = add(viewer)
    paint(layer, 40, 60)
    result, description = adopt(layer), {"name": "nuclei cells"}
    kept = keep(result, left_in(layer), description)
    assert kept.folder.exists()
    save(qtbot, saving)
    assert not kept.folder
    assert len(list(sessions_folder().iterdir())) == 1
    np.testing.assert_array_equal(on_disk(layer), layer.data)
    # Another result is shown: what was kept stays, however often this one is saved.
    other = EarlierResult(result.left)
    kept = keep(other, left_in(layer), description)
    paint(layer, 10, 10)
    save(qtbot, saving)
    assert kept.folder.exists()


def test_a_layer_that_comes_back_goes_on(qtbot, viewer, saving):
    layer = add(viewer)
    paint(layer, 40, 75)
    save(qtbot, saving)
    folder = session_of(review_of(layer)).folder
    for wait in (0, 300):
        viewer.layers.remove(layer)
        if wait:
            save(qtbot, saving)
            assert len(sessions()) == 1
        viewer.layers.append(layer)
        paint(layer, 10 + wait // 10, 70)
        save(qtbot, saving)
        assert session_of(review_of(layer)).folder == folder
        np.testing.assert_array_equal(on_disk(layer), layer.data)


@pytest.mark.parametrize("how", ["close", "destroy", "viewer"])
def test_at_the_end_the_last_state_is_saved(qtbot, viewer, start, how):
    saving = start()
    layer = add(viewer)
    paint(layer, 40, 75)
    expected = layer.data.copy()
    assert sessions() == []
    if how == "close":
        saving.close()
    elif how == "viewer":
        viewer.layers.clear()  # as `viewer.close` begins
        saving.close()
    else:
        saving.parent().deleteLater()
        qtbot.waitUntil(lambda: bool(sessions()), timeout=5_000)
    (summary,) = sessions()
    np.testing.assert_array_equal(restore(summary.folder).labels, expected)


def test_a_dock_that_is_opened_again_goes_on_with_the_session(qtbot, viewer, start, banner):
    saving = start()
    layer = add(viewer)
    paint(layer, 40, 75)
    saving.close()
    assert len(sessions()) == 1
    again = start()
    assert sessions() == []  # its labels are open
    paint(layer, 10, 70)
    save(qtbot, again)
    assert len(os.listdir(sessions_folder())) == 1
    np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_a_full_disk_is_said_once_and_nothing_is_lost(qtbot, viewer, saving, warnings, monkeypatch):
    layer = add(viewer)
    paint(layer, 40, 75)

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        for _ in range(3):
            save(qtbot, saving)
            assert not list(sessions_folder().rglob("*.part*"))
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
    assert "File > Save Selected Layers" in warnings[0]

    save(qtbot, saving)  # nobody painted meanwhile
    np.testing.assert_array_equal(on_disk(layer), layer.data)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        paint(layer, 10, 70)
        save(qtbot, saving)
    assert len(warnings) == 2


def test_painting_goes_on_while_it_is_saved(qtbot, viewer, saving):
    labels = made_labels((1024, 1024))
    layer = add(viewer, labels, counts=(4, 4))
    saving.timer.setInterval(1)
    rng = np.random.default_rng(0)
    layer.brush_size = 30
    for label in range(1, 200):
        layer.paint(rng.integers(0, 1024, 2), label)
        qtbot.wait(1)
        if label % 20 == 0:
            layer.undo()
    saving.timer.stop()
    qtbot.waitUntil(lambda: not saving.busy, timeout=5_000)
    save(qtbot, saving)
    np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_flush_in_the_middle_of_a_round_keeps_the_newest_state(qtbot, viewer, saving):
    layer = add(viewer)
    for y in range(20, 50, 3):
        paint(layer, y, 60, y)
        saving.save()
        qtbot.wait(y % 7)
        paint(layer, y, 30, y)
        saving.flush()
        np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_a_round_copies_a_little_in_each_turn_of_the_window(qtbot, viewer, saving, monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 9999, (256, 256), dtype=np.uint16), np.ones((16, 16), "u2"))
    layer = add(viewer, labels, counts=(8, 8))
    save(qtbot, saving)
    copies = []
    copy = copy_of

    def slow_copy(*values):
        copies.append(turns[0])
        clock[0] += autosave_module.SLICE
        return copy(*values)

    clock, turns = [time.monotonic()], [0]
    monkeypatch.setattr(autosave_module, "copy_of", slow_copy)
    monkeypatch.setattr(autosave_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    saving._turn.timeout.connect(lambda: turns.__setitem__(0, turns[0] + 1))
    layer.data[:, ::40] = 1  # every region
    layer.refresh()
    save(qtbot, saving)
    assert len(copies) == 64
    assert len(set(copies)) == 64, "two regions in one turn, though one takes all of its time"
    np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_a_round_keeps_the_window_waiting_for_milliseconds(qtbot, viewer, saving):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 9999, (256, 256), dtype=np.uint16), np.ones((16, 16), "u2"))
    layer = add(viewer, labels, counts=(8, 8))
    save(qtbot, saving)
    turns = {}
    for name in ("save", "_receive", "_copy", "_done"):
        timed(saving, name, turns)
    saving._turn.timeout.disconnect()
    saving._turn.timeout.connect(saving._copy)
    saving.worker.progressed.disconnect()
    saving.worker.progressed.connect(saving._receive)
    saving.worker.done.disconnect()
    saving.worker.done.connect(saving._done)
    layer.data[:, ::40] = 1  # every region
    layer.refresh()
    save(qtbot, saving)
    assert max(turns.values()) < 50  # usually 10 ms
    np.testing.assert_array_equal(on_disk(layer), layer.data)


def timed(thing, name, turns):
    """Note the longest turn of a method: what it computes, whatever else the machine does."""
    method = getattr(thing, name)

    def call(*args):
        start = time.thread_time()
        method(*args)
        turns[name] = max(turns.get(name, 0), 1000 * (time.thread_time() - start))

    setattr(thing, name, call)


# --- the banner --------------------------------------------------------------------------


@pytest.fixture
def kept(make_napari_viewer, start, tmp_path):
    """Corrections of an image that a viewer left behind; give the labels and the image's path."""
    path = tmp_path / "nuclei.tif"
    tifffile.imwrite(path, np.arange(60 * 90, dtype=np.uint16).reshape(60, 90))
    other = make_napari_viewer()
    saving = start(other)
    (image,) = other.open(str(path), plugin="napari")
    image.scale, image.translate = (0.5, 0.5), (3, 4)
    place = place_of(image) | {"rotate": 20, "units": ("um", "um")}
    layer = add(other, image=image, **place)
    set_input_metadata(layer, pixel_size=(0.5, 0.5, "micrometer"))
    paint(layer, 40, 75)
    review_of(layer).approve(((), 0), "2026-11-03T17:32:00+01:00")
    saving.close()
    other.close()
    return layer, path


def test_without_sessions_there_is_no_banner(banner):
    assert banner.isHidden()


def test_the_banner_restores_labels_and_image(qtbot, viewer, saving, kept, banner, warnings):
    before, path = kept
    assert not banner.isHidden()
    assert "today" in banner.text.text()
    assert "of 'nuclei.tif' (1 region edited, 1 approved)" in banner.text.text()
    assert banner.box.isHidden()
    assert len(viewer.layers) == 0

    with qtbot.waitSignal(banner.restored, timeout=5_000):
        banner.buttons["Restore"].click()

    assert banner.isHidden()
    image, layer = viewer.layers
    assert file_of(image) == path
    assert source_image(layer, viewer.layers) is image
    assert describe_transform(layer) == describe_transform(before)
    np.testing.assert_array_equal(image.scale, (0.5, 0.5))
    np.testing.assert_array_equal(image.translate, (3, 4))
    np.testing.assert_array_equal(layer.data, before.data)
    assert layer.data.dtype == before.data.dtype
    assert layer.name == "nuclei cells"
    assert layer.editable
    assert viewer.layers.selection.active is layer
    assert typed_pixel_size(layer) == typed_pixel_size(before)
    review = review_of(layer)
    assert review.approved == review_of(before).approved
    assert [p for p in review if review.is_edited(p)] == [((), 5)]
    assert warnings == []

    folder = session_of(review).folder  # and it goes on
    paint(layer, 10, 70)
    save(qtbot, saving)
    assert session_of(review).folder == folder
    np.testing.assert_array_equal(on_disk(layer), layer.data)


def test_what_was_saved_is_not_offered_and_what_came_after_it_is(
    qtbot, viewer, saving, open_banner, tmp_path
):
    layer = add(viewer)
    paint(layer, 40, 75)
    save(qtbot, saving)
    viewer.layers.save(str(tmp_path / "cells.tif"), plugin="napari-unet-cells")
    assert (tmp_path / "cells.tif").exists()
    saving.close()
    assert open_banner().isHidden()
    assert len(sessions()) == 1  # it is kept
    paint(layer, 10, 75)
    session_of(review_of(layer)).claim()
    session_of(review_of(layer)).save(layer.data, review_of(layer))
    session_of(review_of(layer)).release()
    banner = open_banner()
    assert not banner.isHidden()
    assert "Written to cells.tif just now; 1 changed region only here." in banner.text.text()


def test_an_image_that_is_open_is_not_opened_again(qtbot, viewer, kept, banner):
    (image,) = viewer.open(str(kept[1]), plugin="napari")
    with qtbot.waitSignal(banner.restored, timeout=5_000):
        banner.restore()
    assert len(viewer.layers) == 2
    assert source_image(viewer.layers[1], viewer.layers) is image


def test_without_the_image_the_labels_come_alone(qtbot, viewer, kept, banner, warnings):
    kept[1].unlink()
    with qtbot.waitSignal(banner.restored, timeout=5_000):
        banner.restore()
    assert [layer.name for layer in viewer.layers] == ["nuclei cells"]
    assert "there is no" in warnings[0]
    assert str(kept[1]) in warnings[0]


@pytest.mark.parametrize("content", [b"no image", None])
def test_another_image_in_its_place_is_said(qtbot, viewer, kept, banner, warnings, content):
    if content is None:
        tifffile.imwrite(kept[1], np.zeros((7, 8), np.uint8))
    else:
        kept[1].write_bytes(content)
    with qtbot.waitSignal(banner.restored, timeout=5_000):
        banner.restore()
    np.testing.assert_array_equal(viewer.layers["nuclei cells"].data, kept[0].data)
    assert "restored" in warnings[0]
    assert str(kept[1]) in warnings[0]


def test_a_channel_is_split_off_again(
    qtbot, viewer, make_napari_viewer, start, tmp_path, open_banner, warnings
):
    from napari_unet_cells.widgets.segment.channels import split_channels

    path = tmp_path / "two.tif"
    data = np.arange(2 * 60 * 90, dtype=np.uint16).reshape(2, 60, 90)
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "CYX"})
    other = make_napari_viewer()
    saving = start(other)
    (image,) = other.open(str(path), plugin="napari")
    channel = split_channels(other, image, 0, 1)
    channel.scale = (0.25, 0.25)
    paint(add(other, image=channel, **place_of(channel)), 40, 60)
    saving.close()
    banner = open_banner()

    with qtbot.waitSignal(banner.restored, timeout=5_000):
        banner.restore()

    assert [layer.name for layer in viewer.layers] == [
        "two channel 1", "two channel 2", "nuclei cells",
    ]  # fmt: skip
    image = source_image(viewer.layers[2], viewer.layers)
    assert image is viewer.layers[1]
    np.testing.assert_array_equal(image.data, data[1])
    np.testing.assert_array_equal(image.scale, (0.25, 0.25))
    assert warnings == []


def test_a_projection_of_channels_is_made_again(
    qtbot, viewer, make_napari_viewer, start, tmp_path, open_banner, warnings
):
    from napari_unet_cells.widgets.segment.channels import (
        Projection,
        show_projection,
        split_channels,
        split_of,
    )

    path = tmp_path / "three.tif"
    data = np.random.default_rng(0).integers(0, 999, (3, 60, 90)).astype(np.uint16)
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "CYX"})
    other = make_napari_viewer()
    saving = start(other)
    (image,) = other.open(str(path), plugin="napari")
    chosen = Projection("mean", (0, 2))
    projected = split_channels(other, image, 0, 0, projection=chosen)
    show_projection(projected, chosen.compute(split_of(projected)))
    paint(add(other, image=projected, **place_of(projected)), 40, 60)
    saving.close()
    banner = open_banner()

    with qtbot.waitSignal(banner.restored, timeout=5_000):
        banner.restore()

    image = source_image(viewer.layers[-1], viewer.layers)
    assert image is viewer.layers["three mean of channel 1, channel 3"]
    assert not image.data.any()  # the window does not wait for it
    qtbot.waitUntil(lambda: image.data.any(), timeout=10_000)
    np.testing.assert_array_equal(image.data, projected.data)
    assert [INPUT in layer.metadata for layer in viewer.layers[:4]] == [True] * 4
    assert "projection" not in viewer.layers["three channel 1"].metadata[INPUT]
    assert warnings == []


def test_classes_get_their_colours(qtbot, viewer, make_napari_viewer, start, open_banner):
    from napari_unet_cells.layers.reader import class_colors

    other = make_napari_viewer()
    saving = start(other)
    paint(add(other, made_labels(dtype="uint8"), CLASSES), 40, 60, 2)
    saving.close()
    banner = open_banner()
    with qtbot.waitSignal(banner.restored, timeout=5_000):
        banner.restore()
    colors = viewer.layers[-1].colormap.color_dict
    assert set(colors) == set(class_colors(3))


@pytest.mark.parametrize(("answer", "left"), [("No", 1), ("Yes", 0)])
def test_discard_asks_once_more(qtbot, kept, banner, monkeypatch, answer, left):
    from qtpy.QtWidgets import QMessageBox

    asked = []

    def question(parent, title, text, *buttons):
        asked.append(text)
        return getattr(QMessageBox.StandardButton, answer)

    monkeypatch.setattr(QMessageBox, "question", question)
    banner.buttons["Discard"].click()
    assert "'nuclei.tif'" in asked[0]
    assert len(sessions()) == left
    assert banner.isHidden() == (not left)


def test_later_keeps_them_for_the_next_start(kept, banner, open_banner):
    banner.buttons["Later"].click()
    assert banner.isHidden()
    banner.refresh()
    assert banner.isHidden()
    assert len(sessions()) == 1
    again = open_banner()
    assert not again.isHidden()


def test_several_are_offered_in_a_list(qtbot, viewer, kept, start, banner):
    saving = start()
    for _ in range(2):
        paint(add(viewer), 40, 60)
    saving.close()
    banner.refresh()
    assert banner.box.count() == 3
    assert not banner.box.isHidden()
    banner.box.setCurrentIndex(2)
    assert "nuclei.tif" in banner.text.text()
    with qtbot.waitSignal(banner.restored, timeout=5_000):
        banner.buttons["Restore"].click()
    assert banner.box.count() == 2


def test_damaged_corrections_are_said_and_left(kept, banner):
    (summary,) = sessions()
    for path in summary.folder.iterdir():
        path.write_bytes(b"x")
    banner.refresh()
    assert "cannot be restored" in banner.text.text()
    assert banner.buttons["Restore"].isHidden()
    assert summary.folder.exists()


def test_corrections_that_another_napari_took_are_said(qtbot, kept, banner, warnings):
    restore(sessions()[0].folder)
    banner.buttons["Restore"].click()
    qtbot.waitUntil(lambda: bool(warnings), timeout=5_000)
    assert "another napari restored or discarded them" in warnings[0]
    assert banner.isHidden()


# --- a whole napari is killed ------------------------------------------------------------

NAPARI = """
import sys
import napari
import numpy as np
from qtpy.QtCore import QTimer
from napari_unet_cells.core.regions import Review
from napari_unet_cells.layers.metadata import REVIEW, image_id, result_metadata
from napari_unet_cells.widgets.correct.autosave import Autosave
from napari_unet_cells.widgets.correct.restore import RestoreBanner

viewer = napari.Viewer()
saving = Autosave(viewer, viewer.window._qt_window)
saving.timer.setInterval(100)
banner = RestoreBanner(viewer)

def work():
    (image,) = viewer.open(sys.argv[2], plugin="napari")
    labels = np.zeros(image.data.shape, np.uint16)
    layer = viewer.add_labels(labels, name="cells", scale=(0.5, 0.5), metadata={
        **result_metadata("cells", image_id(image), {}), REVIEW: Review(labels)})
    layer.paint((30, 30), 5)
    layer.paint((10, 70), 6)
    layer.undo()
    saving.saved.connect(lambda: print("saved", layer.data.sum(), flush=True))

def restored(layer):
    print("restored", layer.data.sum(), *layer.scale, len(viewer.layers), flush=True)
    layer.paint((50, 70), 9)
    print("painted", layer.data.sum(), flush=True)
    QTimer.singleShot(0, viewer.window._qt_window.close)

if sys.argv[1] == "work":
    QTimer.singleShot(0, work)
else:
    banner.restored.connect(restored)
    QTimer.singleShot(0, banner.restore)
napari.run(force=True)
"""


def napari_process(what, path):
    return subprocess.Popen(
        [sys.executable, "-c", NAPARI, what, str(path)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_a_napari_that_was_killed_is_restored_by_the_next(tmp_path):
    path = tmp_path / "nuclei.tif"
    tifffile.imwrite(path, np.zeros((60, 90), np.uint16))
    first = napari_process("work", path)
    saved = first.stdout.readline().split()
    assert saved[0] == "saved"
    assert int(saved[1]) > 0
    assert sessions() == []  # it runs
    first.kill()
    first.wait(timeout=10)
    first.stdout.close()
    assert len(sessions()) == 1

    second = napari_process("restore", path)
    out, _ = second.communicate(timeout=60)

    assert second.returncode == 0
    restored, painted = (line.split() for line in out.splitlines())
    assert restored == ["restored", saved[1], "0.5", "0.5", "2"]
    (summary,) = sessions()  # what was painted before the normal end is kept as well
    assert restore(Path(summary.folder)).labels.sum() == int(painted[1])
