"""From class probabilities to one label per cell: a seeded watershed.

Seeds are the connected parts where the smoothed probability of "cell" is high; from there
they grow downhill over what is "cell" or "boundary", and meet in the valley between touching
cells (marker-controlled watershed: Meyer and Beucher 1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: napari redraws 32-bit labels twenty times slower, so 16 bits serve as long as they can.
MAX_UINT16 = np.iinfo(np.uint16).max

_FOUR_NEIGHBOURS = (
    ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
)


@dataclass(frozen=True)
class InstanceOptions:
    """Limits of the watershed; a model's card holds those that were fitted for it.

    Attributes
    ----------
    seed_threshold : float
        Smoothed probability of "cell", 0 to 1, above which a seed begins. Higher splits more.
    cell_threshold : float
        Probability of "cell" or "boundary", 0 to 1, above which a pixel belongs to a cell.
    smoothing : float
        Standard deviation in pixels of the smoothing of the seeds.
    smallest : int
        Cells of fewer pixels are dropped.
    fill_holes : bool
        Fill background that one cell encloses.
    """

    seed_threshold: float = 0.5
    cell_threshold: float = 0.5
    smoothing: float = 1.0
    smallest: int = 12
    fill_holes: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("seed_threshold", "cell_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")


def label_cells(
    probabilities: NDArray[np.uint8], options: InstanceOptions | None = None
) -> NDArray[np.uint16] | NDArray[np.uint32]:
    """Separate the cells.

    Parameters
    ----------
    probabilities : uint8 array, (2, y, x)
        Of cell and of boundary, in units of 1/255.
    options : InstanceOptions, optional

    Returns
    -------
    uint16 array, (y, x); uint32 where there are more than 65,535 cells
        0 is background; the cells are numbered 1 to n in the order of their seeds, from top
        to bottom.
    """
    from skimage.segmentation import watershed

    options = options or InstanceOptions()
    cell, boundary = probabilities
    foreground = np.add(cell, boundary, dtype=np.uint16) >= round(options.cell_threshold * 255)
    smooth = ndimage.gaussian_filter(cell, options.smoothing)
    seeds = _seeds((smooth >= round(options.seed_threshold * 255)) & foreground, foreground)
    if options.smallest > 0:
        foreground, seeds = _drop_specks(foreground, seeds, options.smallest)
    labels: NDArray[np.int32] = watershed(255 - smooth, seeds, mask=foreground)
    labels = _join_small(labels, options.smallest)
    if options.fill_holes:
        _fill_holes(labels)
    return _consecutive(labels, options.smallest)


def _seeds(inside: NDArray[np.bool_], foreground: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give every seed its number, where foreground without any becomes one whole seed.

    Else the smallest cells, which are all boundary, would be lost.
    """
    patches, n_patches = ndimage.label(foreground)
    seeded = np.zeros(n_patches + 1, bool)
    seeded[patches[inside]] = True
    seeded[0] = True
    seeds: NDArray[np.int32] = ndimage.label(inside | ~seeded[patches])[0]
    return seeds


def _drop_specks(
    foreground: NDArray[np.bool_], seeds: NDArray[np.int32], smallest: int
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Remove patches too small to hold a cell before the watershed has to walk them."""
    patches, _ = ndimage.label(foreground)
    keep = np.bincount(patches.ravel(), minlength=1) >= smallest
    keep[0] = False
    foreground = keep[patches]
    return foreground, seeds * foreground


def _join_small(labels: NDArray[np.int32], smallest: int) -> NDArray[np.int32]:
    """Give parts that are too small to be a cell to the largest part they touch.

    A second seed in a textured nucleus makes such a part; dropping it would leave a hole.
    """
    areas = np.bincount(labels.ravel(), minlength=1)
    small = areas < smallest
    small[0] = False
    if not small.any():
        return labels
    order = np.lexsort((np.arange(len(areas)), areas))
    rank = np.empty(len(areas), np.int64)
    rank[order] = np.arange(len(areas))
    best = rank.copy()
    for here, there in _FOUR_NEIGHBOURS:
        for part, other in ((labels[here], labels[there]), (labels[there], labels[here])):
            meet = small[part] & (other > 0)
            np.maximum.at(best, part[meet], rank[other[meet]])
    # Each goes to a part of higher rank or stays, so following the chain comes to an end.
    target = order[best].astype(np.int32)
    while (target != target[target]).any():
        target = target[target]
    joined: NDArray[np.int32] = target[labels]
    return joined


def _fill_holes(labels: NDArray[np.int32]) -> None:
    """Give background that touches one cell only, and not the border, to that cell."""
    holes, n = ndimage.label(labels == 0)
    if n == 0:
        return
    lowest = np.full(n + 1, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(n + 1, np.int32)
    for here, there in _FOUR_NEIGHBOURS:
        for hole, cell in ((holes[here], labels[there]), (holes[there], labels[here])):
            meet = (hole > 0) & (cell > 0)
            np.minimum.at(lowest, hole[meet], cell[meet])
            np.maximum.at(highest, hole[meet], cell[meet])
    owner = np.where(lowest == highest, highest, 0)
    owner[0] = 0
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        owner[edge] = 0
    np.maximum(labels, owner[holes], out=labels)


def _consecutive(
    labels: NDArray[np.int32], smallest: int
) -> NDArray[np.uint16] | NDArray[np.uint32]:
    """Drop small cells, number the others 1 to n, in the smallest dtype that holds n."""
    areas = np.bincount(labels.ravel(), minlength=1)
    keep = areas >= max(1, smallest)
    keep[0] = False
    n = int(np.count_nonzero(keep))
    numbers = np.zeros(len(areas), np.uint32)
    numbers[keep] = np.arange(1, n + 1)
    if n <= MAX_UINT16:
        return numbers.astype(np.uint16)[labels]
    return numbers[labels]
