"""Measurements of a labels layer and of its edits, without a window."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_unet_cells.errors import UserError
from napari_unet_cells.widgets.export.measurement import Measured, Measurement, MeasureValues

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui


def test_qt_is_not_imported():
    code = (
        "import sys, napari_unet_cells.widgets.export.measurement; "
        "assert not {'qtpy', 'napari', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture
def labels() -> Any:
    data = np.zeros((20, 30), np.uint16)
    data[2:6, 2:6], data[10:15, 20:26] = 1, 2
    return Labels(data, name="cells")


def measured(events: Any) -> list[Measured]:
    return [event for event in events if isinstance(event, Measured)]


def test_why_intensities_are_missing_is_said(labels):
    image = Image(np.ones((20, 30)), name="DAPI")
    assert MeasureValues.of(labels, [image, labels]).problem() is None
    assert "No image lies" in (MeasureValues.of(labels, [labels]).problem() or "")
    with pytest.raises(UserError, match="several levels or more axes"):
        MeasureValues.of(Labels(np.ones((2, 2, 2, 4, 4), np.uint8)), [])


def test_only_edited_cells_are_measured_again(labels):
    values = MeasureValues.of(labels, [labels])
    measurement, stop = Measurement(values), threading.Event()
    (first,) = measured(measurement.all(stop))
    assert first.n_again is None
    np.testing.assert_array_equal(first.table.columns["area"], [16, 30])
    assert measurement.fits(values.source)
    assert measured(measurement.edited(stop)) == []  # nothing was painted

    labels.data[6, 2:6] = 1
    (again,) = measured(measurement.edited(stop))

    assert again.n_again == 1
    np.testing.assert_array_equal(again.table.columns["area"], [20, 30])


def test_another_pixel_size_needs_another_measurement(labels):
    measurement = Measurement(MeasureValues.of(labels, [labels]))
    list(measurement.all(threading.Event()))
    labels.scale = (0.5, 0.5)
    assert not measurement.fits(MeasureValues.of(labels, [labels]).source)
