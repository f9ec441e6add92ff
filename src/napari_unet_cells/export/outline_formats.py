"""Outlines of labels in the formats of other programs: ImageJ, QuPath, COCO.

Coordinates are pixels, (0, 0) is the upper left corner of the upper left pixel, and all run
along the edges of pixels: each program fills them to the very same labels.

A file is written outline by outline, so that there may be more of them than the memory holds::

    with geojson_file(path, labels.shape, "YX", record) as add:
        add({}, outlines(labels))
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi

from napari_unet_cells.core.labels import UNKNOWN
from napari_unet_cells.core.outlines import AddOutlines, Outline, Ring, fill, outlines
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.layers.metadata import CLASSES

#: Opens a file: path, shape of the labels, their axes, their record.
OpenOutlines = Callable[
    [Path, tuple[int, ...], str, Mapping[str, Any]], AbstractContextManager[AddOutlines]
]


def write_outlines(
    path: Path,
    open_file: OpenOutlines,
    labels: NDArray[Any],
    axes: str,
    record: Mapping[str, Any],
) -> None:
    """Write the outlines of labels in memory.

    Parameters
    ----------
    path : Path
    open_file : callable
        Of the format: `roi_file`, `geojson_file` or `coco_file`.
    labels : integer array
        One axis per letter of `axes`, of "TZYX".
    axes : str
    record : mapping
        See `layers.export_source.export_record`.
    """
    with open_file(path, labels.shape, axes, record) as add:
        for index in np.ndindex(labels.shape[:-2]):
            add(dict(zip(axes[:-2], index, strict=True)), outlines(labels[index]))


def _class_names(record: Mapping[str, Any]) -> Sequence[str]:
    """Names by value where the labels are classes; empty where they are cells."""
    names: Sequence[str] = record.get("classes", ()) if record.get("role") == CLASSES else ()
    return names


def _name_of(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else f"class {label}"


def _known(found: Iterable[Outline], names: Sequence[str]) -> Iterator[Outline]:
    """Leave out, of classes, what nobody annotated."""
    return (outline for outline in found if not (names and outline.label == UNKNOWN))


@contextmanager
def roi_file(
    path: Path, shape: tuple[int, ...], axes: str, record: Mapping[str, Any]
) -> Iterator[AddOutlines]:
    """Open a zip of ImageJ ROIs, one for each connected part of a label in a plane.

    A part with holes is a composite ROI, any other a polygon; each is named by its label, and
    stands on its slice. The format: ImageJ's `RoiEncoder`, as the library roifile writes it.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        Of the labels.
    axes : str
        One letter for each axis, of "TZYX".
    record : mapping
        See `layers.export_source.export_record`.

    Yields
    ------
    callable (index, outlines) -> None
        See `core.outlines.AddOutlines`. Planes come one after the other.
    """
    names = _class_names(record)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:

        def add(index: Mapping[str, int], found: Iterable[Outline]) -> None:
            where = "".join(f"_{axis.lower()}{i + 1}" for axis, i in index.items())
            for outline in _known(found, names):
                for number, polygon in enumerate(outline.polygons, 1):
                    roi = _roi(polygon, index)
                    roi.name = str(outline.label)
                    part = f"_{number}" if len(outline.polygons) > 1 else ""
                    file.writestr(f"{outline.label}{where}{part}.roi", roi.tobytes())

        yield add


def _roi(polygon: Sequence[Ring], index: Mapping[str, int]) -> ImagejRoi:
    roi = ImagejRoi.frompoints(polygon[0])
    roi.roitype = ROI_TYPE.POLYGON
    # `frompoints` takes the points for pixels, and they are corners of pixels.
    roi.right, roi.bottom = roi.right - 1, roi.bottom - 1
    if len(polygon) > 1:
        _make_composite(roi, polygon)
    if len(index) == 1:  # ImageJ counts the slices of a simple stack, whatever they are
        (roi.position,) = (i + 1 for i in index.values())
    elif index:
        roi.z_position, roi.t_position = index["Z"] + 1, index["T"] + 1
    return roi


def _make_composite(roi: ImagejRoi, polygon: Sequence[Ring]) -> None:
    """Turn a polygon into a path of several rings: 0 moves, 1 draws a line, 4 closes."""
    path: list[float] = []
    for ring in polygon:
        (x, y), *others = ring.tolist()
        path += [0, x, y, *(value for corner in others for value in (1, *corner)), 4]
    roi.roitype = ROI_TYPE.RECT
    roi.integer_coordinates = roi.subpixel_coordinates = None
    roi.n_coordinates = 0
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)


def _packed(value: Any) -> str:
    """Give JSON on one line: thousands of corners are nothing to read."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


