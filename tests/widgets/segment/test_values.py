"""Values of the Segment section's forms, without Qt and without a window."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.files import FileAxes
from napari_unet_cells.layers.image_planes import StackAxis, name_axes
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.widgets.segment.values import (
    DRAWN,
    NO_CHANNELS,
    UNSAID,
    VISIBLE,
    AdjustValues,
    PixelSizeValues,
    SegmentValues,
    StackValues,
    channel_memory,
    likely_channel_axis,
)

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
    assert "no channel 3" in (replace(STACK, channel=2).problem() or "")
    assert "channels 1 to 2" in (replace(STACK, channel=-1).problem() or "")
    assert "no axis 3 of channels" in (replace(STACK, channel_axis=2).problem() or "")
    assert "choose all planes" in (replace(STACK, all_planes=False).problem() or "")
    assert "choose all planes" in (replace(STACK, link=1).problem() or "")  # c is no axis of planes
    one = replace(STACK, projection="max", channels=(1,))
    assert "is of two channels or more" in (one.problem() or "")
    assert replace(one, channels=(0, 1)).problem() is None


def test_the_planes_of_a_stack_are_what_is_left_without_its_channels():
    assert [axis.label for axis in STACK.left] == ["z"]
    assert STACK.n_planes == 4
    assert replace(STACK, channel_axis=None).n_planes == 8
    assert StackValues().n_planes == 1
    assert STACK.memory == ""  # its axes have names
    assert StackValues().memory == ""


def unnamed(*lengths):
    return tuple(StackAxis(axis, n, str(axis - len(lengths) - 2)) for axis, n in enumerate(lengths))


@pytest.mark.parametrize(
    ("lengths", "question"),
    [
        ((3,), "Say whether the first axis (3) holds channels or planes."),
        ((4, 9), "Say whether the first axis (4) holds channels or planes."),
        ((9, 2), "Say whether the second axis (2) holds channels or planes."),
        ((3, 2), "Say which holds channels, if any: the first axis (3) or the second axis (2)."),
        ((5,), None),
        ((1, 9), None),
    ],
)
def test_a_short_unnamed_axis_is_asked_about(lengths, question):
    axes = unnamed(*lengths)
    axis = likely_channel_axis(axes, None, split=False)
    assert axis == (None if question is None else UNSAID)
    problem = StackValues(axes, axis).problem()
    assert problem is None if question is None else (problem or "").startswith(question)
    assert bool(channel_memory(axes)) == (question is not None)


def test_names_come_before_memory_and_memory_before_the_question():
    axes = unnamed(3, 2)
    assert likely_channel_axis(axes, 0, split=False) == 0
    assert likely_channel_axis(axes, NO_CHANNELS, split=False) is None
    assert likely_channel_axis(axes, 7, split=False) == UNSAID
    assert likely_channel_axis(axes, None, split=True) is None
    assert likely_channel_axis(name_axes(axes, FileAxes("ZCYX"), False), 0, split=False) == 1
    assert likely_channel_axis(name_axes(axes, FileAxes("TZYX"), False), 0, split=False) is None
    # Of pages that the file does not name, nothing is known.
    assert likely_channel_axis(name_axes(axes, FileAxes("QQYX"), False), 0, split=False) == 0


def test_memory_is_for_stacks_of_the_same_short_axes():
    assert channel_memory(unnamed(12, 3)) == channel_memory(unnamed(90, 3))
    assert channel_memory(unnamed(12, 3)) != channel_memory(unnamed(12, 2))
    assert channel_memory(unnamed(3, 12)) != channel_memory(unnamed(12, 3))


def test_the_plane_that_is_shown_has_words():
    assert STACK.shown((3, 1)) == "z 4 of 4"
    assert StackValues(unnamed(5)).shown((3,)) == "plane 4 of 5"
    assert StackValues(unnamed(5, 1)).shown((3, 0)) == "plane 4 of 5"
    assert StackValues(unnamed(5, 6)).shown((3, 0)) == "axis 1: 4 of 5, axis 2: 1 of 6"
    assert StackValues().shown(()) == ""


def image(dtype=np.uint8) -> Any:
    """Make an object with what is asked of an image layer."""
    return SimpleNamespace(data=np.zeros((4, 2, 20, 30), dtype), multiscale=False, rgb=False)


def test_a_press_says_what_prevents_it():
    values = SegmentValues(image(), STACK, "cells")
    assert values.problem() is None
    assert "There is no image to segment" in (replace(values, image=None).problem() or "")
    assert "No model is installed" in (replace(values, model="").problem() or "")
    assert "not -3" in (replace(values, diameter=-3).problem() or "")
    wrong = replace(values, image=image(np.complex64))
    assert "not real numbers" in (wrong.problem() or "")
    wrong = replace(values, stack=replace(STACK, channel=7))
    assert "no channel 8" in (wrong.problem() or "")


def test_a_part_is_one_of_those_there_are_and_of_the_plane_that_is_shown():
    values = SegmentValues(image(), replace(STACK, all_planes=True, link=None), "cells")
    assert values.problem() is None
    wrong = replace(values, where=VISIBLE)
    assert "Choose that one under Planes" in (wrong.problem() or "")
    shown = replace(values, stack=replace(STACK, all_planes=False, link=None), where=DRAWN)
    assert shown.problem() is None
    flat = replace(values, stack=StackValues(all_planes=True), where=DRAWN)
    assert flat.problem() is None
    wrong = replace(values, where="half")
    assert "There is no part 'half' of an image" in (wrong.problem() or "")


def test_values_are_frozen():
    values = SegmentValues(image(), STACK, "cells")
    with pytest.raises(FrozenInstanceError):
        values.model = "other"  # type: ignore[misc]


def test_options_of_the_run():
    values = SegmentValues(image(), STACK, "cells", diameter=23, augment=True)
    assert values.settings == Settings(diameter=23.0, link=0, test_time_augmentation=True)
    assert SegmentValues(image(), model="cells").settings == Settings()


def test_a_pixel_size_is_kept_with_the_image_or_forgotten():
    assert PixelSizeValues(0.3).told == (0.3, 0.3, "micrometer")
    assert PixelSizeValues(0.3).problem() is None
    assert PixelSizeValues().told is None
    assert PixelSizeValues().problem() is None
    for width in (-1.0, float("nan"), float("inf")):
        assert "No pixel is" in (PixelSizeValues(width).problem() or "")


#: At a zoom of 0.5 an area of the image is four times that which the network saw.
MADE = InstanceOptions(min_size=13, split=0.654, min_probability=0.21)


def test_the_options_of_a_run_in_pixels_of_the_image():
    assert AdjustValues.of(MADE, 0.5) == AdjustValues(52, 0.654, 0.21, True, False)
    assert AdjustValues.of(MADE, 0.5).problem() is None


def test_what_was_not_moved_stays_exactly_as_the_run_had_it():
    shown = AdjustValues(53, 0.65, 0.21)  # as near as the sliders can show it
    assert shown.options(MADE, shown, 0.5) == MADE
    moved = replace(shown, split=0.9, drop_border=True)
    assert moved.options(MADE, shown, 0.5) == replace(MADE, split=0.9, drop_border=True)
    assert replace(shown, min_size=80).options(MADE, shown, 0.5) == replace(MADE, min_size=20)


def test_thresholds_that_cannot_be_are_said():
    values = AdjustValues()
    assert values.problem() is None
    assert "0 pixels or more, not -1" in (replace(values, min_size=-1).problem() or "")
    assert "Split lies between" in (replace(values, split=1.2).problem() or "")
    assert "between 0 and 1, not at -0.1" in (replace(values, min_probability=-0.1).problem() or "")
