"""Measure cells: a table in physical units, of labels and an image.

The names and the values are those of `skimage.measure.regionprops_table`, computed for all
cells at once. An image is read once, as horizontal runs of one label::

    0 0 7 7 7 0        run: label 7, y 0, x 2 to 4, sum, minimum and maximum of the image
    0 7 7 7 0 0        run: label 7, y 1, x 1 to 3, ...

and everything in the table is a sum, a minimum or a maximum over the runs of a cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet_cells.core.arrays import ImageArray, row_blocks
from napari_unet_cells.core.convex_hull import hull_pixels
from napari_unet_cells.core.label_changes import Window
from napari_unet_cells.errors import UserError

#: Power of the unit of length in which a column is given; the others have no unit.
POWERS: Mapping[str, int] = MappingProxyType(
    {
        "area": 2,
        "centroid_y": 1,
        "centroid_x": 1,
        "bbox_y_min": 1,
        "bbox_x_min": 1,
        "bbox_y_max": 1,
        "bbox_x_max": 1,
    }
)

#: Features are one row for each id up to the largest; beyond, they would fill the memory.
MAX_FEATURES = 1_000_000

#: Pixels read at once, so that temporary arrays stay small however large the image is.
BLOCK = 2**22

#: Part of a cell whose pixels must be known for a mean of `means`.
LEAST_KNOWN = 0.5

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Table:
    """One row a cell; in a stack one row a cell and plane. Sorted by plane, then label.

    Attributes
    ----------
    columns : mapping of str to array, (rows,)
        label
            The id, never 0.
        z, t (or plane)
            Index of the plane, for stacks only; one id may stand in several planes.
        area, area_pixels
            In `unit` squared; number of pixels.
        centroid_y, centroid_x
            In `unit`; the centre of the first pixel is 0.
        bbox_y_min, bbox_x_min, bbox_y_max, bbox_x_max
            In `unit`: pixel indices, the last one exclusive, times the pixel size. So
            ``bbox_x_max - bbox_x_min`` is the width.
        eccentricity
            Of the ellipse with the same second moments, 0 (circle) to 1, true to scale.
        solidity
            Pixels of the cell divided by those of its convex hull, above 0 to 1.
        intensity_mean, intensity_min, intensity_max
            Of the image. NaN where a pixel of the cell is NaN. With several channels one
            column each, named ``intensity_mean_<channel>``.
        others
            As `measure` was told by `means`.
    pixel_size : tuple of (float, float)
        Height and width of a pixel in `unit`.
    unit : str
        Of length.
    stack : tuple of str
        Names of the columns that say the plane, outermost first; empty for one plane.
    """

    columns: Mapping[str, NDArray[Any]]
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"
    stack: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.columns["label"])


def measure(
    labels: ArrayLike,
    image: ImageArray | ArrayLike | Mapping[str, ImageArray] | None = None,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    unit: str = "pixel",
    axes: str = "",
    means: Mapping[str, ImageArray] | None = None,
) -> Table:
    """Measure every cell.

    Parameters
    ----------
    labels : integer array, (y, x) or a stack (..., y, x)
        Ids above 0 are cells, in any order and with any gaps. A stack is measured plane by
        plane.
    image : array, or mapping of channel name to array, optional
        Of the shape of the labels, or with one more axis, which holds channels. It may be
        lazy (dask, zarr): a few rows are read at a time. Channels of an array are named 1
        to n; a single channel has no name in the table.
    pixel_size : tuple of (float, float)
        Height and width of a pixel in `unit`.
    unit : str
        Of length.
    axes : str, optional
        Letters of the axes of a stack, such as "TZYX", which then name the columns of the
        plane; else the column is ``plane`` (``plane_1``, ``plane_2``, ... where there are
        more).
    means : mapping of column name to float array, optional
        Of the shape of the labels; each becomes one column of means. Pixels that are NaN are
        left out; the mean is NaN where they are more than half of the cell.

    Returns
    -------
    Table
        Without rows where there are no cells, without intensities where there is no image.

    Raises
    ------
    UserError
        Where labels or image are of the wrong kind, or their sizes differ.
    """
    array = _checked_labels(labels)
    images = _Images(_channels(image, array.shape), dict(means or {}))
    table = Table({}, _checked_size(pixel_size), unit, _stack_names(array.ndim - 2, axes))
    return replace(table, columns=_measure_planes(array, images, table, None, None))


def update(
    table: Table,
    labels: ArrayLike,
    image: ImageArray | ArrayLike | Mapping[str, ImageArray] | None,
    ids: ArrayLike,
    window: Window | None = None,
    means: Mapping[str, ImageArray] | None = None,
) -> Table:
    """Measure some cells again, after an edit.

    Parameters
    ----------
    table : Table
        Of the labels before the edit.
    labels : integer array, (y, x) or (..., y, x)
        After it.
    image : array, mapping or None
        As for `measure`, with the same channels.
    ids : integer array, (n,)
        The cells to measure; those that are gone leave the table, new ones come in. See
        `label_changes.changed_ids`.
    window : tuple of 2 slices, optional
        Rows and columns that hold all changes. Then only there and where these cells were
        is looked for them.
    means : mapping of column name to float array, optional
        As for `measure`, with the same names.

    Returns
    -------
    Table
        Equal to `measure` of the whole.
    """
    array = _checked_labels(labels)
    images = _Images(_channels(image, array.shape), dict(means or {}))
    wanted = np.unique(np.asarray(ids))
    again = np.isin(table.columns["label"], wanted)
    if window is not None:
        window = _around(window, table, again)
    new = _measure_planes(array, images, table, window, wanted)
    if new.keys() != table.columns.keys():
        raise ValueError("a table is updated with the channels it was measured with")
    merged = {name: np.concatenate([table.columns[name][~again], new[name]]) for name in new}
    order = np.lexsort([merged[name] for name in ("label", *reversed(table.stack))])
    return replace(table, columns={name: column[order] for name, column in merged.items()})


def as_features(table: Table) -> dict[str, NDArray[Any]] | None:
    """Give a table as the features of a napari labels layer.

    napari takes the row number for the id in one place and the column ``index`` in another,
    so both are the id: row 0 is the background, and ids without a cell have NaN.

    Parameters
    ----------
    table : Table

    Returns
    -------
    dict of str to array, (largest id + 1,), or None
        Float columns without `label`, which is ``index``. None where that cannot be: ids
        beyond `MAX_FEATURES`, or a stack, whose ids have several rows.
    """
    labels = table.columns["label"]
    largest = int(labels.max()) if len(table) else 0
    if largest > MAX_FEATURES or table.stack:
        return None
    features: dict[str, NDArray[Any]] = {"index": np.arange(largest + 1)}
    for name, column in table.columns.items():
        if name != "label":
            features[name] = np.full(largest + 1, np.nan)
            features[name][labels] = column
    return features


# ------------------------------------------------------------------------ what comes in


def _checked_labels(labels: ArrayLike) -> NDArray[Any]:
    array = np.asarray(labels)
    if array.dtype.kind not in "bui":
        raise UserError(
            f"The labels have the data type {array.dtype}; cells are measured in labels of "
            "whole numbers. Convert them first: right-click the layer, Convert to Labels."
        )
    if array.ndim < 2:
        raise UserError(
            f"The labels have the shape {array.shape}; a plane (y, x) or a stack of planes is "
            "measured."
        )
    return array.view(np.uint8) if array.dtype.kind == "b" else array


def _stack_names(n: int, axes: str) -> tuple[str, ...]:
    if axes:
        if len(axes) != n + 2:
            raise ValueError(f"axes {axes!r} do not describe labels of {n + 2} axes")
        return tuple(axes[:n].lower())
    return ("plane",) if n == 1 else tuple(f"plane_{index + 1}" for index in range(n))


def _channels(
    image: ImageArray | ArrayLike | Mapping[str, ImageArray] | None, shape: tuple[int, ...]
) -> dict[str, ImageArray]:
    """Give an image as suffix of its columns -> lazy array of the labels' shape."""
    if image is None:
        return {}
    if isinstance(image, Mapping):
        named = {str(name): channel for name, channel in image.items()}
    else:
        array = image if isinstance(image, ImageArray) else np.asarray(image)
        named = {"": array}
        if len(array.shape) == len(shape) + 1:
            named = {str(index + 1): array[..., index] for index in range(array.shape[-1])}
    for name, channel in named.items():
        _check_channel(name, channel, shape)
    if len(named) == 1:
        return {"": next(iter(named.values()))}
    return {f"_{'_'.join(name.split())}": channel for name, channel in named.items()}


