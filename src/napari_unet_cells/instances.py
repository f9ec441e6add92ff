r"""From class probabilities to one label per cell, in two steps.

`partition` floods once per run: it cuts the foreground into its finest parts, one for every
peak of the smoothed probability of "cell". `Partition.cells` decides which parts make one
cell; that reads a table of a few numbers per part, so it may follow a slider::

    probability   peak 0.9                 parts   1 1 1 1 2 2 2 3 3 3 3
    of "cell"      _     0.7  peak 0.8
                  / \_ __/\   _            1 | 2   depth 0.7 - 0.6 = 0.1: one cell
                 /    v    \ / \           2 | 3   depth 0.8 - 0.3 = 0.5: two cells
                    0.6     v   \
                           0.3

The depth of the valley between two parts is the lower of the two peaks less the saddle, which
is the highest point of their common border; a peak that was merged counts with the highest
peak it was merged with. Cutting at a depth is the extinction by dynamics of Grimaud 1992, done
on the maximum spanning tree of the saddles (Najman and Schmitt 1996), where it is the choice
of a few links.

References
----------
.. [1] Grimaud, "New measure of contrast: the dynamics", Proc. SPIE 1769, 1992.
.. [2] Najman and Schmitt, "Geodesic saliency of watershed contours and hierarchical
   segmentation", IEEE Transactions on Pattern Analysis and Machine Intelligence 18, 1996.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: napari redraws 32-bit labels twenty times slower, so 16 bits serve as long as they can.
MAX_UINT16 = np.iinfo(np.uint16).max

Labels = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class InstanceOptions:
    """What makes a cell; a model's card holds the values that were fitted for it.

    The first two shape the parts and belong to `partition`; all others are decided by
    `Partition.cells`, at once.

    Attributes
    ----------
    cell_threshold : float
        Probability of "cell" or "boundary", 0 to 1, above which a pixel belongs to a cell.
    smoothing : float
        Standard deviation in pixels of the smoothing before peaks are looked for.
    smallest : int
        Area in pixels. A smaller part joins the neighbour it is least separated from;
        without any neighbour it is dropped.
    fill_holes : bool
        Fill background that one cell encloses.
    split : float
        Touching parts stay two cells where the valley between them is deeper than
        ``1 - split``, in units of probability. 0 makes one cell of everything that touches,
        1 keeps every part.
    drop_border : bool
        Drop the cells that the border of the plane cuts.
    seed_threshold : float, not kept
        Read from cards of version 0.1.0, whose method had it, checked and ignored.
    """

    cell_threshold: float = 0.5
    smoothing: float = 1.0
    smallest: int = 12
    fill_holes: bool = True
    split: float = 0.8
    drop_border: bool = False
    seed_threshold: InitVar[float] = 0.5

    def __post_init__(self, seed_threshold: float) -> None:
        """Check the ranges."""
        thresholds = {"seed_threshold": seed_threshold, "cell_threshold": self.cell_threshold}
        for name, value in thresholds.items():
            if not 0 < value < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {value}")
        if not 0 <= self.split <= 1:
            raise ValueError(f"split must lie between 0 and 1, not {self.split}")
        if not 0 <= self.smoothing <= MAX_SMOOTHING:
            raise ValueError(
                f"smoothing must lie between 0 and {MAX_SMOOTHING} pixels, not {self.smoothing}"
            )


def label_cells(probabilities: NDArray[np.uint8], options: InstanceOptions | None = None) -> Labels:
    """Separate the cells: `partition` and `Partition.cells` with the same options.

    Parameters
    ----------
    probabilities : uint8 array, (2, y, x)
        Of cell and of boundary, in units of 1/255.
    options : InstanceOptions, optional

    Returns
    -------
    uint16 array, (y, x); uint32 where there are more than 65,535 cells
        As `Partition.cells` gives it.
    """
    options = options or InstanceOptions()
    return partition(probabilities, options).cells(options)


def partition(probabilities: NDArray[np.uint8], options: InstanceOptions) -> Partition:
    """Cut the foreground into its finest parts.

    Parameters
    ----------
    probabilities : uint8 array, (2, y, x)
        Of cell and of boundary, in units of 1/255.
    options : InstanceOptions
        `cell_threshold` and `smoothing` are used, the others are not looked at.

    Returns
    -------
    Partition
    """
    level = _levels(probabilities, options)
    base, peaks, areas = _flood(level)
    n_holes = _number_holes(base, len(peaks))
    borders = _borders(base)
    links, depths = _spanning_tree(_saddles(base, level, borders, len(peaks)), peaks)
    rims, is_open = _rims(base, borders, len(peaks))
    base = np.ascontiguousarray(base[1:-1, 1:-1])
    at_border = np.zeros(len(peaks), bool)
    for edge in (base[:1], base[-1:], base[:, :1], base[:, -1:]):
        at_border[edge] = True
    return Partition(
        base=base,
        areas=areas,
        links=links,
        depths=depths,
        n_holes=n_holes,
        rims=rims,
        is_open=is_open,
        at_border=at_border,
        cell_threshold=options.cell_threshold,
        smoothing=options.smoothing,
    )


@dataclass(frozen=True, eq=False)
class Partition:
    """The finest parts of one plane, and what must be known of them to make cells.

    ::

        base   0 0 0 0 0 0 0      0 outside; 1, 2 parts; 3 a hole in part 1
               0 1 1 1 2 2 0
               0 1 3 1 2 2 0      links (1, 2), rims (3, 1)
               0 1 1 1 2 2 0

    Attributes
    ----------
    base : int32 array, (y, x)
        0 is background that reaches the border of the plane; then come the parts, 1 to n,
        from top to bottom by their first pixels, each one 4-connected region; then the holes,
        n + 1 to n + n_holes.
    areas : int64 array, (n + 1,)
        Pixels of each part.
    links : int32 array, (m, 2)
        Pairs of touching parts, from the highest saddle to the lowest: the maximum spanning
        forest of all saddles.
    depths : uint8 array, (m,)
        Of each link: the lower of the peaks of the two sides less the saddle, in 1/255 of
        probability. A side is all that links of higher saddles join.
    n_holes : int
    rims : int32 array, (k, 2)
        Pairs of a hole and a part that it touches.
    is_open : bool array, (n + 1,)
        Parts that touch background 0 or the border of the plane.
    at_border : bool array, (n + 1,)
        Parts that touch the border of the plane.
    cell_threshold, smoothing : float
        The options that the parts were made with.
    """

    base: NDArray[np.int32]
    areas: NDArray[np.int64]
    links: NDArray[np.int32]
    depths: NDArray[np.uint8]
    n_holes: int
    rims: NDArray[np.int32]
    is_open: NDArray[np.bool_]
    at_border: NDArray[np.bool_]
    cell_threshold: float
    smoothing: float

    @property
    def n_parts(self) -> int:
        """Number of parts, n."""
        return len(self.areas) - 1

    def cells(self, options: InstanceOptions) -> Labels:
        """Make cells of the parts: `lut` looked up in `base`.

        Parameters
        ----------
        options : InstanceOptions

        Returns
        -------
        uint16 array, (y, x); uint32 where there are more than 65,535 cells
            0 is background; the cells are numbered 1 to n from top to bottom, by the first
            pixel of each (in a row, from left to right).

        Raises
        ------
        ValueError
            As `lut`.
        """
        labels: Labels = self.lut(options)[self.base]
        return labels

    def lut(self, options: InstanceOptions) -> Labels:
        """Give the cell of every value of `base`, so that ``labels = lut[base]``.

        Parameters
        ----------
        options : InstanceOptions
            `split`, `smallest`, `fill_holes` and `drop_border` may be what they like.

        Returns
        -------
        uint16 (uint32 beyond 65,535 cells) array, (n + n_holes + 1,)

        Raises
        ------
        ValueError
            Where the parts were made with another `cell_threshold` or `smoothing`.
        """
        for name in ("cell_threshold", "smoothing"):
            if getattr(options, name) != getattr(self, name):
                raise ValueError(
                    f"The parts were made with {name} {getattr(self, name)}, not "
                    f"{getattr(options, name)}: call partition() again."
                )
        group = self._join_small(self._merge(options.split), options.smallest)
        areas = np.bincount(group, self.areas, minlength=len(group))
        kept = areas[group] >= max(1, options.smallest)
        kept[0] = False
        owner = np.zeros(len(group) + self.n_holes, np.intp)
        owner[: len(group)][kept] = group[kept]
        if options.fill_holes and self.n_holes:
            self._fill_holes(owner, group, kept)
        if options.drop_border:
            dropped = np.zeros(len(group), bool)
            dropped[group[self.at_border]] = True
            owner[dropped[owner]] = 0
        return _consecutive(owner)

    def _merge(self, split: float) -> NDArray[np.intp]:
        """Give the group of each part: the smallest of its numbers. Background is group 0."""
        shallow = self.links[self.depths <= round((1 - split) * 255)]
        return _components(shallow, len(self.areas))

    def _join_small(self, group: NDArray[np.intp], smallest: int) -> NDArray[np.intp]:
        """Join every group that is too small to the one it shares its highest saddle with.

        Walking down the links in their order does just that: at the first link that leads
        out of a small group, this is its highest. What is small in the end has no neighbour.
        """
        pairs = group[self.links]
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        areas = np.bincount(group, self.areas, minlength=len(group))
        # Only what hangs together with a small group can change; mostly that is very little.
        patch = _components(pairs, len(group))
        concerned = np.zeros(len(group), bool)
        concerned[patch[group[areas[group] < smallest]]] = True
        joined = _Groups(areas.tolist())
        for one, other in pairs[concerned[patch[pairs[:, 0]]]].tolist():
            a, b = joined.find(one), joined.find(other)
            if joined.size[a] < smallest or joined.size[b] < smallest:
                joined.join(min(a, b), max(a, b))
        return joined.all()[group]

    def _fill_holes(
        self, owner: NDArray[np.intp], group: NDArray[np.intp], kept: NDArray[np.bool_]
    ) -> None:
        """Give background that touches one cell only, and not the border, to that cell.

        A part that is dropped is background too and joins the holes around it, so a ring
        with a speck in it becomes a disc.
        """
        node = np.arange(len(owner))
        node[: len(group)] = group
        holes, parts = self.rims[:, 0], group[self.rims[:, 1]]
        speck = ~kept[parts]
        outlets = group[self.is_open & ~kept]
        joined = np.concatenate(
            [np.append(holes[speck], np.zeros_like(outlets)), np.append(parts[speck], outlets)]
        )
        void = _components(joined.reshape(2, -1).T, len(owner))
        lowest = np.full(len(owner), len(owner), np.intp)
        highest = np.zeros(len(owner), np.intp)
        np.minimum.at(lowest, void[holes[~speck]], parts[~speck])
        np.maximum.at(highest, void[holes[~speck]], parts[~speck])
        enclosing = np.where(lowest == highest, highest, 0)
        enclosing[0] = 0
        background = owner == 0
        owner[background] = enclosing[void[node[background]]]


class _Groups:
    """Disjoint sets of numbers with a size, as lists: a loop over arrays is ten times slower."""

    def __init__(self, size: list[float]) -> None:
        self.size = size
        self.parent = list(range(len(size)))

    def find(self, i: int) -> int:
        parent = self.parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        """Put the set of the root `b` into that of the root `a`."""
        if a != b:
            self.parent[b] = a
            self.size[a] += self.size[b]

    def all(self) -> NDArray[np.intp]:
        """Give the root of every number."""
        roots = np.array(self.parent, np.intp)
        while (roots != roots[roots]).any():
            roots = roots[roots]
        return roots


def _components(pairs: NDArray[np.integer], n: int) -> NDArray[np.intp]:
    """Give each of n numbers the smallest number that the pairs connect it with."""
    ones = np.ones(len(pairs), bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    component = connected_components(graph, directed=False)[1]
    first = np.zeros(n, np.intp)
    first[component[::-1]] = np.arange(n)[::-1]  # of several, what is written last stays
    smallest: NDArray[np.intp] = first[component]
    return smallest


def _consecutive(owner: NDArray[np.intp]) -> Labels:
    """Give numbers, 1 to n, to all that own anything, in the smallest dtype that holds n."""
    used = np.zeros(len(owner), bool)
    used[owner] = True
    used[0] = False
    numbers = np.cumsum(used)
    numbers[0] = 0
    dtype = np.uint16 if numbers[-1] <= MAX_UINT16 else np.uint32
    lut: Labels = numbers[owner].astype(dtype)  # type: ignore[assignment]
    return lut


# --- smoothing --------------------------------------------------------------------------

MAX_SMOOTHING = 20.0
#: A wider kernel has weights too small for 1/256; it is applied in several passes.
_WIDEST = 4.0
#: Rows of one strip: small enough for the cache.
_STRIP = 32


def _smooth(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Smooth with a Gaussian in 16-bit integers, reflecting at the border.

    On black and white noise, the worst case, it is wrong by up to 4/255 (6/255 in several
    passes). Ten times faster than `scipy.ndimage.gaussian_filter`, which works in float64.
    """
    if image.size == 0 or sigma <= 0:
        return image
    passes = math.ceil((sigma / _WIDEST) ** 2)
    weights = _gaussian(sigma / math.sqrt(passes))
    for _ in range(passes):
        image = _convolve(image, weights)
    return image


