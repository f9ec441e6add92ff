"""Arrays in .npz files: their headers are checked before any memory is asked for."""

from __future__ import annotations

import ast
import math
import re
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.untrusted.regular import open_regular
from napari_unet_cells.untrusted.rules import Fields, Malformed, flag, items, text, whole

#: Arrays of a file, and bytes of all: the largest network has a tenth.
MOST_ARRAYS, MOST_BYTES = 10_000, 2**33

#: Bytes of the header of an array, which says type, order and shape.
_LONGEST_HEADER = 4096

_MAGIC = b"\x93NUMPY"

#: Booleans, whole numbers and floats; no objects, which may hold programs.
_PLAIN_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file by their names.

    Parameters
    ----------
    path : Path
        As `numpy.savez` writes it.

    Raises
    ------
    Malformed
        Where it is no such file, claims more than it holds, or holds other than plain numbers.
    OSError
        Where the disk refuses.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MOST_ARRAYS:
                raise Malformed(f"it holds {len(members)} arrays, too many for a network")
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise Malformed(f"it holds more than {MOST_BYTES // 2**30} GB")
            return {m.filename.removesuffix(".npy"): _read(archive, m) for m in members}
    except UserError as error:
        raise Malformed(str(error)) from error
    except MemoryError as error:
        raise Malformed("it does not fit into the memory") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise Malformed(f"it is no .npz file of numpy, or damaged: {error}") from error


def numbered_arrays(path: Path) -> list[NDArray[Any]]:
    """Read arrays that were written without names, in their order; see `read_arrays`."""
    arrays = read_arrays(path)
    try:
        return [arrays[f"arr_{index}"] for index in range(len(arrays))]
    except KeyError as error:
        raise Malformed(f"it has no array {error}") from error


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        dtype, is_fortran, shape, size = _read_header(stream)
        n_bytes = math.prod(shape) * dtype.itemsize
        if size + n_bytes != member.file_size:
            raise Malformed(
                f"{member.filename!r:.60} claims {n_bytes} bytes and holds "
                f"{max(0, member.file_size - size)}"
            )
        data = stream.read(n_bytes)
    if len(data) != n_bytes:
        raise Malformed(f"{member.filename!r:.60} ends too early")
    array = np.frombuffer(bytearray(data), dtype)
    return array.reshape(shape, order="F" if is_fortran else "C")


def _read_header(stream: IO[bytes]) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Give type, order, shape, and the length of what stands before the numbers."""
    start = stream.read(8)
    width = 2 if start[6:7] == b"\x01" else 4
    packed = stream.read(width)
    if not start.startswith(_MAGIC) or len(start) + len(packed) != 8 + width:
        raise Malformed("it holds what is no array of numpy")
    (length,) = struct.unpack("<H" if width == 2 else "<I", packed)
    if length > _LONGEST_HEADER:
        raise Malformed(f"the header of an array has {length} bytes")
    try:
        header = Fields(ast.literal_eval(stream.read(length).decode("latin1").strip()))
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise Malformed("the header of an array makes no sense") from error
    name = header.take("descr", text(10))
    if not _PLAIN_TYPE.fullmatch(name):
        raise Malformed(f"an array holds other than plain numbers ({name!r})")
    shape = header.take("shape", items(whole(0, 2**40), 0, 8))
    is_fortran = header.take("fortran_order", flag)
    return np.dtype(name), is_fortran, shape, 8 + width + length