def _check_channel(name: str, channel: ImageArray, shape: tuple[int, ...]) -> None:
    what = f"The channel {name}" if name else "The image"
    if channel.shape != shape:
        sizes = [" x ".join(map(str, one)) for one in (channel.shape, shape)]
        raise UserError(
            f"{what} is {sizes[0]} pixels and the labels are {sizes[1]}; they must be of one "
            "size. Choose the image that the labels were made from."
        )
    if channel.dtype.kind not in "buif":
        raise UserError(
            f"{what} has the data type {channel.dtype}, not real numbers. Convert it first, "
            "for example to its magnitude or to float32."
        )


def _checked_size(pixel_size: tuple[float, float]) -> tuple[float, float]:
    y, x = (float(size) for size in pixel_size)
    if not (0 < y < np.inf and 0 < x < np.inf):
        raise UserError(
            f"The pixel size {y} x {x} is not two positive numbers. Correct the layer's scale."
        )
    return y, x


def _around(window: Window, table: Table, rows: NDArray[np.bool_]) -> Window:
    """Enlarge a window so that it holds the bounding boxes of some rows too."""
    found: list[slice] = []
    for axis, size, part in zip("yx", table.pixel_size, window, strict=True):
        low, high = (
            np.rint(table.columns[f"bbox_{axis}_{end}"][rows] / size) for end in ("min", "max")
        )
        found.append(
            slice(
                int(np.min(low, initial=part.start)),
                int(np.max(high, initial=part.stop)),
            )
        )
    return found[0], found[1]


