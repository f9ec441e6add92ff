"""Cells that a person corrected are tracked as one step, and keep what she said of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import PackedLabels
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.replacing import Origin, ResultState
from napari_unet_cells.segmentation.track_labels import track_labels

pytest.importorskip("laptrack")

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")


def movie(*frames: dict[int, int], dtype: Any = np.uint16) -> NDArray[Any]:
    """Draw frames of cells: id to its column of 8 pixels."""
    labels = np.zeros((len(frames), 20, 80), dtype)
    for number, cells in enumerate(frames):
        for label, column in cells.items():
            labels[number, 6:14, column : column + 8] = label
    return labels


def state_of(labels: NDArray[Any], link: int | None = None) -> ResultState:
    details = RunDetails(card=CARD, options=InstanceOptions(), link=link, is_stack=True)
    origin = Origin(details, details.provenance())
    return ResultState.of(origin, PackedLabels.of(labels), digest(labels))


def test_ids_become_those_of_tracks_in_one_step() -> None:
    labels = movie({1: 5, 2: 40}, {2: 6, 1: 41})
    old = state_of(labels)
    assert not old.origin.is_tracked
    found = track_labels(labels, old, ())
    expected = movie({1: 5, 2: 40}, {1: 6, 2: 41})
    np.testing.assert_array_equal(found.labels, expected)
    change = found.change
    assert change.checksum == digest(labels)
    np.testing.assert_array_equal(change.before.unpacked(), labels)
    np.testing.assert_array_equal(change.after.unpacked(), expected)
    assert change.n_cells == 2
    assert change.new.origin.is_tracked
    assert change.new.origin.link == 0
    assert change.new.origin.provenance["tracks"] == {"parents": []}
    assert change.new.corrected is None
    np.testing.assert_array_equal(labels, movie({1: 5, 2: 40}, {2: 6, 1: 41}))


def test_what_was_corrected_stays_marked_as_such() -> None:
    left = movie({1: 5}, {1: 6})
    shown = left.copy()
    shown[1, 6:14, 6:14], shown[1, 6:14, 7:15] = 0, 1
    found = track_labels(shown, state_of(left), ())
    assert found.change.new.corrected is not None
    assert found.change.new.corrected.unpacked()[1].any()
    assert not found.change.new.corrected.unpacked()[0].any()
    np.testing.assert_array_equal(found.labels > 0, shown > 0)


def test_tracks_keep_their_ids_and_corrected_links_are_kept_the_next_time() -> None:
    left = movie({7: 5, 3: 40}, {7: 6, 3: 41}, {7: 7, 3: 42})
    again = track_labels(left, state_of(left, link=0), ())
    np.testing.assert_array_equal(again.labels, left)
    swapped = left.copy()  # the user says: from the last frame on they are the other way round
    swapped[2] = movie({3: 7, 7: 42})[0]
    held = track_labels(swapped, state_of(left, link=0), ())
    np.testing.assert_array_equal(held.labels, swapped)
    # nobody said it: the nearer ones belong together
    free = track_labels(swapped, state_of(swapped, link=0), ())
    np.testing.assert_array_equal(free.labels, left)


def test_other_thresholds_end_the_tracks() -> None:
    labels = movie({1: 5}, {1: 6})
    origin = track_labels(labels, state_of(labels), ()).change.new.origin
    assert origin.is_tracked
    other = origin.with_options(InstanceOptions(min_size=3))
    assert not other.is_tracked
    assert other.link == 0


def test_labels_of_unknown_origin_are_tracked_too() -> None:
    labels = movie({1: 5}, {2: 6}, dtype=np.int64)
    state = ResultState.of(Origin(None, {}), PackedLabels.of(labels), digest(labels))
    found = track_labels(labels, state, ())
    assert np.unique(found.labels).tolist() == [0, 1]
    assert found.labels.dtype == np.int64
    assert found.change.new.origin.provenance == {"tracks": {"parents": []}}
    assert found.change.new.origin.link == 0
    assert found.change.n_cells == 1
