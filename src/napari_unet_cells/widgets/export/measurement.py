"""Cells of a labels layer measured once, and again where they were edited; no Qt."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from napari_unet_cells.core.measure import (
    Table,
    as_features,
    changed_ids,
    changed_window,
    measure,
    update,
)
from napari_unet_cells.export.exporters import ImageChannels, image_channels
from napari_unet_cells.layers.export_source import ExportSource, export_source, pixel_size
from napari_unet_cells.layers.protocols import LabelsLayer, Layer


@dataclass(frozen=True)
class MeasureValues:
    """Labels to measure, and the images to measure intensities in.

    Attributes
    ----------
    source : ExportSource
    channels : ImageChannels
    """

    source: ExportSource
    channels: ImageChannels

    @classmethod
    def of(cls, layer: LabelsLayer, layers: Iterable[Layer]) -> MeasureValues:
        """Take the values of a labels layer.

        Raises
        ------
        UserError
            Where the layer has several levels or more than four axes.
        """
        layers = list(layers)
        return cls(export_source(layer, layers), image_channels(layer, layers))

    def problem(self) -> str | None:
        """Say why intensities are missing; all else is measured."""
        return self.channels.problem or None


@dataclass(frozen=True)
class Measured:
    """Table of measurements and the labels they belong to.

    Attributes
    ----------
    table : Table
    n_again : int or None
        How many cells were measured again after an edit; None where all were measured.
    """

    table: Table
    n_again: int | None


@dataclass(frozen=True)
class Features:
    """Features for the layer, one turn of the window later; see `measure.as_features`."""

    columns: dict[str, NDArray[Any]] | None


class Measurement:
    """Last measurement: it belongs to the thread, its labels are a copy that nobody paints on.

    Parameters
    ----------
    values : MeasureValues
    """

    def __init__(self, values: MeasureValues) -> None:
        self.source, self.channels = values.source, values.channels
        self.labels: NDArray[Any] | None = None
        self.table = Table({})

    def all(self, stop: threading.Event) -> Generator[object, None, None]:
        """Measure all cells."""
        size = pixel_size(self.source)
        labels = self.source.labels.copy()
        self.table = measure(
            labels, self.channels.arrays or None, (size.y, size.x), size.unit, self.source.axes
        )
        self.labels = labels
        yield Measured(self.table, None)
        yield Features(as_features(self.table))

    def edited(self, stop: threading.Event) -> Generator[object, None, None]:
        """Measure the cells that differ from those measured last; nothing comes if none do."""
        assert self.labels is not None
        window = changed_window(self.labels, self.source.labels)
        if window is None:
            return
        part = (..., *window)
        now = self.source.labels[part].copy()  # what is painted meanwhile comes next time
        ids = changed_ids(self.labels[part], now, (slice(None), slice(None)))
        self.labels[part] = now
        self.table = update(self.table, self.labels, self.channels.arrays or None, ids, window)
        yield Measured(self.table, len(ids))
        yield Features(as_features(self.table))

    def fits(self, source: ExportSource) -> bool:
        """Whether a layer has still the array and the pixel size that were measured."""
        old = self.source
        return (
            self.labels is not None
            and source.labels.shape == old.labels.shape
            and source.labels.dtype == old.labels.dtype
            and source.axes == old.axes
            and source.typed == old.typed
            and source.transform == old.transform
        )