# ----------------------------------------------------------------------------- the runs


@dataclass(frozen=True)
class _Images:
    """Images that cells are measured in, of the shape of the labels.

    Attributes
    ----------
    channels : mapping of str to array
        By the suffix of their columns.
    means : mapping of str to array
        By their columns.
    """

    channels: Mapping[str, ImageArray]
    means: Mapping[str, ImageArray]


def _measure_planes(
    labels: NDArray[Any],
    images: _Images,
    table: Table,
    window: Window | None,
    ids: NDArray[Any] | None,
) -> Columns:
    """Give the columns of a table of the pixel size and stack of `table`."""
    window = window or (slice(0, labels.shape[-2]), slice(0, labels.shape[-1]))
    # Nothing, so that the columns are there where no plane is.
    parts = [_measure_runs(_no_runs(labels, images), images, table.pixel_size)]
    planes: list[tuple[int, ...]] = [(0,) * len(table.stack)]
    for plane in np.ndindex(labels.shape[:-2]):
        blocks = [_no_runs(labels, images)]
        for rows in row_blocks(labels.shape[-2:], BLOCK, window[0]):
            blocks.append(_runs(labels, images, (*plane, rows, window[1]), ids))
        parts.append(_measure_runs(_concatenate(blocks), images, table.pixel_size))
        planes.append(plane)
    columns = _concatenate(parts)
    counts = [len(part["label"]) for part in parts]
    where = {
        name: np.repeat([plane[axis] for plane in planes], counts)
        for axis, name in enumerate(table.stack)
    }
    return {"label": columns.pop("label"), **where, **columns}


