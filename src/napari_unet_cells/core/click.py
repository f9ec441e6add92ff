"""Find the cell under a click: propose outlines in a window, and rate them.

Two ways propose, because each finds cells that the other misses:

- the fragments of `instances.oversegment` at several thresholds, joined more and more, of
  which those at the click count;
- star-shaped outlines around the click (`star_outline`).

Each proposal is measured, and the measures are added up to what overlap (IoU) with the true
cell it may be expected to have. The weights were fitted by least squares on cells of training
images that a run had missed, each clicked at its deepest point. Everything happens at the size
that the network saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.instances import InstanceOptions, Oversegmentation, oversegment
from napari_unet_cells.core.masks import area_of, bounding_box
from napari_unet_cells.core.smoothing import MAX_SMOOTHING
from napari_unet_cells.core.star_outline import Weights, star_outlines

#: Probabilities of "cell" or "boundary" at which fragments are made, and splits (see
#: `InstanceOptions`) at which they are joined.
THRESHOLDS = (0.15, 0.3, 0.45, 0.6, 0.8)
SPLITS = (1.0, 0.94, 0.88, 0.8, 0.65, 0.4, 0.0)

#: Smoothing of the fragments, in diameters, and their least area, of that of a disc.
SMOOTHING, LEAST_AREA = 1 / 40, 0.04

#: What the star-shaped outlines go by; see `star_outline.Weights`.
STARS = (
    Weights(0.0, 1.0, 0.25, 0.25, 0.0, 0.0, 0.5, 0.15, 0.2, 0.0, 0.12),
    Weights(1.0, 0.0, 0.5, 0.5, 0.5, 0.7, 0.0, 0.03, 0.2, 0.0, 0.03),
    Weights(1.5, 0.6, 0.0, 0.0, 0.5, 0.7, 0.5, 0.03, -0.1, 0.2, 0.12),
    Weights(0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.15, 0.0, 0.0, 0.12),
    Weights(0.0, 0.3, 0.25, 0.25, 0.0, 0.7, 0.0, 0.5, 0.2, 0.0, 0.06),
    Weights(1.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.2, 0.03, 0.1, 0.0, 0.06),
)

#: Diameters around the click that a cell may reach.
REACH = 1.6

#: Ratings below the best one by more are no rungs of the `ladder`.
LESS_LIKELY = 0.3

#: Rungs on each side of the best, diameters between two, how many times as large one is at
#: least as the one before, the smallest in pixels, and the least IoU with the best.
RUNGS, RUNG, LEAST_STEP, LEAST_PIXELS, LEAST_OVERLAP = 4, 0.06, 1.08, 4, 0.15

#: Two proposals with a higher IoU count as one.
SAME = 0.93


@dataclass(frozen=True, eq=False)
class View:
    """Window around a click, at the size that the network saw.

    Attributes
    ----------
    image : float32 array, (y, x)
        In [0, 1].
    probabilities : uint8 array, (2 or 3, y, x)
        Of cell and of boundary, and the distance where there is one, in units of 1/255.
    free : bool array, (y, x)
        Where the cell may lie: not where others are.
    replaced : bool array, (y, x)
        The cell that is to be replaced, which is free; False everywhere for none.
    point : (int, int)
        Row and column of the click, free.
    diameter : float
        Expected diameter of the cell, in pixels.
    """

    image: NDArray[np.float32]
    probabilities: NDArray[np.uint8]
    free: NDArray[np.bool_]
    replaced: NDArray[np.bool_]
    point: tuple[int, int]
    diameter: float

    def near(self) -> tuple[View, tuple[slice, slice]]:
        """Give the part within `REACH` of the click, and where it lies."""
        reach = max(8, round(REACH * self.diameter))
        y, x = (
            slice(max(0, at - reach), min(size, at + reach + 1))
            for at, size in zip(self.point, self.free.shape, strict=True)
        )
        part = View(
            self.image[y, x],
            self.probabilities[:, y, x],
            self.free[y, x],
            self.replaced[y, x],
            (self.point[0] - y.start, self.point[1] - x.start),
            self.diameter,
        )
        return part, (y, x)


@dataclass(frozen=True, eq=False)
class Ground:
    """Part of a `View` that is needed to change the size of a cell.

    Attributes
    ----------
    free : bool array, (y, x)
        Where the cell may lie.
    point : (int, int)
        Row and column of the click, free.
    diameter : float
        Expected diameter of the cell, in pixels.
    """

    free: NDArray[np.bool_]
    point: tuple[int, int]
    diameter: float


@dataclass(frozen=True, eq=False)
class Proposals:
    """Outlines that the cell under a click may have.

    Attributes
    ----------
    masks : bool array, (n, y, x)
        From the smallest to the largest. Each holds the click and hangs together.
    ratings : float array, (n,)
        Expected IoU with the true cell.
    """

    masks: NDArray[np.bool_]
    ratings: NDArray[np.float64]

    @property
    def best(self) -> int:
        """Number of the proposal with the highest rating."""
        return int(self.ratings.argmax())


def propose(view: View) -> Proposals:
    """Propose outlines of the cell under a click, and rate them.

    Parameters
    ----------
    view : View

    Returns
    -------
    Proposals
        At least one.
    """
    near, part = view.near()
    stars = star_outlines(
        near.image, near.probabilities, near.free, near.point, near.diameter, STARS
    )
    proposed = [_at_point(mask, near.point) for mask in [*stars, *fragments_at(near)]]
    distinct = _distinct(sorted(proposed, key=area_of))
    masks = np.zeros((len(distinct), *view.free.shape), bool)
    masks[:, part[0], part[1]] = distinct
    return Proposals(masks, rate(distinct, near))


def ladder(proposals: Proposals, view: View) -> tuple[NDArray[np.bool_], int]:
    """Order outlines so that one can grow and shrink the best: each holds the one before.

    Of the proposals those count that are likely enough; beyond the last of them the outline
    moves by `RUNG` diameters at a time.

    Parameters
    ----------
    proposals : Proposals
    view : View

    Returns
    -------
    masks : bool array, (n, y, x)
        From the smallest to the largest, no two alike. All hold the click and are free.
    chosen : int
        Number of the best proposal.
    """
    near, part = view.near()
    likely = proposals.ratings >= proposals.ratings[proposals.best] - LESS_LIKELY
    others = list(proposals.masks[(likely, *part)])
    best = proposals.masks[(proposals.best, *part)]
    rungs, chosen = rungs_around(best, others, Ground(near.free, near.point, near.diameter))
    masks = np.zeros((len(rungs), *view.free.shape), bool)
    masks[(slice(None), *part)] = rungs
    return masks, chosen


def rungs_around(
    best: NDArray[np.bool_], others: list[NDArray[np.bool_]], ground: Ground
) -> tuple[list[NDArray[np.bool_]], int]:
    """Order outlines around the best one, and grow and shrink it beyond the last of them.

    Parameters
    ----------
    best : bool array, (y, x)
        Holds the click.
    others : list of bool arrays, (y, x)
        From the smallest to the largest.
    ground : Ground

    Returns
    -------
    list of bool arrays, (y, x)
        From the smallest to the largest, each holds the one before.
    int
        Number of the best.
    """
    larger, smaller = _larger(best, others, ground), _smaller(best, others, ground)
    return [*smaller[:0:-1], *larger], len(smaller) - 1


def _larger(
    best: NDArray[np.bool_], others: list[NDArray[np.bool_]], ground: Ground
) -> list[NDArray[np.bool_]]:
    """Give the best outline and larger ones, from small to large."""
    step = max(1.0, RUNG * ground.diameter)
    larger = [best]
    for mask in others:
        _add(larger, mask | larger[-1], best, ground)
    while len(larger) <= RUNGS:
        grown = (ndimage.distance_transform_edt(~larger[-1]) <= step) & ground.free
        if not _add(larger, grown, best, ground):
            break
    return larger


def _smaller(
    best: NDArray[np.bool_], others: list[NDArray[np.bool_]], ground: Ground
) -> list[NDArray[np.bool_]]:
    """Give the best outline and smaller ones, from large to small."""
    step = max(1.0, RUNG * ground.diameter)
    smaller = [best]
    for mask in others[::-1]:
        _add(smaller, mask & smaller[-1], best, ground)
    while len(smaller) <= RUNGS:
        depth = ndimage.distance_transform_edt(np.pad(smaller[-1], 1))[1:-1, 1:-1]
        if not _add(smaller, depth > step, best, ground):
            break
    return smaller


def _add(
    rungs: list[NDArray[np.bool_]],
    mask: NDArray[np.bool_],
    best: NDArray[np.bool_],
    ground: Ground,
) -> bool:
    """Append a mask where it is another size than the last one and still the cell of the best."""
    if not mask[ground.point]:
        return False
    mask = _at_point(mask, ground.point)
    before, now = area_of(rungs[-1]), area_of(mask)
    differs = max(before, now) >= LEAST_STEP * min(before, now) and now != before
    if not differs or now < LEAST_PIXELS or overlap(mask, best) < LEAST_OVERLAP:
        return False
    rungs.append(mask)
    return True


def fragments_at(view: View) -> list[NDArray[np.bool_]]:
    """Join fragments at the click: a mask for each threshold and split that makes another one."""
    probabilities = view.probabilities * view.free
    least = max(1, round(LEAST_AREA * np.pi / 4 * view.diameter**2))
    foreground = int(probabilities[(slice(0, 2), *view.point)].sum(dtype=int))
    masks: list[NDArray[np.bool_]] = []
    for threshold in THRESHOLDS:
        options = InstanceOptions(threshold, min(SMOOTHING * view.diameter, MAX_SMOOTHING), least)
        if foreground < round(255 * threshold):
            continue
        fragments = oversegment(probabilities, options)
        masks.extend(_joined_at(fragments, options, view))
    return masks


def _joined_at(
    fragments: Oversegmentation, options: InstanceOptions, view: View
) -> Iterator[NDArray[np.bool_]]:
    """Join the fragments at the click more and more, where that makes another mask."""
    number = fragments.base[view.point]
    whole = fragments.lut(replace(options, split=0.0))
    # Only links between the fragments that hang together at the click change its mask.
    depths = fragments.depths[whole[fragments.links[:, 0]] == whole[number]]
    joined, area = -1, 0
    for split in SPLITS if whole[number] else ():
        n = area_of(depths <= round((1 - split) * 255))
        if n == joined:
            continue
        joined = n
        lut = fragments.lut(replace(options, split=split))
        mask = (lut[fragments.base] == lut[number]) & view.free
        if lut[number] and area_of(mask) != area:
            area = area_of(mask)
            yield mask


def _at_point(mask: NDArray[np.bool_], point: tuple[int, int]) -> NDArray[np.bool_]:
    """Keep what hangs together with a pixel of the mask."""
    parts, n = ndimage.label(mask)
    at_point: NDArray[np.bool_] = parts == parts[point] if n > 1 else mask
    return at_point


def _distinct(masks: list[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Drop those that are as good as the same as one before; all have a pixel in common."""
    kept: list[NDArray[np.bool_]] = []
    for mask in masks:
        if all(overlap(mask, other) < SAME for other in kept):
            kept.append(mask)
    return kept


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union (IoU) of two masks; 0 where both are empty."""
    both = area_of(one & other)
    return both / max(1, area_of(one) + area_of(other) - both)


#: Weights of the measures of a proposal, for a cell that was missed, and for one that is to take
#: the place of a wrong one; see `measure`. The last two are those of `_agreement`.
RATING = {
    "one": (-0.510, -0.878),
    "size": (-0.070, 0.083),
    "size squared": (0.025, 0.164),
    "smaller squared": (-0.021, -0.140),
    "inside": (0.685, 0.396),
    "outside": (-0.288, -0.036),
    "contrast": (0.089, -0.040),
    "edge": (-0.903, -0.249),
    "compact": (0.249, -0.108),
    "central": (0.193, 0.729),
    "thick": (0.055, 0.403),
    "line": (-0.157, 0.301),
    "line inside": (0.232, 0.105),
    "touching": (0.002, -0.115),
    "as before": (0.000, -0.335),
    "spread": (0.668, 0.293),
    "depth": (-0.011, -0.453),
    "agreement": (0.010, 1.605),
    "agreement squared": (0.740, -1.077),
}


def rate(masks: list[NDArray[np.bool_]], view: View) -> NDArray[np.float64]:
    """Expect the IoU of each proposal with the true cell: the weighted sum of its measures.

    Parameters
    ----------
    masks : list of bool arrays, (y, x)
        All proposals for one click: how far they agree counts, too.
    view : View

    Returns
    -------
    float array, (n,)
    """
    weights = np.array(list(RATING.values()))[:, int(view.replaced.any())]
    agreement = _agreement(masks)
    measures = np.stack([measure(mask, view) for mask in masks])
    ratings: NDArray[np.float64] = np.column_stack([measures, agreement, agreement**2]) @ weights
    return ratings


def _agreement(masks: list[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Mean IoU of each mask with all others."""
    flat = np.stack([mask.ravel() for mask in masks]).astype(np.float32)
    both = flat @ flat.T
    areas = both.diagonal()
    overlaps = both / (areas[:, np.newaxis] + areas - both)
    agreement: NDArray[np.float64] = (overlaps.sum(axis=1) - 1.0) / max(1, len(masks) - 1)
    return agreement


