"""Begin runs on large images: on what is in view, or on all, with the result on the disk. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.part_run import Where
from napari_unet_cells.widgets.segment.channels import drop_unmade, shown_plane
from napari_unet_cells.widgets.segment.chosen_image import ChosenImage, choose_image
from napari_unet_cells.widgets.segment.large_image import MOST_SIDE, asked_for
from napari_unet_cells.widgets.segment.large_run import LargeRun
from napari_unet_cells.widgets.segment.values import VISIBLE, SegmentValues
from napari_unet_cells.widgets.segment.view import View
from napari_unet_cells.widgets.segment.view_run import ViewRun

if TYPE_CHECKING:
    from napari.viewer import Viewer


class LargeStart:
    """Makes the runs on images beyond `MOST_SIDE`.

    It owns the folders that the user chose for results that cannot be written where they should
    go.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    view : View
    """

    def __init__(self, viewer: Viewer, view: View) -> None:
        self._viewer, self._view = viewer, view
        self._folders: dict[Path, Path] = {}

    def run(self, values: SegmentValues, where: Where | None) -> LargeRun | ViewRun:
        """Prepare a run on what is in view, or on the whole image, which looks there first.

        Parameters
        ----------
        values : SegmentValues
        where : Where or None
            The part of the image that is chosen; None for all of it.

        Raises
        ------
        UserError
            Where it cannot be segmented; the sentence says why.
        """
        if where is None:
            return self._on_all(values)
        if values.where != VISIBLE:
            raise UserError(
                f"Of an image beyond {MOST_SIDE:,} x {MOST_SIDE:,} pixels what is in view is "
                "segmented, or all of it. Choose Visible part or Whole image under Where."
            )
        return self._on_view(values, choose_image(self._viewer, values, self._view))

    def _on_all(self, values: SegmentValues) -> LargeRun:
        asked = asked_for(self._viewer, values, self._folders)
        chosen = choose_image(self._viewer, values, self._view)
        try:
            before = self._on_view(values, chosen)
        except UserError:  # nothing of it is in view
            before = None
        return LargeRun(self._viewer, chosen.layer, chosen.shown, asked, self._view, before)

    def _on_view(self, values: SegmentValues, chosen: ChosenImage) -> ViewRun:
        layer, shown = chosen.layer, chosen.shown
        index = shown_plane(self._viewer, layer) if shown is None else shown
        return ViewRun(self._viewer, values, layer, index, self._view)

    def ask_where_refused(self, run: LargeRun | ViewRun) -> None:
        """Ask for another folder where the result could not be written, and press again."""
        refused = run.refused if isinstance(run, LargeRun) else None
        if refused is None:
            return
        self._view.say(str(refused))
        folder = self._view.ask_folder(str(refused))
        if folder is not None:
            self._folders[refused.folder] = folder
            self._view.start_again()
        else:
            drop_unmade(self._viewer)  # a projection that nobody will read
