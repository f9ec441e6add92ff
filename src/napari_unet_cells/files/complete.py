"""Check that a TIFF is all there: what is missing would be read as zeros, in silence."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import tifffile

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.failures import cut_off


class _TiffLayout(NamedTuple):
    """How a TIFF of one byte order and pointer width stores its page directories."""

    first: int
    offset: struct.Struct
    n_tags: struct.Struct
    entry: struct.Struct  # tag, type, number of values, value or its position


def _layout(order: str, first: int, count: str, offset: str) -> _TiffLayout:
    return _TiffLayout(
        first,
        struct.Struct(order + offset),
        struct.Struct(order + count),
        struct.Struct(order + "HH" + offset * 2),
    )


TIFF_LAYOUTS = {
    b"II*\0": _layout("<", 4, "H", "I"),
    b"MM\0*": _layout(">", 4, "H", "I"),
    b"II+\0": _layout("<", 8, "Q", "Q"),
    b"MM\0+": _layout(">", 8, "Q", "Q"),
}

# Only these decide on pixels and pixel size; private tags of sloppy writers may dangle.
# Description, strips, tiles, resolution, colour map, ImageJ's own.
_VITAL_TAGS = frozenset({270, 273, 279, 324, 325, 282, 283, 320, 50838, 50839})
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8} | {
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


def structure_end(file: BinaryIO, header: bytes) -> int:
    """Position behind the last byte of the page directories and the tags they point at.

    Beyond the file's end: it was cut off. tifffile only logs that and goes on with the
    pages and tags that are left, which would silently lose planes or the pixel size.
    """
    layout = TIFF_LAYOUTS[header[:4]]
    size = file.seek(0, os.SEEK_END)
    position = layout.first
    end = position + layout.offset.size
    seen: set[int] = set()
    while end <= size:
        file.seek(position)
        (position,) = layout.offset.unpack(file.read(layout.offset.size))
        if position == 0 or position in seen:
            break
        seen.add(position)
        end = max(end, position + layout.n_tags.size)
        if end > size:
            break
        file.seek(position)
        (n_tags,) = layout.n_tags.unpack(file.read(layout.n_tags.size))
        tags_end = position + layout.n_tags.size + n_tags * layout.entry.size
        end = max(end, tags_end + layout.offset.size)
        if end <= size:
            end = max(end, _values_end(file.read(n_tags * layout.entry.size), layout))
        position = tags_end
    return end


def _values_end(tags: bytes, layout: _TiffLayout) -> int:
    """Position behind the last value that is stored outside of a page directory."""
    end = 0
    for tag, dtype, count, where in layout.entry.iter_unpack(tags):
        n_bytes = count * _TYPE_SIZES.get(dtype, 0)
        if tag in _VITAL_TAGS and n_bytes > layout.offset.size:
            end = max(end, where + n_bytes)
    return end


def check_complete(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Refuse a series of which planes, strips or tiles are missing: they would read as 0."""
    pages = list(series.pages)
    if any(page is None for page in pages):
        raise UserError(
            f"{path.name} describes {len(pages)} planes, of which "
            f"{sum(page is None for page in pages)} are missing. If it is one file of a set, put "
            "the whole set into one folder; else open it in Fiji and save what is there."
        )
    # ImageJ stores large stacks behind one page; where they are cut off, tifffile falls back
    # to reading that page alone
    if tif.is_imagej and series.kind in {"generic", "uniform"}:
        raise cut_off(path, "TIFF")
    for page in pages:
        if page is not None and not _is_stored(page):
            raise cut_off(path, "TIFF")


def _is_stored(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """Whether all strips or tiles of a page lie within its file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if not any(offsets) or len(offsets) < math.prod(page.chunked):
        return False
    if page.compression == tifffile.COMPRESSION.NONE:
        # tifffile raises by itself where these are short; the stated length of the last
        # strip is often too large
        return True
    size = page.parent.filehandle.size
    return all(offset + count <= size for offset, count in zip(offsets, counts, strict=False))
