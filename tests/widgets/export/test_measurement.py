"""Measurements of a labels layer and of its edits, without a window."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.regions import PackedLabels
from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.earlier import EarlierResult, Left
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.replacing import Origin, ResultState
from napari_unet_cells.segmentation.result import Fragments
from napari_unet_cells.widgets.export.measurement import Measured, Measurement, MeasureValues
from napari_unet_cells.widgets.segment.live import begin

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
    assert measurement.fits(values.source, ())
    assert measured(measurement.edited(stop)) == []  # nothing was painted

    labels.data[6, 2:6] = 1
    (again,) = measured(measurement.edited(stop))

    assert again.n_again == 1
    np.testing.assert_array_equal(again.table.columns["area"], [20, 30])


def test_another_pixel_size_needs_another_measurement(labels):
    measurement = Measurement(MeasureValues.of(labels, [labels]))
    list(measurement.all(threading.Event()))
    labels.scale = (0.5, 0.5)
    assert not measurement.fits(MeasureValues.of(labels, [labels]).source, ())


def test_cells_of_a_run_have_their_probability(labels):
    image = np.zeros((2, 20, 30), np.uint8)
    image[0, 2:6, 2:6], image[0, 10:15, 20:26] = 200, 240
    options = InstanceOptions(min_size=1, min_probability=0.0, smoothing=0.0)
    fragments = (Fragments.of(image, options, (20, 30), 1.0),)
    origin = Origin(None, {}, KeptFragments(fragments))
    state = ResultState.of(origin, PackedLabels.of(labels.data), 0)
    begin(labels, EarlierResult(Left.of(state.made, state, {})))
    values = MeasureValues.of(labels, [labels])
    measurement, stop = Measurement(values), threading.Event()
    (first,) = measured(measurement.all(stop))
    np.testing.assert_allclose(
        first.table.columns["probability"], [200 / 255, 240 / 255], atol=0.02
    )
    assert measurement.fits(values.source, values.fragments)
    assert not measurement.fits(values.source, ())  # another run

    labels.data[0:2, 20:26] = 9
    (again,) = measured(measurement.edited(stop))

    assert np.isnan(again.table.columns["probability"][2])  # drawn where the network saw nothing
    assert again.table.columns["label"][2] == 9
