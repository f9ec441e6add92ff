"""Where the user's own things lie."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def user_folder() -> Path:
    """Folder of models and sessions; the variable ``NAPARI_UNET_CELLS_HOME`` moves it.

    It is not made here: who writes into it makes it.
    """
    home = os.environ.get("NAPARI_UNET_CELLS_HOME")
    if home:
        return Path(home).expanduser()
    return Path(platformdirs.user_data_dir("napari-unet-cells", appauthor=False))
