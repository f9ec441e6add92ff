"""Options of a run that writes an OME-Zarr, and the plan that is made of them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field, replace
from math import ceil, prod
from pathlib import Path
from typing import Any

from napari_unet_cells import __version__
from napari_unet_cells.core.channels import ManyChannels
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.plane_blocks import UNIT, side_of_blocks
from napari_unet_cells.core.planes import (
    Channels,
    Planes,
    limits_of,
    refuse_constant,
    usual_contrast,
)
from napari_unet_cells.core.predict import Network
from napari_unet_cells.core.resample import scaled_shape
from napari_unet_cells.core.sampled import HUGE, SampledArray
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import Image, read_image
from napari_unet_cells.files.atomic import FileExists
from napari_unet_cells.files.label_zarr import VERSIONS, plane_axes
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.stored_chunks import stored_only
from napari_unet_cells.files.zarr_metadata import ZARR_SUFFIX
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.chosen_planes import chosen_planes, source_of, with_told_axes
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.pipeline import Settings, choose_scale
from napari_unet_cells.segmentation.segment import check_channels
from napari_unet_cells.segmentation.tracked import check_tracking
from napari_unet_cells.segmentation.zarr_output import older_of
from napari_unet_cells.tracking import TrackingOptions
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.zarr_plan import KNOWN, MOST_PIXELS, ZarrPlan, parse_plan

#: The margin of a block in diameters of the largest cells that the model was made for.
MARGIN = 3.0

#: Pixels; the margin for a model that does not say how large its cells are.
USUAL_MARGIN = 160

#: Bytes that a file system takes for a name.
_LONGEST_NAME = 255

#: Bytes of a TIFF beyond which its pixels stay on the disk.
MOST_HELD = 2**27


@dataclass(frozen=True)
class ZarrRequest:
    """Options of a run, as plain values.

    Attributes
    ----------
    settings : Settings
        Cells are not linked across planes; those of a movie are tracked, see `track`.
    channel : int, str, or a sequence of them; or None
    plane : int, "all" or None
        Of a stack; None refuses it.
    projection : str or None
        "max" or "mean" of the chosen channels.
    pixel_size : float or None
        Width of a pixel in micrometers, for files that do not state it.
    runtime : str
        See `models.runtimes.table.open_network`.
    allow_missing_chunks : bool
        See `files.read_image`.
    overwrite : bool
        Replace an older output.
    version : str
        Of NGFF, "0.4" or "0.5".
    axes : str
        Which axis holds the channels, where the file does not say it: see
        `chosen_planes.with_told_axes`.
    track : TrackingOptions or None
        How the cells of a movie are tracked; None does not.
    """

    settings: Settings = field(default_factory=Settings)
    channel: Channels | None = None
    plane: int | str | None = None
    projection: str | None = None
    pixel_size: float | None = None
    runtime: str = ""
    allow_missing_chunks: bool = False
    overwrite: bool = False
    version: str = VERSIONS[-1]
    axes: str = ""
    track: TrackingOptions | None = None

    def __post_init__(self) -> None:
        """Refuse what is not possible."""
        if self.settings.link is not None:
            raise UserError(
                "Cells are not linked across planes in an OME-Zarr. Leave --link out, or write "
                "TIFFs; the cells of a movie can be tracked (--track)."
            )
        if self.pixel_size is not None and not 0 < self.pixel_size < math.inf:
            raise UserError(f"The pixel size must be above 0, not {self.pixel_size}.")
        if isinstance(self.plane, str) and self.plane != "all":
            raise UserError(f"The plane is a number or all, not '{self.plane}'.")
        if self.version not in VERSIONS:
            raise UserError(
                f"OME-Zarr is written in the versions {' and '.join(VERSIONS)}, not {self.version}."
            )


def refuse_places(image: Path, output: Path, overwrite: bool) -> None:
    """Refuse an output that is there, has another ending, or lies in the image or around it.

    Raises
    ------
    UserError
    """
    if output.suffix.lower() != ZARR_SUFFIX:
        raise UserError(f"{output.name} does not end in {ZARR_SUFFIX}. Add that to its name.")
    if len(os.fsencode(older_of(output).name)) > _LONGEST_NAME:
        raise UserError(
            f"{output.name[:40]}... was not written: its name is too long. Choose a shorter one."
        )
    here, there = (Path(os.path.realpath(path)) for path in (output, image))
    if here == there or there in here.parents or here in there.parents:
        raise UserError(
            f"The result {output} would lie in the image {image}, or take its place. Choose "
            "another folder for the results."
        )
    if os.path.lexists(output) and not overwrite:
        raise FileExists(output)
    if not output.absolute().parent.is_dir():
        raise UserError(f"There is no folder {output.parent}. Make it, or choose another one.")


def run_key(image: Path, card: ModelCard, request: ZarrRequest) -> str:
    """Tell runs from each other that would not give the same.

    The diameter that an estimate begins with is left out: it depends on what was segmented before.
    """
    asked = asdict(replace(request, settings=replace(request.settings, likely_diameter=0.0)))
    del asked["overwrite"]
    if not request.axes:  # runs of earlier versions go on
        del asked["axes"]
    if request.track is None:
        del asked["track"]
    said = {
        "version": __version__,
        "image": os.path.realpath(image),
        "stamp": stamp_of(image),
        "model": [card.sha256, card.digest()],
        "request": asked,
        "unit": UNIT,
        "margin": MARGIN,
    }
    text = json.dumps(jsonable(said), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def stamp_of(image: Path) -> str:
    """Digest of size and time of change of a file, or of all files of a folder."""
    digest = hashlib.sha256()
    try:
        for path in sorted(_files(image)):
            found = os.stat(path)
            name = os.fsencode(os.path.relpath(path, image))
            digest.update(b"%b %d %d\n" % (name, found.st_size, found.st_mtime_ns))
    except OSError as error:
        raise UserError(
            f"{image} cannot be read ({error.strerror or error}). See that its disk is connected."
        ) from error
    return digest.hexdigest()


def _files(image: Path) -> Iterator[str]:
    if not image.is_dir():
        yield os.fspath(image)
    for root, _, names in os.walk(image, followlinks=True):
        yield from (os.path.join(root, name) for name in names)


def open_planes(image: Path, request: ZarrRequest) -> tuple[Image, Planes, str]:
    """Open an image, and choose its planes; the letters are the axes of the labels."""
    found = read_image(image, request.allow_missing_chunks, MOST_HELD)
    found = with_told_axes(found, request.axes)
    planes, axes = chosen_planes(found, request.channel, request.projection, request.plane)
    return found, planes, axes


def planes_of_plan(plan: ZarrPlan) -> tuple[Planes, tuple[str, ...]]:
    """Open the planes of a plan, and give the names of the channels.

    Raises
    ------
    UserError
        Where the image is not what it was.
    """
    request = ZarrRequest(
        channel=plan.channel,
        plane=plan.plane,
        projection=plan.projection,
        allow_missing_chunks=plan.allow_missing_chunks,
        axes=plan.told_axes or "",
    )
    found, planes, _ = open_planes(Path(plan.image), request)
    if planes.shape != plan.shape:
        raise _changed(plan)
    refuse_changed(plan)
    return planes, found.channel_names


def refuse_changed(plan: ZarrPlan) -> None:
    """Refuse an image that is not what it was when the run was begun.

    Raises
    ------
    UserError
    """
    if stamp_of(Path(plan.image)) != plan.stamp:
        raise _changed(plan)


def _changed(plan: ZarrPlan) -> UserError:
    return UserError(f"{plan.image} has changed while it was segmented. Start the run again.")


def planning(
    image: Path, card: ModelCard, request: ZarrRequest, key: str, network: Network | None
) -> Generator[float, None, ZarrPlan]:
    """Find the scale, the limits and the blocks of an image.

    Parameters
    ----------
    image, request
        As for `to_zarr.segment_to_zarr`.
    card : ModelCard
    key : str
        Of `run_key`.
    network : Network or None
        Opened where it is None.

    Yields
    ------
    float
        The part that is done of looking at the image, 0 to 1; only of one so large that this takes
        a while.

    Raises
    ------
    UserError
        Where the image cannot be used.
    """
    stamp = stamp_of(image)
    found, planes, axes = open_planes(image, request)
    check_channels(planes, card)
    if request.track is not None:
        check_tracking(axes, planes.shape[0], card.makes_cells, found.is_guessed)
    _refuse_size(image, planes)
    seen = yield from _sampled(planes)
    if len(planes) == 1:
        refuse_constant(seen.plane(next(planes.indices())))
    network = open_network(card, request.runtime) if network is None else network
    estimate, zoom, options = choose_scale(seen, network, card, request.settings)
    limits = yield from _limits(seen)
    height, width = planes.shape[-2:]
    details = (
        estimate.diameter,
        request.settings.diameter is not None,
        estimate.unsure,
        estimate.other,
        estimate.confirmed,
        zoom,
    )
    values = {
        "key": key,
        "stamp": stamp,
        "image": os.path.realpath(image),
        "model": os.path.realpath(card.path),
        "axes": plane_axes(axes),
        "shape": planes.shape,
        "scaled": (height, width) if zoom == 1 else scaled_shape((height, width), zoom),
        "side": side_of_blocks((height, width), zoom),
        "margin": margin_of(card, network.stride),
        "stride": network.stride,
        "limits": limits,
        "options": options.as_dict() if card.makes_cells else None,
        "test_time_augmentation": request.settings.test_time_augmentation and card.makes_cells,
        "details": dict(zip(KNOWN, details, strict=True)),
        "source": source_of(image, found, planes),
    }
    return _plan(image, {**values, **_asked(request), **_scale(found, request)})


def _limits(planes: Planes) -> Generator[float, None, list[tuple[float, float] | None]]:
    """Take the intensity limits of all planes, and say how far it is where that takes a while."""
    usual = usual_contrast(planes)
    height, width = planes.shape[-2:]
    found = []
    for number, index in enumerate(planes.indices(), 1):
        limits = limits_of(planes.plane(index), usual)
        found.append(None if limits is None else (limits.low, limits.high))
        if len(planes) > 1 and height * width > HUGE:
            yield number / len(planes)
    return found


def _asked(request: ZarrRequest) -> dict[str, Any]:
    """Give what a plan holds of a request as it was asked."""
    return {
        "runtime": request.runtime,
        "channel": request.channel,
        "projection": request.projection,
        "plane": request.plane,
        "allow_missing_chunks": request.allow_missing_chunks,
        "told_axes": request.axes or None,
        "track": None if request.track is None else asdict(request.track),
        "overwrite": request.overwrite,
        "version": request.version,
    }


def _scale(found: Image, request: ZarrRequest) -> dict[str, Any]:
    """Give what a plan holds of the place and the pixel size of an image."""
    pixel_size, unit = found.pixel_size, found.unit
    if pixel_size is None and request.pixel_size is not None:
        pixel_size, unit = (request.pixel_size,) * 2, "micrometer"
    return {
        "pixel_size": pixel_size,
        "unit": unit,
        "z_step": found.z_step,
        "place": {name: place for name, place in found.place.items() if name in "tczyx"},
    }


def _plan(image: Path, values: dict[str, Any]) -> ZarrPlan:
    """Check a plan as one that is read from the disk is checked."""
    try:
        return parse_plan(jsonable(values))
    except Malformed as error:
        raise UserError(
            f"{image.name} cannot be segmented into an OME-Zarr: {error}. Check the image and the "
            "options."
        ) from error


def _sampled(planes: Planes) -> Generator[float, None, Planes]:
    """Give planes whose samples are kept: one that is huge is read once for all that is asked."""
    height, width = planes.shape[-2:]
    if height * width <= HUGE:
        return planes
    if isinstance(planes.data, ManyChannels):  # these are several samples, and not kept
        return replace(planes, data=replace(planes.data, data=stored_only(planes.data.data)))
    data = SampledArray(stored_only(planes.data), len(planes.data.shape) - 2 - planes.color)
    if len(planes) == 1:
        yield from data.look(planes.plane(next(planes.indices())).index)
    return replace(planes, data=data)


def _refuse_size(image: Path, planes: Planes) -> None:
    height, width = planes.shape[-2:]
    if height * width > MOST_PIXELS:
        raise UserError(
            f"{image.name} claims to be {height:,} x {width:,} pixels, and at most "
            f"{MOST_PIXELS / 1e9:.0f} gigapixels a plane are segmented. Is it the right image? "
            "Else save a part of it."
        )


def margin_of(card: ModelCard, stride: int) -> int:
    """Pixels around a block that the network sees: wider than the largest cell of the model."""
    largest = max(card.diameters[1], card.diameter_window[1])
    return ceil((MARGIN * largest or USUAL_MARGIN) / stride) * stride


def details_of(plan: ZarrPlan, card: ModelCard) -> RunDetails:
    """Give what is known of a run for its record."""
    single = plan.limits[0] if len(plan.limits) == 1 else None
    return RunDetails(
        card=card,
        options=plan.options,
        **plan.details,
        test_time_augmentation=plan.test_time_augmentation,
        limits=None if single is None else Limits(*single),
        is_stack=prod(plan.shape[:-2]) > 1,
        source=plan.source,
    )
