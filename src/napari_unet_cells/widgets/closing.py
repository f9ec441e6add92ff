"""End of a dock that is closed by the X of its title bar."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QWidget

#: Milliseconds between two looks at whether the work has ended.
PAUSE = 200


class EndWhenClosed(QObject):
    """Ends the work of a dock, and the dock, when it is taken out of the window.

    napari deletes only the frame of a dock whose X is pressed: the widget in it loses its parent
    and lives on unseen, with its run, until Python happens to collect it.

    Parameters
    ----------
    dock : QWidget
        Also the parent that keeps this. Deleting it ends what `Wiring.at_end` was told of.
    *actions : callable
        Called before, such as `Worker.cancel`, which says what is left of a run.
    busy : callable () -> bool, optional
        Whether something has to come to its end before the dock is deleted.
    """

    def __init__(
        self,
        dock: QWidget,
        *actions: Callable[[], object],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(dock)
        self._dock, self._actions, self._busy = dock, actions, busy
        dock.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Look soon whether the dock was only moved to another frame."""
        if event.type() == QEvent.Type.ParentChange and self._dock.parent() is None:
            QTimer.singleShot(0, self._end)
        return False

    def _end(self) -> None:
        if self._dock.parent() is not None:
            return
        for action in self._actions:
            action()
        self._delete()

    def _delete(self) -> None:
        if self._busy():
            QTimer.singleShot(PAUSE, self._delete)
        else:
            self._dock.deleteLater()
