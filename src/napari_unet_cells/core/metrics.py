"""Scores of a prediction against the ground truth, cell by cell and pixel by pixel.

`compare` counts one image, `summarize` turns the counts of many images into scores;
`compare_classes` and `summarize_classes` do so for class images.
Counts are summed over the images before anything is divided, so that an image with 300
cells weighs as much as 300 images with one; only the count error is a mean over images.

One truth cell ``A`` and one predicted cell ``B`` agree by their intersection over union::

    . A A A .        A: 6 pixels      |A n B| = 4
    . A x x B        B: 5 pixels      |A u B| = 6 + 5 - 4 = 7
    . . x x .        x: in both       IoU = 4 / 7 = 0.57

At a threshold ``t`` a match pairs a truth cell with a predicted cell of IoU >= t, each used
once. TP is the size of the largest such matching, FN the truth cells left over, FP the
predicted cells left over.

References
----------
.. [1] 2018 Data Science Bowl: AP = TP / (TP + FP + FN) at IoU 0.5, 0.55 ... 0.95. Caicedo
   et al., "Nucleus segmentation across imaging experiments", Nature Methods 16, 2019.
.. [2] Kirillov et al., "Panoptic segmentation", CVPR 2019: PQ and the proof that matches of
   IoU > 0.5 are unique.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from napari_unet_cells.errors import UserError

# Rounded, because 0.5 + 3 * 0.05 is 0.6500000000000001 and an IoU of 13/20 must reach 0.65:
# IEEE division gives the float nearest to 13/20, which is what the literal 0.65 is too.
THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The IoU at which cells are matched: 0.5, 0.55 ... 0.95."""


@dataclass(frozen=True)
class ImageScore:
    """The counts of one image, from which every score is a sum and one division.

    Attributes
    ----------
    n_true, n_predicted : int
        Number of cells in the truth and in the prediction.
    tp : tuple of int
        Matched cells at each of `THRESHOLDS` (IoU >= threshold).
    matched_iou : float
        Sum of the IoU of the pairs with IoU > 0.5, the numerator of PQ.
    pixels_both, pixels_true, pixels_predicted : int
        Foreground pixels (label > 0) in both, in the truth, in the prediction.
    """

    n_true: int
    n_predicted: int
    tp: tuple[int, ...]
    matched_iou: float
    pixels_both: int
    pixels_true: int
    pixels_predicted: int

    @property
    def fp(self) -> tuple[int, ...]:
        """Predicted cells without a match, at each of `THRESHOLDS`."""
        return tuple(self.n_predicted - tp for tp in self.tp)

    @property
    def fn(self) -> tuple[int, ...]:
        """Truth cells without a match, at each of `THRESHOLDS`."""
        return tuple(self.n_true - tp for tp in self.tp)

    @property
    def pixels_either(self) -> int:
        """Foreground pixels of the union."""
        return self.pixels_true + self.pixels_predicted - self.pixels_both


