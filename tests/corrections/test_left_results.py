"""Corrections of a result survive a crash while another one is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import PackedLabels, Review
from napari_unet_cells.corrections.autosave import NotSaved, Session
from napari_unet_cells.corrections.exported import Written, read
from napari_unet_cells.corrections.left_results import keep, keep_soon, settle
from napari_unet_cells.corrections.restoring import restore
from napari_unet_cells.corrections.session_files import sessions_folder
from napari_unet_cells.segmentation.earlier import EarlierResult, Left
from napari_unet_cells.segmentation.replacing import Origin, ResultState

DESCRIPTION: dict[str, Any] = {"name": "nuclei cells", "metadata": {}, "place": {}, "image": None}


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))


def result_of(labels: np.ndarray[Any, Any], approved: dict[Any, str] | None = None) -> Any:
    made = np.zeros((600, 700), np.uint16)
    made[10:20, 10:20] = 1
    state = ResultState.of(Origin(None, {}), PackedLabels.of(made), digest(made))
    left = Left.of(PackedLabels.of(labels), state, approved or {})
    return EarlierResult(left), left


def corrected() -> np.ndarray[Any, Any]:
    labels = np.zeros((600, 700), np.uint16)
    labels[10:20, 10:20] = 1
    labels[500:510, 600:610] = 7
    return labels


def test_what_was_corrected_and_approved_is_read_again() -> None:
    result, left = result_of(corrected(), {((), 0): "2026-01-02T03:04:05"})
    session = keep(result, left, DESCRIPTION)
    assert session is not None
    assert session.folder is not None
    found = restore(session.folder)
    np.testing.assert_array_equal(found.labels, corrected())
    assert found.review.approved == {((), 0): "2026-01-02T03:04:05"}
    assert not found.review.made(((), 3)).any()  # what the program made
    assert found.description["name"] == "nuclei cells"


def test_nothing_is_written_where_nothing_was_corrected() -> None:
    labels = corrected()
    labels[500:] = 0
    result, left = result_of(labels)
    assert keep(result, left, DESCRIPTION) is None
    assert not sessions_folder().exists()


def test_it_is_written_anew_when_it_is_left_again_and_goes_when_it_is_saved_elsewhere() -> None:
    result, left = result_of(corrected())
    keep(result, left, DESCRIPTION)
    again = corrected()
    again[0, 0] = 9
    session = keep(result, result_of(again)[1], DESCRIPTION)
    assert session is not None
    assert [session.folder] == list(sessions_folder().iterdir())
    settle(result, Session())
    assert not list(sessions_folder().iterdir())
    settle(result, Session())  # a second time changes nothing
    keep_soon(result, left, DESCRIPTION).join()
    (folder,) = sessions_folder().iterdir()
    np.testing.assert_array_equal(restore(folder).labels, corrected())


def test_what_was_exported_goes_with_it_and_comes_back() -> None:
    result, left = result_of(corrected())
    review = Review(left.state.made.unpacked())
    written = Written.of(sessions_folder() / "cells.tif", corrected(), review)
    session = keep(result, left, DESCRIPTION, [written])
    assert session is not None
    assert session.folder is not None
    assert [one.path for one in read(session.folder)] == [written.path]
    layer = Session()
    settle(result, layer)
    assert [one.path for one in layer.exports] == [written.path]


def test_exports_are_remembered_while_nothing_is_left_to_save() -> None:
    made = np.zeros((60, 70), np.uint16)
    review, session, labels = Review(made), Session(), made.copy()
    labels[3, 3] = 1
    session.save(labels, review, None, DESCRIPTION)
    session.note_written(Written.of(sessions_folder() / "cells.tif", labels, review))
    session.save(made, review, None, DESCRIPTION)  # another result, which was not corrected
    assert session.folder is None
    session.save(labels, review, None, DESCRIPTION)
    assert session.folder is not None
    assert len(read(session.folder)) == 1


def test_a_disk_that_refuses_is_said(tmp_path: Any) -> None:
    (tmp_path / "sessions").write_text("no folder")
    result, left = result_of(corrected())
    with pytest.raises(NotSaved):
        keep(result, left, DESCRIPTION)


def test_the_session_of_the_layer_holds_the_result_that_came_back() -> None:
    first, left = result_of(corrected())
    made = np.zeros((600, 700), np.uint16)
    made[300:320, 300:320] = 1
    labels = made.copy()
    labels[0, 0] = 5
    review, session = Review(made), Session()
    session.save(labels, review, None, DESCRIPTION)
    labels[...] = left.labels.unpacked()
    review.rebase(left.state.made, labels)
    session.save(labels, review, None, DESCRIPTION)
    assert session.folder is not None
    found = restore(session.folder)
    np.testing.assert_array_equal(found.labels, corrected())
    assert first.left.state.made.differing(found.review.baseline) == []
