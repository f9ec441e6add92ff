"""Preview of the tool Add: the cell that a click would add, outlined where the mouse rests.

No Qt here. When the mouse has rested over the background, the cell is searched for as if it had
been clicked; moving on gives that up, and a click takes what is outlined::

    mouse rests --- REST ---> ask --- a thread, the child process ---> show --- click ---> take
         moves on ----------------------- give up ----------------------> hide
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from napari_unet_cells.core import edits
from napari_unet_cells.segmentation.click import FoundCell
from napari_unet_cells.settings import recall, remember
from napari_unet_cells.widgets.correct.highlight import Highlight
from napari_unet_cells.widgets.correct.labels_plane import LabelsPlane
from napari_unet_cells.widgets.timers import MakesTimers

#: Milliseconds that the mouse rests, and pixels of the canvas that it may tremble.
REST, TREMBLE = 150, 3.0

#: Seconds of computing above which a preview is too slow, and how many of them in a row end it.
SLOW, PATIENCE = 0.3, 2

#: Key of the remembered choice.
REMEMBERED = "preview"


class PreviewView(MakesTimers, Protocol):
    """Form with the checkbox."""

    def say(self, sentence: str) -> None:
        """Show a sentence; an empty one removes that of before."""

    def show_preview(self, on: bool) -> None:
        """Tick the checkbox or not."""


@dataclass(frozen=True, eq=False)
class _Place:
    """Where the mouse is: in the plane, in the world, and on the canvas."""

    plane: LabelsPlane
    point: tuple[float, float]
    world: Any
    pos: Any


class Previewing:
    """Decides when to search, and shows what was found.

    Parameters
    ----------
    view : PreviewView
    highlight : Highlight
        Draws the outline.
    ask : callable (plane, point, world)
        Starts a search, where it can; the answer comes to `show`.
    give_up : callable ()
        Stops the search.
    """

    def __init__(
        self,
        view: PreviewView,
        highlight: Highlight,
        ask: Callable[[LabelsPlane, tuple[float, float], Any], None],
        give_up: Callable[[], None],
    ) -> None:
        self._view, self._highlight, self._ask, self._give_up = view, highlight, ask, give_up
        self._timer = view.timer(REST, self._rested)
        self.on = recall(REMEMBERED) is not False
        self._wanted_though_slow = False
        self._n_slow = 0
        self._at: _Place | None = None
        self._shown: tuple[LabelsPlane, FoundCell] | None = None

    def switch(self, on: bool) -> None:
        """Turn previews on or off, as the user wants it; it is remembered."""
        self.on, self._wanted_though_slow = on, on
        remember(REMEMBERED, on)
        if not on:
            self.hide()

    def move_to(self, plane: LabelsPlane | None, world: Any, pos: Any) -> None:
        """Follow the mouse; the plane is None where there is nothing to be found."""
        if not self.on:
            return
        at = self._at
        if plane is None or edits.id_at(plane.labels, plane.point(world)):
            self.hide()
        elif self._highlight.proposes(plane, plane.point(world)):
            pass
        elif at is None or np.linalg.norm(np.subtract(pos, at.pos)) > TREMBLE:
            self.hide()
            self._at = _Place(plane, plane.point(world), world, pos)
            self._timer.start()

    def _rested(self) -> None:
        at = self._at
        if at is not None and self.on:
            self._ask(at.plane, at.point, at.world)

    def hide(self) -> None:
        """Outline nothing, and search no more."""
        self._timer.stop()
        if self._at is not None:
            self._at = None
            self._give_up()
        if self._shown is not None:
            self._shown = None
            self._highlight.clear()

    def show(self, plane: LabelsPlane, cell: FoundCell) -> None:
        """Outline what was found, if the mouse is there still."""
        if self._at is not None and self.on:
            self._shown = plane, cell
            self._highlight.propose(plane, cell.box.top, cell.box.left, cell.mask)

    def take(self, plane: LabelsPlane, point: tuple[float, float]) -> FoundCell | None:
        """Give the cell that is outlined under a click, and outline it no more."""
        outlined = self._highlight.proposes(plane, point)
        cell = self._shown[1] if self._shown is not None and outlined else None
        self.hide()
        return cell

    def resize(self, steps: int) -> bool:
        """Make the outlined cell larger, or smaller below 0; whether there is one."""
        if self._shown is None:
            return False
        plane, cell = self._shown
        self.show(plane, cell.resized(steps))
        return True

    def note_seconds(self, seconds: float) -> None:
        """Note how long a preview took to compute; too slow ones end it, and it is said."""
        self._n_slow = self._n_slow + 1 if seconds > SLOW else 0
        if self._n_slow < PATIENCE or self._wanted_though_slow:
            return
        self.end()
        self._view.say(
            f"A preview takes {seconds:.1f} s here, so they are off. Tick the box below the tools "
            "to have them all the same; a click finds the cell as before."
        )

    def end(self) -> None:
        """Turn previews off until the user turns them on, or napari starts again."""
        self.on, self._n_slow = False, 0
        self.hide()
        self._view.show_preview(False)
