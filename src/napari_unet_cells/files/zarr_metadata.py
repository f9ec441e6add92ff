"""Find the image in a zarr folder and its axes, without reading a pixel.

Zarr keeps its metadata as JSON files, in two formats::

    x.zarr/.zgroup .zattrs   0/.zarray  0/0/0 ...     zarr 2, OME-Zarr up to 0.4
    x.zarr/zarr.json         0/zarr.json 0/c/0/0 ...  zarr 3, OME-Zarr 0.5

OME-Zarr (https://ngff.openmicroscopy.org) puts `multiscales` into the attributes of a group:
axes with units, and the resolution levels with their scales, the finest first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.failures import damaged, read_failure

ZARR_SUFFIX = ".zarr"
KIND = "zarr image"

_METADATA_FILES = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})

# by the number of axes, where the metadata do not name them
_GUESSED_AXES = {1: "", 2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
_LETTERS = {"time": "T", "channel": "C"}


@dataclass(frozen=True)
class ZarrImage:
    """The first image of a zarr folder.

    Attributes
    ----------
    levels : tuple of Path
        Folders of the arrays, the finest first.
    axes : str
        One letter for each axis of the arrays, of TCZYX where they are named so.
    lengths : mapping of str to (float, str)
        Pixel size of the finest level by "y", "x", "z", and its unit; only where a unit is
        stated.
    channel_names : tuple of str
    n_images : int
        Images in the folder.
    is_labels : bool
        Whether its numbers are said to be labels.
    """

    levels: tuple[Path, ...]
    axes: str
    lengths: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    n_images: int = 1
    is_labels: bool = False


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder that zarr wrote, or is named so."""
    if not path.is_dir():
        return False
    if path.suffix.lower() == ZARR_SUFFIX:
        return True
    return any((path / name).is_file() for name in _METADATA_FILES)


def is_metadata(path: Path) -> bool:
    """Whether a file holds metadata of zarr, not pixels."""
    return path.name in _METADATA_FILES


def zarr_image(path: Path) -> ZarrImage:
    """Find the image of a zarr folder, of a group in it, or of one of its arrays.

    Raises
    ------
    UserError
        Where the metadata are missing or damaged, or name several images to choose from.
    """
    try:
        return _image_of(path)
    except UserError:
        raise
    except OSError as error:
        raise read_failure(path, error) from error
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        # the JSON is none, or not what the specification says
        raise damaged(path, KIND, error) from error


@dataclass(frozen=True)
class _Node:
    """A group or an array.

    Attributes
    ----------
    shape : tuple of int, or None
        None for a group.
    ome : mapping
        Attributes of OME-Zarr.
    names : sequence of str or None
        Names of the axes of an array.
    """

    shape: tuple[int, ...] | None
    ome: Mapping[str, Any]
    names: Sequence[str | None]


def _node_of(folder: Path) -> _Node | None:
    """Read the metadata of one folder; None where zarr wrote none there."""
    if (folder / "zarr.json").is_file():
        document = _json(folder / "zarr.json")
        attributes = document.get("attributes", {})
        shape = document.get("shape") if document["node_type"] == "array" else None
        names = document.get("dimension_names") or ()
    elif any((folder / name).is_file() for name in (".zarray", ".zgroup", ".zattrs")):
        is_array = (folder / ".zarray").is_file()
        shape = _json(folder / ".zarray")["shape"] if is_array else None
        attributes = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
        names = attributes.get("_ARRAY_DIMENSIONS", ())  # as xarray writes it
    else:
        return None
    shape = None if shape is None else tuple(int(n) for n in shape)
    return _Node(shape, {**attributes, **attributes.get("ome", {})}, names)


def zarr_attributes(folder: Path) -> dict[str, Any]:
    """Give the attributes of a folder; empty where there are none or they are damaged."""
    try:
        node = _node_of(folder)
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {} if node is None else dict(node.ome)


