"""Controller of the tracks of a movie: when cells are tracked, and what the Tracks layer shows.

It knows the viewer's model and no Qt. Ids of cells are those of tracks, so once a movie was tracked
the layer of tracks is made of the labels as they are, and of the parents in their record, which
follow undo and redo with them::

    Track cells --> track_labels (thread) --> one step of undo: other ids, and parents in the record
    any edit    --> read_tracks  (thread) --> Tracks layer
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from napari.layers import Labels, Tracks
from numpy.typing import NDArray

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import Place, Review
from napari_unet_cells.core.tracks import FrameCells, parents_of
from napari_unet_cells.core.tracks import Tracks as CellTracks
from napari_unet_cells.files import file_axes
from napari_unet_cells.layers.image_planes import StackAxis
from napari_unet_cells.layers.metadata import (
    CELLS,
    OURS,
    PART_OF,
    REVIEW,
    ZARR,
    fitting_review,
    image_id,
    result_metadata,
)
from napari_unet_cells.layers.selection import painting_problem, source_path
from napari_unet_cells.segmentation.messages import describe_tracks
from napari_unet_cells.segmentation.replacing import Origin, ResultState
from napari_unet_cells.segmentation.track_labels import TrackedLabels, track_labels
from napari_unet_cells.segmentation.tracked import check_tracking
from napari_unet_cells.tracking import Stopped, require_laptrack
from napari_unet_cells.widgets.napari_versions import add_hidden
from napari_unet_cells.widgets.runner import StoppableRunner
from napari_unet_cells.widgets.segment.live import adopt, bare, current, follow, is_for, put
from napari_unet_cells.widgets.timers import MakesTimers
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, PLACE_EVENTS, Wiring, emitters

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: Milliseconds without an edit before the tracks are read again.
QUIET = 300

#: What is said of cells whose tracks are hidden.
NOT_TRACKED = "The cells are not tracked any more; their tracks are hidden."

#: Role of the layer that shows tracks.
TRACKS = "tracks"


@dataclass(frozen=True)
class TrackingState:
    """Button, sentence and problem that the form shows.

    Attributes
    ----------
    shown : bool
        Whether the labels at hand may be a movie.
    problem : str
        Why they cannot be tracked; empty where they can.
    running : bool
    sentence : str
    """

    shown: bool = False
    problem: str = ""
    running: bool = False
    sentence: str = ""


class TracksView(MakesTimers, Protocol):
    """Form that shows the state, and has threads."""

    def show_tracking(self, state: TrackingState) -> None:
        """Bring button and sentence in line with a state."""


@dataclass(frozen=True, eq=False)
class Found:
    """Tracks that were found, and what they were found in."""

    layer: Labels
    review: Review | None
    result: TrackedLabels


@dataclass(frozen=True, eq=False)
class Read:
    """Tracks that were read off labels.

    Attributes
    ----------
    layer : Labels
        That they are of.
    tracks : core.tracks.Tracks
    made : Tracks or None
        Layer that shows them; None where there is one.
    """

    layer: Labels
    tracks: CellTracks
    made: Tracks | None


@dataclass(eq=False)
class Frames:
    """The cells of each frame of a layer, and the checksums of the pixels they were found in."""

    sums: list[int] = field(default_factory=list)
    cells: list[FrameCells] = field(default_factory=list)

    def look(self, labels: NDArray[Any], stop: threading.Event) -> bool:
        """Find the cells again where the pixels are others; whether it came to the end."""
        if len(self.sums) != len(labels):
            self.sums = [-1] * len(labels)
            self.cells = [FrameCells.of(labels[0][:0])] * len(labels)
        for number, plane in enumerate(labels):
            if stop.is_set():
                return False
            now = digest(plane)
            if now != self.sums[number]:
                self.cells[number] = FrameCells.of(plane.copy(), number)
                self.sums[number] = now
        return True


class TracksController:
    """Tracks the labels at hand, and keeps the layer of their tracks in line with them.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    view : TracksView
    tracking, reading : StoppableRunner
    labels : callable () -> labels layer or None
        Those at hand.
    wiring : Wiring
        Of the view.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        view: TracksView,
        tracking: StoppableRunner,
        reading: StoppableRunner,
        labels: Callable[[], Labels | None],
        wiring: Wiring,
    ) -> None:
        self._viewer, self._view, self._at_hand = viewer, view, labels
        self._tracking, self._reading = tracking, reading
        self._layer: Any = None
        self._sentence = ""
        self._frames: weakref.WeakKeyDictionary[Any, Frames] = weakref.WeakKeyDictionary()
        #: Labels whose layer of tracks the user removed.
        self._unwanted: set[str] = set()
        #: Labels whose layer of tracks is hidden, since they have no tracks now.
        self._away: dict[str, bool] = {}
        self._clearing = self._dirty = False
        self._graph: tuple[Any, Mapping[int, list[int]]] | None = None
        self._quiet = view.timer(QUIET, self._look)
        self._soon = view.timer(0, self._follow)
        self._then_graph = view.timer(0, self._draw_graph)
        self._then_show = view.timer(0, self._show_layer)
        self._hidden: Tracks | None = None
        self._of_layer = wiring.part()
        layers = viewer.layers
        wiring.connect(self._follow_soon, layers.events.inserted, layers.selection.events.active)
        wiring.connect(self._removed, layers.events.removed)
        self._follow()

    @property
    def busy(self) -> bool:
        """Whether something is being found, read or drawn, or waits to be."""
        timers = (self._quiet, self._soon, self._then_graph, self._then_show)
        waits = any(timer.isActive() for timer in timers)
        return waits or self._dirty or self._tracking.running or self._reading.running

    # ------------------------------------------------------------------------ which labels

    def _follow_soon(self, event: object = None) -> None:
        self._soon.start()  # the review turns to the labels first

    def _follow(self) -> None:
        """Turn to the labels at hand."""
        layer = self._at_hand()
        if layer is self._layer:
            self._show()
            return
        self._of_layer.release()
        self._layer, self._sentence = layer, ""
        if layer is not None:
            self._of_layer.connect(self._mark, *emitters(layer, PIXEL_EVENTS))
            self._of_layer.connect(self._placed, *emitters(layer, PLACE_EVENTS))
            self._of_layer.connect(self._follow_soon, layer.events.editable)
        self._mark()
        self._show()

    def _removed(self, event: Any) -> None:
        gone = event.value
        ours = gone.metadata.get(OURS, {})
        if ours.get("role") == TRACKS:
            if not self._clearing:
                self._unwanted.add(ours.get("labels", ""))
        elif isinstance(gone, Labels):
            self._clear(gone)
        self._follow_soon()

    def _show(self) -> None:
        layer = self._layer
        state = TrackingState()
        if layer is not None and layer.ndim > 2 and not is_classes(layer):
            running = self._tracking.running
            state = TrackingState(True, tracking_problem(layer), running, self._sentence)
        self._view.show_tracking(state)

    def _say(self, sentence: str) -> None:
        self._sentence = sentence
        self._show()

    # ---------------------------------------------------------------------------- tracking

    def track(self) -> None:
        """Have the labels at hand tracked."""
        self._follow()
        layer = self._layer
        if layer is None or self._tracking.running:
            return
        problem = tracking_problem(layer)
        if problem:
            self._say(problem)
            return
        self._unwanted.discard(image_id(layer))
        adopt(layer)
        state, review = current(layer), fitting_review(layer)
        path = source_path(layer, self._viewer.layers)
        approved = frozenset() if review is None else frozenset(review.approved)
        self._tracking.start(partial(_find, layer, state, approved, path))
        self._say("Tracking...")

    def found(self, event: object) -> None:
        """Give the cells the ids of their tracks, if they are still those that were tracked."""
        assert isinstance(event, Found)
        layer, change = event.layer, event.result.change
        if layer not in self._viewer.layers:
            return
        if event.review is not None and fitting_review(layer) is None:
            layer.metadata[REVIEW] = event.review
            if OURS not in layer.metadata:
                layer.metadata.update(result_metadata(CELLS, "", {}, change.checksum))
        fits = event.review is not None or current(layer) is change.old
        if not (fits and is_for(change, layer)):
            self._sentence = "The cells changed while they were tracked. Press Track cells again."
            return
        put(layer, change, whole=event.result.labels)
        self._sentence = f"{describe_tracks(event.result.tracks)}."

    def ended(self) -> None:
        """Show that the tracking is over."""
        self._mark()
        self._show()

    def failed(self, problem: str) -> None:
        """Say why there are no tracks."""
        self._say(problem)
        self.read_ended()

    # ------------------------------------------------------------------- the layer of tracks

    def _mark(self, event: object = None) -> None:
        """Note that there may have been an edit."""
        self._dirty = True
        self._quiet.start()

    def _look(self) -> None:
        """Have the tracks read, where the labels at hand have any."""
        layer = self._layer
        if layer is None or layer not in self._viewer.layers:
            self._dirty = False
            return
        if self._reading.running or self._tracking.running:
            return  # `read_ended` and `ended` look again
        self._dirty = False
        follow(layer)
        if record_of_tracks(layer) is None:
            if self._hide(layer):
                self._say(NOT_TRACKED)
            return
        if image_id(layer) in self._unwanted:
            return
        frames = self._frames.setdefault(bare(layer), Frames())
        known = self._tracks_of(layer)
        self._reading.start(partial(_read, layer, frames, known is None))

    def read(self, event: object) -> None:
        """Show tracks that were read."""
        assert isinstance(event, Read)
        layer = event.layer
        if layer not in self._viewer.layers or record_of_tracks(layer) is None:
            return
        if not self._tracking.running and layer is self._layer:
            self._say(f"{describe_tracks(event.tracks)}.")
        known = self._tracks_of(layer)
        if not len(event.tracks):
            self._hide(layer)
        elif known is not None:
            if self._away.pop(image_id(layer), False):
                known.visible = True
            # In two turns of the window: each takes a while.
            known.data = as_data(event.tracks)
            self._graph = known, as_graph(event.tracks)
            self._then_graph.start()
        elif event.made is not None and image_id(layer) not in self._unwanted:
            self._insert(event.made)

    def _insert(self, made: Tracks) -> None:
        """Add the layer of tracks, and show it in the next turn; the labels stay active."""
        add_hidden(self._viewer, made)
        self._hidden = made
        self._then_show.start()

    def _show_layer(self) -> None:
        made, self._hidden = self._hidden, None
        if made is not None and made in self._viewer.layers:
            made.visible = True

    def _draw_graph(self) -> None:
        if self._graph is None:
            return
        (layer, graph), self._graph = self._graph, None
        if layer in self._viewer.layers:
            known = set(layer.data[:, 0].astype(int).tolist())
            if {*graph, *(one for parents in graph.values() for one in parents)} <= known:
                layer.graph = graph

    def read_ended(self) -> None:
        """Look again, where there was an edit meanwhile."""
        if self._dirty:
            self._quiet.start()

    def _placed(self, event: object = None) -> None:
        """Put the tracks where the labels lie."""
        tracks = None if self._layer is None else self._tracks_of(self._layer)
        if tracks is not None:
            for name, value in place_of(self._layer).items():
                setattr(tracks, name, value)

    def _tracks_of(self, layer: Any) -> Any:
        wanted = image_id(layer)
        for one in self._viewer.layers:
            ours = one.metadata.get(OURS, {})
            if ours.get("role") == TRACKS and ours.get("labels") == wanted:
                return one
        return None

    def _hide(self, layer: Any) -> bool:
        """Hide the tracks of labels that have none any more, or not now; whether there are any.

        To remove them takes napari half a second, in which it collects garbage.
        """
        tracks = self._tracks_of(layer)
        if tracks is not None and tracks.visible:
            tracks.visible, self._away[image_id(layer)] = False, True
        return tracks is not None

    def _clear(self, layer: Any) -> None:
        """Remove the tracks of labels that were removed."""
        tracks = self._tracks_of(layer)
        if tracks is None:
            return
        self._clearing = True
        try:
            self._viewer.layers.remove(tracks)
        finally:
            self._clearing = False


