"""Values of the Segment section's forms, without Qt and without a window."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_unet_cells.layers.image_planes import StackAxis, stack_axes
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.widgets.segment.values import SegmentValues, StackValues

AXES = (StackAxis(0, 4, "z"), StackAxis(1, 2, "c"))
STACK = StackValues(AXES, channel_axis=1, channel=1, all_planes=True, link=0)


def test_qt_is_not_imported():
    code = (
        "import sys, napari_unet_cells.widgets.segment.values; "
        "assert not {'qtpy', 'napari', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_stack_says_what_is_wrong_with_it():
    assert STACK.problem() is None
    assert StackValues().problem() is None
    assert "no channel 2" in (replace(STACK, channel=2).problem() or "")
    assert "0 to 1" in (replace(STACK, channel=-1).problem() or "")
    assert "no axis 2 of channels" in (replace(STACK, channel_axis=2).problem() or "")
    assert "choose all planes" in (replace(STACK, all_planes=False).problem() or "")
    assert "choose all planes" in (replace(STACK, link=1).problem() or "")  # c is no axis of planes


def test_the_planes_of_a_stack_are_what_is_left_without_its_channels():
    assert [axis.label for axis in STACK.left] == ["z"]
    assert STACK.n_planes == 4
    assert replace(STACK, channel_axis=None).n_planes == 8
    assert StackValues().n_planes == 1
    assert STACK.memory == "channel axis of 4 axes"
    assert StackValues().memory == ""


def image() -> Image:
    return Image(np.zeros((4, 2, 20, 30), np.uint8), rgb=False)


def test_a_press_says_what_prevents_it():
    values = SegmentValues(image(), STACK, "cells")
    assert values.problem() is None
    assert "There is no image to segment" in (replace(values, image=None).problem() or "")
    assert "No model is installed" in (replace(values, model="").problem() or "")
    assert "-3 pixels" in (replace(values, diameter=-3).problem() or "")
    wrong = replace(values, image=SimpleNamespace(data=np.zeros((4, 2, 3, 3), complex)))
    assert "not real numbers" in (wrong.problem() or "")
    wrong = replace(values, stack=replace(STACK, channel=7))
    assert "no channel 7" in (wrong.problem() or "")


def test_asking_leaves_the_viewer_as_it_is():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4, 2, 20, 30)))
    values = SegmentValues(layer, replace(STACK, axes=stack_axes(layer)), "cells")
    assert values.problem() is None
    assert list(viewer.layers) == [layer]
    with pytest.raises(FrozenInstanceError):
        values.model = "other"  # type: ignore[misc]


def test_options_of_the_run():
    values = SegmentValues(image(), STACK, "cells", diameter=23, augment=True)
    assert values.settings == Settings(diameter=23.0, link=0, quality="high")
    assert SegmentValues(image(), model="cells").settings == Settings()
