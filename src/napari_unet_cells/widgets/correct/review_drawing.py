"""Layers drawn for a review: lines around the regions, and the heat map of the uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer, Vectors
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Place, Review, State
from napari_unet_cells.layers.metadata import REGIONS, UNCERTAINTY, helper_metadata
from napari_unet_cells.layers.transforms import PLACE, place_resized, world_matrix
from napari_unet_cells.widgets.napari_versions import camera_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: RGBA of the lines around a region, by its state, and around the current one.
COLORS = {
    State.UNSEEN: (0.6, 0.6, 0.6, 1.0),
    State.EDITED: (1.0, 0.6, 0.1, 1.0),
    State.APPROVED: (0.2, 0.9, 0.3, 1.0),
}
CURRENT_COLOR = (1.0, 1.0, 1.0, 1.0)

#: Width of a line, in pixels of the canvas; it is kept within half as much again.
LINE = 1.5

#: Pixels a side of the heat map; the window stands still for a second while more are shown.
LARGEST_HEAT = 4096


class Drawing:
    """The layers that help: lines around the regions of one plane, and the heat map.

    It is no Qt object, so that it can clear up after the form that was destroyed.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._labels: Any = None
        self._review: Review | None = None
        self._lines: _Lines | None = None
        self._heat: Any = None
        #: Layers that are to be removed, one a turn: see `_sweep`.
        self._leaving: list[Any] = []
        #: Whether the labels have moved since.
        self.stale = False
        self._is_open: Callable[[], bool] = lambda: False

    def draw(
        self, labels: Labels | None, review: Review | None, place: Place | None, heat: bool
    ) -> bool:
        """Show the lines where a current place is given, and the heat map.

        Parameters
        ----------
        labels : napari labels layer, or None
        review : Review or None
        place : Place or None
        heat : bool

        Returns
        -------
        bool
            Whether there is more to be removed, in another turn of the event loop.
        """
        if labels is not self._labels or self.stale:
            self._drop_lines()
            self._drop_heat()
        if review is not self._review:
            self._drop_lines()
            if review is None or self._heat_of() is not review.uncertainty:
                self._drop_heat()
        self._labels, self._review, self.stale = labels, review, False
        if review is None or place is None:
            self._drop_lines()
        else:
            self._draw_lines(labels, review, place)
        if review is None or not heat:
            self._drop_heat()
        elif self._heat is None:
            self._draw_heat(labels, review)
        return self._sweep()

    def _draw_lines(self, labels: Labels, review: Review, place: Place) -> None:
        matrix = world_matrix(labels)[:-1, :-1]
        size = np.linalg.norm(matrix[:, -2:], axis=0).mean() * camera_of(self._viewer).zoom
        width = LINE / max(float(size), 1e-9)
        if self._lines is None:
            self._lines = _Lines(labels, review, place, width)
            with self._active_kept():
                self._viewer.layers.append(self._lines.layer)
        else:
            self._lines.draw(place, width)

    def _draw_heat(self, labels: Labels, review: Review) -> None:
        seen = review.uncertainty
        assert seen is not None
        shape = (seen.shape[-2], seen.shape[-1])
        step = -(-max(shape) // LARGEST_HEAT)
        self._heat = Image(
            seen.reshape(*review.planes, *shape)[..., ::step, ::step],
            name=f"{labels.name} uncertainty",
            colormap="inferno",
            blending="additive",
            contrast_limits=(0, 255),
            opacity=0.6,
            metadata=helper_metadata(UNCERTAINTY, labels),
            **place_resized(labels, shape, step),
        )
        with self._active_kept():
            self._viewer.layers.insert(self._viewer.layers.index(labels), self._heat)

    def _heat_of(self) -> Any:
        return None if self._review is None else self._review.uncertainty

    def keep(self, is_open: Callable[[], bool]) -> None:
        """Remember how to ask whether the viewer's window is still open."""
        self._is_open = is_open

    def clear_up(self) -> bool:
        """Remove what was drawn from a window that goes on without the form; see `draw`."""
        return self._is_open() and self.draw(None, None, None, False)

    def lost_lines(self, layer: Layer) -> bool:
        """Whether a layer that was removed holds the lines; they are forgotten then."""
        lost = self._lines is not None and layer is self._lines.layer
        if lost:
            self._lines = None
        return lost

    def lost_heat(self, layer: Layer) -> bool:
        """Whether a layer that was removed is the heat map; it is forgotten then."""
        lost = self._heat is not None and layer is self._heat
        if lost:
            self._heat = None
        return lost

    def _drop_lines(self) -> None:
        lines, self._lines = self._lines, None
        if lines is not None:
            self._remove(lines.layer)

    def _drop_heat(self) -> None:
        heat, self._heat = self._heat, None
        if heat is not None:
            self._remove(heat)

    def _remove(self, layer: Layer) -> None:
        layer.visible = False
        self._leaving.append(layer)

    def _sweep(self) -> bool:
        """Remove one layer: several in one turn of the event loop crash napari with Mesa.

        Returns
        -------
        bool
            Whether others wait.
        """
        self._leaving = [layer for layer in self._leaving if layer in self._viewer.layers]
        if self._leaving:
            with self._active_kept():
                self._viewer.layers.remove(self._leaving.pop(0))
        return bool(self._leaving)

    @contextmanager
    def _active_kept(self) -> Iterator[None]:
        """Keep the active layer, which napari changes with every layer that comes or goes."""
        layers = self._viewer.layers
        active = layers.selection.active
        yield
        if active is not None and active in layers:
            layers.selection.active = active


class _Lines:
    """The regions of one plane in a layer of vectors, four for each region.

    Shapes would be the obvious layer, but of 1024 regions it takes 0.8 s to come and 0.5 s to
    change a colour; vectors take 0.15 s and 5 ms.
    """

    def __init__(self, labels: Labels, review: Review, place: Place, width: float) -> None:
        self._review = review
        sides = [(r.top, r.bottom, r.left, r.right) for r in review.grid]
        self._sides = np.array(sides, float) - 0.5  # to the outer edges of the pixels
        self._place, self._width = place, width
        self._colors = self._colors_now()
        self.layer = Vectors(
            self._vectors(),
            ndim=labels.ndim,
            name="review regions",
            edge_width=width,
            edge_color=self._colors,
            vector_style="line",
            opacity=1.0,
            metadata=helper_metadata(REGIONS, labels),
            **{name: getattr(labels, name) for name in PLACE},
        )

    def draw(self, place: Place, width: float) -> None:
        """Show the plane of a place with the place marked, as it is now.

        Parameters
        ----------
        place : Place
        width : float
            Of a line, in pixels of the labels; it is followed where it differs much.
        """
        moved, self._place = place != self._place, place
        wide, visible = not 1 / 1.5 < width / self._width < 1.5, self.layer.visible
        # Everything that changes has all lines drawn again; once is enough.
        emitter = self.layer.events.edge_color
        with emitter.blocker() if moved or wide else nullcontext():
            self._recolor()
        if wide:
            self._width = width
            self.layer.visible = False
            self.layer.edge_width = width
        if moved or wide:
            self.layer.data = self._vectors()
        if wide:
            self.layer.visible = visible

    def _recolor(self) -> None:
        colors = self._colors_now()
        if not np.array_equal(colors, self._colors):
            self._colors = colors
            self.layer.edge_color = colors

    def _colors_now(self) -> NDArray[np.float64]:
        plane = self._place[0]
        states = [self._review.state((plane, n)) for n in range(len(self._sides))]
        lines = np.repeat([COLORS[state] for state in states], 4, axis=0)
        return np.concatenate([lines, np.tile(CURRENT_COLOR, (8, 1))])

    def _vectors(self) -> NDArray[np.float64]:
        """Start and direction (4 n + 8, 2, dimensions) of all lines.

        Those of neighbours lie side by side, and the current region has a double one within::

            |  regions   1.5 pixels of the canvas
            || current   within its own line
        """
        plane, number = self._place
        current, width = self._sides[[number]], self._width
        frames = [
            _frames(self._sides, width / 2, width),
            _frames(current, 1.5 * width, width),
            _frames(current, 2.5 * width, width),
        ]
        flat = np.concatenate(frames)
        vectors = np.zeros((len(flat), 2, len(plane) + 2))
        vectors[:, 0, :-2] = plane
        vectors[:, :, -2:] = flat
        return vectors


def _frames(sides: NDArray[np.float64], inset: float, width: float) -> NDArray[np.float64]:
    """Lines within rectangles, closed at the corners.

    Parameters
    ----------
    sides : float array, (n, 4)
        Top, bottom, left and right.
    inset : float
        How far from the sides the middle of the lines is.
    width : float
        Of the lines.

    Returns
    -------
    float array, (4 n, 2, 2)
        Start and direction, (y, x), of each line.
    """
    top, bottom, left, right = (sides + np.multiply(inset, (1, -1, 1, -1))).T
    ys, xs = np.stack([top, top, bottom, bottom], 1), np.stack([left, right, right, left], 1)
    corners = np.stack([ys, xs], axis=-1)
    steps = np.roll(corners, -1, axis=1) - corners
    ends = np.sign(steps) * width / 2
    return np.stack([corners - ends, steps + 2 * ends], axis=2).reshape(-1, 2, 2)