def is_classes(layer: Any) -> bool:
    """Whether a labels layer holds classes, or something else that is no cells."""
    return bool(layer.metadata.get(OURS, {}).get("role", CELLS) != CELLS)


def record_of_tracks(layer: Any) -> Mapping[str, Any] | None:
    """Give the entry `tracks` of the record of labels; None where they were not tracked.

    Of cells that stay on the disk, and of a part of them, no layer of tracks is made: all frames
    would be read for it.
    """
    ours = layer.metadata.get(OURS, {})
    if ZARR in ours or PART_OF in ours:
        return None
    found: Mapping[str, Any] | None = ours.get("provenance", {}).get("tracks")
    return found


def tracking_problem(layer: Any) -> str:
    """Say why labels cannot be tracked; empty where they can, as far as the layer tells."""
    problem = painting_problem(layer)
    if problem:
        return problem
    if layer.ndim != 3:
        return (
            f"'{layer.name}' has {layer.ndim} axes, and cells are tracked in movies (t, y, x). "
            "Save one of its z planes, or a projection along z, as a movie."
        )
    if layer.data.shape[0] < 2:
        return f"'{layer.name}' is a single frame, and tracks need two or more."
    name = StackAxis(0, layer.data.shape[0], str(layer.axis_labels[0])).name
    if name == "z":
        return (
            "The planes follow z, not time. Cells are linked along z with Link planes on the page "
            "Segment."
        )
    return ""


