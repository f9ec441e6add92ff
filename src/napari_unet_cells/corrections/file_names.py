"""File names of approved regions in a dataset.

::

    img_plane3_c1_y512-1024_x0-512-v2.tif     source, plane, channel, region, version
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_unet_cells.datasets.annotated_images import source_key
from napari_unet_cells.untrusted.dataset_record import DatasetRecord

#: Characters of a source's name that go into the names of its regions.
LONGEST_STEM = 60


def base_name(records: Sequence[DatasetRecord], record: DatasetRecord) -> str:
    """Name a region; a part of a checksum distinguishes sources of equal stem."""
    stem = stem_of(record.source)
    key = source_key(record.source)
    others = {
        _PLACE.sub("", bare_name(other)).casefold()
        for other in records
        if source_key(other.source) != key
    }
    checksum = hashlib.sha256(key.encode()).hexdigest()
    candidates = (stem, *(f"{stem}-{checksum[:n]}" for n in (6, 12, 64)))
    free = next(name for name in candidates if name.casefold() not in others)
    plane = "-".join(map(str, record.plane))
    channel, region = record.channel, record.region
    assert region is not None
    return (
        free
        + (f"_plane{plane}" if plane else "")
        + ("" if channel is None else f"_c{channel}")
        + f"_y{region.top}-{region.bottom}_x{region.left}-{region.right}"
    )


#: What `base_name` appends to the name of a source.
_PLACE = re.compile(r"(_plane[\d-]+)?(_c\d+)?_y\d+-\d+_x\d+-\d+$")


def bare_name(record: DatasetRecord) -> str:
    """Name without extension and version."""
    return Path(record.name).stem.removesuffix(f"-v{record.version}")


def stem_of(source: Mapping[str, Any]) -> str:
    """Name of the source, in characters that every file system accepts."""
    path = source.get("path")
    name = Path(path).stem if path else str(source.get("layer", ""))
    return re.sub(r"[^\w.-]+", "_", name).strip("._-")[:LONGEST_STEM] or "image"
