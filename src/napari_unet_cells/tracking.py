"""Link the cells of a movie into tracks, with gaps and divisions, by the library laptrack.

From frame to frame, those links are made whose sum of squared distances is least; then tracks that
ended are joined to such as begin a little later, and tracks that begin beside a cell become its
daughters (Jaqaman 2008). Distances are in units of the cells' own diameter, so that the same limits
serve any image.

References
----------
.. [1] Jaqaman et al., "Robust single-particle tracking in live-cell time-lapse sequences", Nature
   Methods 5, 2008.
.. [2] Fukai and Kawaguchi, "LapTrack: linear assignment particle tracking with tunable metrics",
   Bioinformatics 39, 2023.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.tracks import FrameCells, Plane, Tracks
from napari_unet_cells.errors import UserError

#: Two daughters together have at most so many times the area of their parent: a cell that merely
#: came into view beside another one is as large as that.
_MOST_GROWTH = 1.8

#: The smaller of two daughters has at least this part of the larger one's area.
_LEAST_LIKENESS = 0.4

#: Cost of no link, as part of that of the farthest one.
_REFUSED = 1.05

#: Cells of a frame; the distances to those of the next one must fit into memory.
MOST_CELLS = 10_000

#: A cell: number of its frame, and its place among the cells of the frame.
_Node = tuple[int, int]


@dataclass(frozen=True)
class TrackingOptions:
    """Limits of the moves, gaps and divisions of a track.

    Attributes
    ----------
    distance : float
        Largest move from frame to frame, in cell diameters.
    missing : int
        Frames in which a cell may be missing before it comes back; 0 closes no gaps.
    division_distance : float
        Largest distance of a new cell from the place where its parent was, in cell diameters; 0
        finds no divisions.
    """

    distance: float = 1.0
    missing: int = 2
    division_distance: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not (0 < self.distance <= 100 and 0 <= self.division_distance <= 100):
            raise UserError(
                "Cells move by 0 to 100 diameters from frame to frame, not by "
                f"{self.distance:g} (a division: {self.division_distance:g}). Usual is 1."
            )
        if not 0 <= self.missing <= 100:
            raise UserError(
                f"A cell may be missing in 0 to 100 frames, not in {self.missing}. Usual is 2."
            )


@dataclass(frozen=True, eq=False)
class Tracked:
    """Tracks, and the ids that make the labels tell of them.

    Attributes
    ----------
    tracks : Tracks
    names : sequence of mapping
        For each frame, the id that a cell had to the id of its track.
    """

    tracks: Tracks
    names: Sequence[Mapping[int, int]]

    def renamed(self, number: int, plane: Plane, dtype: Any = None) -> NDArray[Any]:
        """Give the labels of a frame with the ids of their tracks.

        Parameters
        ----------
        number : int
            Of the frame.
        plane : integer array, (y, x)
        dtype : optional
            By default uint16, or uint32 where there are more tracks than that holds.
        """
        names = self.names[number]
        olds = np.array(sorted({0, *names}), np.int64)
        news = np.array([names.get(one, 0) for one in olds.tolist()], np.int64)
        news = news.astype(self.dtype if dtype is None else dtype)
        if olds[-1] <= plane.size:
            table = np.zeros(int(olds[-1]) + 1, news.dtype)
            table[olds] = news
            return table[plane]
        renamed: NDArray[Any] = news[np.searchsorted(olds, plane)]
        return renamed

    @property
    def dtype(self) -> Any:
        """Data type that holds the ids of all tracks."""
        return np.uint16 if self.tracks.track.max(initial=0) <= 65_535 else np.uint32


def has_laptrack() -> bool:
    """Whether the library is installed; it is not imported."""
    return find_spec("laptrack") is not None


def require_laptrack() -> None:
    """Say how the library is installed, where it is not, before time is spent.

    Raises
    ------
    UserError
    """
    if not has_laptrack():
        raise UserError(
            "Tracking needs the library laptrack, which is not installed. Install it with: pip "
            'install "napari-unet-cells[tracking]"'
        )


def track_cells(
    planes: Iterable[Plane],
    options: TrackingOptions | None = None,
    *,
    keep_ids: bool = False,
    held: Collection[tuple[int, int]] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> Tracked:
    """Link the cells of a movie into tracks.

    Parameters
    ----------
    planes : iterable of integer arrays (y, x)
        Labels of one frame after the other; one is in memory at a time. Ids of different frames
        have nothing to do with each other.
    options : TrackingOptions, optional
    keep_ids : bool
        The ids are those of tracks already: a track keeps the one that most of its cells have.
        Else tracks are numbered from 1 in the order in which they appear.
    held : collection of (frame, id)
        Cells that a person gave their ids to: they stay linked to those of the same id before and
        after them.
    stopped : callable () -> bool
        Asked before each frame; where it says so, `Stopped` is raised.

    Returns
    -------
    Tracked

    Raises
    ------
    UserError
        Where laptrack is not installed, there are fewer than two frames, or they are no labels.
    """
    require_laptrack()
    frames: list[FrameCells] = []
    shape: tuple[int, ...] | None = None
    for number, plane in enumerate(planes):
        if stopped():
            raise Stopped
        array = np.asarray(plane)
        frames.append(FrameCells.of(array, number))
        if shape not in (None, array.shape):
            raise UserError(
                f"Frame {number} has the size {array.shape}, the one before {shape}; only frames "
                "of one size can be tracked."
            )
        shape = array.shape
    return track_frames(frames, options, keep_ids=keep_ids, held=held)


def track_frames(
    frames: Sequence[FrameCells],
    options: TrackingOptions | None = None,
    *,
    keep_ids: bool = False,
    held: Collection[tuple[int, int]] = (),
) -> Tracked:
    """Link the cells of a movie of which places and sizes are known; see `track_cells`.

    Parameters
    ----------
    frames : sequence of FrameCells
    options, keep_ids, held
    """
    require_laptrack()
    options = options or TrackingOptions()
    _check(frames)
    links = _links(frames, options, _held_links(frames, held))
    chains, parents = _chains(frames, links)
    ids = _kept(frames, chains) if keep_ids else list(range(1, len(chains) + 1))
    return _named(frames, chains, parents, ids)


class Stopped(Exception):
    """The tracking was cancelled."""


def _check(frames: Sequence[FrameCells]) -> None:
    if len(frames) < 2:
        raise UserError(
            f"There {'is one frame' if frames else 'are no frames'}, and tracks need two or more. "
            "Segment all planes of the movie first."
        )
    most = max(len(cells) for cells in frames)
    if most > MOST_CELLS:
        raise UserError(
            f"A frame has {most} cells, and tracks can be found for up to {MOST_CELLS}. Track a "
            "part of the movie."
        )


def _held_links(
    frames: Sequence[FrameCells], held: Collection[tuple[int, int]]
) -> list[tuple[_Node, _Node]]:
    """Give the links from held cells to those of the same id before and after them."""
    wanted = {label for _, label in held}
    if not wanted:
        return []
    fixed, places = set(held), defaultdict[int, list[_Node]](list)
    for number, cells in enumerate(frames):
        for place, label in enumerate(cells.label.tolist()):
            if label in wanted:
                places[label].append((number, place))
    return [
        (one, other)
        for label, nodes in places.items()
        for one, other in pairwise(nodes)
        if (one[0], label) in fixed or (other[0], label) in fixed
    ]


def _links(
    frames: Sequence[FrameCells],
    options: TrackingOptions,
    held: Collection[tuple[_Node, _Node]],
) -> Mapping[_Node, Sequence[_Node]]:
    """Have laptrack link the cells: each to the one, or the daughters, that come after it."""
    if sum(map(bool, map(len, frames))) < 2:
        return {}  # laptrack fails where there is nothing to link
    from laptrack import LapTrack

    diameter = float(np.median(np.concatenate([2 * np.sqrt(c.area / np.pi) for c in frames])))
    tracker = LapTrack(
        metric="sqeuclidean",
        cutoff=options.distance**2,
        gap_closing_metric="sqeuclidean",
        gap_closing_cutoff=options.distance**2 if options.missing else False,
        gap_closing_max_frame_count=options.missing + 1,
        splitting_metric="sqeuclidean",
        splitting_cutoff=options.division_distance**2 if options.division_distance else False,
        # What lies within the limits is linked. The costs that laptrack estimates are those of the
        # whole movie: a gap elsewhere would decide on whether this cell divides.
        segment_start_cost=_REFUSED * options.distance**2,
        segment_end_cost=_REFUSED * options.distance**2,
        no_splitting_cost=_REFUSED * max(options.division_distance, 0.1) ** 2,
        no_merging_cost=_REFUSED * options.distance**2,
    )
    places = [np.stack([cells.y, cells.x], 1) / diameter for cells in frames]
    graph = tracker.predict(places, connected_edges=list(held) or None)
    after = defaultdict[_Node, list[_Node]](list)
    for edge in graph.edges():
        one, other = sorted((int(number), int(place)) for number, place in edge)
        after[one].append(other)
    fixed = set(held)
    return {
        one: _plausible(frames, one, others, options.distance * diameter, fixed)
        for one, others in after.items()
    }


def _plausible(
    frames: Sequence[FrameCells],
    one: _Node,
    others: Sequence[_Node],
    limit: float,
    held: Collection[tuple[_Node, _Node]],
) -> Sequence[_Node]:
    """Choose of the cells that were linked to one the daughters, or the one that it is itself."""
    if len(others) > 1:
        if _is_division(frames, one, others):
            return others
        others = [min(others, key=lambda o: ((one, o) not in held, _unlike(frames, one, o)))]
    # What begins near the end of a track was taken for its only daughter.
    if (one, others[0]) not in held and _apart(frames, one, others[0]) > limit:
        return []
    return others


def _chains(
    frames: Sequence[FrameCells], after: Mapping[_Node, Sequence[_Node]]
) -> tuple[list[list[_Node]], dict[int, int]]:
    """Cut the links into tracks where a cell divides.

    Parameters
    ----------
    frames : sequence of FrameCells
    after : mapping of node to nodes
        See `_links`.

    Returns
    -------
    chains : list of lists of nodes
        In the order in which they begin.
    parents : dict of int to int
        Places in `chains`, of a daughter to its parent.
    """
    continued = {others[0] for others in after.values() if len(others) == 1}
    chains, ends = list[list[_Node]](), dict[_Node, int]()
    for number, cells in enumerate(frames):
        for place in range(len(cells)):
            node = (number, place)
            if node in continued:
                continue
            chain = [node]
            while len(after.get(chain[-1], ())) == 1:
                chain.append(after[chain[-1]][0])
            ends[chain[-1]] = len(chains)
            chains.append(chain)
    divided = [(one, others) for one, others in after.items() if len(others) > 1]
    begins = {chain[0]: index for index, chain in enumerate(chains)}
    return chains, {begins[other]: ends[one] for one, others in divided for other in others}


def _is_division(frames: Sequence[FrameCells], one: _Node, others: Sequence[_Node]) -> bool:
    """Whether the sizes are those of a cell and its daughters."""
    parent = int(frames[one[0]].area[one[1]])
    areas = [int(frames[number].area[place]) for number, place in others]
    return sum(areas) <= _MOST_GROWTH * parent and min(areas) >= _LEAST_LIKENESS * max(areas)


def _unlike(frames: Sequence[FrameCells], one: _Node, other: _Node) -> float:
    """Measure how little two cells are alike in place and size."""
    old, new = int(frames[one[0]].area[one[1]]), int(frames[other[0]].area[other[1]])
    return _apart(frames, one, other) ** 2 / old + float(np.log(new / old)) ** 2


def _apart(frames: Sequence[FrameCells], one: _Node, other: _Node) -> float:
    """Measure the distance of two cells in pixels."""
    a, b = frames[one[0]], frames[other[0]]
    i, j = one[1], other[1]
    return float(np.hypot(a.y[i] - b.y[j], a.x[i] - b.x[j]))


def _kept(frames: Sequence[FrameCells], chains: Sequence[Sequence[_Node]]) -> list[int]:
    """Give each track the id that most of its cells have, if no other has more with it."""
    votes = Counter[tuple[int, int]]()
    highest = 0
    for index, chain in enumerate(chains):
        for number, place in chain:
            label = int(frames[number].label[place])
            votes[index, label] += 1
            highest = max(highest, label)
    ids, taken = dict[int, int](), set[int]()
    for (index, label), _ in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0])):
        if index not in ids and label not in taken:
            ids[index] = label
            taken.add(label)
    for index in range(len(chains)):
        if index not in ids:
            highest += 1
            ids[index] = highest
    return [ids[index] for index in range(len(chains))]


def _named(
    frames: Sequence[FrameCells],
    chains: Sequence[Sequence[_Node]],
    parents: Mapping[int, int],
    ids: Sequence[int],
) -> Tracked:
    new = [np.zeros(len(cells), np.int64) for cells in frames]
    for chain, name in zip(chains, ids, strict=True):
        for number, place in chain:
            new[number][place] = name
    names = [
        MappingProxyType(dict(zip(cells.label.tolist(), labels.tolist(), strict=True)))
        for cells, labels in zip(frames, new, strict=True)
    ]
    renamed = [
        FrameCells(labels[order], cells.y[order], cells.x[order], cells.area[order])
        for cells, labels in zip(frames, new, strict=True)
        for order in [np.argsort(labels)]
    ]
    found = {ids[child]: ids[parent] for child, parent in parents.items()}
    return Tracked(Tracks.of(renamed, found), names)
