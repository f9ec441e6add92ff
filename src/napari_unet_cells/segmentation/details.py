"""Typed values of a run, and their provenance record for files and layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from napari_unet_cells import __version__
from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.normalize import HIGH, LOW, Limits
from napari_unet_cells.core.resample import Box
from napari_unet_cells.core.tracks import record_of
from napari_unet_cells.models.card import ModelCard


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """Model, parameters, source and cost of a run: enough to repeat it.

    Attributes
    ----------
    card : ModelCard
        Of the model.
    options : InstanceOptions or None
        Of the separation of the cells, in pixels that the network saw; None where the model
        makes classes only.
    diameter : float
        Median cell diameter in pixels of the image; 0 where it is not known.
    diameter_given : bool
        The user stated the diameter.
    diameter_unsure : bool
        The estimate had little to go by, or another diameter was nearly as likely.
    other_diameter : float
        That other one, in pixels of the image; 0 where there is none.
    confirmed_diameter : float
        That of a similar image, or of what the model was tuned on, in pixels, which the estimate
        began with and confirmed; 0 where it began with nothing.
    zoom : float
        Size that the network saw divided by the size of the image.
    test_time_augmentation : bool
        See `pipeline.Settings`.
    limits : Limits or None
        Intensities that became 0 and 1; None where they differ from plane to plane, or are not
        known yet.
    is_stack : bool
        Several planes were segmented.
    link : int or None
        See `pipeline.Settings`.
    parents : mapping of int to int, or None
        Of a movie whose cells were tracked, see `core.tracks.Tracks`.
    source : mapping
        Where the image came from; ready for JSON.
    parts : tuple of mapping
        Of an image of which only a part was segmented: that part, see `of_part`.
    date : datetime
        With the offset to UTC.
    device : str
        Empty until the run is over.
    seconds : float or None
        None until the run is over.
    """

    card: ModelCard
    options: InstanceOptions | None
    diameter: float = 0.0
    diameter_given: bool = False
    diameter_unsure: bool = False
    other_diameter: float = 0.0
    confirmed_diameter: float = 0.0
    zoom: float = 1.0
    test_time_augmentation: bool = False
    limits: Limits | None = None
    is_stack: bool = False
    link: int | None = None
    parents: Mapping[int, int] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Mapping[str, Any], ...] = ()
    date: datetime = field(default_factory=_now)
    device: str = ""
    seconds: float | None = None

    def ended(self, device: str, seconds: float) -> RunDetails:
        """Add what is known once the run is over."""
        return replace(self, device=device, seconds=seconds, date=_now())

    def of_part(self, where: str, box: Box) -> RunDetails:
        """Note that only a part of the plane was segmented.

        Parameters
        ----------
        where : str
            How it was chosen, such as "visible part".
        box : (slice, slice)
            Rows and columns that hold the part.
        """
        made = self.provenance()
        kept = ("model", "parameters", "date", "device", "seconds")
        plane = {"plane": list(self.source["plane"])} if self.source.get("plane") else {}
        rows, columns = ([side.start, side.stop] for side in box)
        part = {"where": where, **plane, "rows": rows, "columns": columns}
        return replace(self, parts=(part | {key: made[key] for key in kept if key in made},))

    def provenance(self) -> dict[str, Any]:
        """Describe the run for a file or a layer.

        Returns
        -------
        dict
            Ready for JSON: program, version, model (name, sha256, architecture), classes,
            parameters, tracks (where cells were tracked), source, parts (where only these were
            segmented), date (ISO 8601), device
            and seconds; of a run that is not over, ``"complete": False`` in place of the last two.
        """
        card = self.card
        return {
            "program": "napari-unet-cells",
            "version": __version__,
            "model": {
                "name": card.name,
                "sha256": card.sha256,
                "architecture": card.architecture,
            },
            "classes": list(card.classes),
            **({"colors": list(card.colors)} if card.colors else {}),
            "parameters": self._parameters(),
            **({} if self.parents is None else {"tracks": record_of(self.parents)}),
            "source": dict(self.source),
            **({"parts": [dict(part) for part in self.parts]} if self.parts else {}),
            "date": self.date.isoformat(timespec="seconds"),
            **self._end(),
        }

    def _parameters(self) -> dict[str, Any]:
        limits = self.limits
        parameters: dict[str, Any] = {
            "normalization": {
                "percentiles": [LOW, HIGH],
                "limits": None if limits is None else [limits.low, limits.high],
            },
            "instances": None if self.options is None else asdict(self.options),
            "scale": self._scale(),
        }
        if self.options is not None:
            parameters["test_time_augmentation"] = self.test_time_augmentation
        if self.is_stack:
            parameters["linked_along_axis"] = self.link
        return parameters

    def _scale(self) -> dict[str, Any]:
        scale = {
            "diameter": round(self.diameter, 1),
            "estimated": not self.diameter_given,
            "zoom": round(self.zoom, 4),
        }
        if self.confirmed_diameter:
            scale["begun_with"] = round(self.confirmed_diameter, 1)
        return scale

    def _end(self) -> dict[str, Any]:
        if self.seconds is None:
            return {"complete": False}
        return {"device": self.device, "seconds": round(self.seconds, 3)}
