"""The window and the threads of the Segment section, as what has no Qt sees them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.widgets.runner import Runner
from napari_unet_cells.widgets.segment.earlier_results import Choice
from napari_unet_cells.widgets.segment.values import StackValues


class RunDisplay(Protocol):
    """Part of the window in which a run says how far it is, and what came of it."""

    def say(self, sentence: str) -> None:
        """Show a sentence below the button."""

    def show_device(self, device: str) -> None:
        """Show what computes, or how far it is."""

    def show_diameter(self, estimated: float) -> None:
        """Show the diameter that was estimated, in pixels."""

    def show_progress(self, done: float, text: str) -> None:
        """Show the part that is done, 0 to 1, and say it; at 0 that something is being done."""


class View(RunDisplay, Protocol):
    """The window: it shows what it is told, and asks the user."""

    def warn(self, sentence: str) -> None:
        """Say what prevents something, also as a notification."""

    def offer_size(self, diameter: float) -> None:
        """Offer to segment again with a cell size, in pixels, until something else is said."""

    def inform(self, sentence: str) -> None:
        """Say something as a notification alone."""

    def show_stack(self, stack: StackValues) -> None:
        """Choose planes and linking in the form of a channel that was split off."""

    def offer_adjustment(self, options: InstanceOptions, zoom: float, median_area: float) -> None:
        """Show the options of a run; see `AdjustForm.show_options`."""

    def show_adjustable(self, problem: str | None) -> None:
        """Show whether the selected cells can be adjusted, and why not; None without cells."""

    def show_results(self, choice: Choice) -> None:
        """Show the results of the image, of which one can be chosen."""

    def layer_came_back(self) -> None:
        """Tell others that corrections need not be restored, since their layer is back."""

    def ask_folder(self, sentence: str) -> Path | None:
        """Ask for a folder, for a reason; None where the user has none."""

    def start_again(self) -> None:
        """Press Segment again, for the user."""


@dataclass(frozen=True)
class Runners:
    """The threads of a section, one for each kind of work."""

    run: Runner
    warming: Runner
    adjusting: Runner
