"""Add restored labels and their image to a viewer. Without Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.corrections.restoring import Restored
from napari_unet_cells.files import file_axes
from napari_unet_cells.layers.image_planes import pixels_of
from napari_unet_cells.layers.metadata import (
    CLASSES,
    INPUT,
    OURS,
    REVIEW,
    file_of,
    image_id,
    set_input_metadata,
)
from napari_unet_cells.layers.reader import class_colors
from napari_unet_cells.layers.selection import image_layers
from napari_unet_cells.widgets.segment.channels import (
    Projection,
    split_channels,
    split_of,
    unmade,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer


def add_restored(viewer: ViewerModel, restored: Restored) -> Labels:
    """Add restored labels to a viewer, and their image where it is not open.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    restored : Restored

    Returns
    -------
    napari labels layer
        Editable and active; its corrections are saved where they were saved before.
    """
    described = restored.description
    image, problem = image_of(viewer, described.get("image"))
    metadata: dict[str, Any] = dict(described["metadata"])
    ours = dict(metadata.get(OURS, {}))
    if image is not None:
        ours["image"] = image_id(image)
    metadata |= {OURS: ours, REVIEW: restored.review}
    attributes: dict[str, Any] = {"name": described["name"], **described["place"]}
    if ours.get("role") == CLASSES:
        attributes["colormap"] = _class_colormap(ours, int(restored.labels.max()))
    restored.adopt()
    layer = viewer.add_labels(restored.labels, metadata=metadata, **attributes)
    viewer.layers.selection.active = layer
    if said := " ".join(filter(None, (problem, restored.problem))):
        show_warning(said)
    return layer


def waits_for_projection(image: Layer | None) -> bool:
    """Whether an image that was opened is empty until its channels are projected."""
    return image is not None and unmade(image) is not None and split_of(image) is not None


def compute_projection(image: Image) -> list[ImageArray]:
    """Compute what an image waits for; it may take seconds, and needs no viewer."""
    waiting, split = unmade(image), split_of(image)
    assert waiting is not None
    assert split is not None
    return waiting.compute(split)


def _class_colormap(ours: Mapping[str, Any], highest: int) -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    n_named = len(ours.get("provenance", {}).get("classes") or ())
    return DirectLabelColormap(color_dict=class_colors(max(n_named, highest + 1)))


def image_of(
    viewer: ViewerModel,
    described: Mapping[str, Any] | None,
    opener: Callable[[], list[Layer]] | None = None,
) -> tuple[Image | None, str]:
    """Give the open image of labels, else open its file; and a sentence if neither.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    described : mapping or None
        See `corrections.description.describe`; None where nothing is known of it.
    opener : callable, optional
        Adds what the file holds, in place of napari's reading it now.
    """
    if described is None:
        return None, ""
    path = described.get("path")
    if path is None:
        return None, (
            f"The labels were restored without their image '{described['name']}', which came "
            "from no file. Open it by hand to see both."
        )
    is_it = partial(_is_image, described=described)
    image = next(filter(is_it, image_layers(viewer.layers)), None)
    if image is not None:
        return image, ""
    if not Path(path).exists():
        return None, (
            f"The labels were restored without their image: there is no {path} any more. Where "
            "it was moved, open it by hand to see both."
        )
    try:
        image = _open(viewer, Path(path), described, opener)
    except Exception as error:  # whatever the reader of some plugin raises
        return None, f"The labels were restored without their image: {path} was not read ({error})."
    return image, "" if image is not None else (
        f"The labels were restored, but {path} holds no image of their size any more."
    )


def _is_image(layer: Image, described: Mapping[str, Any]) -> bool:
    typed = described.get("told") or {}
    same_file = file_of(layer)
    return (
        same_file is not None
        and same_file.absolute() == Path(described["path"])
        and list(pixels_of(layer).shape) == described["shape"]
        and all(
            layer.metadata.get(INPUT, {}).get(key) == typed.get(key)
            for key in ("channel", "channels", "projection")
        )
    )


def _open(
    viewer: ViewerModel,
    path: Path,
    described: Mapping[str, Any],
    opener: Callable[[], list[Layer]] | None,
) -> Image | None:
    """Open an image in the place it had, its channels split if they were."""
    plugin = described.get("reader") or "napari"
    added = viewer.open(str(path), plugin=plugin) if opener is None else opener()
    opened = [layer for layer in added if _is_plain_image(layer)]
    typed = dict(described.get("told") or {})
    shape = described["shape"]
    channel, how = typed.pop("channel", None), typed.pop("projection", "")
    projection = Projection(how, tuple(typed.pop("channels", ()))) if how else None
    if channel is not None or projection is not None:
        return _open_channel(viewer, opened, described, channel or 0, projection, typed)
    image = next((i for i in opened if list(pixels_of(i).shape) == shape), None)
    if image is not None:
        _put(image, described, typed)
    return image


def _open_channel(
    viewer: ViewerModel,
    opened: list[Image],
    described: Mapping[str, Any],
    channel: int,
    projection: Projection | None,
    typed: Mapping[str, Any],
) -> Image | None:
    for layer in opened:
        axis = _channel_axis(layer, described["shape"], Path(described["path"]))
        if axis is None:
            continue
        before = set(viewer.layers)
        names = file_axes(described["path"]).channel_names
        # A projection is empty for now: see `compute_projection`.
        image = split_channels(viewer, layer, axis, channel, names, projection)
        for made in set(viewer.layers) - before:
            _put(made, described, typed)
        return image
    return None


def _channel_axis(layer: Image, shape: list[int], path: Path) -> int | None:
    """Axis without which a layer has a shape; of several that which the file names."""
    whole = list(pixels_of(layer).shape)
    axes = [a for a in range(len(whole) - 2) if whole[:a] + whole[a + 1 :] == shape]
    letters = file_axes(path).letters if len(axes) > 1 else ""
    named = [axis for axis in axes if letters[axis : axis + 1] == "C"]
    return next(iter(named or axes), None)


def _is_plain_image(layer: Layer) -> bool:
    return layer in image_layers([layer])


def _put(image: Image, described: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Restore the place of an image, and the metadata that the user typed."""
    for name, value in (described.get("place") or {}).items():
        setattr(image, name, value)
    set_input_metadata(image, **typed)