class _JsonList:
    """Members of a JSON list that are written one by one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = 0

    def add(self, member: Any) -> None:
        """Write one more."""
        self._file.write("," * (self.count > 0) + _packed(member))
        self.count += 1


@contextmanager
def geojson_file(
    path: Path, shape: tuple[int, ...], axes: str, record: Mapping[str, Any]
) -> Iterator[AddOutlines]:
    """Open a file of GeoJSON (RFC 7946), with what QuPath adds to it.

    Cells become QuPath's cells, classes its annotations of these classes. As QuPath writes it
    (`ROITypeAdapters`), the plane is a member of the geometry, unless it is the first: c is -1
    for all channels, z and t count from 0.

    Parameters
    ----------
    path, shape, axes, record
        See `roi_file`.
    """
    names = _class_names(record)
    with open(path, "w", encoding="utf-8") as file:
        features = _JsonList(file)

        def add(index: Mapping[str, int], found: Iterable[Outline]) -> None:
            for outline in _known(found, names):
                features.add(_feature(outline, index, names))

        file.write('{"type":"FeatureCollection","features":[')
        yield add
        file.write("]}\n")


def _feature(outline: Outline, index: Mapping[str, int], names: Sequence[str]) -> dict[str, Any]:
    if names:
        kind = {"name": _name_of(outline.label, names)}
        properties: dict[str, Any] = {"objectType": "annotation", "classification": kind}
    else:
        properties = {"objectType": "cell", "name": str(outline.label)}
    geometry = _geometry(outline) | _qupath_plane(index)
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _geometry(outline: Outline) -> dict[str, Any]:
    polygons = [[_closed(ring) for ring in polygon] for polygon in outline.polygons]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: Ring) -> list[list[int]]:
    corners: list[list[int]] = ring.tolist()
    return [*corners, corners[0]]


def _qupath_plane(index: Mapping[str, int]) -> dict[str, Any]:
    z, t = index.get("Z", 0), index.get("T", 0)
    return {"plane": {"c": -1, "z": z, "t": t}} if z or t else {}


@contextmanager
def coco_file(
    path: Path, shape: tuple[int, ...], axes: str, record: Mapping[str, Any]
) -> Iterator[AddOutlines]:
    """Open a COCO data set, each plane an image of its own.

    Labels without holes are polygons; others are run lengths (uncompressed, column by column),
    since COCO's polygons have no holes. The format: https://cocodataset.org/#format-data

    Parameters
    ----------
    path, shape, axes, record
        See `roi_file`.
    """
    names, size = _class_names(record), (shape[-2], shape[-1])
    planes = [dict(zip(axes[:-2], index, strict=True)) for index in np.ndindex(shape[:-2])]
    ids = {tuple(index.values()): number for number, index in enumerate(planes, 1)}
    known = set[int]()
    with open(path, "w", encoding="utf-8") as file:
        annotations = _JsonList(file)

        def add(index: Mapping[str, int], found: Iterable[Outline]) -> None:
            image_id = ids[tuple(index.values())]
            for outline in _known(found, names):
                if names:
                    known.add(outline.label)
                annotations.add(
                    {
                        "id": annotations.count + 1,
                        "image_id": image_id,
                        "category_id": outline.label if names else 1,
                        "area": outline.area,
                        **_segmentation(outline, size),
                        "iscrowd": 0,
                        "label": outline.label,
                    }
                )

        about = {"description": "Exported by napari-unet-cells", "provenance": jsonable(record)}
        file.write(f'{{"info":{_packed(about)},"licenses":[],')
        file.write(f'"images":{_packed(_images(record, size, planes))},"annotations":[')
        yield add
        file.write(f'],"categories":{_packed(_categories(known, names))}}}\n')


def _images(
    record: Mapping[str, Any], size: tuple[int, int], planes: Sequence[Mapping[str, int]]
) -> list[dict[str, Any]]:
    source = record.get("source", {})
    file_name = Path(source.get("path") or source.get("layer") or record.get("layer", "")).name
    images: list[dict[str, Any]] = []
    for image_id, plane in enumerate(planes, 1):
        index = {axis.lower(): i for axis, i in plane.items()}
        image = {"id": image_id, "file_name": file_name, "width": size[1], "height": size[0]}
        images.append(image | ({"plane": index} if index else {}))
    return images


def _categories(known: set[int], names: Sequence[str]) -> list[dict[str, Any]]:
    if not names:
        return [{"id": 1, "name": "cell"}]
    ids = sorted(known | set(range(1, len(names))))
    return [{"id": label, "name": _name_of(label, names)} for label in ids]


def _segmentation(outline: Outline, shape: tuple[int, int]) -> dict[str, Any]:
    corners = np.concatenate([polygon[0] for polygon in outline.polygons])
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    box = [left, top, right - left, bottom - top]
    if all(len(polygon) == 1 for polygon in outline.polygons):
        flat = [polygon[0].ravel().tolist() for polygon in outline.polygons]
        return {"bbox": box, "segmentation": flat}
    origin = np.array([left, top], np.int32)
    moved = [[ring - origin for ring in polygon] for polygon in outline.polygons]
    inside = fill(moved, (bottom - top, right - left))
    return {"bbox": box, "segmentation": _run_lengths(inside, top, left, shape)}


def _run_lengths(
    inside: NDArray[np.bool_], top: int, left: int, shape: tuple[int, int]
) -> dict[str, Any]:
    """Count pixels outside and inside by turns, down one column after another."""
    height, width = shape
    x, y = np.nonzero(inside.T)
    at = (x + left) * height + y + top
    cuts = np.flatnonzero(np.diff(at) != 1)
    starts = at[np.append(0, cuts + 1)]
    ends = at[np.append(cuts, -1)] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [height * width]])).tolist()
    return {"size": [height, width], "counts": counts}
