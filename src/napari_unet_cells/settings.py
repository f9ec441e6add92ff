"""Where the user's own things lie, and what she prefers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True)
class Preferences:
    """What the user set in napari's preferences; elsewhere the defaults.

    Attributes
    ----------
    default_model : str
        Name of the model that is chosen when the dock opens; empty for the shipped one.
    models_folder : str
        Where her own models lie; empty for the folder ``models`` in `user_folder`.
    results_folder : str
        Where exports are proposed; empty for the folder of the image.
    segment_key, cancel_key, table_key, next_key, approve_key : str
        Shortcuts as napari writes them, such as ``Shift-S``; empty for none.
    """

    default_model: str = ""
    models_folder: str = ""
    results_folder: str = ""
    segment_key: str = "Shift-S"
    cancel_key: str = "Shift-C"
    table_key: str = "Shift-T"
    next_key: str = "N"
    approve_key: str = "Shift-N"


_preferences = Preferences()


def preferences() -> Preferences:
    """Give what the user prefers."""
    return _preferences


def set_preferences(new: Preferences) -> None:
    """Use other preferences from now on."""
    global _preferences
    _preferences = new


def user_folder() -> Path:
    """Folder of models and sessions; the variable ``NAPARI_UNET_CELLS_HOME`` moves it.

    It is not made here: who writes into it makes it.
    """
    home = os.environ.get("NAPARI_UNET_CELLS_HOME")
    if home:
        return Path(home).expanduser()
    return Path(platformdirs.user_data_dir("napari-unet-cells", appauthor=False))


def models_folder() -> Path:
    """Folder of the user's own models."""
    chosen = _preferences.models_folder
    return Path(chosen).expanduser() if chosen else user_folder() / "models"
