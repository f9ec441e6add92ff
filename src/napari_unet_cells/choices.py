"""What the user chose last time, kept in her folder; forgetting it does no harm."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.settings import user_folder


def recall(key: str) -> Any:
    """Give what was remembered under a key, None where there is nothing."""
    return _read().get(key)


def remember(key: str, value: Any) -> None:
    """Keep a value that JSON can hold; where the disk refuses, it is not kept."""
    chosen = _read()
    if chosen.get(key) == value:
        return
    with contextlib.suppress(OSError, UserError):
        user_folder().mkdir(parents=True, exist_ok=True)
        write_json(user_folder() / "choices.json", {**chosen, key: value}, overwrite=True)


def _read() -> dict[str, Any]:
    try:
        chosen = json.loads((user_folder() / "choices.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return chosen if isinstance(chosen, dict) else {}