def measure(mask: NDArray[np.bool_], view: View) -> NDArray[np.float64]:
    """Measure a proposal: one number for each name in `RATING` but the last two.

    Parameters
    ----------
    mask : bool array, (y, x)
        Holds the click.
    view : View

    Returns
    -------
    float array, (n,)
        size: logarithm of the diameter by the expected one; inside, outside: mean probability
        of "cell" or "boundary" there; contrast, edge: of the image, between inside and outside
        and across the outline; compact: 0.89 for a disc; central: depth of the click by that
        of the deepest pixel; thick: that by the radius of a disc of the same area; line, line
        inside: mean probability of "boundary" along the outline and inside; touching: part of
        the surroundings that belongs to others; as before: IoU with the cell that is
        replaced; spread: standard deviation of the intensities; depth: of the click by the
        expected radius.
    """
    width = max(1.5, 0.12 * view.diameter)
    box = bounding_box(mask, round(width) + 2)
    mask, free, image = mask[box], view.free[box], view.image[box]
    cell, boundary = view.probabilities[(slice(0, 2), *box)].astype(np.float32) / 255
    foreground = np.minimum(cell + boundary, 1)
    depth = _depth(mask)
    height = ndimage.distance_transform_edt(~mask)
    ring = ~mask & (height <= width)
    outside, rim, core = ring & free, mask & (depth <= width), mask & (depth > width)
    outline = (mask & (depth <= 1.5)) | (ring & (height <= 1.5))
    area = area_of(mask)
    within, around = image[mask], image[outside] if outside.any() else image[mask]
    size = np.log(np.sqrt(4 / np.pi * area) / view.diameter)
    at_click = depth[view.point[0] - box[0].start, view.point[1] - box[1].start]
    return np.array(
        [
            1.0,
            size,
            size**2,
            min(size, 0.0) ** 2,
            foreground[mask].mean(),
            foreground[outside].mean() if outside.any() else 0.5,
            abs(within.mean() - around.mean()) / (0.5 * (within.std() + around.std()) + 0.03),
            abs(image[rim].mean() - around.mean()),
            4 * np.sqrt(area) / _perimeter(mask),
            at_click / depth.max(),
            depth.max() / np.sqrt(area / np.pi),
            boundary[outline].mean(),
            boundary[core].mean() if core.any() else boundary[mask].mean(),
            area_of(ring & ~free) / max(1, area_of(ring)),
            overlap(mask, view.replaced[box]) if view.replaced.any() else 0.0,
            within.std(),
            at_click / (view.diameter / 2),
        ]
    )


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance to the outside; behind the border of the image the cell goes on."""
    if mask.all():
        return np.ones(mask.shape)
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(mask)
    return depth


def _perimeter(mask: NDArray[np.bool_]) -> int:
    """Count the sides of pixels between inside and outside."""
    padded = np.pad(mask, 1)
    return sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in (0, 1))
