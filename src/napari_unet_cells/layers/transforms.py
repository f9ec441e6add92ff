"""Transforms of layers: as arguments for new layers, as matrices and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet_cells.layers.protocols import Layer, SavedLayer

#: Attributes that place a layer in the world, and arguments of every napari layer.
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def place_of(layer: Layer, shown: Sequence[int] | None = None) -> dict[str, Any]:
    """Arguments that put labels where an image layer lies.

    Nothing is inherited by `viewer.add_labels`: without these the labels of an image with
    a scale would lie elsewhere.

    Parameters
    ----------
    layer : napari image layer
    shown : sequence of int, optional
        Where the labels are of one plane, its index along each axis of `stack_axes`. The
        labels then have a length of 1 along these axes, and are seen in this plane only.
    """
    place = {name: getattr(layer, name) for name in PLACE}
    if shown and any(shown):
        index = np.zeros(layer.ndim)
        index[: len(shown)] = shown
        moved = np.subtract(layer.data_to_world(index), layer.data_to_world(np.zeros(layer.ndim)))
        # The affine comes after the translation, so the way is taken back through it.
        linear = np.asarray(layer.affine.affine_matrix)[:-1, :-1]
        place["translate"] = np.asarray(layer.translate) + np.linalg.solve(linear, moved)
    return place


def place_of_part(
    layer: Layer,
    shown: Sequence[int],
    start: tuple[float, float],
    factors: tuple[float, float] = (1.0, 1.0),
) -> dict[str, Any]:
    """Arguments that put labels of a part of a plane, perhaps at another resolution, in its place.

    Parameters
    ----------
    layer : napari image layer
    shown : sequence of int
        Index of the plane; see `place_of`.
    start : (float, float)
        Middle of the first pixel, in rows and columns of the layer.
    factors : (float, float)
        Height and width of a pixel, in those of the layer.
    """
    place = place_of(layer)
    index = np.zeros(layer.ndim)
    index[: len(shown)] = shown
    index[-2:] = start
    moved = np.subtract(layer.data_to_world(index), layer.data_to_world(np.zeros(layer.ndim)))
    linear = np.asarray(layer.affine.affine_matrix)[:-1, :-1]
    ratio = np.ones(layer.ndim)
    ratio[-2:] = factors
    return place | {
        "scale": np.asarray(layer.scale) * ratio,
        "translate": np.asarray(layer.translate) + np.linalg.solve(linear, moved),
    }


def place_without(layer: Layer, axis: int) -> dict[str, Any]:
    """Arguments that put one channel of a layer where the layer lies.

    Parameters
    ----------
    layer : napari image layer
    axis : int
        Of the channels; the others must not be mixed with it by a rotation or shear.
    """
    kept = [i for i in range(layer.ndim) if i != axis]
    zero = np.zeros(layer.ndim)
    origin = np.asarray(layer.data_to_world(zero))
    steps = np.stack([np.subtract(layer.data_to_world(row), origin) for row in np.eye(layer.ndim)])
    linear = steps.T[np.ix_(kept, kept)]
    scale = np.asarray(layer.scale)[kept]
    place: dict[str, Any] = {
        "scale": scale,
        "units": [layer.units[i] for i in kept],
        "axis_labels": [layer.axis_labels[i] for i in kept],
    }
    if np.array_equal(linear, np.diag(scale)):
        return place | {"translate": origin[kept]}
    affine = np.eye(len(kept) + 1)
    affine[:-1, :-1] = linear / scale
    affine[:-1, -1] = origin[kept]
    return place | {"affine": affine}


def describe_transform(layer: SavedLayer) -> dict[str, Any]:
    """Describe the transform of a layer in plain values, for JSON."""
    return {
        "scale": _plain(layer.scale),
        "translate": _plain(layer.translate),
        "rotate": _plain(layer.rotate),
        "shear": _plain(layer.shear),
        "affine": _plain(layer.affine.affine_matrix),
        "units": [str(unit) for unit in layer.units],
        "axis_labels": list(layer.axis_labels),
    }


def _plain(value: ArrayLike) -> list[Any]:
    plain: list[Any] = np.asarray(value, dtype=float).tolist()
    return plain


def world_matrix(layer: Layer) -> NDArray[np.float64]:
    """Matrix (n + 1, n + 1) that takes homogeneous pixels of a layer into the world."""
    zero = np.zeros(layer.ndim)
    origin = np.asarray(layer.data_to_world(zero))
    matrix = np.eye(layer.ndim + 1)
    for axis, step in enumerate(np.eye(layer.ndim)):
        matrix[:-1, axis] = np.subtract(layer.data_to_world(step), origin)
    matrix[:-1, -1] = origin
    return matrix


def place_resized(layer: Layer, shape: tuple[int, int], step: int = 1) -> dict[str, Any]:
    """Arguments that put an image of another pixel grid over the same ground as labels.

    Parameters
    ----------
    layer : napari labels layer, (..., y, x)
    shape : (int, int)
        Height and width of the image, which covers what the labels cover.
    step : int
        Where only every second, third... row and column of the image is there: 2, 3...
    """
    ratio = np.ones(layer.ndim)
    ratio[-2:] = np.divide(layer.data.shape[-2:], shape) * step
    # Positions count from the middle of the first pixel, and the corners must meet.
    return {
        "scale": ratio,
        "translate": (ratio - 1) / 2,
        "affine": world_matrix(layer),
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }
