"""Split an image layer into one layer a channel, and find the plane that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.layers.image_planes import stack_axes
from napari_unet_cells.layers.metadata import file_of, set_input_metadata
from napari_unet_cells.layers.transforms import place_without

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

#: Colormaps of the channels, from the first; a single channel is gray.
COLORS = ("magenta", "green", "cyan", "yellow", "red", "blue", "gray")


def split_channels(viewer: Viewer, layer: Image, axis: int, chosen: int) -> Image:
    """Replace a layer by one for each channel, in its place.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari image layer
        It is removed from the viewer.
    axis : int
        Of the channels.
    chosen : int
        Channel whose layer becomes the active one.

    Returns
    -------
    napari image layer
        That of the chosen channel.
    """
    levels = list(layer.data) if layer.multiscale else [layer.data]
    position = viewer.layers.index(layer)
    path = file_of(layer)
    place = place_without(layer, axis)
    n = int(levels[0].shape[axis])
    colors = ("gray",) if n == 1 else COLORS
    made = []
    for channel in range(n):
        key = (slice(None),) * axis + (channel,)
        data = [_sliceable(level)[key] for level in levels]
        new = viewer.add_image(
            data if layer.multiscale else data[0],
            name=f"{layer.name} channel {channel}",
            multiscale=bool(layer.multiscale),
            colormap=colors[channel % len(colors)],
            blending="additive" if channel else "translucent_no_depth",
            **place,
        )
        set_input_metadata(new, path=None if path is None else str(path), channel=channel)
        viewer.layers.move(len(viewer.layers) - 1, position + 1 + channel)
        made.append(new)
    viewer.layers.remove(layer)
    viewer.layers.selection.active = made[chosen]
    return made[chosen]


def _sliceable(level: ImageArray) -> ImageArray:
    """Give a zarr array as dask does, since slicing it would read all of it."""
    if type(level).__module__.startswith("zarr"):
        import dask.array

        lazy: ImageArray = dask.array.from_zarr(level)  # type: ignore[no-untyped-call]
        return lazy
    return level


def chosen_plane(viewer: Viewer, layer: Image, all_planes: bool) -> tuple[int, ...] | None:
    """Index of the plane to segment, see `layers.image_planes.planes_for`.

    Returns
    -------
    tuple of int, or None
        Of the plane that the viewer shows, along the axes of the layer before (y, x); None
        for all planes of a stack.
    """
    axes = stack_axes(layer)
    if not axes:
        return ()
    if all_planes:
        return None
    point = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    return tuple(int(min(max(0, round(float(point[a.axis]))), a.length - 1)) for a in axes)