@dataclass(frozen=True)
class Summary:
    """The scores of a set of images. All but `count_error` lie in 0 ... 1, higher is better.

    A ratio of 0/0 (no cell in any truth, none in any prediction) is 1: nothing was to be
    found and nothing was found.

    Attributes
    ----------
    ap : tuple of float
        TP / (TP + FP + FN) at each of `THRESHOLDS`, counts summed over the images [1]_.
    pq : float
        Panoptic quality [2]_: segmentation quality (mean IoU of the matches of IoU > 0.5)
        times recognition quality (their F1) =
        ``sum of IoU / (TP + FP / 2 + FN / 2) = 2 * sum of IoU / (n_true + n_predicted)``.
    iou, dice : float
        Foreground (label > 0) against background, pixels summed over the images:
        ``both / either`` and ``2 * both / (true + predicted)``.
    count_error : float
        Mean over the images of ``|n_predicted - n_true| / max(n_true, 1)``; 0 is best, no
        upper limit. In an image without cells every predicted cell counts as 1.
    n_images, n_true, n_predicted : int
        Images scored, cells in their truths, cells in their predictions.
    """

    ap: tuple[float, ...]
    pq: float
    iou: float
    dice: float
    count_error: float
    n_images: int
    n_true: int
    n_predicted: int

    @property
    def ap50(self) -> float:
        """AP at IoU 0.5."""
        return self.ap[THRESHOLDS.index(0.5)]

    @property
    def ap75(self) -> float:
        """AP at IoU 0.75."""
        return self.ap[THRESHOLDS.index(0.75)]

    @property
    def mean_ap(self) -> float:
        """Mean of the AP over `THRESHOLDS`."""
        return sum(self.ap) / len(self.ap)

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as numbers and one mapping, ready for `json.dump`.

        Returns
        -------
        dict
            Keys ``n_images, n_true, n_predicted, ap50, ap75, mean_ap, pq, iou, dice,
            count_error`` and ``ap``, a mapping from "0.50" ... "0.95" to the AP there.
        """
        return {
            "n_images": self.n_images,
            "n_true": self.n_true,
            "n_predicted": self.n_predicted,
            "ap50": self.ap50,
            "ap75": self.ap75,
            "mean_ap": self.mean_ap,
            "pq": self.pq,
            "iou": self.iou,
            "dice": self.dice,
            "count_error": self.count_error,
            "ap": {f"{at:.2f}": value for at, value in zip(THRESHOLDS, self.ap, strict=True)},
        }

    def table(self) -> str:
        """Return the scores as lines of text, one a score."""
        rows = [
            ("images", f"{self.n_images}"),
            ("cells in the truth", f"{self.n_true}"),
            ("cells predicted", f"{self.n_predicted}"),
            ("count error", f"{self.count_error:.3f}"),
            ("foreground IoU", f"{self.iou:.3f}"),
            ("foreground Dice", f"{self.dice:.3f}"),
            ("PQ", f"{self.pq:.3f}"),
            ("mean AP 0.50:0.95", f"{self.mean_ap:.3f}"),
        ]
        rows += [
            (f"AP at IoU {at:.2f}", f"{ap:.3f}") for at, ap in zip(THRESHOLDS, self.ap, strict=True)
        ]
        return "\n".join(f"{name:<20}{value:>8}" for name, value in rows)

    def __str__(self) -> str:
        """Return `table`."""
        return self.table()


def compare(truth: ArrayLike, prediction: ArrayLike | None) -> ImageScore:
    """Match the cells of a prediction with those of the truth and count.

    Parameters
    ----------
    truth : array of int, any shape
        One id per cell, 0 is background; ids need not be consecutive.
    prediction : array of int, shape of `truth`, or None
        The same for the prediction, with ids of its own. None is a prediction that is
        missing: every cell of the truth is a miss.

    Returns
    -------
    ImageScore
        The counts at each of `THRESHOLDS`.

    Raises
    ------
    UserError
        If the shapes differ, or an array is not of integers or holds a negative one.

    Notes
    -----
    A match needs IoU >= threshold. Above 0.5 no cell can have two partners [2]_; at exactly
    0.5 it can (a cell cut into two halves), so the largest matching is looked for. PQ takes
    IoU > 0.5, as its paper does.
    """
    true_labels = _as_labels(truth, "ground truth")
    if prediction is None:
        predicted_labels = np.zeros_like(true_labels)
    else:
        predicted_labels = _as_labels(prediction, "prediction")
    if true_labels.shape != predicted_labels.shape:
        raise UserError(_other_shape(predicted_labels, true_labels))
    overlaps = _count_overlaps(true_labels, predicted_labels)
    iou = overlaps.iou()
    return ImageScore(
        n_true=len(overlaps.true_areas),
        n_predicted=len(overlaps.predicted_areas),
        tp=tuple(_largest_matching(overlaps, iou >= threshold) for threshold in THRESHOLDS),
        matched_iou=float(iou[iou > 0.5].sum()),
        pixels_both=int(overlaps.pixels.sum()),
        pixels_true=int(overlaps.true_areas.sum()),
        pixels_predicted=int(overlaps.predicted_areas.sum()),
    )


def summarize(scores: Iterable[ImageScore]) -> Summary:
    """Sum the counts of the images and divide once.

    Parameters
    ----------
    scores : iterable of ImageScore
        One a scored image; images with an empty truth belong to it.

    Returns
    -------
    Summary
        The scores of the set.

    Raises
    ------
    UserError
        If there is no image at all.
    """
    images = tuple(scores)
    if not images:
        raise UserError("There is nothing to summarize: no image was scored.")
    n_true = sum(image.n_true for image in images)
    n_predicted = sum(image.n_predicted for image in images)
    tp_by_threshold = [sum(tps) for tps in zip(*(image.tp for image in images), strict=True)]
    both = sum(image.pixels_both for image in images)
    either = sum(image.pixels_either for image in images)
    errors = [abs(image.n_predicted - image.n_true) / max(image.n_true, 1) for image in images]
    return Summary(
        # TP + FP + FN: every cell once, but the matched ones stand in both images.
        ap=tuple(_ratio(tp, n_true + n_predicted - tp) for tp in tp_by_threshold),
        pq=_ratio(2 * sum(image.matched_iou for image in images), n_true + n_predicted),
        iou=_ratio(both, either),
        dice=_ratio(2 * both, both + either),
        count_error=sum(errors) / len(images),
        n_images=len(images),
        n_true=n_true,
        n_predicted=n_predicted,
    )


def found_cells(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.bool_]:
    """Tell which cells of the truth have a partner of IoU >= 0.5.

    Parameters
    ----------
    truth, prediction : arrays of int of the same shape
        As `compare` takes them.

    Returns
    -------
    bool array, (n cells of the truth,)
        In the order of their ids.
    """
    overlaps = _count_overlaps(
        _as_labels(truth, "ground truth"), _as_labels(prediction, "prediction")
    )
    found = np.zeros(len(overlaps.true_areas), bool)
    found[overlaps.rows[overlaps.iou() >= 0.5]] = True
    return found


@dataclass(frozen=True)
class ClassScore:
    """The pixel counts of one class image.

    Attributes
    ----------
    classes : tuple of str
        Names of the values 0, 1, 2, ...
    both, true, predicted : tuple of int
        Pixels of each class in both images, in the truth, in the prediction.
    """

    classes: tuple[str, ...]
    both: tuple[int, ...]
    true: tuple[int, ...]
    predicted: tuple[int, ...]


@dataclass(frozen=True)
class ClassSummary:
    """The scores of a set of class images, 0 ... 1, higher is better.

    Attributes
    ----------
    iou : mapping of str to (float or None)
        By class, pixels summed over the images: ``both / (true + predicted - both)``. None
        for a class of which there is no pixel, neither in a truth nor in a prediction.
    accuracy : float
        Part of the pixels with the right class.
    n_images : int
    """

    iou: Mapping[str, float | None]
    accuracy: float
    n_images: int

    @property
    def mean_iou(self) -> float:
        """Mean of the IoU over the classes that occur."""
        known = [iou for iou in self.iou.values() if iou is not None]
        return sum(known) / len(known)

    def as_dict(self) -> dict[str, Any]:
        """Return the scores ready for `json.dump`.

        Returns
        -------
        dict
            Keys ``n_images, mean_iou, accuracy`` and ``iou``, by name of the class.
        """
        return {
            "n_images": self.n_images,
            "mean_iou": self.mean_iou,
            "accuracy": self.accuracy,
            "iou": dict(self.iou),
        }

    def table(self) -> str:
        """Return the scores as lines of text, one a score."""
        rows = [
            ("images", f"{self.n_images}"),
            ("pixel accuracy", f"{self.accuracy:.3f}"),
            ("mean IoU", f"{self.mean_iou:.3f}"),
        ]
        for name, iou in self.iou.items():
            rows.append((f"IoU of {name}", "none" if iou is None else f"{iou:.3f}"))
        width = max(20, *(len(name) for name, _ in rows))
        return "\n".join(f"{name:<{width}}{value:>8}" for name, value in rows)

    def __str__(self) -> str:
        """Return `table`."""
        return self.table()


def compare_classes(
    truth: ArrayLike, prediction: ArrayLike | None, classes: Sequence[str]
) -> ClassScore:
    """Count the pixels of each class.

    Parameters
    ----------
    truth : array of int, any shape
        Values 0 to ``len(classes) - 1``.
    prediction : array of int, shape of `truth`, or None
        None is a prediction that is missing: every pixel of the truth is a miss.
    classes : sequence of str
        Names of the values.

    Returns
    -------
    ClassScore

    Raises
    ------
    UserError
        If the shapes differ, or an array is not of integers, or a value has no name.
    """
    n = len(classes)
    true = _as_classes(truth, "ground truth", n)
    true_areas = np.bincount(true.ravel(), minlength=n)
    if prediction is None:
        both = predicted_areas = np.zeros(n, np.intp)
    else:
        predicted = _as_classes(prediction, "prediction", n)
        if true.shape != predicted.shape:
            raise UserError(_other_shape(predicted, true))
        predicted_areas = np.bincount(predicted.ravel(), minlength=n)
        both = np.bincount(true[true == predicted], minlength=n)
    counts = (tuple(int(count) for count in c) for c in (both, true_areas, predicted_areas))
    return ClassScore(tuple(classes), *counts)


def summarize_classes(scores: Iterable[ClassScore]) -> ClassSummary:
    """Sum the counts of class images and divide once.

    Raises
    ------
    UserError
        If there is no image at all.
    """
    images = tuple(scores)
    if not images:
        raise UserError("There is nothing to summarize: no image was scored.")
    both = np.sum([image.both for image in images], axis=0).tolist()
    areas = np.sum([(image.true, image.predicted) for image in images], axis=(0, 1)).tolist()
    iou = {
        name: n / (area - n) if area else None
        for name, n, area in zip(images[0].classes, both, areas, strict=True)
    }
    pixels = sum(sum(image.true) for image in images)
    return ClassSummary(iou, _ratio(sum(both), pixels), len(images))


@dataclass(frozen=True)
class _Overlaps:
    """The contingency table of two label images without background, as a sparse list.

    ``pixels[k]`` pixels lie in truth cell ``rows[k]`` and in predicted cell ``columns[k]``;
    the areas are those of the whole cells, by row and by column.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    pixels: NDArray[np.int64]
    true_areas: NDArray[np.int64]
    predicted_areas: NDArray[np.int64]

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair of cells that share a pixel."""
        areas = self.true_areas[self.rows] + self.predicted_areas[self.columns]
        ratio: NDArray[np.float64] = self.pixels / (areas - self.pixels)
        return ratio


def _as_labels(values: ArrayLike, name: str) -> NDArray[np.integer[Any]]:
    labels = np.asarray(values)
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"The {name} holds {labels.dtype} values; expected integers, one id per cell and"
            " 0 for the background."
        )
    if labels.size and labels.min() < 0:
        raise UserError(f"The {name} holds the negative label {labels.min()}; ids start at 1.")
    return labels


def _as_classes(values: ArrayLike, name: str, n_classes: int) -> NDArray[np.integer[Any]]:
    classes = _as_labels(values, name)
    if classes.max(initial=0) >= n_classes:
        raise UserError(
            f"The {name} holds the class {classes.max()}; there are names for 0 to {n_classes - 1}."
        )
    return classes


def _other_shape(prediction: NDArray[Any], truth: NDArray[Any]) -> str:
    return (
        f"The prediction has the shape {prediction.shape}, the ground truth {truth.shape}: they "
        "must be labels of the same image."
    )


def _count_overlaps(
    truth: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]]
) -> _Overlaps:
    """Count by runs of equal pixels: labels are patches, and a run costs as much as a pixel.

    ::

        truth       0 0 0 7 7 7 7 0
        prediction  0 0 3 3 3 0 0 0
        runs        |-2-|1|-2-|-2-|1|    (0,0) (0,3) (7,3) (7,0) (0,0)
    """
    true_pixels, predicted_pixels = truth.ravel(), prediction.ravel()
    is_start = np.ones(true_pixels.size, dtype=bool)
    is_start[1:] = true_pixels[1:] != true_pixels[:-1]
    is_start[1:] |= predicted_pixels[1:] != predicted_pixels[:-1]
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=true_pixels.size)
    rows, true_areas = _index_cells(true_pixels[starts], lengths)
    columns, predicted_areas = _index_cells(predicted_pixels[starts], lengths)
    in_both = (rows >= 0) & (columns >= 0)
    table = coo_array(
        (lengths[in_both], (rows[in_both], columns[in_both])),
        shape=(len(true_areas), len(predicted_areas)),
    )
    table.sum_duplicates()
    return _Overlaps(table.row, table.col, table.data, true_areas, predicted_areas)


def _index_cells(
    run_ids: NDArray[np.integer[Any]], lengths: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the index 0..n-1 of each run's cell, -1 for background, and the n areas."""
    ids, indices = np.unique(run_ids, return_inverse=True)
    areas = np.zeros(len(ids), dtype=np.int64)
    np.add.at(areas, indices, lengths)
    if len(ids) and ids[0] == 0:
        return indices - 1, areas[1:]
    return indices, areas


def _largest_matching(overlaps: _Overlaps, allowed: NDArray[np.bool_]) -> int:
    """Return how many pairs of `allowed` fit together, each cell used once.

    Sparse (Hopcroft-Karp): the dense matrix that `linear_sum_assignment` wants takes 8 GB
    for 30,000 cells, and where only the number of matches is asked both find the same.
    """
    if not allowed.any():
        return 0
    graph = coo_array(
        (
            np.ones(int(allowed.sum()), dtype=np.uint8),
            (overlaps.rows[allowed], overlaps.columns[allowed]),
        ),
        shape=(len(overlaps.true_areas), len(overlaps.predicted_areas)),
    )
    partners = maximum_bipartite_matching(graph.tocsr(), perm_type="column")
    return int((partners >= 0).sum())


def _ratio(numerator: float, denominator: float) -> float:
    """Divide; 0/0 is 1, because nothing was to be found and nothing was."""
    return numerator / denominator if denominator else 1.0
