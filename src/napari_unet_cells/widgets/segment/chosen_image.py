"""Layer and plane that a press of Segment takes, its channel split off where one is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet_cells.widgets.segment.channels import (
    Projection,
    choose_channel,
    chosen_plane,
    split_channels,
)
from napari_unet_cells.widgets.segment.values import SegmentValues
from napari_unet_cells.widgets.segment.view import View

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer


@dataclass(frozen=True, eq=False)
class ChosenImage:
    """Image that is segmented.

    Attributes
    ----------
    layer : napari image layer
        Without the axis of the channels.
    shown : tuple of int, or None
        Index of the plane along the axes before (y, x); None for all planes.
    """

    layer: Image
    shown: tuple[int, ...] | None


def choose_image(viewer: Viewer, values: SegmentValues, view: View) -> ChosenImage:
    """Find the plane that is shown, and split off the channel that is chosen.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    values : SegmentValues
        With an image.
    view : View
        Its form shows the channel that was split off.
    """
    # Before the split: it changes the axes of the viewer, and with them the sliders.
    shown = _plane_of_channel(viewer, values)
    return ChosenImage(_split(viewer, values, view), shown)


def _plane_of_channel(viewer: Viewer, values: SegmentValues) -> tuple[int, ...] | None:
    """Index of the plane to segment, without the axis of the channels; None for all planes."""
    shown = chosen_plane(viewer, values.image, values.stack.all_planes)
    axis = values.stack.channel_axis
    if shown is None or axis is None:
        # A single plane a channel is not a stack.
        return () if axis is not None and not values.stack.left else shown
    return shown[:axis] + shown[axis + 1 :]


def _split(viewer: Viewer, values: SegmentValues, view: View) -> Image:
    """Give the layer of the channel that the user chose, split off where that is to be done."""
    stack, image = values.stack, values.image
    chosen = Projection(stack.projection, stack.channels) if stack.projection else None
    if stack.channel_axis is not None:
        layer = split_channels(
            viewer, image, stack.channel_axis, stack.channel, stack.names, chosen
        )
    elif stack.n_split:
        layer = choose_channel(viewer, image, stack.channel, chosen)
    else:
        return image
    if layer is not image:
        # The form shows the new layer, and what it had for another image of as many axes.
        view.show_stack(values.stack)
    return layer
