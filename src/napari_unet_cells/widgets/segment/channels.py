"""Split an image layer into one layer a channel, and find the plane that is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.channels import ManyChannels
from napari_unet_cells.core.read_ahead import ReadAhead
from napari_unet_cells.layers.image_planes import stack_axes
from napari_unet_cells.layers.metadata import INPUT, OURS, file_of, image_id
from napari_unet_cells.layers.transforms import place_without
from napari_unet_cells.widgets.napari_versions import camera_of

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

#: Pixels of a projection that are computed at once and kept.
LARGEST_AT_ONCE = 2**26

#: Key of `layer.metadata` for the `Split` that a layer was made by.
SPLIT = "napari_unet_cells_split"

#: Key for the `Projection` that an empty layer waits for.
UNMADE = "napari_unet_cells_unmade"

#: Key for the layers that were hidden for one that is empty for now.
HIDDEN = "napari_unet_cells_hidden"

#: Colormaps of the channels, from the first; a single channel is gray.
COLORS = ("magenta", "green", "cyan", "yellow", "red", "blue", "gray")


@dataclass(frozen=True, eq=False)
class Split:
    """A layer that was split into its channels; every layer made of it knows it.

    Attributes
    ----------
    name : str
        Of the layer.
    levels : tuple of arrays
        Its pixels; one array where it is no pyramid.
    axis : int
        Of the channels.
    names : tuple of str
        Of the channels; empty where they are not known.
    path : str or None
        File of the layer.
    place : mapping
        Arguments that put a channel where the layer lay.
    multiscale : bool
    """

    name: str
    levels: tuple[ImageArray, ...]
    axis: int
    names: tuple[str, ...]
    path: str | None
    place: Mapping[str, Any]
    multiscale: bool

    @classmethod
    def of(cls, layer: Image, axis: int, names: Sequence[str] = ()) -> Split:
        """Describe how a layer is split; names that are not one a channel are dropped."""
        levels = tuple(layer.data) if layer.multiscale else (layer.data,)
        path, n = file_of(layer), int(levels[0].shape[axis])
        return cls(
            layer.name,
            tuple(_sliceable(level) for level in levels),
            axis,
            tuple(names) if len(names) == n else (),
            None if path is None else str(path),
            place_without(layer, axis),
            bool(layer.multiscale),
        )

    def __deepcopy__(self, memo: object) -> Split:
        """Share the pixels with a copy of a layer."""
        return self

    @property
    def n(self) -> int:
        """Number of channels."""
        return int(self.levels[0].shape[self.axis])

    def title(self, channel: int) -> str:
        """Name of a channel, counted from 0; "channel 1" and so on where it has none."""
        return self.names[channel] if self.names else f"channel {channel + 1}"

    def data(self, levels: Sequence[ImageArray]) -> Any:
        """Pixels as napari takes them: one array, or a list of levels."""
        return list(levels) if self.multiscale else levels[0]

    def add(self, viewer: Viewer, channel: int, **options: Any) -> Image:
        """Add the layer of a channel, and return it."""
        key = (slice(None),) * self.axis + (channel,)
        return self._add(
            viewer,
            [level[key] for level in self.levels],
            self.title(channel),
            {"channel": channel},
            {},
            **options,
        )

    def add_projection(self, viewer: Viewer, chosen: Projection) -> Image:
        """Add an empty layer for a projection, which is yet to be computed; see `project`."""
        empty = [
            _zeros((*level.shape[: self.axis], *level.shape[self.axis + 1 :]))
            for level in self.levels
        ]
        known = {"channels": list(chosen.channels), "projection": chosen.how}
        title = chosen.title(self)
        return self._add(viewer, empty, title, known, {UNMADE: chosen}, contrast_limits=(0, 1))

    def _add(
        self,
        viewer: Viewer,
        levels: Sequence[ImageArray],
        title: str,
        known: Mapping[str, Any],
        more: Mapping[str, Any],
        **options: Any,
    ) -> Image:
        known = known if self.path is None else {**known, "path": self.path}
        # At once: whoever hears of a new layer looks what it is.
        return viewer.add_image(
            self.data(levels),
            name=f"{self.name} {title}",
            multiscale=self.multiscale,
            metadata={INPUT: known, SPLIT: self, **more},
            **options,
            **self.place,
        )


@dataclass(frozen=True)
class Projection:
    """Channels that become one.

    Attributes
    ----------
    how : str
        "max" or "mean".
    channels : tuple of int
        From 0.
    """

    how: str
    channels: tuple[int, ...]

    def title(self, split: Split) -> str:
        """Words for the name of a layer, such as "max of DAPI, GFP"."""
        if len(self.channels) == split.n:
            return f"{self.how} of channels"
        return f"{self.how} of {', '.join(split.title(channel) for channel in self.channels)}"

    def compute(self, split: Split, shown: tuple[int, ...] | None = None) -> list[ImageArray]:
        """Compute it where it is small and its channels are in memory; else make it lazy.

        It reads the channels, and may take seconds.

        Parameters
        ----------
        split : Split
        shown : tuple of int, optional
            Index of the plane that the window is going to ask for.
        """
        axis = split.axis
        many = [ManyChannels(level, axis, self.channels, self.how) for level in split.levels]
        levels = [_projected(level) for level in many]
        if (
            shown is not None and len(levels) == 1
        ):  # of a pyramid napari chooses a level that is small
            np.asarray(levels[0][shown])
        return levels


def split_of(layer: Layer) -> Split | None:
    """Give the split that a layer was made by; None of other layers."""
    split = layer.metadata.get(SPLIT)
    return split if isinstance(split, Split) else None


def unmade(layer: Layer) -> Projection | None:
    """Give the projection that an empty layer waits for."""
    chosen = layer.metadata.get(UNMADE)
    return chosen if isinstance(chosen, Projection) else None


def show_projection(layer: Image, levels: Sequence[ImageArray]) -> None:
    """Put the pixels of a projection into its empty layer."""
    split = split_of(layer)
    assert split is not None
    layer.data = split.data(levels)
    layer.metadata.pop(UNMADE, None)
    layer.metadata.pop(HIDDEN, None)


def drop_unmade(viewer: Viewer) -> None:
    """Take away a layer whose projection did not come, and show the channels again."""
    for layer in [one for one in viewer.layers if unmade(one) is not None]:
        split, hidden = split_of(layer), layer.metadata.get(HIDDEN, ())
        viewer.layers.remove(layer)
        for other in (one for one in hidden if one in viewer.layers):
            other.visible = True
            viewer.layers.selection.active = other
        others = [one for one in viewer.layers if split_of(one) is split]
        for other in others if not any(one.visible for one in others) else ():
            other.visible = "channel" in other.metadata.get(INPUT, {})


def split_channels(
    viewer: Viewer,
    layer: Image,
    axis: int,
    chosen: int,
    names: Sequence[str] = (),
    projection: Projection | None = None,
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
    projection : Projection, optional
        One more layer is there for it, empty for now, and is the active one; the channels are
        hidden below it.

    Returns
    -------
    napari image layer
        That of the chosen channel, or of the projection.
    """
    shown, camera = shown_plane(viewer, layer), camera_of(viewer)
    view = camera.center, camera.zoom
    position = viewer.layers.index(layer)
    split = Split.of(layer, axis, names)
    # What is hidden from the start is not drawn, for which the window would stand still.
    made = _add_channels(viewer, split, visible=projection is None)
    result = made[chosen]
    if projection is not None:
        result = split.add_projection(viewer, projection)
        made.append(result)
    for place, new in enumerate(made, position + 1):
        viewer.layers.move(viewer.layers.index(new), place)
    viewer.layers.remove(layer)
    # napari keeps the last sliders of a stack that loses an axis, whatever they stood for.
    show_plane(viewer, result, shown[:axis] + shown[axis + 1 :])
    camera.center, camera.zoom = view  # which napari resets where an axis goes
    viewer.layers.selection.active = result
    return result