def as_data(tracks: CellTracks) -> NDArray[np.float64]:
    """Give tracks as napari's layer takes them: track, t, y, x."""
    return np.stack([tracks.track, tracks.frame, tracks.y, tracks.x], 1).astype(np.float64)


def as_graph(tracks: CellTracks) -> dict[int, list[int]]:
    """Give parents as napari's layer takes them."""
    return {child: [parent] for child, parent in tracks.parents.items()}


def place_of(layer: Any) -> dict[str, Any]:
    """Give the transform of labels for the layer of their tracks."""
    names = ("scale", "translate", "rotate", "shear", "affine")
    return {name: getattr(layer, name) for name in names}


def _find(
    layer: Labels,
    state: ResultState | None,
    approved: Iterable[Place],
    path: Path | None,
    stop: threading.Event,
) -> Generator[Found, None, None]:
    """Track labels; of those that nobody reviewed yet a review is made, which undo needs."""
    require_laptrack()
    labels: NDArray[Any] = layer.data
    check_tracking(_letters(layer, path), len(labels))
    review = None
    if state is None:
        review = Review(labels.copy())
        made = layer.metadata.get(OURS, {}).get("provenance", {})
        state = ResultState.of(Origin(None, made), review.baseline, digest(labels))
    try:
        yield Found(layer, review, track_labels(labels, state, set(approved), stopped=stop.is_set))
    except Stopped:
        return


def _letters(layer: Labels, path: Path | None) -> str:
    """Letters of the axes, as the layer names them, else the file; unnamed ones count as time."""
    name = StackAxis(0, 0, str(layer.axis_labels[0])).name
    if not name and path is not None:
        before = file_axes(path).letters.partition("YX")[0].replace("C", "")
        if before == "Z":
            return "ZYX"
    return "TYX"


def _read(
    layer: Labels, frames: Frames, is_new: bool, stop: threading.Event
) -> Generator[Read, None, None]:
    """Read the tracks off labels, and make their layer where there is none yet."""
    if not frames.look(layer.data, stop):
        return
    tracks = CellTracks.of(frames.cells, parents_of(record_of_tracks(layer)))
    made = None
    if is_new and len(tracks):
        made = Tracks(
            as_data(tracks),
            graph=as_graph(tracks),
            name=f"{layer.name} tracks",
            metadata={
                OURS: {
                    "role": TRACKS,
                    "labels": image_id(layer),
                    "image": layer.metadata.get(OURS, {}).get("image", ""),
                }
            },
            units=layer.units,
            axis_labels=layer.axis_labels,
            **place_of(layer),
        )
    yield Read(layer, tracks, made)
