"""Controller of the review: which labels, which region is next, what is approved.

It knows the viewer's model and no Qt. The form shows the `ReviewState` that it gives::

    ReviewForm  --- switch, next, approve --->  ReviewController  --->  viewer, layer, Review
        ^                                              |
        +------------------ show(state) ---------------+
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Place, Review, cuts_cells
from napari_unet_cells.layers.metadata import CLASSES, OURS, REVIEW
from napari_unet_cells.layers.selection import labels_for, review_problem
from napari_unet_cells.segmentation.replacing_part import is_unsegmented
from napari_unet_cells.widgets.camera import centre_on, middle_of_view
from napari_unet_cells.widgets.correct.edited_regions import EditedRegions
from napari_unet_cells.widgets.correct.review_drawing import Drawing
from napari_unet_cells.widgets.correct.review_state import ReviewState, review_of
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size
from napari_unet_cells.widgets.timers import MakesTimers
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, PLACE_EVENTS, Wiring, emitters

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

#: Of the canvas, what the region at hand fills.
FILLED = 0.9

#: Milliseconds after which what moved is drawn.
SOON = 30


class ReviewView(MakesTimers, Protocol):
    """Form that shows a review."""

    @property
    def making(self) -> bool:
        """Whether a review is being made."""

    def show_state(self, state: ReviewState) -> None:
        """Bring buttons and texts in line with a state."""

    def tell_changed(self, layer: Labels) -> None:
        """Tell others that the approvals of a labels layer changed."""

    def make_review(self, labels: NDArray[Any]) -> None:
        """Make a review in the background; `take_review` or `fail` of the controller follows."""

    def stop_making(self) -> None:
        """Make no review, where one is being made."""

    def inform(self, sentence: str) -> None:
        """Show a notification."""

    def warn(self, sentence: str) -> None:
        """Show a warning."""

    def focus_canvas(self) -> None:
        """Give the keyboard to the image."""

    def window_probe(self) -> Callable[[], bool]:
        """Give a function that says whether the window is open; it works without the form."""


class ReviewController:
    """Goes from region to region of the labels at hand, and keeps which are approved.

    The review itself, a `regions.Review`, lies in the metadata of the layer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    view : ReviewView
    wiring : Wiring
        Of the view.

    Attributes
    ----------
    gone_to : Place or None
        The region that `next` went to last.
    """

    #: Whether this session has explained what happens to cells that a region cuts.
    _told_cut = False

    #: Whether it has explained what an approval of what was not segmented teaches.
    _told_parts = False

    def __init__(self, viewer: ViewerModel, view: ReviewView, wiring: Wiring) -> None:
        self._viewer, self._view = viewer, view
        self._layer: Any = None
        self._review: Review | None = None
        self._on = self._heat = self._approved_here = False
        self.gone_to: Place | None = None
        self._passed: set[Place] = set()
        self._then_next = False
        self._sliced: tuple[float, ...] = ()
        self._making_for: Any = None
        self.drawing = Drawing(viewer)
        self._soon = view.timer(SOON, self.refresh)
        self._edited = EditedRegions(view, self._at_hand, self.place, self._later)
        self._of_layer = wiring.part()
        self._connect(wiring)
        self._follow()

    def _connect(self, wiring: Wiring) -> None:
        layers, camera = self._viewer.layers, camera_of(self._viewer).events
        dims = self._viewer.dims.events
        wiring.connect(self._follow, layers.events.inserted, layers.selection.events.active)
        wiring.connect(self._removed, layers.events.removed)
        wiring.connect(self._later, camera.center, camera.zoom)
        wiring.connect(self._later, dims.current_step, dims.ndisplay, dims.order)

    @property
    def busy(self) -> bool:
        """Whether something is still to be drawn or looked at."""
        return self._soon.isActive() or self._edited.busy

    @property
    def labels(self) -> Labels | None:
        """Labels at hand."""
        layer: Labels | None = self._layer
        return layer

    def at_work(self, layer: Labels) -> bool:
        """Whether the region in the middle of the view was changed and is not approved."""
        review = review_of(layer)
        if review is None or layer != self._layer or review is not self._review:
            return False
        place = self.place()
        review.look(layer.data, [place])  # whether it is edited may be out of date
        return place not in review.approved and review.is_edited(place)

    @property
    def edited(self) -> EditedRegions:
        """Search for edited regions."""
        return self._edited

    # ---------------------------------------------------------------- what the form shows

    def _show(self, failure: str = "") -> None:
        review = self._review
        self._view.show_state(
            ReviewState(
                why_not=review_problem(self._layer),
                on=self._on,
                heat=self._heat,
                approved=0 if review is None else len(review.approved),
                regions=0 if review is None else len(review),
                heat_known=review is not None and review.uncertainty is not None,
                approved_here=self._approved_here,
                making=self._view.making,
                failure=failure,
            )
        )

    def switch(self, on: bool) -> None:
        """Begin to review, or end it."""
        self._on = on
        if not on:
            self._then_next = False
            self._view.stop_making()
        self.refresh()
        if on and self._layer is not None:
            self._give_back()

    def show_uncertainty(self, wanted: bool) -> None:
        """Show or hide how sure the network was, where that is known."""
        self._heat = wanted
        self.refresh()

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
        review = review_of(self._layer)
        if review is not self._review:
            self._review = review
            self.gone_to, self._then_next = None, False
            self._passed.clear()
            self._edited.start_anew()  # what was edited while other labels were at hand
        self._show()

    def _at_hand(self) -> tuple[Any, Review | None]:
        self._adopt()
        self._later()  # an earlier result comes back with its approvals
        return self._layer, self._review

    def _make(self) -> None:
        """Have a review made of labels that have none."""
        layer = self._layer
        if self._view.making and self._making_for is layer:
            return
        self._making_for = layer
        self._view.make_review(layer.data)

    def take_review(self, made: Review) -> None:
        """Take a review that was made in the background."""
        layer, then_next = self._making_for, self._then_next
        self._making_for = None
        if layer not in self._viewer.layers or not made.fits(layer.data):
            return
        layer.metadata[REVIEW] = made
        self._view.stop_making()  # it has nothing more to say
        self.refresh()
        if then_next and layer is self._layer:
            self._next()

    def fail(self, problem: str) -> None:
        """End the review where none could be made, and say why."""
        self.switch(False)
        self._show(problem)
        self._view.warn(problem)

    # -------------------------------------------------------------------- from place to place

    def next(self) -> None:
        """Go to the most uncertain region that is not approved; switch the review on for it."""
        problem = review_problem(self._layer)
        if problem:
            self._view.inform(problem)
            return
        if not self._on:
            self.switch(True)
        if self._review is None:
            self._then_next = True  # when it was made
        else:
            self._next()

    def _next(self) -> None:
        assert self._review is not None
        if self.gone_to is not None:
            self._passed.add(self.gone_to)
        place = self._review.next_place(self._passed)
        if place in self._passed:  # all that are left have been passed: once more
            self._passed = set() if self.gone_to is None else {self.gone_to}
            place = self._review.next_place(self._passed)
        if place is None:
            regions = len(self._review)
            one = "The only region is approved."
            self._view.inform(one if regions == 1 else f"All {regions} regions are approved.")
        else:
            self.gone_to = place
            self._show_place(place)
        self.refresh()
        self._give_back()

    def approve(self) -> None:
        """Mark the region in the middle of the view as right and go on, or take that back."""
        review = self._review
        if review is None or not self._on:
            self.next()
            return
        place = self.place()
        if place in review.approved:
            review.withdraw(place)
        else:
            review.look(self._layer.data, [place])  # whether it is edited may be out of date
            review.approve(place)
            self._tell_of_cut_cells(place)
            self._tell_of_what_was_not_segmented(place)
        self._show()
        self._view.tell_changed(self._layer)
        if place in review.approved:
            self._next()
        else:
            self.refresh()
            self._give_back()

    def _tell_of_cut_cells(self, place: Place) -> None:
        assert self._review is not None
        role = self._layer.metadata.get(OURS, {}).get("role")
        if ReviewController._told_cut or role == CLASSES:  # of classes every border cuts some
            return
        if cuts_cells(self._layer.data[place[0]], self._review.grid[place[1]]):
            ReviewController._told_cut = True
            self._view.inform(
                "Cells cut by the border of an approved region are completed from outside it; "
                "training ignores everything else outside."
            )

    def _tell_of_what_was_not_segmented(self, place: Place) -> None:
        assert self._review is not None
        made = self._layer.metadata.get(OURS, {}).get("provenance", {})
        if ReviewController._told_parts:
            return
        if is_unsegmented(made, self._review.grid[place[1]], place[0]):
            ReviewController._told_parts = True
            self._view.warn(
                "Only a part of this region was segmented. What has no label in an approved region "
                "teaches the model that no cell is there: segment or draw the rest, or go back and "
                "take the approval away."
            )

    def place(self) -> Place:
        """Give the region in the middle of the view, in the plane that is shown."""
        assert self._review is not None
        middle = middle_of_view(self._viewer)[-self._layer.ndim :]
        position = self._layer.world_to_data(middle)
        plane = np.clip(np.rint(position[:-2]), 0, np.subtract(self._review.planes, 1))
        number = self._review.grid.at(position[-2] + 0.5, position[-1] + 0.5)
        return tuple(int(index) for index in plane), number

    def _show_place(self, place: Place) -> None:
        """Bring a region into the middle of the view, as large as fits."""
        assert self._review is not None
        plane, region = place[0], self._review.grid[place[1]]
        dims = self._viewer.dims
        if set(dims.displayed) != {dims.ndim - 2, dims.ndim - 1}:
            dims.ndisplay, dims.order = 2, tuple(range(dims.ndim))
        corners = np.array(
            [
                self._layer.data_to_world((*plane, y, x))
                for y in (region.top - 0.5, region.bottom - 0.5)
                for x in (region.left - 0.5, region.right - 0.5)
            ]
        )
        shown = centre_on(self._viewer, corners.mean(axis=0))
        extent = np.ptp(corners, axis=0)[shown]
        zoom = FILLED * np.min(canvas_size(self._viewer) / extent)
        camera_of(self._viewer).zoom = float(zoom)

    def _give_back(self) -> None:
        """Make the labels the active layer and give the canvas the keyboard.

        Else neither Ctrl+Z nor the layer's own keys would reach them.
        """
        self._viewer.layers.selection.active = self._layer
        self._view.focus_canvas()

    # -------------------------------------------------------------------------- what is drawn

    def _later(self, event: object = None) -> None:
        """Draw soon: not while napari is busy with its layers, and not at every mouse move."""
        if not self._soon.isActive():
            self._soon.start()

    def _moved(self, event: object = None) -> None:
        self.drawing.stale = True
        self._later()

    def refresh(self) -> None:
        """Bring form, lines and heat map in line with the layer, its review and the view."""
        self._adopt()
        if self._on and review_problem(self._layer):
            self.switch(False)
            return
        review = self._review
        if self._on and review is None:
            self._make()
        heat = self._heat and review is not None and review.uncertainty is not None
        if self._on or heat:
            self.drawing.keep(self._view.window_probe())
        place = self.place() if self._on and review is not None else None
        if self.drawing.draw(self._layer, review, place, heat):
            self._later()
        self._approved_here = review is not None and place in review.approved
        self._show()

    def _removed(self, event: Any) -> None:
        """Follow the user who removed one of the layers that were drawn.

        Nothing is drawn now: napari may be about to remove other layers, so we must not.
        """
        if self.drawing.lost_lines(event.value):
            self._on = False
        if self.drawing.lost_heat(event.value):
            self._heat = False
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
            self._edited.look_soon()

    def _hidden_point(self) -> tuple[float, ...]:
        """Where the sliders stand."""
        dims = self._viewer.dims
        return tuple(dims.point[axis] for axis in dims.not_displayed)
