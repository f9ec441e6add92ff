"""Zarr on the disk whose chunks are there after a power cut, once they were written.

A mark, such as ``000001.done``, says that chunks hold what they should, and the disk may keep a
mark that was written after chunks which it has not kept. So chunks are flushed before.

zarr is imported where arrays are written: that takes half a second.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_unet_cells.files.atomic import sync


def synced(array: Path) -> Any:
    """Give a store of zarr for an array that is written to: what was set is on the disk.

    Parameters
    ----------
    array : Path
        Folder of the array.
    """
    return _store_class()(array)


@lru_cache(maxsize=1)
def _store_class() -> Any:
    from zarr.storage import LocalStore

    class SyncedStore(LocalStore):
        """Flush each file, and the folders that name it, before the next step."""

        async def set(self, key: str, value: Any) -> None:
            await super().set(key, value)
            await asyncio.to_thread(_flush, self.root, key)

        async def delete(self, key: str) -> None:
            was_there = (self.root / key).exists()
            await super().delete(key)
            if was_there:
                await asyncio.to_thread(_flush, self.root, key)

    return SyncedStore


def _flush(root: Path, key: str) -> None:
    file = root / key
    if file.exists():
        sync(file)
    for folder in file.parents:
        # on Windows a folder cannot be opened, and need not be
        with suppress(OSError):
            sync(folder)
        if folder == root:
            return
