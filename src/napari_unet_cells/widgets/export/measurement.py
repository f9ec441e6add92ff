"""Cells of a labels layer measured once, and again where they were edited; no Qt."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.label_changes import changed_ids, changed_window
from napari_unet_cells.core.measure import Table, as_features, measure, update
from napari_unet_cells.export.exporters import ImageChannels, image_channels
from napari_unet_cells.layers.export_source import ExportSource, export_source, pixel_size
from napari_unet_cells.layers.protocols import LabelsLayer, Layer
from napari_unet_cells.segmentation.probability import PROBABILITY, ProbabilityMap
from napari_unet_cells.segmentation.result import Fragments
from napari_unet_cells.widgets.segment.live import current


def fragments_of(layer: Any) -> Sequence[Fragments]:
    """Give the fragments that the run of a layer kept, as its undo history has it.

    The same object comes each time, by which another run is told; without any an empty tuple.
    """
    state = current(layer)
    return () if state is None else state.origin.fragments or ()


def means_of(fragments: Sequence[Fragments], shape: tuple[int, ...]) -> dict[str, ImageArray]:
    """Give the columns that a run adds to the table of its cells; none without fragments."""
    known = ProbabilityMap.of(fragments, shape)
    return {} if known is None else {PROBABILITY: known}


@dataclass(frozen=True)
class MeasureValues:
    """Labels to measure, and the images to measure intensities in.

    Attributes
    ----------
    source : ExportSource
    channels : ImageChannels
    fragments : sequence of Fragments
        See `fragments_of`.
    """

    source: ExportSource
    channels: ImageChannels
    fragments: Sequence[Fragments] = ()

    @classmethod
    def of(cls, layer: LabelsLayer, layers: Iterable[Layer]) -> MeasureValues:
        """Take the values of a labels layer.

        Raises
        ------
        UserError
            Where the layer has several levels or more than four axes.
        """
        layers = list(layers)
        source = export_source(layer, layers)
        return cls(source, image_channels(layer, layers), fragments_of(layer))

    @property
    def means(self) -> Mapping[str, ImageArray]:
        """See `means_of`."""
        return means_of(self.fragments, self.source.labels.shape)

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
        self.fragments, self.means = values.fragments, values.means
        self.labels: NDArray[Any] | None = None
        self.table = Table({})

    def all(self, stop: threading.Event) -> Generator[object, None, None]:
        """Measure all cells."""
        size = pixel_size(self.source)
        labels = self.source.labels.copy()
        channels, pixel = self.channels.arrays or None, (size.y, size.x)
        self.table = measure(labels, channels, pixel, size.unit, self.source.axes, self.means)
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
        channels = self.channels.arrays or None
        self.table = update(self.table, self.labels, channels, ids, window, self.means)
        yield Measured(self.table, len(ids))
        yield Features(as_features(self.table))

    def fits(self, source: ExportSource, fragments: Sequence[Fragments]) -> bool:
        """Whether a layer has still the array, pixel size and run that were measured."""
        old = self.source
        return (
            self.labels is not None
            and fragments is self.fragments
            and source.labels.shape == old.labels.shape
            and source.labels.dtype == old.labels.dtype
            and source.axes == old.axes
            and source.typed == old.typed
            and source.transform == old.transform
        )
