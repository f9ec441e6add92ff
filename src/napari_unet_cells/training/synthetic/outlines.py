"""Outlines of simulated cells as polygons, and the label image that they are drawn into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw
from skimage.measure import label as components_of

from napari_unet_cells.training.synthetic.fields import edges_of

Points = NDArray[np.float64]
"""Corners (n, 2) as y, x in pixels."""

#: A cell that is covered by others keeps at least this part of its area, or is left out.
LEAST_VISIBLE = 0.62

#: A cell that the border cuts keeps at least this part of its area, or is left out.
LEAST_INSIDE = 0.12


@dataclass(frozen=True)
class Outline:
    """One cell: polygons whose union it is, and how it stands.

    Attributes
    ----------
    polygons : tuple of arrays (n, 2)
    raised : bool
        Rounded up, as a cell that divides or dies, among flat ones.
    """

    polygons: tuple[Points, ...]
    raised: bool = False


def moved(outlines: Sequence[Outline], move: Callable[[Points], Points]) -> list[Outline]:
    """Move all corners of outlines, at once because there are many."""
    polygons = [polygon for outline in outlines for polygon in outline.polygons]
    if not polygons:
        return []
    corners = move(np.concatenate(polygons))
    ends = np.cumsum([len(polygon) for polygon in polygons])
    parts = iter(np.split(corners, ends[:-1]))
    return [Outline(tuple(next(parts) for _ in one.polygons), one.raised) for one in outlines]


def stars(
    rng: np.random.Generator,
    radii: Points,
    wobble: float,
    elongations: Points | float = 1.0,
    angles: Points | float = 0.0,
    corners: int = 28,
) -> Points:
    """Draw ellipses whose radius wobbles: ``r(a) = radius (1 + sum c_k cos(k a + p_k))``.

    Parameters
    ----------
    rng : Generator
    radii : array (n,)
        Of discs of the same area.
    wobble : float
        Standard deviation of c_2; those of higher orders fall with 1 / (k - 1).
    elongations : array (n,) or float
        Length by width.
    angles : array (n,) or float
        Of the long axis from x.
    corners : int

    Returns
    -------
    float array, (n, corners, 2)
        Around (0, 0).
    """
    n = len(radii)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    orders = np.arange(2, 7)
    heights = rng.normal(0, wobble, (n, 5)) / (orders - 1)
    phases = rng.uniform(0, 2 * np.pi, (n, 5))
    # cos(k a + p) = cos(k a) cos(p) - sin(k a) sin(p): two products of matrices.
    waves = (heights * np.cos(phases)) @ np.cos(orders[:, None] * angle)
    waves -= (heights * np.sin(phases)) @ np.sin(orders[:, None] * angle)
    r = np.asarray(radii)[:, None] * np.maximum(1 + waves, 0.35)
    ellipses = np.stack([r * np.sin(angle), r * np.cos(angle)], axis=2)
    return turned(stretched(ellipses, elongations), angles)


def star(rng: np.random.Generator, radius: float, wobble: float, corners: int = 28) -> Points:
    """Draw one circle whose radius wobbles, see `stars`."""
    (outline,) = stars(rng, np.array([radius]), wobble, corners=corners)
    return np.asarray(outline)


def turned(points: Points, angle: Points | float) -> Points:
    """Turn corners (..., n, 2) around (0, 0); an angle for all, or one (m,) for each polygon."""
    c, s = (f(angle)[..., None] if np.ndim(angle) else f(angle) for f in (np.cos, np.sin))
    y, x = points[..., 0], points[..., 1]
    return np.stack([y * c + x * s, x * c - y * s], axis=-1)


def stretched(points: Points, elongation: Points | float) -> Points:
    """Make corners (..., n, 2) longer along x and narrower along y; the area stays."""
    root = np.sqrt(np.asarray(elongation, float))[..., None]
    return np.stack([points[..., 0] / root, points[..., 1] * root], axis=-1)


def rounded(polygons: Sequence[Points], times: int = 2) -> list[Points]:
    """Cut the corners of polygons (Chaikin 1974), each time to a quarter of their edges."""
    if not polygons:
        return []
    corners, lengths = np.concatenate(polygons), np.array([len(one) for one in polygons])
    for _ in range(times):
        following = corners[_following(lengths)]
        cut = np.stack([0.75 * corners + 0.25 * following, 0.25 * corners + 0.75 * following], 1)
        corners, lengths = cut.reshape(-1, 2), 2 * lengths
    return np.split(corners, np.cumsum(lengths)[:-1])


def _following(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell for each corner of polygons, one after the other, which one follows."""
    ends = np.cumsum(lengths)
    following = np.arange(1, ends[-1] + 1)
    following[ends - 1] = ends - lengths
    return following


