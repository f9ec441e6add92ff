"""State of a review as the form shows it: texts, and what can be pressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet_cells.core.regions import Review
from napari_unet_cells.layers.metadata import fitting_review
from napari_unet_cells.layers.selection import review_problem

if TYPE_CHECKING:
    from napari.layers import Labels


def review_of(layer: Labels | None) -> Review | None:
    """Review of a labels layer that can be corrected; None where there is none."""
    return None if layer is None or review_problem(layer) else fitting_review(layer)


@dataclass(frozen=True)
class Control:
    """One button or checkbox of the form.

    Attributes
    ----------
    usable : bool
    tooltip : str
        What it does, or why it cannot be used.
    """

    usable: bool
    tooltip: str


@dataclass(frozen=True)
class ReviewState:
    """All that the form shows.

    Attributes
    ----------
    why_not : str
        Why the labels at hand cannot be reviewed; empty where they can.
    on, heat : bool
        Whether the regions are drawn, and whether the uncertainty is wanted.
    approved, regions : int
        Approved regions and all of them; 0 and 0 without a review.
    heat_known : bool
        Whether the uncertainty of the network is known.
    approved_here : bool
        Whether the region in the middle of the view is approved.
    making : bool
        Whether a review is being made in the background.
    failure : str
        Why none could be made; empty where nothing failed.
    """

    why_not: str = ""
    on: bool = False
    heat: bool = False
    approved: int = 0
    regions: int = 0
    heat_known: bool = False
    approved_here: bool = False
    making: bool = False
    failure: str = ""

    def problem(self) -> str | None:
        """Say why nothing can be reviewed; None where it can."""
        return self.why_not or None

    @property
    def counted(self) -> str:
        """Text of the bar that shows how far the review is; empty where there is none."""
        if self.making and not self.failure:
            return "Looking at the labels..."
        return f"{self.approved} of {self.regions} regions approved" if self.regions else ""

    @property
    def note(self) -> str:
        """Sentence below the buttons: what went wrong."""
        return self.failure

    @property
    def approve_text(self) -> str:
        """Text of the button that approves."""
        return "Withdraw approval" if self.approved_here else "Approve and next"

    @property
    def controls(self) -> dict[str, Control]:
        """Buttons and checkbox: review, next, approve, uncertainty."""
        return {
            "review": self._control(
                "Show the regions of the labels and review them one by one; press again to stop"
            ),
            "next": self._control(
                "Go to the region where the network was least sure, of those not yet approved"
            ),
            "approve": self._control(
                "Approve the region in the middle of the view (green), or withdraw its approval",
                "" if self.on else "Press Review first.",
            ),
            "uncertainty": self._control(
                "Show where the network was unsure, below the labels",
                ""
                if self.heat_known
                else "The uncertainty is known only of what was segmented in this session.",
            ),
        }

    def _control(self, does: str, reason: str = "") -> Control:
        reason = self.why_not or reason
        return Control(not reason, reason or does)
