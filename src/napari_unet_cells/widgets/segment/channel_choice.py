"""Button that opens a list of channels to check, of which one is made."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QMenu, QSizePolicy, QToolButton, QWidgetAction

#: Pixels around a box in the open list.
MARGIN = 4


class ChannelChoice(QToolButton):
    """Shows which channels are checked; `changed` comes when the user checks others.

    The list stays open while boxes are checked, unlike a menu of checkable actions.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        # By its longest text the form would be wider than a narrow dock.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._menu = QMenu(self)
        self.setMenu(self._menu)
        self.boxes: list[QCheckBox] = []

    def show_channels(self, titles: Sequence[str], checked: Sequence[int]) -> None:
        """Offer channels.

        Parameters
        ----------
        titles : sequence of str
            Such as "Channel 2 of 3 (GFP)".
        checked : sequence of int
            From 0.
        """
        self._menu.clear()
        self.boxes = []
        for number, title in enumerate(titles):
            box = QCheckBox(title)
            box.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
            box.setChecked(number in checked)
            box.toggled.connect(self._toggled)
            action = QWidgetAction(self._menu)
            action.setDefaultWidget(box)
            self._menu.addAction(action)
            self.boxes.append(box)
        self._show_text()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels that are checked, from 0."""
        return tuple(number for number, box in enumerate(self.boxes) if box.isChecked())

    def _toggled(self, *_: object) -> None:
        self._show_text()
        self.changed.emit()

    def _show_text(self) -> None:
        chosen = [box.text() for box in self.boxes if box.isChecked()]
        n, k = len(self.boxes), len(chosen)
        numbers = ", ".join(str(number + 1) for number in self.channels)
        self.setText(f"all {n} channels" if k == n else f"{numbers or 'none'} of {n} channels")
        self.setToolTip("\n".join(chosen) or "Check the channels that become one.")
