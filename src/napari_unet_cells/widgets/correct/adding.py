"""The tool Add: cells that were missed are searched for where the user clicks, and written.

No Qt here. The search runs in a thread that the form owns, and answers through `receive`::

    click, box ---> Adding --- job ---> view.search (a thread, the child process)
                      |  ^                     |
      one undo step <-+  +------ receive ------+

Where the mouse rests, `previewing.Previewing` asks in the same way, without a click.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from napari.layers import Labels

from napari_unet_cells.core.edits import Edit
from napari_unet_cells.core.regions import Region
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.aligned_plane import AlignedPlane, LabelsGrid, aligned_plane
from napari_unet_cells.layers.metadata import OURS, image_id
from napari_unet_cells.layers.protocols import ImageLayer
from napari_unet_cells.layers.selection import image_layers, source_image
from napari_unet_cells.segmentation import add_cells
from napari_unet_cells.segmentation.add_cells import Found, Wanted, added
from napari_unet_cells.segmentation.click import FoundCell
from napari_unet_cells.segmentation.kept_fragments import KeptFragments, KeptPlane
from napari_unet_cells.widgets.correct.highlight import Highlight
from napari_unet_cells.widgets.correct.labels_plane import LabelsPlane
from napari_unet_cells.widgets.correct.previewing import Previewing, PreviewView
from napari_unet_cells.widgets.runner import Job

if TYPE_CHECKING:
    from napari.components import ViewerModel


Write = Callable[[LabelsPlane, Callable[[Any, Callable[[], int]], Edit]], "LabelsPlane | None"]

#: Tool to draw what is not found.
DRAWING = "draw"

#: Diameters between a click and the place of a preview that is still being computed.
NEAR = 0.25

LOOKING = "Looking for the cell..."

RESIZABLE = (
    "Added. Press + or -, or turn the wheel over the cell, to make it larger or smaller; Ctrl+Z "
    "takes it back."
)


class ChosenValues(Protocol):
    """Image, model and cell diameter that the Segment section would take now."""

    @property
    def image(self) -> ImageLayer | None:
        """The image."""

    @property
    def model(self) -> str:
        """Name of the model; empty for none."""

    @property
    def diameter(self) -> int:
        """Of a typical cell, in pixels of the image; 0 where it is estimated."""


class Segmenting(Protocol):
    """The Segment section, as far as adding cells needs it."""

    @property
    def values(self) -> ChosenValues:
        """Values that the user chose for the next run."""

    @property
    def running(self) -> bool:
        """Whether a run is going; the network is busy then."""

    def fragments_of(self, layer: Labels) -> KeptFragments:
        """Give what the last run kept of each plane, if a layer shows its cells."""


class AddingView(PreviewView, Protocol):
    """Form of the tools, as far as adding needs it."""

    def offer(self, tool: str) -> None:
        """Draw the eye to a tool; an empty name ends it."""

    def search(self, job: Job) -> None:
        """Run a job in a thread; one that still runs is stopped, and its answer is dropped."""

    def stop_search(self) -> None:
        """Stop the job, and drop its answer."""


@dataclass(frozen=True, eq=False)
class _Search:
    """What is being searched for; for a preview, nobody has clicked yet."""

    plane: LabelsPlane
    shape: tuple[int, ...]
    diameter_key: tuple[str, ...]
    middle: tuple[float, float]
    near: float
    preview: bool = False

    def is_for(self, plane: LabelsPlane, point: tuple[float, float]) -> bool:
        """Whether it searches for the cell of a click."""
        distance = float(np.hypot(*np.subtract(point, self.middle)))
        return plane.is_same(self.plane) and distance <= self.near


@dataclass(frozen=True, eq=False)
class _Added:
    """A cell that was added last, whose outline can be changed still."""

    plane: LabelsPlane
    cell: FoundCell
    edit: Edit

    @property
    def is_there(self) -> bool:
        """Whether the pixels are those that were written."""
        labels, edit = self.plane.labels, self.edit
        if edit.rows.max() >= labels.shape[0] or edit.columns.max() >= labels.shape[1]:
            return False
        return bool(np.array_equal(labels[edit.rows, edit.columns], edit.values))


class Adding:
    """Searches for cells, writes them, and changes the outline of the last one.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    view : AddingView
    write : callable (plane, make_edit) -> LabelsPlane or None
        Paints an edit, or says why not; see `ToolsController`.
    highlight : Highlight
        Draws the preview.
    engine : Engine
    segmenting : Segmenting or None

    Attributes
    ----------
    previewing : Previewing
    """

    def __init__(
        self,
        viewer: ViewerModel,
        view: AddingView,
        write: Write,
        highlight: Highlight,
        engine: Engine,
        segmenting: Segmenting | None = None,
    ) -> None:
        self._viewer, self._view, self._write = viewer, view, write
        self._engine, self._segmenting = engine, segmenting
        self._search: _Search | None = None
        self._added: _Added | None = None
        #: What the last sentence is about; None where it is about something else.
        self._told: _Added | None = None
        self._writing = False
        #: Diameters in pixels of the labels that were estimated, by image and model.
        self._diameters: dict[tuple[str, ...], float] = {}
        #: The tool that is offered in place of what was not found.
        self.offered = ""
        self.previewing = Previewing(view, highlight, self._preview, self._stop_preview)

    # ---------------------------------------------------------------------------- searching

    @property
    def searching(self) -> bool:
        """Whether something is being searched for that the user clicked."""
        return self._search is not None and not self._search.preview

    def find(self, plane: LabelsPlane, place: tuple[float, float] | Region, world: Any) -> None:
        """Search for the cell at a point, or those in a box, in place of what is searched for.

        Parameters
        ----------
        plane : LabelsPlane
        place : (float, float) or Region
            In pixels of the plane.
        world : array_like
            Where the mouse is, along all axes of the viewer.
        """
        self.settle()
        if not isinstance(place, Region) and self._take_preview(plane, place):
            return
        self.previewing.hide()
        try:
            search, wanted = self._wanted(plane, place, world)
        except UserError as error:
            self.stop()
            self._view.say(str(error))
            return
        self._search = search
        self._view.say(LOOKING)
        self._view.search(partial(add_cells.search, self._engine, wanted))

    def _wanted(
        self, plane: LabelsPlane, place: tuple[float, float] | Region, world: Any
    ) -> tuple[_Search, Wanted]:
        """Say what is to be searched for, and in what."""
        image, aligned = self._image_under(plane, place, world)
        models, diameter, key = self._known(plane.layer, image, aligned)
        fragments = self._fragments(plane)
        wanted = Wanted(aligned.image, plane.labels, place, models, diameter, fragments)
        middle = _middle(place) if isinstance(place, Region) else place
        return _Search(plane, plane.labels.shape, key, middle, NEAR * diameter), wanted

    def _preview(self, plane: LabelsPlane, point: tuple[float, float], world: Any) -> None:
        """Search for the cell that a click would find, unless the network is needed otherwise."""
        busy = self._segmenting is not None and self._segmenting.running
        if self._search is not None or busy or box_around([point], plane.labels.shape) is None:
            return
        try:
            search, wanted = self._wanted(plane, point, world)
        except UserError:  # said at a click
            return
        if not wanted.diameter:
            return  # estimating it takes long
        self._search = replace(search, preview=True)
        self._view.search(partial(add_cells.search, self._engine, wanted))

    def _stop_preview(self) -> None:
        if self._search is not None and self._search.preview:
            self._search = None
            self._view.stop_search()

    def _take_preview(self, plane: LabelsPlane, point: tuple[float, float]) -> bool:
        """Add the cell that is outlined under a click, or as soon as it is found."""
        search = self._search
        if search is not None and search.preview and search.is_for(plane, point):
            self._search = replace(search, preview=False)
            self._view.say(LOOKING)
            return True
        cell = self.previewing.take(plane, point)
        if cell is None:
            return False
        self._add(plane, [cell])
        return True

    def _image_under(
        self, plane: LabelsPlane, place: tuple[float, float] | Region, world: Any
    ) -> tuple[ImageLayer, AlignedPlane]:
        """Find the image under a place: that of the result, else the chosen, else the topmost."""
        layer = plane.layer
        grid = LabelsGrid.of(layer, plane.index, plane.rows, plane.columns, world)
        point = place if not isinstance(place, Region) else _middle(place)
        chosen = None if self._segmenting is None else self._segmenting.values.image
        shown = [image for image in image_layers(self._viewer.layers) if image.visible][::-1]
        for image in (source_image(layer, self._viewer.layers), chosen, *shown):
            aligned = None if image is None else aligned_plane(image, grid)
            if image is not None and aligned is not None and aligned.covers(point):
                return image, aligned
        raise UserError(
            f"There is no image under '{layer.name}' here. Open the image of these cells, or draw "
            f"the cell with the tool {DRAWING.capitalize()}."
        )

    def _known(
        self, layer: Labels, image: ImageLayer, aligned: AlignedPlane
    ) -> tuple[tuple[str, ...], float, tuple[str, ...]]:
        """Give models, diameter in pixels of the labels (0: not known), and its key."""
        made = layer.metadata.get(OURS, {}).get("provenance", {})
        chosen = None if self._segmenting is None else self._segmenting.values
        models = (
            str(made.get("model", {}).get("name", "")),
            "" if chosen is None else chosen.model,
        )
        key = (image_id(image), image_id(layer), *models)
        diameter = float(made.get("parameters", {}).get("scale", {}).get("diameter") or 0)
        if not diameter and chosen is not None and chosen.image == image:
            diameter = chosen.diameter / aligned.zoom
        return models, diameter or self._diameters.get(key, 0.0), key

    def _fragments(self, plane: LabelsPlane) -> KeptPlane | None:
        """Give what the run kept of a plane, if the labels still have its shape."""
        if self._segmenting is None or (plane.rows, plane.columns) != _last_axes(plane.layer):
            return None
        kept = self._segmenting.fragments_of(plane.layer)
        leading = plane.layer.data.shape[:-2]
        at = tuple(i for i in plane.index[:-2] if i is not None)
        number = int(np.ravel_multi_index(at, leading)) if len(kept) > 1 and at else 0
        if number >= len(kept) or kept.shape(number) != plane.labels.shape:
            return None
        return KeptPlane(kept, number)

    def receive(self, found: object) -> None:
        """Write what was found, as one step of undo, or say why there is nothing."""
        assert isinstance(found, Found)
        search, self._search = self._search, None
        if search is None or search.plane.layer not in self._viewer.layers:
            return
        self._diameters[search.diameter_key] = found.diameter
        if search.plane.labels.shape != search.shape:
            self._view.say("The labels were replaced meanwhile. Click again.")
            return
        cells = [cell for cell in found.cells if cell]
        if search.preview:
            self.previewing.note_seconds(found.seconds)
            if cells:
                self.previewing.show(search.plane, cells[0])
            return
        self.previewing.hide()
        if cells:
            self._add(search.plane, cells)
        else:
            self.offered = DRAWING
            self._view.say(f"{found.cells[0].reason} Enter takes it: {DRAWING.capitalize()}.")
            self._view.offer(DRAWING)

    def _add(self, plane: LabelsPlane, cells: Sequence[FoundCell]) -> None:
        """Write what was found, and say what can be done with it."""
        self._tell_added(self._paint(plane, cells), len(cells))

    def _tell_added(self, written: _Added | None, n: int = 1) -> None:
        if written is None:
            return
        if n > 1:
            self._view.say(f"{n} cells were added. Ctrl+Z takes them all back.")
        else:
            several = len(written.cell.outlines) > 1
            self._view.say(RESIZABLE if several else "Added. Ctrl+Z takes it back.")
        self._told = written

    def failed(self, problem: str) -> None:
        """Say why the search failed; nothing was changed. Previews end."""
        search, self._search = self._search, None
        if search is not None and search.preview:
            self.previewing.end()
        self._view.say(problem)

    # ------------------------------------------------------------------------------ writing

    def _paint(
        self, plane: LabelsPlane, cells: Sequence[FoundCell], id_before: int | None = None
    ) -> _Added | None:
        """Add cells in one step; a single one can be changed after that. None: they were not."""
        edits: list[Edit] = []

        def edit(labels: Any, new_id: Callable[[], int]) -> Edit:
            edits.append(added(cells, labels, id_before or new_id()))
            return edits[-1]

        self._writing = True
        try:
            written = self._write(plane, edit)
        finally:
            self._writing = False
        new = None if written is None else _Added(written, cells[0], edits[-1])
        self._added = new if len(cells) == 1 else None
        return new

    def painted(self, event: Any = None) -> None:
        """Leave the last cell as it is, where anything else was painted."""
        if not self._writing:
            self._added = None
            self.previewing.hide()

    @property
    def resizable(self) -> bool:
        """Whether the cell that was added last can be made larger or smaller."""
        return self._last() is not None

    def _last(self) -> _Added | None:
        """Give the last cell, if it is in view as it was written: not taken back, nor changed."""
        last = self._added
        if last is None or last.plane.layer not in self._viewer.layers:
            return None
        shown = LabelsPlane.shown(self._viewer, last.plane.layer)
        if shown is None or not shown.is_same(last.plane):
            return None  # what nobody sees is not changed; back in its plane it can be
        return last if last.is_there else None

    def look(self) -> None:
        """Take back what was said of cells that are not there any more, as after undo."""
        if self._told is not None and not self._writing and not self._told.is_there:
            self._told = None
            self._view.say("")

    def is_over(self, world: Any) -> bool:
        """Whether a place in the world lies over the last cell, or close to it."""
        last = self._last()
        if last is None:
            return False
        y, x = last.plane.point(world)
        box = last.cell.box
        return box.top - 1 <= y <= box.bottom and box.left - 1 <= x <= box.right

    def resize(self, steps: int) -> bool:
        """Make the last cell larger, or smaller below 0; it stays one step of undo.

        Where a cell is previewed, that one is changed.

        Returns
        -------
        bool
            Whether there is such a cell.
        """
        if self.previewing.resize(steps):
            return True
        last = self._last()
        if last is None:
            return False
        cell = last.cell.resized(steps)
        if cell.chosen == last.cell.chosen:
            size = "large" if steps > 0 else "small"
            self._view.say(
                f"The cell is as {size} as it gets here. Paint the rest with napari's brush."
            )
            return True
        id_before = last.edit.highest
        self._writing = True
        last.plane.layer.undo()
        self._tell_added(self._paint(last.plane, [cell], id_before))
        return True

    # ------------------------------------------------------------------------------- ending

    def settle(self) -> None:
        """Leave the last cell as it is, and offer nothing."""
        self._added = self._told = None
        if self.offered:
            self.offered = ""
            self._view.offer("")

    def stop(self, event: Any = None) -> None:
        """Search no more, preview nothing, and leave the last cell as it is."""
        self.previewing.hide()
        if self._search is not None:
            self._search = None
            self._view.stop_search()
        self.settle()


def box_around(points: Any, shape: tuple[int, ...]) -> Region | None:
    """Smallest box of pixels around points (row, column); None where it lies beside the plane."""
    places = np.asarray(points, float)
    first = np.clip(np.floor(places.min(axis=0) + 0.5), 0, shape[:2]).astype(int)
    last = np.clip(np.floor(places.max(axis=0) + 0.5) + 1, 0, shape[:2]).astype(int)
    if (last <= first).any():
        return None
    return Region(int(first[0]), int(last[0]), int(first[1]), int(last[1]))


def _middle(box: Region) -> tuple[float, float]:
    return (box.top + box.bottom - 1) / 2, (box.left + box.right - 1) / 2


def _last_axes(layer: Labels) -> tuple[int, int]:
    return layer.ndim - 2, layer.ndim - 1
