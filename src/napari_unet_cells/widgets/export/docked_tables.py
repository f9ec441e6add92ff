"""Docked tables of cells: one for each labels layer, side by side below the image."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from qtpy.QtWidgets import QWidget

from napari_unet_cells.layers.metadata import image_id
from napari_unet_cells.widgets.wiring import when_destroyed

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

_Table = TypeVar("_Table", bound=QWidget)

#: Tables that are open, by the id of their labels layer.
_open_tables: weakref.WeakValueDictionary[str, QWidget] = weakref.WeakValueDictionary()


def open_docked(
    viewer: Viewer,
    layer: Labels,
    make: Callable[[Viewer, Labels], _Table],
    again: Callable[[_Table], object],
    closed: Callable[[_Table], object] = lambda table: None,
) -> _Table:
    """Open the table of a labels layer at the bottom of the window, or bring it up again.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari labels layer
    make : callable (viewer, layer) -> table
    again : callable (table) -> None
        Called with a table that is there already and was brought up.
    closed : callable (table) -> None
        Called once the X of its dock was pressed; not at the end of the window.

    Returns
    -------
    QWidget
        What `make` gave, now or before.
    """
    key = image_id(layer)
    there = _open_tables.get(key)
    # The dock is not kept: while somebody holds it, its X does not destroy it. One that was closed
    # has given its table up, and is destroyed a turn later.
    dock: Any = None if there is None else there.parentWidget()
    if dock is not None:
        dock.show()
        dock.raise_()
        shown = cast(_Table, there)
        again(shown)
        return shown
    table = make(viewer, layer)
    viewer.window.add_dock_widget(
        table, name=f"{layer.name} table", area="bottom", tabify=bool(_open_tables)
    )
    _open_tables[key] = table
    # Not what napari returned: to a plugin that is a proxy, which ends with this function.
    when_destroyed(table.parentWidget(), partial(_forget, key, weakref.ref(table), closed))
    return table


def open_tables(kind: type[_Table]) -> list[_Table]:
    """Give the tables of a kind that are open."""
    return [table for table in _open_tables.values() if isinstance(table, kind)]


def _forget(key: str, reference: weakref.ref[_Table], closed: Callable[[_Table], object]) -> None:
    """Close a table: the X of a dock destroys the dock and leaves what was in it."""
    table = reference()
    if table is None:
        return
    if _open_tables.get(key) is table:  # another one may have been opened since
        del _open_tables[key]
    try:
        table.deleteLater()
    except RuntimeError:  # at the end of the window it is gone already
        return
    closed(table)
