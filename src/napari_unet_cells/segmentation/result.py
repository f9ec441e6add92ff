"""Result of a run: cells, classes, how they were made, and what separates the cells anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.instances import (
    MAX_UINT16,
    InstanceOptions,
    Oversegmentation,
    inside,
    oversegment,
)
from napari_unet_cells.core.linking import link_planes
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.resample import resize_labels
from napari_unet_cells.segmentation.details import RunDetails


@dataclass(frozen=True)
class Adjustable:
    """Cells that can be separated anew without the network.

    Attributes
    ----------
    partition : Oversegmentation
        At the size that the network saw.
    base : int32 array, (y, x)
        Its parts, at the size of the plane.
    left : int array, (n,)
        Numbers that are in `base`: what is smaller than a pixel of the plane is not there.
    zoom : float
        Size that the network saw by the size of the plane.
    """

    partition: Oversegmentation
    base: NDArray[np.int32]
    left: NDArray[np.intp]
    zoom: float

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.uint8],
        options: InstanceOptions,
        shape: tuple[int, int],
        zoom: float,
    ) -> Adjustable:
        """Divide what the network saw into parts, outlined at the size (y, x) of the plane."""
        parts = oversegment(probabilities, options)
        base = resize_labels(parts.base, shape, inside(probabilities, options))
        left = np.zeros(parts.n_fragments + parts.n_holes + 1, bool)
        left[base] = True
        return cls(parts, base, np.flatnonzero(left), zoom)

    def cells(self, options: InstanceOptions) -> NDArray[np.uint16] | NDArray[np.uint32]:
        """Cells (y, x) for other limits, see `instances.Oversegmentation`.

        `options.min_size` is in pixels that the network saw.
        """
        lut: NDArray[Any] = self.partition.lut(options)
        if len(self.left) < len(lut):
            ids = np.union1d(0, lut[self.left])
            lut = np.searchsorted(ids, lut).astype(lut.dtype)
        cells: NDArray[np.uint16] | NDArray[np.uint32] = lut[self.base]
        return cells


@dataclass(frozen=True)
class Result:
    """Result of one run.

    Attributes
    ----------
    cells : uint16 (uint32 beyond 65,535 cells) array, (..., y, x), or None
        One label per cell, 1 to n in each plane (in the stack where they were linked); None
        where the model has no boundary class.
    classes : uint8 array, (..., y, x)
        Argmax of the logits; for the shipped models 0 background, 1 cell, 2 boundary.
    details : RunDetails
        How it was made; `options`, `diameter`, `zoom`, `limits`, `device` and `seconds` are its.
    n_cells : int
        Cells, in a stack that was not linked those of all planes; 0 without cells.
    adjustable : tuple of Adjustable
        One for each plane, to separate the cells anew.
    uncertainty : uint8 array, (..., y, x), or None
        1 less the margin between the two most probable classes, in units of 1/255. Its planes
        have the size that the network saw, which may be another than that of the labels.
        None where it was not asked for.
    """

    cells: NDArray[np.uint16] | NDArray[np.uint32] | None
    classes: NDArray[np.uint8]
    details: RunDetails
    n_cells: int = 0
    adjustable: tuple[Adjustable, ...] = ()
    uncertainty: NDArray[np.uint8] | None = None

    @property
    def options(self) -> InstanceOptions | None:
        """Thresholds that the cells were separated with; None where there are no cells."""
        return self.details.options

    @property
    def diameter(self) -> float:
        """Median cell diameter in pixels, as given or estimated; 0 where it is not known."""
        return self.details.diameter

    @property
    def zoom(self) -> float:
        """Size that the network saw by the size of the image."""
        return self.details.zoom

    @property
    def limits(self) -> Limits | None:
        """Intensities that became 0 and 1; None where they differ from plane to plane."""
        return self.details.limits

    @property
    def device(self) -> str:
        """Device that the network ran on."""
        return self.details.device

    @property
    def seconds(self) -> float:
        """Duration of the run."""
        return self.details.seconds or 0.0

    @property
    def provenance(self) -> dict[str, Any]:
        """Record of how it was made, ready for JSON; see `RunDetails.provenance`."""
        return self.details.provenance()


def cells_of(
    adjustable: tuple[Adjustable, ...],
    options: InstanceOptions,
    shape: tuple[int, ...],
    link: int | None = None,
) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], int]:
    """Separate the cells of all planes of a run, and count them.

    Parameters
    ----------
    adjustable : tuple of Adjustable
        Of a `Result`.
    options : InstanceOptions
    shape : tuple of int
        Of the labels, (..., y, x).
    link : int, optional
        See `Settings`.
    """
    planes = [plane.cells(options) for plane in adjustable]
    counts = [int(plane.max(initial=0)) for plane in planes]
    dtype = np.uint16 if max(counts) <= MAX_UINT16 else np.uint32
    if len(shape) == 2:
        return planes[0], counts[0]
    cells = np.stack([plane.astype(dtype, copy=False) for plane in planes]).reshape(shape)
    if link is None:
        return cells, sum(counts)
    linked = _linked(cells, link)
    return linked, int(linked.max(initial=0))


def _linked(cells: NDArray[Any], axis: int) -> NDArray[Any]:
    """Link along one axis; what differs in another one is numbered on its own."""
    along = np.moveaxis(cells, axis, -3)
    others = along.shape[:-3]
    stacks = [link_planes(along[index]) for index in np.ndindex(*others)]
    dtype = np.result_type(*(stack.dtype for stack in stacks))
    joined = np.stack([stack.astype(dtype, copy=False) for stack in stacks])
    return np.moveaxis(joined.reshape(along.shape), -3, axis)
