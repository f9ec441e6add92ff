"""Outlines of labels in the formats of other programs: ImageJ, QuPath, COCO.

Coordinates are pixels, (0, 0) is the upper left corner of the upper left pixel, and all run
along the edges of pixels: each program fills them to the very same labels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi

from napari_unet_cells.core.labels import UNKNOWN
from napari_unet_cells.core.outlines import Outline, Ring, fill, outlines
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.layers.metadata import CLASSES


@dataclass(frozen=True)
class _Plane:
    """A plane of labels, and its index along the axes before (y, x), such as {"Z": 3}."""

    labels: NDArray[Any]
    index: Mapping[str, int]

    def outlines(self, record: Mapping[str, Any]) -> list[Outline]:
        """Trace it; of classes, what nobody annotated is left out."""
        is_class = bool(_class_names(record))
        return [o for o in outlines(self.labels) if not (is_class and o.label == UNKNOWN)]


def _planes(labels: NDArray[Any], axes: str) -> Iterator[_Plane]:
    for index in np.ndindex(labels.shape[:-2]):
        yield _Plane(labels[index], dict(zip(axes[:-2], index, strict=True)))


def _class_names(record: Mapping[str, Any]) -> Sequence[str]:
    """Names by value where the labels are classes; empty where they are cells."""
    names: Sequence[str] = record.get("classes", ()) if record.get("role") == CLASSES else ()
    return names


def _name_of(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else f"class {label}"


def write_rois(path: Path, labels: NDArray[Any], axes: str, record: Mapping[str, Any]) -> None:
    """Write a zip of ImageJ ROIs, one for each connected part of a label in a plane.

    A part with holes is a composite ROI, any other a polygon; each is named by its label, and
    stands on its slice. The format: ImageJ's `RoiEncoder`, as the library roifile writes it.

    Parameters
    ----------
    path : Path
    labels : integer array
        One axis per letter of `axes`, of "TZYX".
    axes : str
    record : mapping
        See `layers.export_source.export_record`.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for plane in _planes(labels, axes):
            where = "".join(f"_{axis.lower()}{i + 1}" for axis, i in plane.index.items())
            for outline in plane.outlines(record):
                for number, polygon in enumerate(outline.polygons, 1):
                    roi = _roi(polygon, plane.index)
                    roi.name = str(outline.label)
                    part = f"_{number}" if len(outline.polygons) > 1 else ""
                    file.writestr(f"{outline.label}{where}{part}.roi", roi.tobytes())


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


def geojson(labels: NDArray[Any], axes: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Give the labels of all planes as GeoJSON (RFC 7946), with what QuPath adds to it.

    Cells become QuPath's cells, classes its annotations of these classes. As QuPath writes it
    (`ROITypeAdapters`), the plane is a member of the geometry, unless it is the first: c is -1
    for all channels, z and t count from 0.

    Parameters
    ----------
    labels, axes, record
        See `write_rois`.
    """
    names = _class_names(record)
    features = []
    for plane in _planes(labels, axes):
        for outline in plane.outlines(record):
            if names:
                kind = {"name": _name_of(outline.label, names)}
                properties: dict[str, Any] = {"objectType": "annotation", "classification": kind}
            else:
                properties = {"objectType": "cell", "name": str(outline.label)}
            geometry = _geometry(outline) | _qupath_plane(plane.index)
            features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


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


def coco(labels: NDArray[Any], axes: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Give the labels as a COCO data set, each plane an image of its own.

    Labels without holes are polygons; others are run lengths (uncompressed, column by column),
    since COCO's polygons have no holes. The format: https://cocodataset.org/#format-data

    Parameters
    ----------
    labels, axes, record
        See `write_rois`.
    """
    names = _class_names(record)
    source = record.get("source", {})
    file_name = Path(source.get("path") or source.get("layer") or record.get("layer", "")).name
    height, width = labels.shape[-2:]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found = set()
    for image_id, plane in enumerate(_planes(labels, axes), 1):
        index = {axis.lower(): i for axis, i in plane.index.items()}
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        images[-1] |= {"plane": index} if index else {}
        for outline in plane.outlines(record):
            found.add(outline.label)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": outline.label if names else 1,
                    "area": outline.area,
                    **_segmentation(outline, (height, width)),
                    "iscrowd": 0,
                    "label": outline.label,
                }
            )
    categories = [{"id": 1, "name": "cell"}]
    if names:
        ids = sorted(found | set(range(1, len(names))))
        categories = [{"id": label, "name": _name_of(label, names)} for label in ids]
    return {
        "info": {"description": "Exported by napari-unet-cells", "provenance": jsonable(record)},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


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
