"""Records of how a result was made, as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet_cells.files.atomic import PathLike, atomic_write, with_ending


def write_json(path: PathLike, mapping: Mapping[str, Any], overwrite: bool = False) -> Path:
    """Write a mapping as indented JSON, atomically.

    Parameters
    ----------
    path : str or os.PathLike
        The target; ``.json`` is appended where it is missing.
    mapping : mapping
        Anything JSON can hold, and paths, dates and numpy numbers; NaN and infinity,
        which JSON has not, become null.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file as written, with its ending.

    Raises
    ------
    FileExists
        If the file exists and `overwrite` is False. Nothing is changed.
    UserError
        If it cannot be written; an older file stays whole.
    """
    target = json_path(path)
    text = json.dumps(jsonable(mapping), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(target, overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return target


def json_path(path: PathLike) -> Path:
    """Path that `write_json` writes to: with ``.json`` where it is missing."""
    return with_ending(path, frozenset({".json"}), ".json")


def jsonable(value: Any) -> Any:
    """Return the same value in JSON's own types."""
    if isinstance(value, Mapping):
        return {jsonable(str(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    # a name of a file that is no UTF-8 holds halves of characters, which no file can
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