def _areas(outlines: Sequence[Outline]) -> Points:
    """Areas of the polygons of each outline together, by the shoelace formula; 0 comes first."""
    polygons = [polygon for outline in outlines for polygon in outline.polygons]
    areas = np.zeros(len(outlines) + 1)
    if polygons:
        lengths = np.array([len(polygon) for polygon in polygons])
        starts = np.cumsum(lengths) - lengths
        y, x = np.concatenate(polygons).T
        following = _following(lengths)
        twice = np.add.reduceat(x * y[following] - y * x[following], starts)
        owner = np.repeat(np.arange(1, len(areas)), [len(one.polygons) for one in outlines])
        np.add.at(areas, owner, abs(twice) / 2)
    return areas


def draw(
    outlines: Sequence[Outline], side: int, margin: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Draw outlines into a label image; later ones lie on top of earlier ones.

    Left out are cells of which too little is seen, and fragments that others cut off, so
    that each number is one connected cell that a person would outline.

    Parameters
    ----------
    outlines : sequence of Outline
        In pixels of the image; what lies in the margin around it is drawn first and cut then.
    side : int
        Of the image in pixels.
    margin : int

    Returns
    -------
    labels : int32 array, (side, side)
        0 is background, 1, 2, ... the cells without gaps.
    raised : bool array, (cells + 1,)
        By label.
    """
    n = len(outlines) + 1
    labels = filled(moved(outlines, lambda points: points + margin), side + 2 * margin)
    seen = np.bincount(labels.ravel(), minlength=n)
    hidden = _hidden(labels, seen, _areas(outlines))
    image = _without(labels[margin : margin + side, margin : margin + side], hidden)
    _keep_largest_parts(image, n)
    inside = np.bincount(image.ravel(), minlength=n)
    dropped = (inside < LEAST_INSIDE * seen) | ~_has_a_middle(image, n)
    kept = np.flatnonzero((inside > 0) & ~dropped)
    kept = kept[kept > 0]
    numbers = np.zeros(n, np.int32)
    numbers[kept] = np.arange(1, kept.size + 1)
    raised = np.array([False, *(outlines[i - 1].raised for i in kept.tolist())])
    return numbers.take(image), raised


def filled(outlines: Sequence[Outline], side: int) -> NDArray[np.int32]:
    """Fill outlines with 1, 2, ..., later ones over earlier ones.

    Pillow fills each pixel that the outline crosses: half a pixel more all around.
    """
    picture = PILImage.new("I", (side, side))
    pen = ImageDraw.Draw(picture)
    polygons = [polygon for outline in outlines for polygon in outline.polygons]
    numbers = np.repeat(np.arange(1, len(outlines) + 1), [len(one.polygons) for one in outlines])
    if polygons:
        # One list for all: to make a list of each polygon takes longer than to fill it.
        corners = np.concatenate(polygons)[:, ::-1].ravel().tolist()
        ends = np.cumsum([2 * len(polygon) for polygon in polygons]).tolist()
        for start, end, number in zip([0, *ends], ends, numbers.tolist(), strict=False):
            pen.polygon(corners[start:end], fill=number)
    return np.array(picture, np.int32)


def _hidden(labels: NDArray[np.int32], seen: NDArray[np.int64], areas: Points) -> NDArray[np.bool_]:
    """Tell which cells are covered by others; those at the rim may go on outside."""
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    hidden: NDArray[np.bool_] = seen < LEAST_VISIBLE * areas
    hidden[rim] = False
    return hidden


def _without(labels: NDArray[np.int32], those: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Make background of cells."""
    numbers = np.where(those, 0, np.arange(those.size)).astype(np.int32)
    return numbers.take(labels)


def _keep_largest_parts(labels: NDArray[np.int32], n: int) -> None:
    """Make background of all but the largest connected part of each cell."""
    parts, count = components_of(labels, background=0, connectivity=1, return_num=True)
    if count == np.count_nonzero(np.bincount(labels.ravel(), minlength=n)[1:]):
        return
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    owner = np.zeros(sizes.size, np.int64)
    owner[parts.ravel()] = labels.ravel()
    order = np.lexsort((sizes, owner))  # of each cell the largest part comes last
    last = np.append(owner[order][1:] != owner[order][:-1], True)
    smaller = np.ones(sizes.size, bool)
    smaller[order[last]] = False
    labels[smaller[parts]] = 0


def _has_a_middle(labels: NDArray[np.int32], n: int) -> NDArray[np.bool_]:
    """Tell which cells hold a cross of 5 pixels: slivers along the border hold none."""
    middle = (labels > 0) & ~edges_of(np.pad(labels, 1))[1:-1, 1:-1]
    holding = np.zeros(n, bool)
    holding[labels[middle]] = True
    return holding
