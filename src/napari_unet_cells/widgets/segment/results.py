"""Result layers of one run: their place, when they appear, which can be edited.

A layer comes in steps, each in a turn of the window of its own, since napari takes 50 to 100 ms for
each::

    refresh     classes are added, hidden --> are shown --> follow the tiles
    finish      cells are added, hidden
    show_cells                           --> are shown
    select                                             --> are active
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import Place
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    INPUT,
    OURS,
    REVIEW,
    STATE,
    fitting_review,
    image_id,
    result_metadata,
)
from napari_unet_cells.layers.reader import class_colors
from napari_unet_cells.layers.transforms import place_of
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.earlier import EarlierResult, Left
from napari_unet_cells.segmentation.pipeline import Started
from napari_unet_cells.segmentation.replacing import (
    Origin,
    Replacement,
    ResultState,
    replace_cells,
    replace_classes,
)
from napari_unet_cells.segmentation.run import Finished
from napari_unet_cells.widgets.napari_versions import add_hidden
from napari_unet_cells.widgets.segment.earlier_results import list_of, removed_list
from napari_unet_cells.widgets.segment.found_layers import layers_of
from napari_unet_cells.widgets.segment.live import (
    adopt,
    bare,
    begin,
    current,
    is_for,
    put,
)
from napari_unet_cells.widgets.segment.part_ending import (
    InLayer,
    PartEnded,
    PartThere,
    write_classes,
)

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer


def preload() -> None:
    """Import what napari's first labels layer needs, off the GUI thread.

    Else the window would stand still for half a second in the middle of the first run. A
    layer made here would do too, but its units are not made for two threads (pint).
    """
    for module in ("pandas", "skimage.color.colorconv"):
        importlib.import_module(module)


class ResultLayers:
    """Puts the results of a run where the image was when it started.

    An image has one layer of cells and one of classes in a place: a run replaces there what was
    not corrected, and all classes. After `finish` come `show_cells` and `select`; what the user
    removed meanwhile stays away.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari image layer
    shown : sequence of int, or None
        Index of the plane that is segmented along the axes before (y, x); None for all.

    Attributes
    ----------
    cells : napari labels layer, or None
        None until the run is over.
    """

    def __init__(self, viewer: Viewer, image: Image, shown: Sequence[int] | None = ()) -> None:
        self._viewer = viewer
        self._name, self._image = image.name, image_id(image)
        self._place = place_of(image, shown)
        self._origin = np.asarray(image.translate)
        # When the labels are saved, the image and its typed pixel size may be gone.
        told = image.metadata.get(INPUT, {}).get("pixel_size")
        self._told = {} if told is None else {INPUT: {"pixel_size": told}}
        self._single = len(shown or ())
        self._details: RunDetails
        self._array: NDArray[Any] | None = None
        self._classes: Any = None
        #: Whether the classes were added, and not shown yet.
        self._coming = False
        #: What the run ended with, until it is active.
        self._last: Any = None
        self.cells: Any = None

    def begin(self, event: Started) -> None:
        """Remember where the tiles will be written; the layer comes with the first of them."""
        self._array, self._details = self._placed(event.classes), event.details

    def _placed(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Give labels of one plane of a stack its other axes, with a length of 1."""
        return labels.reshape((1,) * self._single + labels.shape)

    def refresh(self) -> None:
        """Show the tiles that were written since the last call; the first call adds the layer."""
        if self._classes is None:
            self._show_classes()
        elif self._coming:
            self._coming, self._classes.visible = False, True
        elif self._classes in self._viewer.layers:
            self._classes.refresh(extent=False)

    @property
    def shown(self) -> bool:
        """Whether any tile was shown."""
        return self._classes is not None

    def ended_with(self, layer: Layer) -> bool:
        """Whether a layer that was removed was the last of those that were made here."""
        made = [one for one in (self._classes, self.cells) if one is not None]
        return layer in made and not any(one in self._viewer.layers for one in made)

    def target(self, shape: tuple[int, ...]) -> Labels | None:
        """Find the cells of the same pixels of the image, which the run writes into.

        Parameters
        ----------
        shape : tuple of int
            Of the labels of the run, without the axes that a plane of a stack is given.
        """
        found = [
            layer
            for layer in layers_of(self._viewer, self._image, CELLS)
            if self._is_place(layer, shape) and current(layer) is not None
        ]
        active = bare(self._viewer.layers.selection.active)
        return active if active in found else next(iter(found), None)

    def removed(self, shape: tuple[int, ...]) -> Labels | None:
        """Find cells as `target` does, among those that were removed from the viewer."""
        placed = (1,) * self._single + shape
        found = removed_list(self._viewer, (CELLS, self._image), placed, self._place["translate"])
        return None if found is None else found.layer

    def part_there(self, lengths: tuple[int, ...], shown: tuple[int, ...]) -> PartThere:
        """Find the results that a run on a part of a plane is put into.

        Parameters
        ----------
        lengths : tuple of int
            Of the whole image, (..., y, x): where a result of all its planes is there, that.
        shown : tuple of int
            Index of the plane.
        """

        def found(role: str) -> list[InLayer]:
            return [
                (layer, index)
                for layer in layers_of(self._viewer, self._image, role)
                if (index := self._index_in(layer, lengths, shown)) is not None
            ]

        cells = [one for one in found(CELLS) if current(one[0]) is not None]
        active = bare(self._viewer.layers.selection.active)
        cells.sort(key=lambda one: (one[0] is not active, not one[0].visible))
        removed = None if cells else self.removed(lengths[-2:])
        return PartThere(next(iter(cells), None), tuple(found(CLASSES)), removed, self._single)

    def _index_in(
        self, layer: Labels, lengths: tuple[int, ...], shown: tuple[int, ...]
    ) -> tuple[int, ...] | None:
        """Index of the plane in a layer; None where the layer does not hold it."""
        if self._is_place(layer, lengths[-2:]):
            return (0,) * self._single
        is_whole = bool(shown) and layer.data.shape == lengths
        return shown if is_whole and np.allclose(layer.translate, self._origin) else None

    def begin_part(self, ended: PartEnded) -> None:
        """Add the classes of a part, hidden, where no result of the image was there."""
        assert ended.event is not None
        result = ended.event.result
        self.begin(Started(result.classes, result.details))
        self._show_classes()

    def add_part(self, ended: PartEnded) -> None:
        """Add the cells of a part, hidden, after `begin_part`; once."""
        assert ended.event is not None
        if self._last is None:
            self.finish(ended.event, None, ended.left, beside=True)

    def put_part(self, ended: PartEnded, there: PartThere) -> None:
        """Put the end of a run on a part into the results that are there, as one step."""
        target = there.target(ended.found)
        assert target is not None
        assert ended.change is not None
        if ended.change.before.differing(ended.change.after):
            put(target[0], ended.change)
        if ended.found.cells is not None:
            self.cells = target[0]
            write_classes(there, ended.found)
        self._last = target[0]

    def _lies_here(self, layer: Labels) -> bool:
        """Whether a layer holds the same plane of a stack."""
        return not self._single or np.allclose(layer.translate, self._place["translate"])

    def outdated(
        self, event: Finished, change: Replacement | None, left: Left | None
    ) -> Labels | None:
        """Find the layer that the end of a run goes into, where it was made for other labels.

        Somebody painted or approved meanwhile: a thread makes the change anew, for `finish`.
        """
        shape = event.result.classes.shape
        if event.result.cells is None:
            held = self.corrected_classes(shape)
            target = next((layer for layer in held if same_classes(layer, event)), None)
        else:
            target = self.target(shape)
        if target is None:
            return None
        is_known = change is not None and left is not None and change.old is current(target)
        return None if is_known and change and is_for(change, target) else target

    def finish(
        self,
        event: Finished,
        change: Replacement | None = None,
        left: Left | None = None,
        beside: bool = False,
    ) -> bool:
        """Add the cells, hidden, or replace those that are there.

        Parameters
        ----------
        event : Finished
        change : Replacement, optional
            Of the cells that are there, where there are any; it is not `outdated`.
        left : Left, optional
            What is left of the cells that were there.
        beside : bool
            Add a layer even where one is there.

        Returns
        -------
        bool
            Whether `change` was used.
        """
        result = event.result
        self._details = result.details
        if self._classes is None:  # a stack of planes without contrast has no tiles
            self._show_classes()
        self._classes.metadata.update(self._made(CLASSES))
        if result.cells is None:
            is_change = self._finish_classes(event, change, left, beside)
            self._last = self._classes
            return is_change
        target = None if beside else self.target(result.cells.shape)
        if target is None:
            self._add_cells(result.cells, event, left)
        else:
            self._replace(target, change, left)
            self.cells = target
        self._last = self.cells
        return target is not None

    def show_cells(self) -> None:
        """Show the cells, and hide the classes below them; of a model without cells show these."""
        if self._last is None or self._last not in self._viewer.layers:
            return
        if self._classes is not None:
            self._classes.visible, self._coming = self._last is self._classes, False
        self._last.visible = True
        if self._last is self.cells:
            self._hide_others()

    def select(self) -> None:
        """Make active what the user corrects: the cells, of a model without these the classes."""
        if self._last is not None and self._last in self._viewer.layers:
            self._viewer.layers.selection.active = self._last
        self._last = None

    def _hide_others(self) -> None:
        """Hide cells of the whole stack below those of a plane of it, and the other way round."""
        for layer in layers_of(self._viewer, self._image, CELLS):
            if layer.data.shape != self.cells.data.shape:
                layer.visible = False

    def _finish_classes(
        self, event: Finished, change: Replacement | None, left: Left | None, beside: bool
    ) -> bool:
        """Show the classes of a model that makes no cells, which the user corrects."""
        shape, layers = event.result.classes.shape, self._viewer.layers
        held = self.corrected_classes(shape)
        target = next((layer for layer in held if same_classes(layer, event)), None)
        target = None if beside else target
        if target is not None:
            self._replace(target, change, left)
            if self._classes in layers:
                layers.remove(self._classes)  # in which the run was shown
            self._classes = target
        else:
            if self._classes not in layers:  # removed by the user meanwhile
                self._add_classes()
            self._begin_classes(event)
        for layer in held:
            if layer is not self._classes:
                layer.visible = False
        return target is not None

    def _begin_classes(self, event: Finished) -> None:
        live, baseline = bare(self._classes), event.review.baseline
        live.metadata[REVIEW], live.editable = event.review, True
        state = ResultState.of(Origin.of(event), baseline, digest(live.data))
        result = EarlierResult(Left(baseline, state, {}, 0))
        begin(live, result)
        list_of(self._viewer, live).add(result)

    def corrected_classes(self, shape: tuple[int, ...]) -> list[Labels]:
        """Find classes of the same pixels that somebody corrected or approved; see `target`."""
        return [
            layer
            for layer in layers_of(self._viewer, self._image, CLASSES)
            if layer is not self._classes and self._is_place(layer, shape) and not _is_free(layer)
        ]

    def _is_place(self, layer: Labels, shape: tuple[int, ...]) -> bool:
        """Whether a layer holds the pixels that labels of a shape are of."""
        return layer.data.shape == (1,) * self._single + shape and self._lies_here(layer)

    def _replace(self, target: Labels, change: Replacement | None, left: Left | None) -> None:
        shown = adopt(target)
        assert shown is not None
        assert change is not None
        assert left is not None
        shown.leave(left)
        result = EarlierResult(Left(change.after, change.new, left.approved, change.n_cells))
        put(target, change, result)
        results = list_of(self._viewer, target)
        if shown not in results.items:
            results.items.append(shown)  # it was restored from the disk
        results.add(result)

    def _add_cells(self, cells: NDArray[Any], event: Finished, left: Left | None) -> None:
        self.cells = self._added(
            self._placed(cells) if cells.ndim == 2 else cells,
            name=f"{self._name} cells",
            metadata=self._told | self._made(CELLS, event.cells_digest) | {REVIEW: event.review},
        )
        state = ResultState.of(Origin.of(event), event.review.baseline, event.cells_digest)
        result = EarlierResult(Left(state.made, state, {}, event.result.n_cells))
        begin(self.cells, result)
        list_of(self._viewer, self.cells, left).add(result)

    def end_early(self, word: str) -> None:
        """Say in their name how the run of the classes ended, such as "cancelled"."""
        if self._classes is not None and self._classes in self._viewer.layers:
            if self._coming:
                self.refresh()
            self._classes.name = f"{self._name} classes ({word})"

    def _made(self, role: str, checksum: int | None = None) -> dict[str, Any]:
        return result_metadata(role, self._image, self._details.provenance(), checksum)

    def _show_classes(self) -> None:
        """Show the classes in the layer of the run before, else in a new one."""
        assert self._array is not None
        before = layers_of(self._viewer, self._image, CLASSES)
        same = next((one for one in before if self._may_reuse(one)), None)
        if same is None:
            self._add_classes()
        else:
            self._reuse(same)
        # A fresh layer without history: nothing is lost by taking its tools away.
        self._classes.editable = False

    def _may_reuse(self, layer: Labels) -> bool:
        """Whether nothing is lost where a run shows its classes in a layer.

        What a model of classes alone made is a result: only another one of its place follows it.
        """
        assert self._array is not None
        if layer.data.ndim != self._array.ndim or not _is_free(layer):
            return False
        if current(layer) is None:
            return True
        card, made = self._details.card, layer.metadata[OURS]["provenance"]
        is_place = layer.data.shape == self._array.shape and self._lies_here(layer)
        is_same = list(made.get("classes", ())) == list(card.classes)
        return not card.makes_cells and is_place and is_same

    def _reuse(self, layer: Labels) -> None:
        assert self._array is not None
        layer.data = self._array
        for name, value in self._place.items():
            setattr(layer, name, value)
        layer.metadata.pop(REVIEW, None)
        layer.metadata.pop(STATE, None)
        layer.metadata.update(self._told | self._made(CLASSES))
        layer.colormap = self._colormap()
        layer.name, layer.visible = f"{self._name} classes", True
        self._classes = layer

    def _add_classes(self) -> None:
        self._classes, self._coming = (
            self._added(
                self._array,
                name=f"{self._name} classes",
                metadata=self._told | self._made(CLASSES),
                colormap=self._colormap(),
            ),
            True,
        )

    def _added(self, labels: Any, **options: Any) -> Labels:
        from napari.layers import Labels

        layer = Labels(labels, **options, **self._place)
        add_hidden(self._viewer, layer)
        return layer

    def _colormap(self) -> Any:
        from napari.utils.colormaps import DirectLabelColormap

        card = self._details.card
        return DirectLabelColormap(color_dict=class_colors(len(card.classes), card.colors))


def replaced(
    layer: Labels, state: ResultState, approved: Collection[Place], event: Finished
) -> Replacement:
    """Put the end of a run into a layer of cells, or of classes where it made no cells.

    Parameters
    ----------
    layer : napari labels layer
        It is not changed yet.
    state : ResultState
        Of the layer.
    approved : collection of Place
        Regions that stay as they are.
    event : Finished
    """
    result, origin = event.result, Origin.of(event)
    if result.cells is None:
        return replace_classes(layer.data, state, approved, result.classes, origin)
    return replace_cells(layer.data, state, approved, result.cells, origin)


def same_classes(layer: Labels, event: Finished) -> bool:
    """Whether the classes in a layer have the names of those of a run."""
    made = layer.metadata.get(OURS, {}).get("provenance", {})
    return list(made.get("classes", ())) == list(event.result.details.card.classes)


def _is_free(layer: Labels) -> bool:
    """Whether nobody corrected or approved the classes of a layer."""
    review = fitting_review(layer)
    if review is None:
        return True
    if review.approved or review.any_edited:
        return False
    # What was painted a moment ago is not known yet.
    return not any(review.look(layer.data, [place]) for place in review)
