"""The button that tracks a movie, in a real napari window."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet_cells.widgets.correct.section import CorrectSection

pytest.importorskip("laptrack")
pytestmark = pytest.mark.gui


def movie():
    """One cell moves, another one divides, each frame numbered on its own."""
    labels = np.zeros((4, 50, 80), np.uint16)
    for t in range(4):
        labels[t, 30 + t : 42 + t, 50:62] = 4 - t
        if t < 2:
            labels[t, 10:22, 10:30] = 7
        else:
            labels[t, 10:22, 8:19], labels[t, 10:22, 21:32] = 8, 9
    return labels


@pytest.fixture
def section(make_napari_viewer, qtbot, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    viewer = make_napari_viewer(show=True)
    section = CorrectSection(viewer)
    viewer.window.add_dock_widget(section)
    return section


def settle(qtbot, section):
    qtbot.waitUntil(lambda: not section.tracks.controller.busy, timeout=60_000)


def test_the_button_tracks_and_the_layer_follows_what_is_corrected(section, qtbot):
    viewer = section.review.controller._viewer
    plane = viewer.add_labels(movie()[0], name="plane")
    settle(qtbot, section)
    assert not section.tracks.isVisible()
    cells = viewer.add_labels(movie(), name="movie", axis_labels=("t", "y", "x"), scale=(1, 2, 2))
    settle(qtbot, section)
    assert section.tracks.isVisible()
    assert section.tracks.button.isEnabled()
    assert not section.tracks.note.isVisible()

    section.tracks.button.click()
    settle(qtbot, section)
    assert section.tracks.note.text() == "4 tracks with 1 division."
    tracks = viewer.layers["movie tracks"]
    assert viewer.layers.selection.active == cells
    assert tracks.visible
    moving = int(cells.data[0, 35, 55])
    assert [int(cells.data[t, 36, 55]) for t in range(4)] == [moving] * 4
    assert sorted(tracks.data[tracks.data[:, 0] == moving][:, 1].tolist()) == [0, 1, 2, 3]
    np.testing.assert_allclose(tracks.scale, (1, 2, 2))

    cells.data_setitem(np.nonzero(cells.data == moving), 0)
    settle(qtbot, section)
    assert moving not in tracks.data[:, 0]
    assert section.tracks.note.text() == "3 tracks with 1 division."
    cells.undo()
    settle(qtbot, section)
    assert moving in tracks.data[:, 0]

    viewer.layers.selection.active = plane
    settle(qtbot, section)
    assert not section.tracks.isVisible()


def test_stacks_along_z_cannot_be_tracked(section, qtbot):
    viewer = section.review.controller._viewer
    viewer.add_labels(movie(), name="stack", axis_labels=("z", "y", "x"))
    settle(qtbot, section)
    assert section.tracks.isVisible()
    assert not section.tracks.button.isEnabled()
    assert "follow z, not time" in section.tracks.button.toolTip()


def test_a_form_that_goes_while_it_works_is_not_missed(section, qtbot):
    viewer = section.review.controller._viewer
    cells = viewer.add_labels(movie(), name="movie")
    settle(qtbot, section)
    section.tracks.button.click()
    assert section.tracks.controller.busy
    viewer.window.remove_dock_widget(section)
    section.deleteLater()
    qtbot.wait(500)
    assert cells in viewer.layers
