"""Formats that a large result is exported to, by the names of `export.exporters.EXPORTERS`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from types import MappingProxyType

from napari_unet_cells.export.exporters import EXPORTERS
from napari_unet_cells.export.outline_formats import coco_file, geojson_file, roi_file
from napari_unet_cells.segmentation.zarr_export import (
    LargeExport,
    write_mask,
    write_outlines,
    write_table,
    write_tracks,
)

#: Outlines that the ROI Manager of ImageJ lists, and a ZIP without extensions holds.
MOST_ROIS = 65_535

LARGE_EXPORTS: Mapping[str, Callable[[LargeExport], Generator[float, None, None]]] = (
    MappingProxyType(
        {
            "mask": write_mask,
            "table": write_table,
            "rois": partial(
                write_outlines,
                open_file=roi_file,
                most=MOST_ROIS,
                others=f"{EXPORTERS['geojson'].title} or {EXPORTERS['mask'].title}",
            ),
            "geojson": partial(write_outlines, open_file=geojson_file),
            "coco": partial(write_outlines, open_file=coco_file),
        }
    )
)

#: Those besides for a movie whose cells were tracked.
MOVIE_EXPORTS: Mapping[str, Callable[[LargeExport], Generator[float, None, None]]] = (
    MappingProxyType({"tracks": write_tracks})
)

_NO_TRACKS = "Its cells are not linked over time, so it has no tracks."

#: What is said of other formats, where the way out is not to export a part.
_INSTEAD: Mapping[str, str] = MappingProxyType({"tracks": _NO_TRACKS, "challenge": _NO_TRACKS})

_PART = (
    "For that take a part: press 'Edit this part' on the page Correct, and export the layer of the "
    "part."
)


def large_problem(name: str, is_tracked: bool = False) -> str | None:
    """Say why a large result is not exported to a format; None where it is.

    Parameters
    ----------
    name : str
        A key of `EXPORTERS`.
    is_tracked : bool
        Whether it is a movie whose cells were tracked.
    """
    written = {**LARGE_EXPORTS, **(MOVIE_EXPORTS if is_tracked else {})}
    if name in written:
        return None
    *titles, last = (EXPORTERS[known].title for known in written)
    return (
        f"Of so large a result {', '.join(titles)} or {last} is written, not "
        f"{EXPORTERS[name].title}. {_PART if is_tracked else _INSTEAD.get(name, _PART)}"
    )
