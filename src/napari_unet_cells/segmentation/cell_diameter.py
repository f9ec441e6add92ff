"""Estimate the cell diameter of an image, and the zoom at which a network should see it.

The network judges small views of the image at several zooms. What it takes for cells votes for a
diameter, in pixels of the image. At a right zoom many cells of a familiar size vote for one
diameter, and so do they at the zooms beside it; pieces of cells and clumps of them vote for another
one at each zoom, and with less confidence::

    vote = trust * area * max(0, confidence - 0.45)^2 * familiar * good / all * n / (n + 8)

    confidence  mean over the cell of the largest class probability
    familiar    1 where the cell, as it is seen, is about as wide as those that the network learned
                from, falling to 0 where it is much smaller or larger; 0 where it reaches from one
                side of the view to the other
    good, all   sums of  area * max(0, ...)^2  over the cells of the view, with `familiar` and
                without
    n           how many cells share the votes of the view: one alone is often a clump or dirt
    trust       prior of a zoom: lower for extreme ones, which are rarely needed

The votes are smoothed along the logarithm of the diameter. The estimate is the median over the
cells that are seen about there, at the two zooms that are nearest to the one for that diameter;
where the image is larger than one view, at a second place too. Powers and limits were chosen on
training images at half of, once and twice their size, and on simulated ones.

Two zooms are looked at first. Where the cells that are found are familiar and as wide at both zooms
that suit them best, and neither of these is smaller than the first ones, the others would change
nothing, and are left out. Larger cells may look like many small ones where they fill the view.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.instances import InstanceOptions, label_cells
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.predict import Network
from napari_unet_cells.segmentation.views import SIDE, BusyMap, View, see

#: Zooms and their trust, for a network that learned from cells of `USUAL_WINDOW`; one that is not
#: looked at unless it is needed has none.
ZOOMS = {0.125: 0.5, 0.25: 0.8, 0.5: 1.0, 1.0: 1.0, 2.0: 0.7, 4.0: 0.0}

#: Of these, those that are looked at first, and where all is clear alone.
FIRST = (0.5, 1.0)

#: Pixels wide; of `ModelCard.diameter_window`, where the model says nothing else.
USUAL_WINDOW = (18.0, 36.0)

#: A view with a shorter side is skipped: it holds too few cells.
SMALLEST_VIEW = 24

#: Views of each of the two zooms that the median is taken at.
LAST_VIEWS = 2

LEAST_CONFIDENCE = 0.45

#: Cells are familiar from the window's lower limit divided by the first to its upper one times the
#: second; half an octave outside they are strange.
STRANGE = (1.5, 1.4)

#: Cells of a view that halve the part of the votes it loses for having few.
FEW = 8.0

#: The zoom for a diameter makes it at least this many times the lower limit of the window.
ABOVE = 1.2

#: Octaves: step along the diameters, width of the smoothing, and those on both sides of the highest
#: votes within which cells count in the median.
STEP, WIDTH, NEAR = 0.125, 0.45, 2.0

#: Diameters in pixels of the image that can be voted for.
SMALLEST, LARGEST = 1.0, 8192.0

#: Rows between views whose cells are separated together.
GAP = 4

#: Weight in the median of a cell that the border of a view cuts.
CUT = 0.8

#: Two diameters further apart than this factor are not the same cells; where the lesser one has
#: this part of the votes of the other, nobody knows which it is. Fewer votes than the last number
#: are next to none: of simulated images with so few every sixth is wrong by more than that factor;
#: of real ones one in thirty has so few, and none was wrong.
APART, ALIKE, SCANT = 2.5, 0.3, 3e-4

#: An image is like the last one where its cells are as wide to within this factor, most of what is
#: found there is familiar, and there are so many.
LIKE, MOSTLY, ENOUGH = 1.2, 0.7, 8

#: Cells are taken to be as wide as those that a network was tuned on where they differ by no more
#: than this factor: as far as it learned to see them at other scales (`tuning.ZOOMS`).
TUNED = 1.4

#: The first zooms leave no doubt where this much of what is found is familiar.
CLEAR = 0.85

#: Maximum zoom; it makes 20 pixels of 5.
LARGEST_ZOOM = 4.0


@dataclass(frozen=True)
class Estimate:
    """Width of the cells of an image, and whether it is a guess.

    Attributes
    ----------
    diameter : float
        Median in pixels of the image; 0 where no cell was found.
    unsure : bool
        There is little to go by, or another diameter is nearly as likely.
    other : float
        That other one, in pixels; 0 where there is none.
    confirmed : float
        The likely diameter, in pixels, that was confirmed, so that nothing else was looked at;
        0 where there was none.
    """

    diameter: float = 0.0
    unsure: bool = False
    other: float = 0.0
    confirmed: float = 0.0


def diameters_of(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Diameter in pixels of a disc of the same area, for every cell of a label image."""
    areas = np.bincount(labels.ravel())[1:]
    diameters: NDArray[np.float64] = np.sqrt(areas[areas > 0] * (4 / np.pi))
    return diameters