def choose_channel(
    viewer: Viewer, layer: Image, channel: int, projection: Projection | None = None
) -> Image:
    """Give another channel, or projection, of the image that a layer was split off.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari image layer
        With a `Split`.
    channel : int
        From 0; not looked at where there is a projection.
    projection : Projection, optional

    Returns
    -------
    napari image layer
        Where it is another one it is active, and shown; it was added where it was not there.
    """
    split = split_of(layer)
    assert split is not None
    wanted = (
        {"channel": channel}
        if projection is None
        else {"channels": list(projection.channels), "projection": projection.how}
    )
    for other in viewer.layers:
        known = other.metadata.get(INPUT, {})
        if split_of(other) is split and all(known.get(k) == v for k, v in wanted.items()):
            result: Image = other
            break
    else:
        result = _add_above(viewer, layer, split, channel, projection)
    was_projection = "projection" in layer.metadata.get(INPUT, {})
    if result is not layer:
        seen = [one for one in viewer.layers if one.visible]
        if projection is not None or was_projection:
            layer.visible = False  # it would hide the other, or shine through
        _hide_results(viewer, layer)
        if unmade(result) is not None:  # a run that is cancelled shows them again
            result.metadata[HIDDEN] = [one for one in seen if not one.visible]
        result.visible = True
        viewer.layers.selection.active = result
    return result


def _hide_results(viewer: Viewer, image: Image) -> None:
    """Hide the cells of an image, which would lie over those of another channel."""
    for layer in viewer.layers:
        if layer.metadata.get(OURS, {}).get("image") == image_id(image):
            layer.visible = False


def _add_above(
    viewer: Viewer, layer: Image, split: Split, channel: int, projection: Projection | None
) -> Image:
    added = (
        split.add(viewer, channel)
        if projection is None
        else split.add_projection(viewer, projection)
    )
    viewer.layers.move(viewer.layers.index(added), viewer.layers.index(layer) + 1)
    return added


def _add_channels(viewer: Viewer, split: Split, visible: bool) -> list[Image]:
    """Add a layer for each channel."""
    colors = ("gray",) if split.n == 1 else COLORS
    return [
        split.add(
            viewer,
            channel,
            colormap=colors[channel % len(colors)],
            blending="additive" if channel else "translucent_no_depth",
            visible=visible,
        )
        for channel in range(split.n)
    ]


def _projected(many: ManyChannels) -> ImageArray:
    """Compute a projection where it is small and its channels are in memory; else part by part."""
    key = (slice(None),) * many.axis + (0,)
    if isinstance(many.data, np.ndarray) and many.size <= LARGEST_AT_ONCE:
        pixels: ImageArray = many[key]
        return pixels
    import dask.array

    _ = many.limits  # read in this thread, and not in that of the window
    chunks = (1,) * (many.ndim - 2) + (1024, 1024)
    # Without a name dask would read all of it to make one.
    array = dask.array.from_array(ReadAhead(many), chunks, name=False)  # type: ignore[no-untyped-call]
    lazy: ImageArray = array[key]
    return lazy


def _zeros(shape: Sequence[int]) -> ImageArray:
    """Zeros that take no memory, however many there are."""
    return np.broadcast_to(np.float32(0), tuple(shape))


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
