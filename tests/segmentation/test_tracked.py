"""Cells of a run get the ids of their tracks, and what has no tracks is refused beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet_cells import tracking
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import segment as module
from napari_unet_cells.segmentation.messages import describe_tracks
from napari_unet_cells.segmentation.segment import segment
from napari_unet_cells.segmentation.tracked import check_tracking
from napari_unet_cells.tracking import TrackingOptions

pytest.importorskip("laptrack")

CARD = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)


def bright(pixels: np.ndarray) -> np.ndarray:
    inside = (pixels[..., :1] > 0.4).astype(np.uint8)
    return np.concatenate([inside, inside * 255, inside * 0], axis=-1)


NETWORK = FunctionNetwork(bright, stride=16, halo=32, max_tile=128)


@pytest.fixture
def movie(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Give a movie of one cell that divides, and another that stays, above it at first."""
    monkeypatch.setattr(module, "find_model", lambda name: CARD)
    monkeypatch.setattr(module, "open_network", lambda card, runtime: NETWORK)
    frames = np.zeros((3, 96, 96), np.uint8)
    frames[:, 70:82, 70:82] = 200
    frames[:2, 20:32, 20:40] = 200
    frames[2, 20:32, 17:28] = frames[2, 20:32, 32:43] = 200
    return frames


def test_the_function_tracks_a_movie(movie: np.ndarray) -> None:
    alone = segment(movie, axes="TYX", diameter=14)
    assert alone.tracks is None
    assert "tracks" not in alone.provenance
    result = segment(movie, axes="TYX", diameter=14, track=True)
    assert result.tracks is not None
    assert result.cells is not None
    assert result.n_cells == len(result.tracks) == 4
    assert result.cells[:, 75, 75].tolist() == [2, 2, 2]
    assert result.cells[:, 25, 25].tolist() == [1, 1, 3]
    assert dict(result.tracks.parents) == {3: 1, 4: 1}
    np.testing.assert_array_equal(result.cells > 0, movie > 0)
    assert result.provenance["tracks"] == {"parents": [[3, 1], [4, 1]]}
    assert result.provenance["parameters"]["linked_along_axis"] == 0
    assert describe_tracks(result.tracks) == "4 tracks with 1 division"
    without = segment(movie, axes="TYX", diameter=14, track=TrackingOptions(division_distance=0))
    assert without.tracks is not None
    assert without.tracks.parents == {}
    with pytest.raises(UserError, match="either linked or tracked"):
        segment(movie, axes="TYX", track=True, link="t")


@pytest.mark.parametrize(
    ("axes", "n", "said"),
    [
        ("YX", 90, "It is a single frame"),
        ("TYX", 1, "It is a single frame"),
        ("ZYX", 5, r"follow z, not time \(axes ZYX\)"),
        ("TZYX", 5, r"has the axes TZYX\. Save one of its z planes"),
        ("QYX", 5, r"Nothing says that its planes follow time \(axes QYX\)"),
    ],
)
def test_what_has_no_tracks_is_refused(axes: str, n: int, said: str) -> None:
    check_tracking("TYX", 2)
    with pytest.raises(UserError, match=said):
        check_tracking(axes, n)


def test_classes_have_no_tracks_and_a_missing_library_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match="makes classes only"):
        check_tracking("TYX", 2, makes_cells=False)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="laptrack, which is not installed"):
        check_tracking("TYX", 2)


def test_the_axes_are_looked_at_before_the_network_runs(
    movie: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the network was opened")

    monkeypatch.setattr(module, "open_network", never)
    with pytest.raises(UserError, match="follow z, not time"):
        segment(movie, axes="ZYX", track=True)
    with pytest.raises(UserError, match="single frame"):
        segment(movie[0], track=True)


def test_axes_that_no_file_names_are_no_time() -> None:
    check_tracking("TYX", 3)
    with pytest.raises(UserError, match="Nothing says that its planes follow time"):
        check_tracking("TYX", 3, is_guessed=True)
