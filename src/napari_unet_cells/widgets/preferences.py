"""Load the plugin's preferences from napari, and bind its shortcuts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning

from napari_unet_cells.settings import RUNTIME_NAMES, Preferences, preferences, set_preferences
from napari_unet_cells.widgets.bound_keys import Bound, bind, unbind

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Name of the plugin, and key of the section of its manifest's ``configurations``.
PLUGIN, SECTION = "napari-unet-cells", "general"


def load_preferences() -> None:
    """Take over what the user set; what cannot be used is said, and the default taken."""
    stored = _stored()
    values = {field.name: str(getattr(stored, field.name, field.default)) for field in _FIELDS}
    for name in ("models_folder", "results_folder"):
        if values[name] and not os.path.isdir(os.path.expanduser(values[name])):
            show_warning(
                f"There is no folder {values[name]}, which the preferences name as {name}. Make "
                "it, or change it under File > Preferences; the default is used until then."
            )
            values[name] = ""
    values["runtime"] = values["runtime"].strip().lower() or "auto"
    if values["runtime"] not in RUNTIME_NAMES:
        show_warning(
            f"There is no runtime {values['runtime']}, which the preferences name. Choose one of "
            f"{', '.join(RUNTIME_NAMES)} under File > Preferences; auto is used until then."
        )
        values["runtime"] = "auto"
    set_preferences(Preferences(**values))


_FIELDS = fields(Preferences)


def _stored() -> Any:
    """Section of napari's settings; None with a napari that has none, or no manifest of ours."""
    try:
        from napari.settings import get_plugin_settings  # napari 0.9 and later

        return getattr(get_plugin_settings(PLUGIN), SECTION)
    except (ImportError, KeyError, AttributeError):
        return None


class Shortcuts:
    """Keys that work while no text field has the focus.

    ``keybindings`` of a plugin's manifest do nothing in napari 0.9, so the viewer's own are
    used. A text field that has the focus keeps its keys.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    actions : mapping of str to callable
        Fields of `Preferences` that hold keys, and what they do.
    """

    def __init__(self, viewer: Viewer, actions: Mapping[str, Callable[[], object]]) -> None:
        self._viewer = viewer
        self._bound: list[Bound] = []
        for name, action in actions.items():
            key = getattr(preferences(), name)
            if key:
                self._bind(name, key, action)

    def _bind(self, name: str, key: str, action: Callable[[], object]) -> None:
        def pressed(viewer: Viewer) -> None:
            action()

        if not _is_key(key):
            default = next(str(field.default) for field in _FIELDS if field.name == name)
            show_warning(
                f"'{key}' is no key that napari knows (the preferences name it as {name}); write "
                f"it as {default!r}, which is used until then."
            )
            key = default
        # A second dock's keys replace those of the first.
        self._bound += bind(self._viewer, {key: pressed})

    def unbind(self) -> None:
        """Give the keys back, to the first dock as well."""
        unbind(self._bound)
        self._bound = []


def _is_key(text: str) -> bool:
    """Whether napari knows every key of a shortcut; it takes unknown ones in silence."""
    from app_model.types import KeyBinding, KeyCode

    try:
        parts = KeyBinding.from_str(text.replace("-", "+")).parts
    except (ValueError, IndexError):
        return False
    return bool(parts) and all(part.key != KeyCode.UNKNOWN for part in parts)
