"""Image and label files on disk.

Reading keeps what a measurement needs: the pixels as they were stored, the meaning of
each axis, the pixel size and its unit; what is too large for the memory stays on the disk
until it is sliced. Writing is atomic, and labels come out as TIFFs
that Fiji opens with the right pixel size and that say how they were made::

    file ──read_image──> Image(data, axes, pixel_size, unit)
                                     │  segmentation
    file <─write_labels── labels ────┘  + provenance

Every mistake of the user and every refusal of the disk becomes a `UserError`: a
sentence that names the file, what is wrong with it, and the way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet_cells.files.atomic import (
        FileExists,
        atomic_write,
        check_folder,
        make_folder,
        refuse_existing,
    )
    from napari_unet_cells.files.axes import FileAxes, file_axes
    from napari_unet_cells.files.file_set import write_together
    from napari_unet_cells.files.find import find_images
    from napari_unet_cells.files.image import Image
    from napari_unet_cells.files.labels import read_provenance, write_labels
    from napari_unet_cells.files.lazy import LazyArray
    from napari_unet_cells.files.pixel_size import pixel_size_of
    from napari_unet_cells.files.reading import IMAGE_SUFFIXES, read_image
    from napari_unet_cells.files.records import write_json
    from napari_unet_cells.files.tables import write_table

__all__ = [
    "IMAGE_SUFFIXES",
    "FileAxes",
    "FileExists",
    "Image",
    "LazyArray",
    "atomic_write",
    "check_folder",
    "file_axes",
    "find_images",
    "make_folder",
    "pixel_size_of",
    "read_image",
    "read_provenance",
    "refuse_existing",
    "write_json",
    "write_labels",
    "write_table",
    "write_together",
]

_HOMES = {
    "FileAxes": "axes",
    "FileExists": "atomic",
    "IMAGE_SUFFIXES": "reading",
    "Image": "image",
    "LazyArray": "lazy",
    "atomic_write": "atomic",
    "check_folder": "atomic",
    "file_axes": "axes",
    "find_images": "find",
    "make_folder": "atomic",
    "pixel_size_of": "pixel_size",
    "read_image": "reading",
    "read_provenance": "labels",
    "refuse_existing": "atomic",
    "write_json": "records",
    "write_labels": "labels",
    "write_table": "tables",
    "write_together": "file_set",
}


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: who writes JSON needs no TIFF."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
