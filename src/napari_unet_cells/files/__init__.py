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

from napari_unet_cells.files.atomic import (
    FileExists,
    atomic_write,
    make_folder,
    refuse_existing,
    write_together,
)
from napari_unet_cells.files.axes import FileAxes, file_axes
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