def _json(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _image_of(path: Path) -> ZarrImage:
    node = _node_of(path)
    if node is None:
        raise UserError(
            f"{path.name} holds no zarr metadata (zarr.json, .zgroup or .zarray): it is "
            "incomplete, or no zarr. Copy the whole folder again, hidden files too."
        )
    if node.shape is not None:
        return _array_image(path, node)
    if node.ome.get("multiscales"):
        return _multiscale_image(path, node.ome)
    inside = _images_inside(path, node.ome)
    if not inside:
        raise _nothing_inside(path)
    if "plate" in node.ome or "well" in node.ome:
        kind, parts = ("plate", "wells") if "plate" in node.ome else ("well", "fields")
        n = len(node.ome[kind]["wells" if kind == "plate" else "images"])
        raise UserError(
            f"{path.name} is a {kind} of {n} {parts}. Name one image in it, such as "
            f"{path / inside[0]}."
        )
    return replace(_image_of(path / inside[0]), n_images=len(inside))


def _images_inside(path: Path, ome: Mapping[str, Any]) -> list[str]:
    """List the images of a group that is none itself, by their paths in it."""
    if "well" in ome:
        return [str(image["path"]) for image in ome["well"]["images"]]
    if "plate" in ome:
        for well in (str(well["path"]) for well in ome["plate"]["wells"]):
            node = _node_of(path / well)
            if node is not None and "well" in node.ome:
                return [f"{well}/{inside}" for inside in _images_inside(path / well, node.ome)]
        return []
    # bioformats2raw numbers them; its folder OME holds none
    numbered = sorted((p for p in path.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    nodes = [(p.name, _node_of(p)) for p in numbered]
    return [name for name, node in nodes if node is not None and node.ome.get("multiscales")]


def _nothing_inside(path: Path) -> UserError:
    arrays = sorted(p for p in path.iterdir() if p.is_dir() and _node_of(p) is not None)
    way_out = (
        f"Name an array in it, such as {arrays[0]}" if arrays else "Copy the whole folder again"
    )
    return UserError(f"{path.name} is a zarr group without an OME-Zarr image. {way_out}.")


def _multiscale_image(path: Path, ome: Mapping[str, Any]) -> ZarrImage:
    image = ome["multiscales"][0]
    levels = tuple(path / str(level["path"]) for level in image["datasets"])
    node = _node_of(levels[0])
    if node is None or node.shape is None:
        raise UserError(
            f"{path.name} is incomplete: its full resolution, {levels[0].relative_to(path)}, is "
            "missing. Copy the whole folder again."
        )
    n_axes = len(node.shape)
    names, units = _axes_of(image.get("axes"), n_axes)
    if len(names) != n_axes:
        raise ValueError(f"{len(names)} axes are described, and the array has {n_axes}")
    scale = _scale_of(image, n_axes)
    lengths = {
        name.lower(): (size, unit)
        for name, size, unit in zip(names, scale, units, strict=True)
        if name in "YXZ" and unit
    }
    channels = ome.get("omero", {}).get("channels", ())
    labels = tuple(str(channel.get("label", "")) for channel in channels)
    channel_names = labels if any(labels) and "C" in names else ()
    n_images, is_labels = len(ome["multiscales"]), "image-label" in ome
    return ZarrImage(levels, names, lengths, channel_names, n_images, is_labels)


def _axes_of(axes: Sequence[Any] | None, n: int) -> tuple[str, list[str]]:
    """Letters and units of the axes; before version 0.3 they have no names, before 0.4 no unit."""
    if axes is None:
        return "TCZYX"[-n:] if n <= 5 else "", [""] * n
    described = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in axes]
    letters = [_LETTERS.get(a.get("type", ""), str(a["name"])[:1].upper()) for a in described]
    return "".join(letters), [str(a.get("unit") or "") for a in described]


def _scale_of(image: Mapping[str, Any], n: int) -> list[float]:
    """Scale of the finest level: its own, times that of all levels."""
    transforms = [
        *image["datasets"][0].get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ]
    scales = [[float(s) for s in t["scale"]] for t in transforms if t.get("type") == "scale"]
    return [prod(of_axis) for of_axis in zip(*scales, strict=True)] if scales else [0.0] * n


def _array_image(path: Path, node: _Node) -> ZarrImage:
    """One array: a level of the image around it, or an array without such an image."""
    for group in path.parents[:3]:
        around = _node_of(group)
        if around is None:
            break
        for image in around.ome.get("multiscales", ()):
            for level in image["datasets"]:
                if group / str(level["path"]) == path:
                    # the level alone, with its own scale
                    alone = {**image, "datasets": [level]}
                    return _multiscale_image(group, {**around.ome, "multiscales": [alone]})
    assert node.shape is not None
    return ZarrImage((path,), _guessed_axes(path, node.shape, node.names))


def _guessed_axes(path: Path, shape: tuple[int, ...], names: Sequence[str | None]) -> str:
    """Letters of an array that no image describes: as its axes are named, else by their number."""
    letters = "".join((name or "?")[0].upper() for name in names)
    if len(letters) == len(shape) == len(set(letters)) and letters.endswith("YX"):
        return letters
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
        return "YXC"
    axes = _GUESSED_AXES.get(len(shape), "")
    if not axes:
        raise UserError(
            f"{path.name} is an array of {len(shape)} axes, and it is not known what they are. "
            "Save it as an OME-Zarr with at most the axes (t, c, z, y, x)."
        )
    return axes
