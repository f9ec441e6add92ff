"""Sentences for files that cannot be read."""

from __future__ import annotations

import errno
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.untrusted.rules import printable

_READ_FAILURES = {
    errno.ENOENT: "does not exist. Check the name and the folder",
    errno.ENOTDIR: "does not exist. Check the name and the folder",
    errno.ENAMETOOLONG: "does not exist: no file has so long a name. Check the name",
    errno.EACCES: "may not be read by you. Ask its owner for the permission, or copy it",
    errno.EPERM: "may not be read by you. Ask its owner for the permission, or copy it",
    errno.EISDIR: "is a folder, not an image. Name a file in it",
}


def read_failure(path: Path, error: OSError) -> UserError:
    """Say why the operating system does not give the file out."""
    reason = _READ_FAILURES.get(
        error.errno or 0,
        f"could not be read ({error.strerror or error}). See that its disk is still "
        "connected, or copy it again",
    )
    return UserError(f"{path} {reason}.")


def damaged(path: Path, kind: str, error: Exception) -> UserError:
    """Say that a library made nothing of the file."""
    why = printable(str(error), 500)  # it may quote the file
    if kind.startswith("zarr"):
        return UserError(
            f"{path.name} cannot be read as a {kind}: it is damaged, or stored in a way that is "
            f"not known here ({why}). Copy the whole folder again from its source."
        )
    return UserError(
        f"{path.name} cannot be read as a {kind}: it is damaged, or stored in a way that is "
        f"not known here ({why}). Copy it again from its source, or open it in Fiji and "
        "save it as an uncompressed TIFF."
    )


def cut_off(path: Path, kind: str) -> UserError:
    """Say that the end of the file is missing."""
    return UserError(
        f"{path.name} cannot be read as a {kind}: the file ends too early (it may be a broken "
        "download or copy). Copy it again from its source, or, if Fiji opens it in full, "
        "save it there again."
    )


# what a file is that has an image's ending and is none: by its first bytes
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"ZISRAWFILE", "a Zeiss CZI file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"%PDF", "a PDF"),
    (b"<", "a web page or XML text"),
    (b"{", "a JSON text"),
)


def kind_named(path: Path) -> str:
    """Name the kind of file that an ending promises."""
    kind = path.suffix[1:].upper()
    return {"TIF": "TIFF", "JPG": "JPEG"}.get(kind, kind)


def kind_of(header: bytes) -> str:
    """Name what a file that is no image probably is."""
    if not header.strip(b"\0"):
        return "a broken copy, it begins with zeros only"
    named = (name for magic, name in _SIGNATURES if header.startswith(magic))
    is_text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in header)
    return next(named, "a text file" if is_text else "something else")
