"""Options of a batch, the same for each of its images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_unet_cells.core.planes import Channels
from napari_unet_cells.files import file_axes
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.zarr_request import ZarrRequest
from napari_unet_cells.tracking import TrackingOptions


@dataclass(frozen=True)
class Request:
    """Options of a batch, the same for each file.

    Attributes
    ----------
    settings : Settings
        Without `link`, which is a letter here.
    channel : int, str, or a sequence of them; or None
        Of files with several channels: numbers from 0, or names. Several are projected, or become
        one image for a model that was trained on as many.
    plane : int, "all" or None
        Of stacks: one plane, counted from 0, or every plane. None refuses a stack: a run over a
        thousand planes must be asked for.
    link : str or None
        "Z" or "T": the axis along which cells are linked across planes.
    pixel_size : float or None
        Width of a pixel in micrometers, for files that do not state it.
    overwrite : bool
        Replace results of an earlier run; else they are kept, and the image is reported.
    projection : str or None
        "max" or "mean" of the chosen channels, by default of all.
    runtime : str
        See `models.runtimes.table.open_network`.
    allow_missing_chunks : bool
        See `files.read_image`.
    table : str
        "csv" or "parquet".
    format : str
        "tiff", or "ome-zarr" with both label images in one, for images of any size.
    ngff : str
        Version of OME-Zarr, "0.4" or "0.5".
    track : TrackingOptions or None
        How the cells of movies are tracked; None does not.
    stills : bool
        Where cells are tracked: images that are no movies are segmented all the same, see
        `for_image`.
    axes : str
        Which axis holds the channels, where the file does not say it: see
        `segmentation.chosen_planes.with_told_axes`.
    """

    settings: Settings = field(default_factory=Settings)
    channel: Channels | None = None
    plane: int | str | None = None
    link: str | None = None
    pixel_size: float | None = None
    overwrite: bool = False
    projection: str | None = None
    runtime: str = ""
    allow_missing_chunks: bool = False
    table: str = "csv"
    format: str = "tiff"
    ngff: str = "0.5"
    track: TrackingOptions | None = None
    stills: bool = False
    axes: str = ""

    def for_image(self, path: Path) -> Request:
        """Give the options for one image: of a list with movies only these are tracked.

        Movies are not linked besides, and the others are not tracked.
        """
        if self.track is None or not self.stills:
            return self
        axes = file_axes(path)
        if "T" in axes.letters.upper() and not axes.is_guessed:
            return replace(self, link=None, stills=False)
        return replace(self, track=None, stills=False)

    def zarr_request(self) -> ZarrRequest:
        """Give the options of a run that writes an OME-Zarr.

        Raises
        ------
        UserError
            Where cells are to be linked.
        """
        # a link is refused there, in a sentence
        settings = replace(self.settings, link=0 if self.link else None)
        return ZarrRequest(
            settings,
            self.channel,
            self.plane,
            self.projection,
            self.pixel_size,
            self.runtime,
            self.allow_missing_chunks,
            self.overwrite,
            self.ngff,
            self.axes,
            self.track,
        )

    def expecting(self, diameter: float) -> Request:
        """Give the request for a file after one with cells of a diameter, in pixels."""
        return replace(self, settings=replace(self.settings, likely_diameter=diameter))

    def decisive(self, card: ModelCard | None = None) -> dict[str, Any]:
        """Give the options that decide on the result, as JSON holds them; with those of a card."""
        chosen: dict[str, Any] = jsonable(asdict(self))
        del chosen["overwrite"]
        del chosen["stills"]  # with it or without, a movie is tracked in the same way
        del chosen["settings"]["link"]  # it is a letter here
        del chosen["settings"]["likely_diameter"]  # no unit of a batch knows another one
        if self.format == "tiff":
            del chosen["ngff"]
        if self.track is None:  # results of earlier versions stay what they are
            del chosen["track"]
        if not self.axes:
            del chosen["axes"]
        chosen["runtime"] = "" if self.runtime.strip().lower() == "auto" else self.runtime
        if card is not None:
            values = {
                "instances": card.instances.as_dict(),
                "diameter_window": card.diameter_window,
                "typical_diameter": card.typical_diameter,
            }
            if card.tuned_diameter > 0:
                values["tuned_diameter"] = card.tuned_diameter
            chosen["card"] = jsonable(values)
        return chosen
