"""Review region by region: where the network was least sure comes first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info, show_warning
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.core.regions import Place, Review, cuts_cells
from napari_unet_cells.layers.metadata import CLASSES, OURS, REVIEW
from napari_unet_cells.layers.selection import labels_for, review_problem
from napari_unet_cells.settings import preferences
from napari_unet_cells.widgets.correct.review_drawing import Drawing
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, PLACE_EVENTS, Wired, emitters
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

#: Of the canvas, what the region at hand fills.
FILLED = 0.9

#: Milliseconds without an event before the pixels are looked at; between two slices of that
#: work; and after which what moved is drawn.
QUIET, PAUSE, SOON = 100, 10, 30

#: Seconds that one slice of that work may take.
SLICE = 0.005


class ReviewForm(Wired, QWidget):
    """Goes from region to region of the labels at hand, and keeps which are approved.

    The review itself, a `regions.Review`, lies in the metadata of the layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: Approved regions, and all of them; 0 and 0 where nothing is reviewed.
    counted = Signal(int, int)

    #: The labels layer whose approvals changed.
    changed = Signal(object)

    #: Whether this session was told what becomes of cells that a region cuts.
    _told_cut = False

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Any = None
        self._review: Review | None = None
        self._drawing = Drawing(viewer)
        self._gone_to: Place | None = None
        self._passed: set[Place] = set()
        self._then_next = False
        self._sliced: tuple[float, ...] = ()
        self._places: Iterator[Place] = iter(())
        self._counted = (0, 0)
        self._making_for: Any = None
        self._making = Worker(self)
        self._quiet = self._timer(QUIET, self._look)
        self._looking = self._timer(PAUSE, self._look_on, single=False)
        self._soon = self._timer(SOON, self.refresh)
        self._build()
        self._connect()
        self._follow()
        self._counted = (0, 0)  # for those who will connect to `counted`

    def _timer(self, milliseconds: int, action: Callable[[], None], single: bool = True) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(single)
        timer.setInterval(milliseconds)
        timer.timeout.connect(action)
        return timer

    # ---------------------------------------------------------------- what the user sees

    def _build(self) -> None:
        self.review_button = QPushButton("Review")
        self.review_button.setObjectName("review_button")
        self.review_button.setCheckable(True)
        self.uncertainty_box = QCheckBox("Uncertainty")
        self.uncertainty_box.setObjectName("review_uncertainty_box")
        self.next_button = QPushButton(_with_key("Next", "next_key"))
        self.next_button.setObjectName("review_next_button")
        self.approve_button = QPushButton(_with_key("Approve and next", "approve_key"))
        self.approve_button.setObjectName("review_approve_button")
        self.line = QLabel("")
        self.line.setObjectName("review_line")
        self.line.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for left, right in (
            (self.review_button, self.uncertainty_box),
            (self.next_button, self.approve_button),
        ):
            row = QHBoxLayout()
            row.addWidget(left, 2)
            row.addWidget(right, 3)
            layout.addLayout(row)
        layout.addWidget(self.line)

    def _connect(self) -> None:
        self.review_button.toggled.connect(self._toggled)
        self.uncertainty_box.toggled.connect(self.refresh)
        self.next_button.clicked.connect(self.next)
        self.approve_button.clicked.connect(self.approve)
        self._making.progressed.connect(self._made)
        self._making.done.connect(self.refresh)  # also where what was made fits no more
        self._making.failed.connect(self._not_made)
        layers, camera = self._viewer.layers, camera_of(self._viewer).events
        dims = self._viewer.dims.events
        connect = self.wiring.connect
        connect(self._follow, layers.events.inserted, layers.selection.events.active)
        connect(self._removed, layers.events.removed)
        connect(self._later, camera.center, camera.zoom)
        connect(self._later, dims.current_step, dims.ndisplay, dims.order)
        self._of_layer = self.wiring.part()
        # Not now: where the window goes too, its canvas is half gone.
        self.wiring.at_end(QTimer.singleShot, 0, self._drawing.clear_up)
        self.wiring.at_end(self._making.stop)

    def _show_usable(self) -> None:
        """Enable what can be pressed; tooltips say why the rest cannot."""
        problem, on = review_problem(self._layer), self.review_button.isChecked()
        known = self._review is not None and self._review.uncertainty is not None
        # Each widget, whether it can be used, why it cannot, and what it does.
        for widget, usable, reason, does in (
            (
                self.review_button,
                True,
                "",
                "Draw the regions of the labels and go through them; press again to end it",
            ),
            (
                self.next_button,
                True,
                "",
                "Go to the region where the network was least sure, of those not yet approved",
            ),
            (
                self.approve_button,
                on,
                "Press Review first.",
                "Mark the region in the middle of the view as right (green), or take it back",
            ),
            (
                self.uncertainty_box,
                known,
                "How sure the network was is known only of what was segmented in this session.",
                "Show where the network was unsure, below the labels",
            ),
        ):
            widget.setEnabled(usable and not problem)
            widget.setToolTip(problem or (does if usable else reason))
        if self._making.running:
            self.line.setText("Looking at the labels...")
            return
        review = self._review
        self.line.setText(
            "" if review is None else f"{len(review.approved)} of {len(review)} regions approved"
        )

    def _count(self) -> None:
        review = self._review
        counted = (0, 0) if review is None else (len(review.approved), len(review))
        if counted != self._counted:
            self._counted = counted
            self.counted.emit(*counted)

    # -------------------------------------------------------------- which labels, which review

    def _follow(self, event: object = None) -> None:
        """Turn to the active labels; with other layers active stay with those so far."""
        layers = self._viewer.layers
        layer = labels_for(layers.selection.active, layers, self._layer)
        if layer is not self._layer:
            self._listen_to(layer)
        self._adopt()
        self._later()

    def _listen_to(self, layer: Labels | None) -> None:
        self._of_layer.release()
        self._layer, self._sliced = layer, self._hidden_point()
        if layer is None:
            return
        self._of_layer.connect(self._mark, *emitters(layer, PIXEL_EVENTS))
        self._of_layer.connect(self._moved, *emitters(layer, PLACE_EVENTS))
        self._of_layer.connect(self._later, layer.events.editable)

    def _adopt(self) -> None:
        """Take the review that the layer has now; a run or the sliders may have changed it."""
        review = _review_of(self._layer)
        if review is not self._review:
            self._review = review
            self._gone_to, self._then_next = None, False
            self._passed.clear()
            self._places = iter(())
            self._quiet.start()  # what was edited while other labels were at hand
        self._count()
        self._show_usable()

    def _toggled(self, on: bool) -> None:
        if not on:
            self._then_next = False
            if self._making.running:
                self._making.cancel()
        self.refresh()
        if on and self._layer is not None:
            self._give_back()

    def _make(self) -> None:
        """Make a review of labels that have none, in the background."""
        layer = self._layer
        if self._making.running and self._making_for is layer:
            return
        self._making_for = layer
        self._making.start(partial(_make, layer.data))
        self._show_usable()

    def _made(self, event: object) -> None:
        assert isinstance(event, Review)
        layer, then_next = self._making_for, self._then_next
        self._making_for = None
        if layer not in self._viewer.layers or not event.fits(layer.data):
            return
        layer.metadata[REVIEW] = event
        self._making.cancel()  # it has nothing more to say
        self.refresh()
        if then_next and layer is self._layer:
            self._next()

    def _not_made(self, problem: str) -> None:
        self.review_button.setChecked(False)
        self.line.setText(problem)
        show_warning(problem)

    # -------------------------------------------------------------------- from place to place

    def next(self, *_: object) -> None:
        """Go to the most uncertain region that is not approved; switch the review on for it."""
        problem = review_problem(self._layer)
        if problem:
            show_info(problem)
            return
        self.review_button.setChecked(True)
        if self._review is None:
            self._then_next = True  # when it was made
        else:
            self._next()

    def _next(self) -> None:
        assert self._review is not None
        if self._gone_to is not None:
            self._passed.add(self._gone_to)
        place = self._review.next_place(self._passed)
        if place in self._passed:  # all that are left have been passed: once more
            self._passed = set() if self._gone_to is None else {self._gone_to}
            place = self._review.next_place(self._passed)
        if place is None:
            show_info(f"All {len(self._review)} regions are approved.")
        else:
            self._gone_to = place
            self._show_place(place)
        self.refresh()
        self._give_back()

    def approve(self, *_: object) -> None:
        """Mark the region in the middle of the view as right and go on, or take that back."""
        review = self._review
        if review is None or not self.review_button.isChecked():
            self.next()
            return
        place = self._place()
        if place in review.approved:
            review.withdraw(place)
        else:
            review.look(self._layer.data, [place])  # whether it is edited may be out of date
            review.approve(place)
            self._tell_of_cut_cells(place)
        self._count()
        self.changed.emit(self._layer)
        if place in review.approved:
            self._next()
        else:
            self.refresh()
            self._give_back()

    def toggle_uncertainty(self) -> None:
        """Show or hide how sure the network was, where that is known."""
        if self.uncertainty_box.isEnabled():
            self.uncertainty_box.toggle()

    def _tell_of_cut_cells(self, place: Place) -> None:
        assert self._review is not None
        role = self._layer.metadata.get(OURS, {}).get("role")
        if ReviewForm._told_cut or role == CLASSES:  # of classes every border cuts some
            return
        if cuts_cells(self._layer.data[place[0]], self._review.grid[place[1]]):
            ReviewForm._told_cut = True
            show_info(
                "Cells cut by the border of an approved region are completed from outside; what "
                "lies outside is not learned from."
            )

    def _place(self) -> Place:
        """Give the region in the middle of the view, in the plane that is shown."""
        assert self._review is not None
        position = self._layer.world_to_data(self._middle()[-self._layer.ndim :])
        plane = np.clip(np.rint(position[:-2]), 0, np.subtract(self._review.planes, 1))
        number = self._review.grid.at(position[-2] + 0.5, position[-1] + 0.5)
        return tuple(int(index) for index in plane), number

    def _middle(self) -> NDArray[np.float64]:
        """World coordinates of the middle of the view."""
        dims = self._viewer.dims
        point = np.array(dims.point, float)
        shown = list(dims.displayed)
        point[shown] = camera_of(self._viewer).center[-len(shown) :]
        return point

    def _show_place(self, place: Place) -> None:
        """Bring a region into the middle of the view, as large as fits."""
        assert self._review is not None
        plane, region = place[0], self._review.grid[place[1]]
        dims, camera = self._viewer.dims, camera_of(self._viewer)
        if set(dims.displayed) != {dims.ndim - 2, dims.ndim - 1}:
            dims.ndisplay, dims.order = 2, tuple(range(dims.ndim))
        corners = np.array(
            [
                self._layer.data_to_world((*plane, y, x))
                for y in (region.top - 0.5, region.bottom - 0.5)
                for x in (region.left - 0.5, region.right - 0.5)
            ]
        )
        middle = corners.mean(axis=0)
        before = dims.ndim - len(middle)
        hidden = range(before, dims.ndim - 2)
        if hidden:
            dims.set_point(list(hidden), [float(middle[axis - before]) for axis in hidden])
        shown = [axis - before for axis in dims.displayed]
        camera.center = (*camera.center[:-2], *(float(middle[axis]) for axis in shown))
        extent = np.ptp(corners, axis=0)[shown]
        camera.zoom = float(FILLED * np.min(canvas_size(self._viewer) / extent))

    def _give_back(self) -> None:
        """Make the labels the active layer and give the canvas the keyboard.

        Else neither Ctrl+Z nor the layer's own keys would reach them.
        """
        self._viewer.layers.selection.active = self._layer
        window = _main_window(self)
        canvas = window and window.centralWidget().findChild(QOpenGLWidget)
        if canvas:
            canvas.setFocus()

    # -------------------------------------------------------------------------- what is drawn

    def _later(self, event: object = None) -> None:
        """Draw soon: not while napari is busy with its layers, and not at every mouse move."""
        if not self._soon.isActive():
            self._soon.start()

    def _moved(self, event: object = None) -> None:
        self._drawing.stale = True
        self._later()

    def refresh(self, *_: object) -> None:
        """Bring buttons, lines and heat map in line with the layer, its review and the view."""
        self._adopt()
        if review_problem(self._layer):
            self.review_button.setChecked(False)
        review, layer = self._review, self._layer
        known = review is not None and review.uncertainty is not None
        on = self.review_button.isChecked()
        if on and review is None:
            self._make()
        shows_heat = known and self.uncertainty_box.isChecked()
        if on or shows_heat:
            self._drawing.keep(_main_window(self))
        place = self._place() if on and review is not None else None
        self._drawing.draw(layer, review, place, shows_heat)
        approved = review is not None and place in review.approved
        self.approve_button.setText(
            _with_key("Withdraw approval" if approved else "Approve and next", "approve_key")
        )

    def _removed(self, event: Any) -> None:
        """Follow the user where she removed one of the layers that were drawn."""
        lost = (
            (self._drawing.lost_lines, self.review_button),
            (
                self._drawing.lost_heat,
                self.uncertainty_box,
            ),
        )
        for was_lost, button in lost:
            if was_lost(event.value):
                # In silence: napari may be about to remove other layers, so we must not.
                button.blockSignals(True)
                button.setChecked(False)
                button.blockSignals(False)
        self._follow()

    # ------------------------------------------------------------------------ what was edited

    def _mark(self, event: Any) -> None:
        """Note that there may have been an edit; the pixels are looked at when all is quiet.

        Some events come before the change, and undo and redo only set the data, which
        turning to another plane does too.
        """
        point = self._hidden_point()
        sliced, self._sliced = point != self._sliced, point
        if not (sliced and event.type == "set_data"):
            self._quiet.start()

    def _hidden_point(self) -> tuple[float, ...]:
        """Where the sliders stand."""
        dims = self._viewer.dims
        return tuple(dims.point[axis] for axis in dims.not_displayed)

    def _look(self) -> None:
        self._adopt()
        if self._review is not None:
            self._places = self._nearest_first(self._review)
            self._looking.start()

    def _nearest_first(self, review: Review) -> Iterator[Place]:
        plane, number = self._place()
        yield plane, number
        yield from ((plane, other) for other in range(len(review.grid)) if other != number)
        yield from (place for place in review if place[0] != plane)

    def _look_on(self) -> None:
        """Look at some regions; the window must not stand still for a large plane."""
        review = self._review
        if review is None or review is not _review_of(self._layer):
            self._looking.stop()
            return
        changed, end = False, time.perf_counter() + SLICE
        for place in self._places:
            changed |= review.look(self._layer.data, [place])
            if time.perf_counter() > end:
                break
        else:
            self._looking.stop()
        if changed:
            self._later()


def _review_of(layer: Labels | None) -> Review | None:
    """Review of a labels layer; None where it has none, or one of an array of another shape."""
    if layer is None:
        return None
    review = layer.metadata.get(REVIEW)
    if isinstance(review, Review) and not review_problem(layer) and review.fits(layer.data):
        return review
    return None


def _make(labels: NDArray[Any], stop: threading.Event) -> Generator[Review, None, None]:
    yield Review(labels)


def _with_key(text: str, name: str) -> str:
    """Text of a button with its shortcut, such as "Next (N)"."""
    key = getattr(preferences(), name).replace("-", "+")
    return f"{text} ({key})" if key else text


def _main_window(widget: QWidget) -> QMainWindow | None:
    """Find napari's window; a dock that floats is a window of its own."""
    parent = widget.parentWidget()
    while parent is not None and not (
        isinstance(parent, QMainWindow) and parent.centralWidget() is not None
    ):
        parent = parent.parentWidget()
    return parent