def _gaussian(sigma: float) -> NDArray[np.uint16]:
    """Give the centre and one side of the kernel, in units of 1/256; they sum to 1."""
    x = np.arange(round(3 * sigma) + 2)
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    exact = 256 * kernel / (2 * kernel.sum() - 1)
    weights: NDArray[np.uint16] = np.rint(exact[exact >= 0.5]).astype(np.uint16)
    weights[0] = 256 - 2 * weights[1:].sum()
    return weights


def _convolve(image: NDArray[np.uint8], weights: NDArray[np.uint16]) -> NDArray[np.uint8]:
    height, radius = len(image), len(weights) - 1
    padded = np.pad(image, radius, "symmetric")
    out = np.empty_like(image)
    for top in range(0, height, _STRIP):
        rows = padded[top : min(top + _STRIP, height) + 2 * radius].astype(np.uint16)
        out[top : top + _STRIP] = _weigh(_weigh(rows, weights).T, weights).T
    return out


def _weigh(rows: NDArray[np.uint16], weights: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Convolve along the first axis; the sums stay below 65,536, 128 is for rounding."""
    radius = len(weights) - 1
    n = len(rows) - 2 * radius
    total: NDArray[np.uint16] = rows[radius : radius + n] * weights[0] + np.uint16(128)
    for i in range(1, radius + 1):
        both = rows[radius - i : radius - i + n] + rows[radius + i : radius + i + n]
        both *= weights[i]
        total += both
    total >>= 8
    return total


# --- parts ------------------------------------------------------------------------------
# All planes here have a margin of one pixel of background, so that every pixel of a cell has
# four neighbours, and all background that reaches the border of the plane is one region.

_BACKGROUND = 5
_CHUNK = 1 << 16


def _levels(probabilities: NDArray[np.uint8], options: InstanceOptions) -> NDArray[np.uint8]:
    """Give the smoothed probability of "cell" in the foreground, at least 1; 0 is background."""
    cell, boundary = probabilities
    foreground = np.add(cell, boundary, dtype=np.uint16) >= round(options.cell_threshold * 255)
    smooth = np.maximum(_smooth(cell, options.smoothing), 1)
    level = np.zeros((cell.shape[0] + 2, cell.shape[1] + 2), np.uint8)
    np.multiply(smooth, foreground, out=level[1:-1, 1:-1])
    return level


def _offsets(plane: NDArray[Any]) -> NDArray[np.intp]:
    """Give what the steps 0 (none) to 4 add to a flat index; 1 and 2 are opposite, 3 and 4 too."""
    width = plane.shape[1]
    return np.array([0, width, -width, 1, -1])


def _flood(
    level: NDArray[np.uint8],
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Give each pixel to the peak that the steepest way up from it ends at.

    Returns
    -------
    base : int32 array, the shape of `level`
        0 is background, the parts are 1 to n.
    peaks : uint8 array, (n + 1,)
        The highest level of each part.
    areas : int64 array, (n + 1,)
    """
    pixels = np.flatnonzero(level)
    step = _steps(level, pixels)
    peak_of, n = ndimage.label(step == 0)
    ends = _follow(step, pixels)
    parts = peak_of.ravel()[pixels][ends]
    # Numbered by their topmost pixels; written backwards, the first of a part is what stays.
    first = np.zeros(n + 1, np.intp)
    first[parts[::-1]] = pixels[::-1]
    rank = np.zeros(n + 1, np.int32)
    rank[np.argsort(first)] = np.arange(n + 1)
    parts = rank[parts]
    base = np.zeros(level.shape, np.int32)
    base.ravel()[pixels] = parts
    peaks = np.zeros(n + 1, np.uint8)
    peaks[parts] = level.ravel()[pixels][ends]
    return base, peaks, np.bincount(parts, minlength=n + 1)


def _chunks(n: int) -> Iterator[slice]:
    """Cut n into pieces whose temporary arrays stay in the cache: twice as fast as at once."""
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


def _steps(level: NDArray[np.uint8], pixels: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Give each pixel its step to the highest of its neighbours, 0 where none is higher."""
    levels = level.ravel()
    step = np.full(level.shape, _BACKGROUND, np.uint8)
    for chunk in _chunks(len(pixels)):
        here = pixels[chunk]
        highest = levels[here]
        best = np.zeros(len(here), np.uint8)
        for number, offset in enumerate(_offsets(level)[1:], 1):
            there = levels[here + offset]
            np.copyto(best, np.uint8(number), where=there > highest)
            np.maximum(highest, there, out=highest)
        step.ravel()[here] = best
    _cross_plateaus(step, level, pixels[step.ravel()[pixels] == 0])
    return step


def _follow(step: NDArray[np.uint8], pixels: NDArray[np.intp]) -> NDArray[np.int32]:
    """Give the position in `pixels` of the end of the way that starts at each of them."""
    position = np.empty(step.size, np.int32)
    position[pixels] = np.arange(len(pixels), dtype=np.int32)
    way = np.empty(len(pixels), np.int32)
    for chunk in _chunks(len(pixels)):
        here = pixels[chunk]
        way[chunk] = position[here + _offsets(step)[step.ravel()[here]]]
    moved = True
    while moved:  # twice as far each time
        moved = False
        for chunk in _chunks(len(pixels)):
            further = way[way[chunk]]
            moved = moved or not np.array_equal(further, way[chunk])
            way[chunk] = further
    return way


def _cross_plateaus(
    step: NDArray[np.uint8], level: NDArray[np.uint8], flat: NDArray[np.intp]
) -> None:
    """Lead every pixel of a plateau to the nearest way up from it, in place.

    Else two cells would meet at the edge of the plateau between them and not in its middle.
    """
    steps, levels = step.ravel(), level.ravel()
    offsets = _offsets(level)
    leads = np.zeros(len(flat), np.uint8)
    for number, offset in enumerate(offsets[1:], 1):
        goal = flat + offset
        leads[(leads == 0) & (steps[goal] > 0) & (levels[goal] == levels[flat])] = number
    steps[flat] = leads
    front = flat[leads > 0]
    while len(front):
        reached = []
        for number, back in enumerate(offsets[1:], 1):
            goal = front - back
            goal = goal[(steps[goal] == 0) & (levels[goal] == levels[front])]
            steps[goal] = number
            reached.append(goal)
        front = np.concatenate(reached)


def _number_holes(base: NDArray[np.int32], first: int) -> int:
    """Give numbers to the background that does not reach the border of the plane, in place."""
    voids, n = ndimage.label(base == 0)
    holes = np.flatnonzero(voids > 1)  # 1 holds the corner
    base.ravel()[holes] = voids.ravel()[holes] + (first - 2)
    return int(n) - 1


# --- between parts ----------------------------------------------------------------------


def _borders(base: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the pairs of neighbouring pixels of different parts, as flat indices."""
    flat, width = base.ravel(), base.shape[1]
    right = np.flatnonzero(flat[1:] != flat[:-1])
    down = np.flatnonzero(flat[width:] != flat[:-width])
    return np.concatenate([right, down]), np.concatenate([right + 1, down + width])


def _saddles(
    base: NDArray[np.int32],
    level: NDArray[np.uint8],
    borders: tuple[NDArray[np.intp], NDArray[np.intp]],
    n: int,
) -> NDArray[np.int64]:
    """Find the parts (below n) that touch and the highest level at which they do.

    Returns
    -------
    int64 array, (m, 3)
        Part, part of a higher number, saddle.
    """
    here, there = borders
    pairs = np.sort(base.ravel()[np.column_stack([here, there])], axis=1)
    touch = (pairs[:, 0] > 0) & (pairs[:, 1] < n)
    one, other = pairs[touch].T.astype(np.int64)
    saddle = np.minimum(level.ravel()[here[touch]], level.ravel()[there[touch]])
    # One number to sort by: the pair, then the level in the lowest eight bits.
    key = np.sort((one * n + other) << 8 | saddle)
    pair = key >> 8
    last = np.append(pair[1:] != pair[:-1], np.ones(min(1, len(pair)), bool))
    return np.column_stack([pair[last] // n, pair[last] % n, key[last] & 255])


def _spanning_tree(
    saddles: NDArray[np.int64], peaks: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Give links and depths of `Partition`: Kruskal's algorithm, from the highest saddle."""
    top = peaks.tolist()
    sides = _Groups([0.0] * len(top))
    links, depths = [], []
    for i, j, saddle in saddles[np.argsort(-saddles[:, 2], kind="stable")].tolist():
        a, b = sides.find(i), sides.find(j)
        if a == b:
            continue
        if top[a] < top[b]:
            a, b = b, a
        links.append((i, j))
        depths.append(top[b] - saddle)
        sides.join(a, b)
    return np.array(links, np.int32).reshape(-1, 2), np.array(depths, np.uint8)


def _rims(
    base: NDArray[np.int32], borders: tuple[NDArray[np.intp], NDArray[np.intp]], n: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Find the pairs of holes (n and above) and parts that touch, and the open parts."""
    here, there = base.ravel()[borders[0]], base.ravel()[borders[1]]
    is_open = np.zeros(n, bool)
    is_open[here[there == 0]] = True
    is_open[there[here == 0]] = True
    rims = [np.column_stack(pair)[pair[0] >= n] for pair in ((here, there), (there, here))]
    return np.unique(np.concatenate(rims), axis=0), is_open