def _concatenate(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _no_runs(labels: NDArray[Any], images: _Images) -> Columns:
    none = np.empty(0, np.int64)
    runs: Columns = {"label": labels.ravel()[:0], "y": none, "start": none, "stop": none}
    for name, image in images.channels.items():
        kind = np.dtype(np.uint8 if image.dtype.kind == "b" else image.dtype)
        values = np.empty(0, kind)
        runs |= {f"sum{name}": np.empty(0), f"min{name}": values, f"max{name}": values}
    for name in images.means:
        runs |= {f"total {name}": np.empty(0), f"known {name}": np.empty(0)}
    return runs


def _runs(
    labels: NDArray[Any],
    images: _Images,
    block: tuple[Any, ...],
    ids: NDArray[Any] | None,
) -> Columns:
    """Find the runs of the wanted cells in a block, in the order they lie in the image.

    Parameters
    ----------
    labels : integer array, (..., y, x)
    images : _Images
    block : plane, rows and columns
    ids : integer array, or None for all

    Returns
    -------
    dict of str to array, (runs,)
        label, y, start, stop (exclusive); sum, min and max of each channel; total and number of
        the known pixels of each mean.
    """
    part = np.ascontiguousarray(labels[block])
    flat = part.ravel()
    begins = np.ones(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[:: max(1, part.shape[1])] = True  # a run ends with its row
    first = np.flatnonzero(begins)
    length = np.diff(first, append=flat.size)
    keep = flat[first] > 0
    if ids is not None:
        keep &= np.isin(flat[first], ids)
    if not keep.any():
        return _no_runs(labels, images)
    lengths = length[keep]
    y, x = np.divmod(first[keep], part.shape[1])
    y, x = y + block[-2].start, x + block[-1].start
    runs: Columns = {"label": flat[first[keep]], "y": y, "start": x, "stop": x + lengths}
    pixels, offsets = np.repeat(keep, length), np.cumsum(lengths) - lengths
    for name, image in images.channels.items():
        values = np.ascontiguousarray(image[block]).ravel()[pixels]
        runs |= _reduce(values.view(np.uint8) if values.dtype == bool else values, offsets, name)
    for name, image in images.means.items():
        values = np.ascontiguousarray(image[block]).ravel()[pixels]
        known = np.isfinite(values)
        runs[f"total {name}"] = np.add.reduceat(np.where(known, values, 0), offsets, dtype=float)
        runs[f"known {name}"] = np.add.reduceat(known, offsets, dtype=float)
    return runs


def _reduce(values: NDArray[Any], offsets: NDArray[np.intp], name: str) -> Columns:
    """Sum, minimum and maximum of consecutive groups of values."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, and may be
        return {
            f"sum{name}": np.add.reduceat(values, offsets, dtype=np.float64),
            f"min{name}": np.minimum.reduceat(values, offsets),
            f"max{name}": np.maximum.reduceat(values, offsets),
        }


# ---------------------------------------------------------------------- from runs to cells


def _measure_runs(runs: Columns, images: _Images, pixel_size: tuple[float, float]) -> Columns:
    order = np.argsort(runs["label"], kind="stable")  # within a cell from top to bottom
    runs = {name: column[order] for name, column in runs.items()}
    labels, first = np.unique(runs["label"], return_index=True)
    cell = np.repeat(np.arange(len(labels)), np.diff(first, append=len(order)))
    size_y, size_x = pixel_size
    boxes = _boxes(runs, first)
    area, centroid, eccentricity = _moments(runs, cell, len(labels), pixel_size)
    columns: Columns = {
        "label": labels.astype(np.int64),
        "area": area * (size_y * size_x),
        "area_pixels": area,
        "centroid_y": centroid[0] * size_y,
        "centroid_x": centroid[1] * size_x,
        "bbox_y_min": boxes[0] * size_y,
        "bbox_x_min": boxes[1] * size_x,
        "bbox_y_max": boxes[2] * size_y,
        "bbox_x_max": boxes[3] * size_x,
        "eccentricity": eccentricity,
        "solidity": area / np.maximum(hull_pixels(runs, cell, boxes, BLOCK), 1),
    }
    for name in images.means:
        known = np.bincount(cell, runs[f"known {name}"], len(labels))
        mean = np.bincount(cell, runs[f"total {name}"], len(labels)) / np.maximum(known, 1)
        columns[name] = np.where(known >= LEAST_KNOWN * area, mean, np.nan)
    for name in images.channels:
        total = np.bincount(cell, runs[f"sum{name}"], len(labels))
        columns[f"intensity_mean{name}"] = total / area
        columns[f"intensity_min{name}"] = _per_cell(np.minimum, runs[f"min{name}"], first)
        columns[f"intensity_max{name}"] = _per_cell(np.maximum, runs[f"max{name}"], first)
    return columns


def _per_cell(reduce: np.ufunc, runs: NDArray[Any], first: NDArray[np.intp]) -> NDArray[Any]:
    """Reduce the runs of each cell, which begin at `first`; reduceat refuses no cells."""
    reduced: NDArray[Any] = reduce.reduceat(runs, first) if len(first) else runs[:0]
    return reduced


def _boxes(runs: Columns, first: NDArray[np.intp]) -> list[NDArray[Any]]:
    """First y, first x, last y, last x of each cell; the last are exclusive."""
    return [
        _per_cell(np.minimum, runs["y"], first),
        _per_cell(np.minimum, runs["start"], first),
        _per_cell(np.maximum, runs["y"] + 1, first),
        _per_cell(np.maximum, runs["stop"], first),
    ]


def _moments(
    runs: Columns, cell: NDArray[np.intp], n: int, pixel_size: tuple[float, float]
) -> tuple[NDArray[np.int64], list[NDArray[np.float64]], NDArray[np.float64]]:
    """Area and centroid in pixels, and the eccentricity.

    With the eigenvalues l1 >= l2 of the covariance ((a, c), (c, b)) of a cell's pixels the
    eccentricity is sqrt(1 - l2 / l1), and with d = sqrt(((a - b) / 2)^2 + c^2) that is
    sqrt(2 d / ((a + b) / 2 + d)), which does not cancel. A run of n pixels adds n times the
    square of its centre's distance and n (n^2 - 1) / 12 of its own.
    """

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(cell, values, n).astype(np.float64, copy=False)

    length = (runs["stop"] - runs["start"]).astype(np.float64)
    centre = (runs["start"] + runs["stop"] - 1) / 2
    area = total(length)
    y, x = total(runs["y"] * length) / area, total(centre * length) / area
    dy, dx = runs["y"] - y[cell], centre - x[cell]
    size_y, size_x = pixel_size
    a = total(length * dy**2) * size_y**2
    b = total(length * (dx**2 + (length**2 - 1) / 12)) * size_x**2
    c = total(length * dy * dx) * (size_y * size_x)
    d = np.hypot((a - b) / 2, c)
    largest = (a + b) / 2 + d
    squared = np.divide(2 * d, largest, out=np.zeros(n), where=largest > 0)
    return area.astype(np.int64), [y, x], np.sqrt(np.minimum(squared, 1))
