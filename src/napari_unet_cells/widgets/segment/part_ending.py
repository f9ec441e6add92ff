"""Changes that the end of a run on a part of an image makes in the layers that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.layers.metadata import OURS, fitting_review, result_metadata
from napari_unet_cells.segmentation.earlier import Left
from napari_unet_cells.segmentation.part_run import FoundPart
from napari_unet_cells.segmentation.replacing import Replacement
from napari_unet_cells.segmentation.replacing_part import begun_with, replace_part
from napari_unet_cells.segmentation.run import Finished
from napari_unet_cells.widgets.segment.earlier_results import left_in
from napari_unet_cells.widgets.segment.live import adopt, bare, current, is_for

if TYPE_CHECKING:
    from napari.layers import Labels

#: A layer of results, and the index of the plane in it along the axes before (y, x).
InLayer = tuple["Labels", tuple[int, ...]]


@dataclass(frozen=True)
class PartThere:
    """Results of an image that are there when a part of it is segmented.

    Attributes
    ----------
    cells : (napari labels layer, tuple of int) or None
    classes : tuple of (napari labels layer, tuple of int)
        Of the same plane, the topmost first.
    removed : napari labels layer, or None
        Cells, where their layer was removed.
    n_fixed : int
        Axes of a layer of this plane alone before (y, x).
    """

    cells: InLayer | None
    classes: tuple[InLayer, ...]
    removed: Labels | None
    n_fixed: int

    def adopt(self) -> None:
        """Let labels that were restored from the disk become results."""
        for layer, _ in (*filter(None, [self.cells]), *self.classes):
            adopt(layer)

    def target(self, found: FoundPart) -> InLayer | None:
        """Give the result that takes up what was found; None where one is to begin."""
        if found.cells is not None:
            return self.cells
        same = (one for one in self.same_classes(found) if current(one[0]) is not None)
        return next(same, None)

    def same_classes(self, found: FoundPart) -> list[InLayer]:
        """Give the classes of the same names."""
        names = list(found.details.card.classes)
        return [
            (layer, index)
            for layer, index in self.classes
            if list(layer.metadata[OURS].get("provenance", {}).get("classes", ())) == names
        ]

    @property
    def known_diameter(self) -> float:
        """Diameter that was estimated for the cells that are there; 0 where none was."""
        state = None if self.cells is None else current(self.cells[0])
        made = {} if state is None else state.origin.provenance
        scale = made.get("parameters", {}).get("scale", {})
        return float(scale.get("diameter", 0.0)) if scale.get("estimated") else 0.0


@dataclass(frozen=True, eq=False)
class PartEnded:
    """End of a run on a part: a change of the result that is there, or a result of its own.

    Attributes
    ----------
    found : FoundPart
    change : Replacement or None
    event : Finished or None
        Where no result is there.
    left : Left or None
        What is in a layer of cells that was removed.
    """

    found: FoundPart
    change: Replacement | None = None
    event: Finished | None = None
    left: Left | None = None

    @classmethod
    def of(cls, found: FoundPart, there: PartThere) -> PartEnded:
        """Compute it: in a thread, for that takes a while."""
        target = there.target(found)
        if target is not None:
            layer, index = target
            state, review = current(layer), fitting_review(layer)
            if state is not None and review is not None:
                return cls(found, replace_part(layer.data, state, review, found, index))
        beside = next((_plane(one) for one in there.same_classes(found) if not one[1]), None)
        event = begun_with(found, there.n_fixed, beside)
        is_removed = found.cells is not None and there.removed is not None
        return cls(found, None, event, left_in(there.removed) if is_removed else None)

    def fits(self, target: InLayer | None) -> bool:
        """Whether it was made for the result that is there now, as it is now."""
        if target is None or self.change is None:
            return target is None and self.event is not None
        return self.change.old is current(target[0]) and is_for(self.change, target[0])


def _plane(one: InLayer) -> NDArray[np.uint8]:
    layer, index = one
    plane: NDArray[np.uint8] = np.asarray(layer.data)[index]
    return plane.reshape(plane.shape[-2:])


def write_classes(there: PartThere, found: FoundPart) -> None:
    """Write the classes of a part into the class image that is there, where nobody corrected it."""
    for one, index in there.same_classes(found):
        layer: Any = bare(one)
        if layer.editable or not isinstance(layer.data, np.ndarray):
            continue
        (y, x), height, width = found.part.box, *found.shape
        window = layer.data[index].reshape(height, width)[y, x]
        np.copyto(window, found.classes, where=True if found.part.mask is None else found.part.mask)
        made = layer.metadata[OURS]
        before = made.get("provenance", {})
        parts = [*before.get("parts", ()), *map(dict, found.details.parts)]
        provenance = {**before, "parts": parts}
        layer.metadata.update(result_metadata(made["role"], made["image"], provenance))
        layer.refresh(extent=False)
        return
