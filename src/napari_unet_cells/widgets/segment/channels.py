"""Split an image layer into one layer a channel, and find the plane that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.channels import ManyChannels
from napari_unet_cells.layers.image_planes import stack_axes
from napari_unet_cells.layers.metadata import file_of, set_input_metadata
from napari_unet_cells.layers.transforms import place_without
from napari_unet_cells.widgets.napari_versions import camera_of

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

#: Pixels of a projection that are computed at once, while the window waits.
LARGEST_AT_ONCE = 2**24

#: Colormaps of the channels, from the first; a single channel is gray.
COLORS = ("magenta", "green", "cyan", "yellow", "red", "blue", "gray")


def split_channels(
    viewer: Viewer,
    layer: Image,
    axis: int,
    chosen: int,
    names: Sequence[str] = (),
    projection: str = "",
) -> Image:
    """Replace a layer by one for each channel, in its place; the same view stays shown.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari image layer
        It is removed from the viewer.
    axis : int
        Of the channels.
    chosen : int
        Channel whose layer becomes the active one, counted from 0.
    names : sequence of str, optional
        Of the channels; the layers get them. Else they are numbered from 1.
    projection : str, optional
        "max" or "mean": one more layer holds this projection of all channels, and is the active
        one; the channels are hidden below it.

    Returns
    -------
    napari image layer
        That of the chosen channel, or the projection.
    """
    shown, camera = shown_plane(viewer, layer), camera_of(viewer)
    view = camera.center, camera.zoom
    position = viewer.layers.index(layer)
    made = _add_channels(viewer, layer, axis, names)
    result = made[chosen]
    if projection:
        result = _add_projection(viewer, layer, axis, projection)
        for new in made:
            new.visible = False
        made.append(result)
    for place, new in enumerate(made, position + 1):
        viewer.layers.move(viewer.layers.index(new), place)
    viewer.layers.remove(layer)
    # napari keeps the last sliders of a stack that loses an axis, whatever they stood for.
    show_plane(viewer, result, shown[:axis] + shown[axis + 1 :])
    camera.center, camera.zoom = view  # which napari resets where an axis goes
    viewer.layers.selection.active = result
    return result


def _add_channels(viewer: Viewer, layer: Image, axis: int, names: Sequence[str]) -> list[Image]:
    """Add a layer for each channel of a layer."""
    levels = list(layer.data) if layer.multiscale else [layer.data]
    path = file_of(layer)
    place = place_without(layer, axis)
    n = int(levels[0].shape[axis])
    if len(names) != n:
        names = [f"channel {channel + 1}" for channel in range(n)]
    colors = ("gray",) if n == 1 else COLORS
    made = []
    for channel in range(n):
        key = (slice(None),) * axis + (channel,)
        data = [_sliceable(level)[key] for level in levels]
        new = viewer.add_image(
            data if layer.multiscale else data[0],
            name=f"{layer.name} {names[channel]}",
            multiscale=bool(layer.multiscale),
            colormap=colors[channel % len(colors)],
            blending="additive" if channel else "translucent_no_depth",
            **place,
        )
        set_input_metadata(new, path=None if path is None else str(path), channel=channel)
        made.append(new)
    return made


def _add_projection(viewer: Viewer, layer: Image, axis: int, projection: str) -> Image:
    """Add the projection of all channels of a layer."""
    levels = list(layer.data) if layer.multiscale else [layer.data]
    channels = tuple(range(int(levels[0].shape[axis])))
    many = [ManyChannels(_sliceable(level), axis, channels, projection) for level in levels]
    data = [_projected(level) for level in many]
    path = file_of(layer)
    new = viewer.add_image(
        data if layer.multiscale else data[0],
        name=f"{layer.name} {projection} of channels",
        multiscale=bool(layer.multiscale),
        **place_without(layer, axis),
    )
    metadata = {"channels": list(channels), "projection": projection}
    set_input_metadata(new, path=None if path is None else str(path), **metadata)
    return new


def _projected(many: ManyChannels) -> ImageArray:
    """Compute a projection where it is small and its channels are in memory; else part by part."""
    key = (slice(None),) * many.axis + (0,)
    if isinstance(many.data, np.ndarray) and many.size <= LARGEST_AT_ONCE:
        pixels: ImageArray = many[key]
        return pixels
    import dask.array

    chunks = (1,) * (many.ndim - 2) + (1024, 1024)
    # Without a name dask would read all of it to make one.
    lazy: ImageArray = dask.array.from_array(many, chunks, name=False)[key]  # type: ignore[no-untyped-call]
    return lazy


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
    return None if all_planes and stack_axes(layer) else shown_plane(viewer, layer)


def shown_plane(viewer: Viewer, layer: Image) -> tuple[int, ...]:
    """Index of the plane that the sliders choose, along the axes of a layer before (y, x)."""
    axes = stack_axes(layer)
    if not axes:
        return ()
    matrix, offset = _sliders_to_index(viewer, layer)
    index = matrix @ np.asarray(viewer.dims.point)[_sliders(viewer, layer)] + offset
    return tuple(int(np.clip(np.round(index[a.axis]), 0, a.length - 1)) for a in axes)


def show_plane(viewer: Viewer, layer: Image, index: tuple[int, ...]) -> None:
    """Move the sliders to a plane of a layer; those of axes that it has not stay."""
    if not index:
        return
    matrix, offset = _sliders_to_index(viewer, layer)
    point = np.linalg.solve(matrix, np.asarray(index) - offset)
    viewer.dims.set_point(_sliders(viewer, layer), [float(value) for value in point])


def _sliders(viewer: Viewer, layer: Image) -> list[int]:
    """Axes of the viewer that a layer's axes before (y, x) lie on: napari aligns the last."""
    first = viewer.dims.ndim - layer.ndim
    return list(range(first, first + len(stack_axes(layer))))


def _sliders_to_index(
    viewer: Viewer, layer: Image
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix and offset from the sliders to a layer's index, as napari slices.

    Only the sliders count: where a layer is turned out of their axes, the position in y and x
    is not looked at.
    """
    n = len(stack_axes(layer))
    offset = np.asarray(layer.world_to_data(np.zeros(layer.ndim)), dtype=float)
    steps = [np.subtract(layer.world_to_data(row), offset) for row in np.eye(layer.ndim)[:n]]
    factors = [_factor(viewer, layer, axis) for axis in range(n)]
    return np.stack(steps, axis=1)[:n] * factors, offset[:n]


def _factor(viewer: Viewer, layer: Image, axis: int) -> float:
    """Convert a unit of the viewer to that of the layer: they may be nano- and micrometers."""
    own, shown = layer.units[axis], getattr(viewer.dims, "units", None)
    if shown is None:  # napari before 0.9
        return 1.0
    unit = shown[_sliders(viewer, layer)[axis]]
    return float((1 * unit).to(own).magnitude) if unit.is_compatible_with(own) else 1.0
