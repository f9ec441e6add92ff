"""Segment the one cell at a point of an image: click to segment, from Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.normalize import percentile_limits
from napari_unet_cells.core.planes import Plane, planes_of
from napari_unet_cells.core.predict import Network
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import MAX_DIAMETER, ModelCard
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, find_model
from napari_unet_cells.segmentation.cell_diameter import (
    as_tuned,
    diameters_of,
    estimate_diameter,
)
from napari_unet_cells.segmentation.click import find_cell
from napari_unet_cells.segmentation.segment import check_channels

#: Cells of the labels from which the typical diameter is known.
FEWEST_CELLS = 3

#: Pixels that the network sees; where nothing tells how wide the cells are.
USUAL_DIAMETER = 25.0


def segment_at(
    image: ArrayLike,
    point: tuple[float, float],
    *,
    labels: ArrayLike | None = None,
    model: str | Path = DEFAULT_MODEL,
    diameter: float | None = None,
    runtime: str = "",
) -> NDArray[np.bool_]:
    """Segment the cell at a point.

    Parameters
    ----------
    image : array, (y, x) grey or (y, x, 3) RGB or (y, x, 4) RGBA, any real dtype
        Numpy, dask or zarr; NaN counts as dark.
    point : (y, x)
        In pixels, whose middles are whole numbers: about the middle of the cell.
    labels : integer array, (y, x), optional
        Cells that are there already. They are never painted over, but for the one at the point:
        that one is taken to be wrong, and the result is what should be there instead.
    model : str or Path
        Name of an installed model of cells, or a `.keras` file with its card beside it.
    diameter : float, optional
        How wide a typical cell is, in pixels. By default that of the labels, else of the model,
        else estimated from the image, which takes longer than the click itself.
    runtime : str, optional
        As for `segment`.

    Returns
    -------
    bool array, (y, x)
        The cell, in one piece that holds the point; False everywhere where none was found.

    Raises
    ------
    UserError
        Where image, point, labels or model cannot be used; the sentence says why.

    Examples
    --------
    >>> from napari_unet_cells import segment_at
    >>> from napari_unet_cells.sample_data import simulate_nuclei
    >>> image, truth = simulate_nuclei((256, 256), seed=1)
    >>> y, x = map(int, np.argwhere(truth == 5).mean(axis=0))
    >>> segment_at(image, (y, x), diameter=20).shape
    (256, 256)
    """
    planes = planes_of(image)
    plane = planes.plane(())
    shape = (plane.shape[0], plane.shape[1])
    card = find_model(model)
    if not card.makes_cells:
        raise UserError(
            f"The model {card.name} makes classes and no cells, so it cannot find a single one. "
            "Choose a model with the classes cell and boundary."
        )
    check_channels(planes, card)
    at = _checked_point(point, shape)
    there = None if labels is None else _checked_labels(labels, shape)
    network = open_network(card, runtime)
    wide = _diameter(plane, network, card, there, diameter)
    return find_cell(plane, at, network, card, wide, labels=there).in_plane(shape)


def typical_diameter(
    plane: ImageArray, network: Network, card: ModelCard, labels: NDArray[Any] | None = None
) -> float:
    """Tell how wide a typical cell is: by the labels, else by the model, else by the image.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, c)
    network : Network
        Of `card`.
    card : ModelCard
    labels : integer array, (y, x), optional

    Returns
    -------
    float
        Pixels, above 0.
    """
    if labels is not None:
        diameters = diameters_of(labels)
        if len(diameters) >= FEWEST_CELLS:
            return float(np.median(diameters))
    if card.typical_diameter > 0:
        return card.typical_diameter
    limits = percentile_limits(plane)
    if limits is None:
        return USUAL_DIAMETER
    window, tuned = card.diameter_window, card.tuned_diameter
    estimate = estimate_diameter(plane, network, limits, card.instances, window, tuned)
    return as_tuned(estimate, tuned).diameter or USUAL_DIAMETER


def _diameter(
    plane: Plane,
    network: Network,
    card: ModelCard,
    labels: NDArray[Any] | None,
    given: float | None,
) -> float:
    if given is None:
        return typical_diameter(plane, network, card, labels)
    if not 1 <= given <= MAX_DIAMETER:
        raise UserError(
            f"The diameter {given} is none of a cell: it must lie between 1 and {MAX_DIAMETER} "
            "pixels."
        )
    return float(given)


def _checked_point(point: Any, shape: tuple[int, int]) -> tuple[float, float]:
    try:
        y, x = (float(value) for value in point)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The point {point} is not a row and a column, such as (120, 85)."
        ) from error
    inside = all(
        math.isfinite(value) and -0.5 <= value <= size - 0.5
        for value, size in zip((y, x), shape, strict=True)
    )
    if not inside:
        raise UserError(
            f"The point ({y:g}, {x:g}) lies outside of the image, which has {shape[0]} rows and "
            f"{shape[1]} columns. A point is (row, column), counted from 0."
        )
    return y, x


def _checked_labels(labels: ArrayLike, shape: tuple[int, int]) -> NDArray[Any]:
    there = np.asarray(labels)
    if there.shape != shape:
        raise UserError(
            f"The labels have the shape {there.shape} and the image {shape}. Give the labels of "
            "this image."
        )
    if there.dtype.kind == "b":
        return there.view(np.uint8)
    if there.dtype.kind not in "ui" or there.min(initial=0) < 0:
        raise UserError(
            f"The labels are {there.dtype}, and one whole number a cell is needed, 0 for "
            "background. Convert them first, for example with labels.astype(int)."
        )
    return there