def zoom_for(diameter: float, window: tuple[float, float]) -> float:
    """Zoom that brings the median cell diameter into a model's range.

    Parameters
    ----------
    diameter : float
        Pixels; 0 where it is not known.
    window : (float, float)
        Of `ModelCard.diameter_window`, in pixels; (0, 0) where the model has none.

    Returns
    -------
    float
        1 within the range, and where the change would be less than 10 %.
    """
    if diameter <= 0 or window[1] <= 0:
        return 1.0
    zoom = min(max(diameter, window[0]), window[1]) / diameter
    return 1.0 if 0.9 < zoom < 1.1 else min(zoom, LARGEST_ZOOM)


def estimate_diameter(
    plane: ImageArray,
    network: Network,
    limits: Limits,
    options: InstanceOptions,
    window: tuple[float, float] = USUAL_WINDOW,
    likely: float = 0.0,
) -> Estimate:
    """Estimate the median diameter of the cells of a plane.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, c)
        Only views of it are read, and a point here and there; it may be lazy.
    network : Network
        With the classes cell and boundary.
    limits : Limits
        Of the whole plane.
    options : InstanceOptions
        Of the network.
    window : (float, float)
        Of `ModelCard.diameter_window`.
    likely : float
        Pixels; of a similar image. Where the cells of this one are about as wide nothing
        else is looked at. 0 where nothing is known.

    Returns
    -------
    Estimate
    """
    look = _Looking.at(plane, network, limits, options, window)
    if likely > 0:
        found = look.closely(np.log2(likely))
        if _confirms(found, likely):
            return Estimate(_median(found, np.log2(likely)), confirmed=likely)
    settled = look.at_first()
    if settled > 0:
        return Estimate(settled)
    votes = look.votes(zoom for zoom, trust in look.trust.items() if trust)
    if not votes.any():
        return Estimate()
    best = _DIAMETERS[votes.argmax()]
    diameter = _median(look.closely(best), best) or float(2**best)
    other = _other(votes)
    return Estimate(diameter, other > 0 or bool(votes.max() < SCANT), other)


def as_tuned(estimate: Estimate, tuned: float) -> Estimate:
    """Take the width of the cells that a network was tuned on where the estimate is about that.

    At their scale it learned what these images look like, down to the blur of the zoom, and an
    estimate strays more than cells of one experiment do.

    Parameters
    ----------
    estimate : Estimate
    tuned : float
        Of `ModelCard.tuned_diameter`, in pixels; 0 where there is none.

    Returns
    -------
    Estimate
    """
    if tuned <= 0 or not 1 / TUNED < estimate.diameter / tuned < TUNED:
        return estimate
    return replace(estimate, diameter=tuned)


#: Logarithms to base 2 of the diameters that are voted for.
_DIAMETERS = np.arange(np.log2(SMALLEST), np.log2(LARGEST), STEP)


@dataclass(frozen=True)
class _Cells:
    """What was found in one view; arrays with an entry for each cell.

    Attributes
    ----------
    diameters : float array
        Logarithms to base 2 of pixels of the plane.
    weights : float array
        Part of the view times confidence.
    familiar : float array
        0 to 1, see above.
    cut : bool array
        The border of the view cuts the cell.
    zoom : float
    """

    diameters: NDArray[np.float64]
    weights: NDArray[np.float64]
    familiar: NDArray[np.float64]
    cut: NDArray[np.bool_]
    zoom: float


