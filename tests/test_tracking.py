"""Cells of a movie become tracks: gaps, divisions, and ids that stay."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import tracking as benchmark
from numpy.typing import NDArray

from napari_unet_cells import tracking
from napari_unet_cells.errors import UserError
from napari_unet_cells.tracking import Stopped, Tracked, TrackingOptions, track_cells

pytest.importorskip("laptrack")


def frame(*cells: tuple[int, int, int], size: int = 8) -> NDArray[np.uint16]:
    """Draw squares: id, top, left."""
    plane = np.zeros((60, 80), np.uint16)
    for label, top, left in cells:
        plane[top : top + size, left : left + size] = label
    return plane


def rows(tracked: Tracked) -> dict[int, list[int]]:
    """Give the frames of each track."""
    found = tracked.tracks
    return {track: found.frame[found.track == track].tolist() for track in found.ids.tolist()}


def test_a_cell_keeps_its_id_and_one_far_away_gets_another() -> None:
    movie = [frame((4, 10, 10)), frame((9, 12, 13), (1, 40, 60)), frame((2, 14, 16))]
    tracked = track_cells(movie)
    assert rows(tracked) == {1: [0, 1, 2], 2: [1]}
    named = [tracked.renamed(number, plane) for number, plane in enumerate(movie)]
    assert [plane[16, 17] for plane in named] == [1, 1, 1]
    assert named[1][44, 64] == 2
    assert named[0].dtype == np.uint16
    for before, after in zip(movie, named, strict=True):
        np.testing.assert_array_equal(after > 0, before > 0)


def test_a_gap_is_closed_up_to_the_frames_that_a_cell_may_be_missing() -> None:
    here, gone = frame((1, 10, 10)), frame()
    assert rows(track_cells([here, gone, gone, here])) == {1: [0, 3]}
    assert rows(track_cells([here, gone, gone, gone, here])) == {1: [0], 2: [4]}
    options = TrackingOptions(missing=3)
    assert rows(track_cells([here, gone, gone, gone, here], options)) == {1: [0, 4]}
    assert rows(track_cells([here, gone, here], TrackingOptions(missing=0))) == {1: [0], 2: [2]}


def dividing() -> list[NDArray[np.uint16]]:
    mother, daughters = frame(), frame()
    mother[20:32, 20:40] = 6
    daughters[20:32, 18:29], daughters[20:32, 31:42] = 1, 2
    return [mother, mother, daughters, daughters]


def test_a_division_ends_the_parent_and_begins_two_tracks() -> None:
    tracked = track_cells(dividing())
    assert rows(tracked) == {1: [0, 1], 2: [2, 3], 3: [2, 3]}
    assert dict(tracked.tracks.parents) == {2: 1, 3: 1}
    without = track_cells(dividing(), TrackingOptions(division_distance=0))
    assert without.tracks.parents == {}
    assert sorted(rows(without).values()) == [[0, 1, 2, 3], [2, 3]]


def test_a_gap_elsewhere_does_not_decide_on_a_division() -> None:
    movie = dividing()
    for number, plane in enumerate(movie):
        movie[number] = plane.copy()
        movie[number][45:57, 60:72] = 9 * (number != 2)
    tracked = track_cells(movie)
    assert rows(tracked) == {1: [0, 1], 2: [0, 1, 3], 3: [2, 3], 4: [2, 3]}
    assert dict(tracked.tracks.parents) == {3: 1, 4: 1}


def test_a_cell_that_comes_beside_another_is_no_daughter() -> None:
    alone, both = frame(), frame()
    alone[20:32, 20:40] = 1
    both[20:32, 20:40], both[33:45, 20:40] = 1, 2
    tracked = track_cells([alone, alone, both])
    assert tracked.tracks.parents == {}
    assert rows(tracked) == {1: [0, 1, 2], 2: [2]}
    piece = alone.copy()
    piece[33:36, 26:30] = 2  # as much smaller as no daughter is
    assert track_cells([alone, alone, piece]).tracks.parents == {}


def test_distances_are_in_diameters_whatever_the_size_of_a_pixel() -> None:
    movie = [frame((1, 10, 10)), frame((1, 10, 17)), frame((1, 10, 24))]
    large = [np.kron(plane, np.ones((4, 4), np.uint16)) for plane in movie]
    for planes in (movie, large):
        assert rows(track_cells(planes)) == {1: [0, 1, 2]}
        near = TrackingOptions(distance=0.5)
        assert rows(track_cells(planes, near)) == {1: [0], 2: [1], 3: [2]}


def test_frames_without_cells_and_movies_without_any_are_tracked() -> None:
    assert rows(track_cells([frame(), frame((1, 5, 5)), frame()])) == {1: [1]}
    assert rows(track_cells([frame(), frame()])) == {}
    assert track_cells([frame(), frame()]).renamed(0, frame()).max() == 0


def test_tracks_keep_their_ids_when_they_are_found_again() -> None:
    movie = [frame((30, 10, 10), (4, 40, 60)), frame((30, 12, 12), (4, 40, 58))]
    assert rows(track_cells(movie)) == {1: [0, 1], 2: [0, 1]}
    assert rows(track_cells(movie, keep_ids=True)) == {4: [0, 1], 30: [0, 1]}
    # a cell that came, and one whose id was that of another
    movie.append(frame((31, 14, 14), (4, 40, 56), (9, 10, 40)))
    assert rows(track_cells(movie, keep_ids=True)) == {4: [0, 1, 2], 9: [2], 30: [0, 1, 2]}


def test_an_id_is_that_of_the_track_with_most_of_its_cells() -> None:
    still = [(1, 10, 10), (2, 40, 60)]
    swapped = [(2, 10, 10), (1, 40, 60)]
    tracked = track_cells([frame(*still), frame(*swapped), frame(*still)], keep_ids=True)
    assert tracked.names[1] == {2: 1, 1: 2}
    assert rows(tracked) == {1: [0, 1, 2], 2: [0, 1, 2]}


def test_what_a_person_linked_stays_linked() -> None:
    # The user says that the cell jumped from the left to the right, and the other one back.
    movie = [frame((1, 10, 10), (2, 10, 60)), frame((2, 10, 10), (1, 10, 60))]
    assert rows(track_cells(movie, keep_ids=True)) == {1: [0, 1], 2: [0, 1]}
    assert track_cells(movie, keep_ids=True).names[1] == {1: 2, 2: 1}
    held = track_cells(movie, keep_ids=True, held=[(1, 1), (1, 2)])
    assert held.names[1] == {1: 1, 2: 2}
    # a link over a gap, too
    gap = [movie[0], frame(), movie[1]]
    assert track_cells(gap, keep_ids=True, held=[(2, 1)]).names[2][1] == 1


def test_many_tracks_get_a_wider_type() -> None:
    movie = [frame((1, 10, 10)).astype(np.uint32)] * 2
    movie = [np.where(plane, 70_000, 0).astype(np.uint32) for plane in movie]
    tracked = track_cells(movie, keep_ids=True)
    assert tracked.renamed(0, movie[0]).dtype == np.uint32
    assert tracked.renamed(0, movie[0]).max() == 70_000
    assert track_cells(movie).renamed(0, movie[0]).dtype == np.uint16


@pytest.mark.parametrize(
    ("movie", "said"),
    [
        ([], "There are no frames, and tracks need two or more"),
        ([frame((1, 1, 1))], "There is one frame, and tracks need two or more"),
        ([frame(), frame()[:10]], r"Frame 1 has the size \(10, 80\), the one before \(60, 80\)"),
        ([frame(), frame() * 1.0], "Frame 1 holds no labels"),
    ],
)
def test_what_is_no_movie_is_refused(movie: list[Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        track_cells(movie)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="not by 0 "):
        TrackingOptions(distance=0)
    with pytest.raises(UserError, match="not by 1 "):
        TrackingOptions(division_distance=-1)
    with pytest.raises(UserError, match="may be missing in 0 to 100 frames, not in -1"):
        TrackingOptions(missing=-1)


def test_too_many_cells_of_a_frame_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MOST_CELLS", 1)
    with pytest.raises(UserError, match="A frame has 2 cells, and tracks can be found for up to 1"):
        track_cells([frame((1, 1, 1), (2, 30, 30)), frame()])


def test_a_missing_library_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"laptrack, which is not installed.*\[tracking\]"):
        track_cells([frame(), frame()])


def test_it_can_be_stopped_between_frames() -> None:
    seen: list[int] = []

    def stopped() -> bool:
        seen.append(1)
        return len(seen) > 2

    with pytest.raises(Stopped):
        track_cells([frame()] * 9, stopped=stopped)
    assert len(seen) == 3


def test_the_library_is_imported_when_it_is_needed_only() -> None:
    assert tracking.__name__ in sys.modules
    source = tracking.__file__
    assert source is not None
    with open(source, encoding="utf-8") as file:
        lines = [line for line in file if "laptrack" in line and "import" in line]
    assert [line for line in lines if not line.startswith(" ")] == []


@pytest.mark.slow
def test_cells_that_move_and_divide_are_tracked_better_than_by_overlap() -> None:
    movie = benchmark.simulate(benchmark.Simulation(n=60, step=0.3, seed=7), frames=20)
    assert len(benchmark.divisions(movie.links)) >= 5
    found, overlapping = benchmark.by_tracking(movie), benchmark.by_overlap(movie)
    links = benchmark.f1(found, movie.links)
    assert links > 0.99
    assert links > benchmark.f1(overlapping, movie.links)
    divided = benchmark.f1(benchmark.divisions(found), benchmark.divisions(movie.links))
    assert divided > 0.9
