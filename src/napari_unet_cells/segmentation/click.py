"""Find the cell that was missed under a click, or the cells in a box.

A click costs the network about as much as a few small tiles: it looks at a window of some
diameters around the click, at the known size of the cells and stretched by itself, so that a
dim cell beside bright ones is as plain as these. What other cells cover is never touched::

    labels        click            found
    1 1 . . .     1 1 . . .       1 1 . n .      smaller and larger outlines are kept, so that
    1 1 . . .     1 1 . x .       1 1 n n n      the caller can let the user choose
    . . . . .     . . . . .       . . . n .
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.click import (
    SPLITS,
    Ground,
    Proposals,
    View,
    ladder,
    propose,
    rungs_around,
)
from napari_unet_cells.core.edits import Edit
from napari_unet_cells.core.instances import InstanceOptions, label_cells
from napari_unet_cells.core.masks import area_of, bounding_box
from napari_unet_cells.core.normalize import Limits, percentile_limits
from napari_unet_cells.core.predict import MemoryFull, Network, Output, predict_plane
from napari_unet_cells.core.regions import Region
from napari_unet_cells.core.resample import Box, NormalizedPlane, scaled_shape
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.cell_diameter import LARGEST_ZOOM, zoom_for
from napari_unet_cells.segmentation.result import Fragments

#: Side of the window around a click, and how far a kept fragment may reach, in diameters.
WINDOW, REACH = 7.0, 1.6

#: Limits of that side, in pixels that the network sees.
SHORTEST_WINDOW, LONGEST_WINDOW = 64, 1024

#: Zooms at which the network looks at the window, by the one that suits the cells, and the axes
#: along which the window is flipped for that; the mean counts.
LOOKS: tuple[tuple[float, tuple[int, ...]], ...] = (
    (1.0, ()),
    (1.0, (0, 1)),
    (0.7, ()),
    (1.4, ()),
)

#: Rating (see `core.click`) below which there is no cell. On training images clicks on background
#: stay below it five times of six, and one hit of thirty is lost.
LEAST_RATING = 0.23

#: Diameters of a kept fragment, by the expected one, with which it may be a cell, and the part of
#: it that is free at least.
LIKELY_SIZES, LEAST_FREE = (0.5, 2.0), 0.9

#: A box whose shorter side has more diameters than this holds several cells.
SEVERAL = 2.2

#: Diameters around a box that the network sees as well.
MARGIN = 1.0

#: Thresholds (see `InstanceOptions`) for several cells in a box: the user says that there are some.
BOX_THRESHOLD, BOX_PROBABILITY = 0.4, 0.45

NOTHING = (
    "No cell was found here. Click in the middle of the cell, or draw its outline with the "
    "drawing tool."
)
FLAT = "The image is the same everywhere around here, so there is no cell to be found."
TAKEN = "Other cells cover this place. Delete what is wrong first, then try again."


@dataclass(frozen=True, eq=False)
class FoundCell:
    """A cell that was asked for, with smaller and larger outlines to choose from.

    Attributes
    ----------
    box : Region
        Where the outlines lie in the plane.
    outlines : tuple of bool arrays, (y, x) of the box
        From the smallest to the largest; each holds the one before. Empty where none was found.
    chosen : int
        Number of the outline that counts: at first the likeliest.
    rating : float
        Expected overlap (IoU) of the likeliest outline with the true cell, about 0 to 1.
    replaces : int
        The label under the click, in whose place the cell comes; 0 where it was missed.
    reason : str
        Why no cell was found, as a sentence for the user; else empty.
    """

    box: Region
    outlines: tuple[NDArray[np.bool_], ...] = ()
    chosen: int = 0
    rating: float = 0.0
    replaces: int = 0
    reason: str = ""

    def __bool__(self) -> bool:
        """Whether a cell was found."""
        return bool(self.outlines)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The chosen outline, (y, x) of the box; all False where no cell was found."""
        return self.outlines[self.chosen] if self.outlines else np.zeros(self.box.shape, bool)

    def in_plane(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Give the chosen outline as a mask of the plane, whose shape is (y, x)."""
        plane = np.zeros(shape, bool)
        plane[self.box.slices] = self.mask
        return plane

    def resized(self, steps: int) -> FoundCell:
        """Choose an outline that is some steps larger (below 0 smaller), as far as there are."""
        last = max(0, len(self.outlines) - 1)
        return replace(self, chosen=min(max(self.chosen + steps, 0), last))


def find_cell(
    plane: ImageArray,
    point: tuple[float, float],
    network: Network,
    card: ModelCard,
    diameter: float,
    *,
    labels: ImageArray | None = None,
    fragments: Fragments | None = None,
) -> FoundCell:
    """Find the cell under a click.

    Only a window of the plane and of the labels is read, and the network stays open: call it in
    a worker thread with what `Engine.open` gave, and again for the next click.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, c), any real dtype
        May be lazy. Pixels that are not finite count as dark.
    point : (y, x)
        In pixels, whose middles are whole numbers; what lies outside counts as at the border.
    network : Network
        Of `card`, here or in the child process.
    card : ModelCard
        Of a model that makes cells.
    diameter : float
        Of a typical cell, in pixels of the plane.
    labels : integer array, (y, x), optional
        Cells that are there. They are never painted over, but for the one under the click,
        which is taken to be wrong.
    fragments : Fragments, optional
        What a run kept of this plane: a cell that it made comes back without the network.

    Raises
    ------
    OutOfMemory, Cancelled, UserError
        As the network raises them.
    """
    shape = (plane.shape[0], plane.shape[1])
    at = (_nearest(point[0], shape[0]), _nearest(point[1], shape[1]))
    if fragments is not None:
        dropped = dropped_cell(fragments, at, diameter, card.instances, labels)
        if dropped:
            return dropped
    zoom = zoom_of(card, diameter)
    scene = _Scene.of(plane, _around(at, _reach(diameter, zoom), shape), labels, at)
    return _likeliest(scene, network, zoom, diameter)


def find_in_box(
    plane: ImageArray,
    box: Region,
    network: Network,
    card: ModelCard,
    diameter: float,
    *,
    labels: ImageArray | None = None,
) -> tuple[FoundCell, ...]:
    """Find the cell that a box was drawn around, or the cells in a box that holds several.

    Parameters
    ----------
    plane, network, card, diameter, labels
        As for `find_cell`; here all cells of the labels stay.
    box : Region
        Of at least a pixel, inside of the plane. Nothing outside of it is found.

    Returns
    -------
    tuple of FoundCell
        At least one; a single one may say why nothing was found.

    Raises
    ------
    OutOfMemory, Cancelled, UserError
        As the network raises them.
    """
    shape = (plane.shape[0], plane.shape[1])
    if min(box.shape) > SEVERAL * diameter:
        window = box.grown(round(MARGIN * diameter), shape)
        return _all_within(_Scene.of(plane, window, labels), box, network, card, diameter)
    size = float(np.sqrt(box.shape[0] * box.shape[1]))
    zoom = zoom_of(card, size)
    middle = ((box.top + box.bottom) // 2, (box.left + box.right) // 2)
    reach = max(_reach(size, zoom), max(box.shape) / 2 + 1)
    scene = _Scene.of(plane, _around(middle, reach, shape), labels)
    boxed = scene.within(box)
    if boxed is None:
        return (FoundCell(box, reason=TAKEN),)
    return (_likeliest(boxed, network, zoom, size, beyond=scene.free),)


def dropped_cell(
    fragments: Fragments,
    at: tuple[int, int],
    diameter: float,
    options: InstanceOptions,
    labels: ImageArray | None = None,
) -> FoundCell | None:
    """Give back a cell that a run made at a pixel, and that is not there any more.

    At once and without the network; `find_cell` looks here first. The cell is joined as the run
    joins it. One that the model doubts by itself is left to the network, which sees more in a
    window around the click (of 17 such cells of training images it found 12, this 9).

    Parameters
    ----------
    fragments : Fragments
        Of the plane.
    at : (int, int)
        Row and column of a pixel of the plane.
    diameter, labels
        As for `find_cell`.
    options : InstanceOptions
        Of the model; `split` and `min_probability` count.
    """
    kept, number = fragments.oversegmentation, int(fragments.base[at])
    if not 0 < number <= kept.n_fragments:
        return None
    shape = (fragments.base.shape[0], fragments.base.shape[1])
    window = _around(at, REACH * diameter, shape)
    scene = _Scene.of(fragments.base, window, labels, at)
    if scene.wrong:
        return None
    best, rating = _joined(fragments, number, scene, options)
    size = float(np.sqrt(4 / np.pi * area_of(best)) / diameter)
    if rating < options.min_probability or not LIKELY_SIZES[0] <= size <= LIKELY_SIZES[1]:
        return None
    others = [
        _joined(fragments, number, scene, replace(options, split=split))[0] for split in SPLITS
    ]
    ground = Ground(scene.free, scene.point, diameter)
    outlines, chosen = rungs_around(best, [mask for mask in others if mask.any()], ground)
    return _found(window, outlines, chosen, rating)


def _joined(
    fragments: Fragments, number: int, scene: _Scene, options: InstanceOptions
) -> tuple[NDArray[np.bool_], float]:
    """Join a fragment to its neighbours: the mask in a scene, and its mean probability.

    The mask is empty, and the probability 0, where other cells cover a part of it.
    """
    kept = fragments.oversegmentation
    joining = replace(
        options,
        cell_threshold=kept.cell_threshold,
        smoothing=kept.smoothing,
        merge=kept.merge,
        min_probability=0.0,
        drop_border=False,
    )
    lut = kept.lut(joining)
    mask = lut[scene.pixels] == lut[number]
    free = _piece_at(mask & scene.free, scene.point)
    if not lut[number] or area_of(free) < LEAST_FREE * area_of(mask):
        return np.zeros_like(free), 0.0
    together = np.flatnonzero(lut[: len(kept.areas)] == lut[number])
    return free, float(kept.sums[together].sum() / kept.areas[together].sum() / 255)


def edit_of(found: FoundCell, labels: NDArray[np.integer[Any]], new_id: int) -> Edit:
    """Give the pixels of a plane that change when a found cell is added to it.

    What is left of a cell that it replaces stays where that is more than half of it, such as the
    other one of two that were one; else it goes.

    Parameters
    ----------
    found : FoundCell
        With a cell.
    labels : integer array, (y, x)
        Of the whole plane, as the cell was looked for in them.
    new_id : int
    """
    rows, columns = np.nonzero(found.mask)
    rows, columns = rows + found.box.top, columns + found.box.left
    values = np.full(len(rows), new_id, np.int64)
    if found.replaces:
        rest = labels == found.replaces
        area = area_of(rest)
        rest[rows, columns] = False
        if area_of(rest) <= area / 2:
            y, x = np.nonzero(rest)
            rows, columns = np.concatenate([rows, y]), np.concatenate([columns, x])
            values = np.concatenate([values, np.zeros(len(y), np.int64)])
    return Edit(rows, columns, values)


def zoom_of(card: ModelCard, diameter: float) -> float:
    """Zoom at which a model sees cells of a diameter in pixels."""
    return min(zoom_for(diameter, card.diameter_window), LARGEST_ZOOM)


# --- what is around ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Scene:
    """A window of the plane at its own size.

    `free` is where the cell may lie; `wrong` is the label under the click, which is free.
    """

    window: Region
    pixels: NDArray[Any]
    free: NDArray[np.bool_]
    replaced: NDArray[np.bool_]
    point: tuple[int, int]
    wrong: int = 0

    @classmethod
    def of(
        cls,
        plane: ImageArray,
        window: Region,
        labels: ImageArray | None,
        at: tuple[int, int] | None = None,
    ) -> _Scene:
        pixels = np.asarray(plane[window.slices])
        if pixels.dtype.kind == "b":
            pixels = pixels.view(np.uint8)
        point = (0, 0) if at is None else (at[0] - window.top, at[1] - window.left)
        nothing = np.zeros(window.shape, bool)
        if labels is None:
            return cls(window, pixels, ~nothing, nothing, point)
        there = np.asarray(labels[window.slices])
        wrong = 0 if at is None else int(there[point])
        replaced = there == wrong if wrong else nothing
        return cls(window, pixels, (there == 0) | replaced, replaced, point, wrong)

    def within(self, box: Region) -> _Scene | None:
        """Give the scene with only a box free, and the click where that is deepest.

        None where nothing in it is free.
        """
        free = np.zeros_like(self.free)
        top, left = box.top - self.window.top, box.left - self.window.left
        part = (slice(top, top + box.shape[0]), slice(left, left + box.shape[1]))
        free[part] = self.free[part]
        if not free.any():
            return None
        depth = ndimage.distance_transform_edt(np.pad(free, 1))[1:-1, 1:-1]
        rows, columns = np.nonzero(depth == depth.max())
        away = np.hypot(rows - top - box.shape[0] / 2, columns - left - box.shape[1] / 2)
        nearest = int(away.argmin())
        return replace(self, free=free, point=(int(rows[nearest]), int(columns[nearest])))


def _reach(diameter: float, zoom: float) -> float:
    """Pixels of the plane from a click to the sides of its window."""
    return max(min(WINDOW * diameter, LONGEST_WINDOW / zoom), SHORTEST_WINDOW / zoom) / 2


def _nearest(value: float, size: int) -> int:
    return min(max(round(value), 0), size - 1)


def _around(at: tuple[int, int], reach: float, shape: tuple[int, int]) -> Region:
    return Region(at[0], at[0] + 1, at[1], at[1] + 1).grown(round(reach), shape)


# --- what the network sees ---------------------------------------------------------------


def _view(scene: _Scene, limits: Limits, network: Network, zoom: float, diameter: float) -> View:
    """Look at a scene with the network."""
    scaled = scaled_shape(scene.window.shape, zoom)
    whole = (slice(0, scaled[0]), slice(0, scaled[1]))
    image = NormalizedPlane(scene.pixels, limits, scaled).read(whole).mean(axis=2)
    y, x = (
        min(int((at + 0.5) * length / size), length - 1)
        for at, length, size in zip(scene.point, scaled, scene.window.shape, strict=True)
    )
    free = _resized(scene.free, scaled)
    free[y, x] = True
    replaced = _resized(scene.replaced, scaled) & free
    probabilities = _mean_look(scene.pixels, limits, network, zoom)
    return View(image, probabilities, free, replaced, (y, x), diameter * zoom)


def _mean_look(
    pixels: NDArray[Any], limits: Limits, network: Network, zoom: float
) -> NDArray[np.uint8]:
    """Mean of what the network sees in several `LOOKS`, at the size of the zoom."""
    shape = scaled_shape((pixels.shape[0], pixels.shape[1]), zoom)
    total = np.zeros((network.probabilities, *shape), np.float32)
    for factor, axes in LOOKS:
        scaled = scaled_shape((pixels.shape[0], pixels.shape[1]), zoom * factor)
        out = Output.empty((pixels.shape[0], pixels.shape[1]), network.probabilities, scaled)
        for event in predict_plane(np.flip(pixels, axes), network, limits, out, scaled):
            if isinstance(event, MemoryFull):
                network = event.network
        seen = np.flip(out.probabilities, tuple(axis + 1 for axis in axes))
        total += np.stack([_scaled(plane, shape) for plane in seen])
    mean: NDArray[np.uint8] = np.rint(total / len(LOOKS)).astype(np.uint8)
    return mean


def _scaled(
    plane: NDArray[np.uint8], shape: tuple[int, ...], part: Box | None = None
) -> NDArray[np.uint8]:
    """Resample a plane of 8 bits: averages where it shrinks, interpolates where it grows.

    Of the result only a part is made, where one is given.
    """
    if part is None:
        part = (slice(0, shape[0]), slice(0, shape[1]))
    if plane.shape == shape:
        return plane[part]
    down, right = plane.shape[0] / shape[0], plane.shape[1] / shape[1]
    y, x = part
    box = (x.start * right, y.start * down, x.stop * right, y.stop * down)
    size = (x.stop - x.start, y.stop - y.start)
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box))


def _resized(
    mask: NDArray[np.bool_], shape: tuple[int, ...], part: Box | None = None
) -> NDArray[np.bool_]:
    """Give a mask at another size: a pixel lies inside where half of it does, or more."""
    resized: NDArray[np.bool_] = _scaled(mask.view(np.uint8) * np.uint8(255), shape, part) >= 128
    return resized


# --- what is found -----------------------------------------------------------------------


def _likeliest(
    scene: _Scene,
    network: Network,
    zoom: float,
    diameter: float,
    beyond: NDArray[np.bool_] | None = None,
) -> FoundCell:
    """Find the cell of a scene.

    Where a box has cut what is free, `beyond` says what was free before: in a narrow box all
    outlines are alike, so whether there is a cell at all is judged without it.
    """
    limits = percentile_limits(scene.pixels)
    if limits is None:
        return FoundCell(scene.window, replaces=scene.wrong, reason=FLAT)
    view = _view(scene, limits, network, zoom, diameter)
    proposals = propose(view)
    judged = proposals
    if beyond is not None:
        judged = propose(replace(view, free=view.free | _resized(beyond, view.free.shape)))
    rating = float(judged.ratings.max())
    if rating < LEAST_RATING:
        return FoundCell(scene.window, rating=rating, replaces=scene.wrong, reason=NOTHING)
    outlines, chosen = _at_plane(proposals, view, scene)
    return _found(scene.window, outlines, chosen, rating, scene.wrong)


def _at_plane(
    proposals: Proposals, view: View, scene: _Scene
) -> tuple[list[NDArray[np.bool_]], int]:
    """Give the ladder of outlines at the size of the plane, and the number of the best."""
    rungs, best = ladder(proposals, view)
    part = _covering(bounding_box(rungs[-1], 2), view.free.shape, scene.free.shape)
    point = (scene.point[0] - part[0].start, scene.point[1] - part[1].start)
    outlines: list[NDArray[np.bool_]] = []
    chosen = 0
    for number, rung in enumerate(rungs):
        mask = _resized(rung, scene.free.shape, part) & scene.free[part]
        mask[point] = True
        mask = _piece_at(mask | outlines[-1] if outlines else mask, point)
        if not outlines or area_of(mask) > area_of(outlines[-1]):
            outlines.append(mask)
        if number == best:
            chosen = len(outlines) - 1
    in_window = [np.zeros(scene.free.shape, bool) for _ in outlines]
    for whole, outline in zip(in_window, outlines, strict=True):
        whole[part] = outline
    return in_window, chosen


def _covering(box: Box, shape: tuple[int, ...], other: tuple[int, ...]) -> Box:
    """Pixels of a plane of the shape `other` that lie over a box of one of `shape`."""
    y, x = (
        slice(part.start * size // length, min(-(-part.stop * size // length), size))
        for part, length, size in zip(box, shape, other, strict=True)
    )
    return y, x


def _piece_at(mask: NDArray[np.bool_], point: tuple[int, int]) -> NDArray[np.bool_]:
    parts, _ = ndimage.label(mask)
    piece: NDArray[np.bool_] = parts == parts[point]
    return piece


def _found(
    window: Region,
    outlines: list[NDArray[np.bool_]],
    chosen: int,
    rating: float,
    replaces: int = 0,
) -> FoundCell:
    """Cut outlines in a window to the box that holds the largest one."""
    y, x = bounding_box(outlines[-1])
    box = Region(
        window.top + y.start, window.top + y.stop, window.left + x.start, window.left + x.stop
    )
    cut = tuple(outline[y, x] for outline in outlines)
    return FoundCell(box, cut, chosen, rating, replaces)


def _all_within(
    scene: _Scene, box: Region, network: Network, card: ModelCard, diameter: float
) -> tuple[FoundCell, ...]:
    """Find the cells whose middle lies in a box."""
    limits = percentile_limits(scene.pixels)
    if limits is None:
        return (FoundCell(box, reason=FLAT),)
    zoom = zoom_of(card, diameter)
    probabilities = _mean_look(scene.pixels, limits, network, zoom)
    options = replace(
        card.instances,
        cell_threshold=min(card.instances.cell_threshold, BOX_THRESHOLD),
        min_probability=min(card.instances.min_probability, BOX_PROBABILITY),
    )
    cells = label_cells(probabilities, options)
    found = []
    for number in range(1, int(cells.max(initial=0)) + 1):
        mask = _resized(cells == number, scene.window.shape)
        free = mask & scene.free
        if area_of(free) <= area_of(mask) / 2:
            continue
        y, x = (float(np.mean(i)) for i in np.nonzero(free))
        if (
            box.top <= y + scene.window.top < box.bottom
            and box.left <= x + scene.window.left < box.right
        ):
            found.append(_found(scene.window, [_largest_piece(free)], 0, 1.0))
    return tuple(found) or (FoundCell(box, reason=NOTHING),)


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, _ = ndimage.label(mask)
    piece: NDArray[np.bool_] = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    return piece
