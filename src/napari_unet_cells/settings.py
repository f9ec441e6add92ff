"""Folders, preferences and last-used dialog values of the user."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed, plain_mapping

#: What may be preferred: the best one there is, or one of `models.runtimes.table.RUNTIMES`.
RUNTIME_NAMES = ("auto", "openvino", "tensorflow", "torch")


@dataclass(frozen=True)
class Preferences:
    """Preferences of the user as set in napari; elsewhere the defaults.

    Attributes
    ----------
    default_model : str
        Name of the model that is chosen when the dock opens; empty for the shipped one.
    models_folder : str
        Where the user's own models lie; empty for the folder ``models`` in `user_folder`.
    results_folder : str
        Where exports are proposed; empty for the folder of the image.
    runtime : str
        Library that computes networks, one of `RUNTIME_NAMES`.
    segment_key, cancel_key, table_key, next_key, approve_key : str
        Shortcuts as napari writes them, such as ``Shift-S``; empty for none.
    """

    default_model: str = ""
    models_folder: str = ""
    results_folder: str = ""
    runtime: str = "auto"
    segment_key: str = "Shift-S"
    cancel_key: str = "Shift-C"
    table_key: str = "Shift-T"
    next_key: str = "N"
    approve_key: str = "Shift-N"


_preferences = Preferences()


def preferences() -> Preferences:
    """Return the preferences in use."""
    return _preferences


def set_preferences(new: Preferences) -> None:
    """Replace the preferences in use."""
    global _preferences
    _preferences = new


def user_folder() -> Path:
    """Folder of models and sessions; the variable ``NAPARI_UNET_CELLS_HOME`` moves it.

    It is not made here: who writes into it makes it.
    """
    home = os.environ.get("NAPARI_UNET_CELLS_HOME")
    if home:
        return _expanded(home, "NAPARI_UNET_CELLS_HOME")
    return Path(platformdirs.user_data_dir("napari-unet-cells", appauthor=False))


def models_folder() -> Path:
    """Folder of the user's own models."""
    chosen = _preferences.models_folder
    return _expanded(chosen, "The folder of models") if chosen else user_folder() / "models"


def _expanded(path: str, what: str) -> Path:
    """Expand ``~``; a folder of that name in whatever folder is the current one is not meant."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{what} is {path}, and there is no user of this name. Name another folder."
        ) from error


#: Key of `recall`: folder of the dataset that was exported to, or retrained on, last.
LAST_DATASET = "retrain_dataset"


def recall(key: str) -> Any:
    """Give the last-used value of a key; None where there is none."""
    return _last_used().get(key)


def remember(key: str, value: Any) -> None:
    """Keep a last-used value that JSON can hold; where the disk refuses, it is lost."""
    values = _last_used()
    if values.get(key) == value:
        return
    with contextlib.suppress(OSError, UserError):
        user_folder().mkdir(parents=True, exist_ok=True)
        write_json(user_folder() / "choices.json", {**values, key: value}, overwrite=True)


def _last_used() -> dict[str, Any]:
    try:
        return plain_mapping(read_json(user_folder() / "choices.json"))
    except (OSError, Malformed):
        return {}
