"""Names that become paths: checked where they do, so that none leads out of its folder."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from napari_unet_cells.untrusted.rules import Malformed, shown, text

#: Bytes that a file system takes for a name; some take as many characters.
LONGEST_NAME = 255

#: Bytes of a path within a folder.
LONGEST_PATH = 1024

#: What Windows refuses in a name; a colon leads to another disk there.
_REFUSED = frozenset('<>:"|?*')

#: Another disk, under Windows.
_DRIVE = re.compile("[A-Za-z]:")

#: Names of devices under Windows, whatever their ending.
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)


def file_name(value: object) -> str:
    """Take the name of a file that is about to be made: what every file system takes, and no path.

    Raises
    ------
    Malformed
    """
    name = text(LONGEST_NAME, 1)(value)
    problem = _leads_elsewhere(name)
    if "/" in name or "\\" in name:
        problem = "which is a path"
    elif _REFUSED.intersection(name) or name[-1] in " .":
        problem = "which holds characters that are not for names"
    elif name.partition(".")[0].casefold() in _DEVICES:
        problem = "which is a device under Windows"
    if problem:
        raise Malformed(f"must be the name of a file, not {shown(name)}, {problem}")
    return name


def path_inside(value: object) -> str:
    """Take the path of a file within a folder, such as ``images/a.tif``.

    Raises
    ------
    Malformed
        Where it leads out of the folder, to the folder itself, or is no name of a file.
    """
    path = text(LONGEST_PATH, 1)(value)
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    problem = next(filter(None, map(_leads_elsewhere, parts)), "")
    is_absolute = path[0] in "/\\" or _DRIVE.match(path) is not None
    if is_absolute or not parts:
        problem = "which leads elsewhere"
    if problem:
        raise Malformed(f"must name a file inside the folder, not {shown(path)}, {problem}")
    return "/".join(parts) if "\\" not in path else path


def _leads_elsewhere(part: str) -> str:
    """Say why a name, or one part of a path, is that of no file; empty where it is fine."""
    if part in ("", ".", ".."):
        return "which leads elsewhere"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in part):
        return "which holds characters that are none"
    if len(part.encode()) > LONGEST_NAME:
        return f"which is longer than {LONGEST_NAME} bytes"
    return ""


def is_link(path: Path) -> bool:
    """Whether a path is a link, or a junction of Windows: what is written there lands elsewhere."""
    is_junction = getattr(path, "is_junction", lambda: False)  # from Python 3.12 on
    return path.is_symlink() or bool(is_junction())