@dataclass
class _Looking:
    """One network and one plane, of which it sees views; the CPU goes on after full memory.

    Attributes
    ----------
    first : list of float
        Zooms that are looked at before all others.
    seen : dict
        What was found, by zoom and number of the view.
    """

    plane: ImageArray
    network: Network
    limits: Limits
    options: InstanceOptions
    window: tuple[float, float]
    busy: BusyMap
    trust: dict[float, float]
    first: list[float]
    seen: dict[tuple[float, int], _Cells] = field(default_factory=dict)

    @classmethod
    def at(
        cls,
        plane: ImageArray,
        network: Network,
        limits: Limits,
        options: InstanceOptions,
        window: tuple[float, float],
    ) -> _Looking:
        if not 0 < window[0] <= window[1]:
            window = USUAL_WINDOW
        unit = float(np.sqrt(np.prod(window) / np.prod(USUAL_WINDOW)))
        trust = {zoom * unit: part for zoom, part in ZOOMS.items()}
        options = replace(options, merge=None)  # learned at the right zoom, which is not known yet
        first = [zoom * unit for zoom in FIRST]
        return cls(plane, network, limits, options, window, BusyMap.of(plane, limits), trust, first)

    def at_zooms(self, zooms: Iterable[float], number: int = 1) -> list[_Cells]:
        """Look at views of some zooms, so many of each; at none of them twice."""
        views = {
            (zoom, n): view
            for zoom in zooms
            for n, view in enumerate(self.busy.views(zoom, number))
            if min(view.scaled) >= SMALLEST_VIEW
        }
        new = {id(view): key for key, view in views.items() if key not in self.seen}
        asked = [views[key] for key in new.values()]
        seen, self.network = see(self.plane, self.limits, self.network, asked)
        labels = _labels_of([probabilities for _, probabilities in seen], self.options)
        for (view, probabilities), found in zip(seen, labels, strict=True):  # in another order
            self.seen[new[id(view)]] = self._found(view, probabilities, found)
        return [self.seen[key] for key in views]

    def votes(self, zooms: Iterable[float]) -> NDArray[np.float64]:
        """Give the votes of some zooms."""
        return _votes((cells, self.trust[cells.zoom]) for cells in self.at_zooms(zooms))

    def at_first(self) -> float:
        """Give the diameter where the first zooms leave no doubt, else 0.

        A plane so small that its views share tiles is seen at all zooms at once: nothing is saved.
        """
        if max(self.plane.shape[:2]) * min(self.first) <= SIDE // 2:
            return 0.0
        votes = self.votes(self.first)
        best = _DIAMETERS[votes.argmax()]
        if not votes.any() or min(self._suiting(best)) < min(self.first):
            return 0.0
        found = self.closely(best)
        return _median(found, best) if _confirms(found, float(2**best), CLEAR) else 0.0

    def closely(self, diameter: float) -> list[tuple[_Cells, float]]:
        """Look at the two zooms that suit a diameter best; give cells with their weight.

        Parameters
        ----------
        diameter : float
            Logarithm to base 2 of pixels.
        """
        away = self._suiting(diameter)
        found = self.at_zooms(away, LAST_VIEWS)
        # Beyond the extreme zooms the nearest one has all the weight.
        return [(cells, max(1 - away[cells.zoom], 0.01)) for cells in found]

    def _suiting(self, diameter: float) -> dict[float, float]:
        """Give the two zooms that suit a diameter best, and how many octaves each is off."""
        low, high = np.log2(self.window[0] * ABOVE), np.log2(self.window[1])
        best = np.clip(diameter, min(low, high), high) - diameter
        away = {zoom: abs(float(np.log2(zoom) - best)) for zoom in self.trust}
        return dict(sorted(away.items(), key=lambda one: one[1])[:2])

    def _found(
        self, view: View, probabilities: NDArray[np.uint8], labels: NDArray[np.integer]
    ) -> _Cells:
        n = int(labels.max())
        cell, boundary = probabilities[:2].astype(np.int16)
        sureness = np.maximum(np.maximum(cell, boundary), 255 - cell - boundary)
        areas = np.bincount(labels.ravel(), minlength=n + 1)[1:]
        sums = np.bincount(labels.ravel(), sureness.ravel(), minlength=n + 1)[1:]
        confidence = np.maximum(sums / np.maximum(areas, 1) / 255 - LEAST_CONFIDENCE, 0)
        diameters = np.log2(np.maximum(areas, 1) * (4 / np.pi)) / 2
        cut, spanning = _at_border(labels, n)
        return _Cells(
            diameters - np.log2(view.zoom),
            confidence**2 * areas / labels.size,
            self._familiar(diameters) * ~spanning,
            cut,
            view.zoom,
        )

    def _familiar(self, diameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 within the sizes that the network knows, 0 half an octave outside of them."""
        low, high = (
            np.log2(self.window[0] / STRANGE[0]),
            np.log2(self.window[1] * STRANGE[1]),
        )
        outside = np.maximum(np.maximum(low - diameters, diameters - high), 0)
        familiar: NDArray[np.float64] = np.clip(1 - 2 * outside, 0, 1)
        return familiar


def _labels_of(
    views: Sequence[NDArray[np.uint8]], options: InstanceOptions
) -> list[NDArray[np.int32]]:
    """Separate the cells of several views at once, one below the other: most of it is overhead."""
    if not views:
        return []
    ends = np.cumsum([view.shape[1] + GAP for view in views]).tolist()
    together = np.zeros((len(views[0]), ends[-1], max(view.shape[2] for view in views)), np.uint8)
    for view, end in zip(views, ends, strict=True):
        together[:, end - GAP - view.shape[1] : end - GAP, : view.shape[2]] = view
    labels = label_cells(together, options)
    found: list[NDArray[np.int32]] = []
    before = 0
    for view, end in zip(views, ends, strict=True):
        part = labels[end - GAP - view.shape[1] : end - GAP, : view.shape[2]].astype(np.int32)
        # Cells are numbered from top to bottom.
        part[part > 0] -= before
        before += int(part.max())
        found.append(part)
    return found


def _votes(seen: Iterable[tuple[_Cells, float]]) -> NDArray[np.float64]:
    """Votes for each of `_DIAMETERS`, smoothed."""
    votes = np.zeros(len(_DIAMETERS))
    for cells, trust in seen:
        good = cells.weights * cells.familiar
        if not good.any():
            continue
        n = good.sum() ** 2 / (good**2).sum()
        share = good.sum() / cells.weights.sum() * n / (n + FEW)
        at = np.rint((cells.diameters - _DIAMETERS[0]) / STEP).astype(int)
        np.add.at(votes, np.clip(at, 0, len(votes) - 1), trust * share * good)
    away = np.arange(-3 * WIDTH, 3 * WIDTH + STEP / 2, STEP)
    smoothed: NDArray[np.float64] = np.convolve(votes, np.exp(-((away / WIDTH) ** 2) / 2), "same")
    return smoothed


def _other(votes: NDArray[np.float64]) -> float:
    """Diameter far from that of the highest votes that has nearly as many; else 0."""
    best = int(votes.argmax())
    far = abs(_DIAMETERS - _DIAMETERS[best]) > np.log2(APART)
    peak = np.zeros(len(votes), bool)
    peak[1:-1] = (votes[1:-1] >= votes[:-2]) & (votes[1:-1] >= votes[2:])
    rivals = np.where(far & peak, votes, 0)
    if rivals.max() < ALIKE * votes[best]:
        return 0.0
    return float(2 ** _DIAMETERS[rivals.argmax()])


def _median(found: Iterable[tuple[_Cells, float]], middle: float) -> float:
    """Median diameter of the cells about as wide as `2 ** middle`; 0 where there is none."""
    parts = [
        np.stack([cells.diameters, part * np.where(cells.cut, CUT, 1.0)]) for cells, part in found
    ]
    diameters, weights = np.concatenate([np.zeros((2, 0)), *parts], axis=1)
    near = abs(diameters - middle) < NEAR
    if not near.any():
        return 0.0
    diameters, weights = diameters[near], weights[near]
    order = diameters.argsort()
    below = weights[order].cumsum()
    return float(2 ** diameters[order][np.searchsorted(below, below[-1] / 2)])


def _confirms(found: Sequence[tuple[_Cells, float]], likely: float, mostly: float = MOSTLY) -> bool:
    """Whether cells are seen to be about as wide as those of a similar image, and seen well."""
    if sum(cells.weights.size for cells, _ in found) < ENOUGH:
        return False
    good = sum(part * float((cells.weights * cells.familiar).sum()) for cells, part in found)
    if good < mostly * sum(part * float(cells.weights.sum()) for cells, part in found):
        return False
    if _votes(found).max() < SCANT * LAST_VIEWS:
        return False
    return 1 / LIKE < _median(found, np.log2(likely)) / likely < LIKE


def _at_border(labels: NDArray[np.integer], n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the cells (1 to n) that the border cuts, and those that reach across the view.

    The width of the latter is not known: zoomed out, a small image full of cells looks like one
    bright square.
    """
    cut, spanning = np.zeros(n + 1, bool), np.zeros(n + 1, bool)
    for lines in (labels, labels.T):
        cut[lines[0]] = cut[lines[-1]] = True
        spanning[np.intersect1d(lines[0], lines[-1])] = True
    return cut[1:], spanning[1:]
