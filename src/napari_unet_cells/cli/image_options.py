"""Options of the commands that segment images, ``segment`` and ``batch``."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from napari_unet_cells.cli import values
from napari_unet_cells.cli.old_names import keep_old_name
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.catalogue import DEFAULT_MODEL

if TYPE_CHECKING:
    from napari_unet_cells.batch.request import Request
    from napari_unet_cells.tracking import TrackingOptions


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add what the user may choose of a segmentation."""
    parser.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help="an installed model or a .keras file (default: the one that `models` "
        f"marks as default, {DEFAULT_MODEL} unless you chose another)",
    )
    parser.add_argument(
        "--diameter",
        type=float,
        metavar="PIXELS",
        help="typical cell diameter (default: estimated for each image)",
    )
    _add_planes(parser)
    _add_tracking(parser)
    _add_cells(parser)
    add_augmentation(parser)
    add_runtime(parser)
    parser.add_argument(
        "--pixel-size",
        type=float,
        metavar="MICROMETERS",
        help="pixel width of images whose files do not state it",
    )
    parser.add_argument(
        "--allow-missing-chunks",
        action="store_true",
        help="read a zarr image also where none of its chunks is there (where some are, those that "
        "are missing count as empty, and that is said)",
    )


def _add_planes(parser: argparse.ArgumentParser) -> None:
    """Add the options for channels and planes."""
    parser.add_argument(
        "--channel",
        type=values.channel,
        metavar="N,...",
        help="channel to segment, counted from 0, or its name in the file; several, such as 0,2, "
        "are projected, or become one image for a model that was trained on as many",
    )
    parser.add_argument(
        "--projection",
        choices=("max", "mean"),
        help="make one channel of the chosen ones (default: of all), such as nuclei and cytoplasm",
    )
    parser.add_argument(
        "--plane",
        type=values.plane,
        metavar="N|all",
        help="planes of a stack to segment: one, counted from 0, or all",
    )
    parser.add_argument(
        "--link", choices=("z", "t"), help="link cells across the planes of a stack along this axis"
    )


def _add_cells(parser: argparse.ArgumentParser) -> None:
    """Add the options for what counts as a cell."""
    min_size = parser.add_argument(
        "--min-size",
        type=int,
        metavar="PIXELS",
        help="a cell of fewer pixels joins one that it touches, or is dropped",
    )
    keep_old_name("--smallest", min_size, parser)
    parser.add_argument(
        "--split",
        type=float,
        metavar="0..1",
        help="higher splits touching cells more readily (default: the model's own)",
    )
    min_probability = parser.add_argument(
        "--min-probability",
        type=float,
        metavar="0..1",
        help="probability threshold: drop cells whose mean probability is lower (default: the "
        "model's own; 0 keeps all)",
    )
    keep_old_name("--certainty", min_probability, parser)
    parser.add_argument("--keep-holes", action="store_true", help="do not fill holes inside cells")
    parser.add_argument(
        "--drop-border", action="store_true", help="drop cells that touch the border of the image"
    )


def _add_tracking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--track",
        action="store_true",
        help="track the cells of movies (axes TYX), with gaps and divisions: cells keep their "
        "number, and NAME_tracks.csv is written (needs laptrack; segments all planes)",
    )
    parser.add_argument(
        "--track-distance",
        type=float,
        metavar="DIAMETERS",
        help="largest move of a cell from frame to frame, in cell diameters (default: 1)",
    )
    parser.add_argument(
        "--track-missing",
        type=int,
        metavar="FRAMES",
        help="frames in which a cell may be missing before it comes back (default: 2)",
    )
    parser.add_argument(
        "--no-divisions", action="store_true", help="track without looking for divisions"
    )


def add_augmentation(parser: argparse.ArgumentParser) -> None:
    """Add the option for test-time augmentation, and its old name."""
    parser.add_argument(
        "--tta",
        "--test-time-augmentation",
        action="store_true",
        help="average predictions over four mirrored copies (test-time augmentation): slightly "
        "more accurate, up to four times slower",
    )
    parser.add_argument(
        "--quality", dest="tta", type=_quality, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the option for the library that computes the network."""
    parser.add_argument(
        "--runtime",
        default="",
        metavar="NAME",
        help="library that computes the network: openvino, tensorflow, torch, or auto for the best "
        "one there is (default: auto)",
    )


def _quality(text: str) -> bool:
    """Read the value of `--quality`, the old name of `--tta`."""
    if text not in ("normal", "high"):
        raise argparse.ArgumentTypeError(f"invalid choice: {text} (choose from normal, high)")
    return text == "high"


def request_of(options: argparse.Namespace) -> Request:
    """Check the options, and put them together.

    Raises
    ------
    UserError
    """
    from napari_unet_cells.batch.request import Request
    from napari_unet_cells.files.pixel_size import LARGEST_PIXEL, SMALLEST_PIXEL
    from napari_unet_cells.segmentation.pipeline import Settings

    for name in ("diameter", "pixel_size"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, not {value:g}.")
    for name in ("split", "min_probability"):
        value = getattr(options, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')} must lie between 0 and 1, not {value:g}.")
    micrometers = options.pixel_size
    if micrometers is not None and not SMALLEST_PIXEL <= micrometers <= LARGEST_PIXEL:
        raise UserError(
            f"--pixel-size must lie between {SMALLEST_PIXEL:g} and {LARGEST_PIXEL:g} micrometers, "
            f"not {micrometers:g}."
        )
    if options.link and options.plane != "all":
        raise UserError("--link needs --plane all: cells are linked from plane to plane.")
    track = _tracking_of(options)
    settings = Settings(
        diameter=options.diameter,
        min_size=options.min_size,
        split=options.split,
        min_probability=options.min_probability,
        fill_holes=False if options.keep_holes else None,
        drop_border=True if options.drop_border else None,
        test_time_augmentation=options.tta,
    )
    return Request(
        settings,
        options.channel,
        "all" if track is not None else options.plane,
        options.link,
        options.pixel_size,
        options.overwrite,
        options.projection,
        options.runtime,
        options.allow_missing_chunks,
        track=track,
    )


def _tracking_of(options: argparse.Namespace) -> TrackingOptions | None:
    from napari_unet_cells.tracking import TrackingOptions, require_laptrack

    given: dict[str, float | int] = {}
    for name, option in (("distance", "track_distance"), ("missing", "track_missing")):
        if getattr(options, option) is not None:
            given[name] = getattr(options, option)
    if options.no_divisions:
        given["division_distance"] = 0.0
    if not options.track:
        if given:
            raise UserError(
                "--track-distance, --track-missing and --no-divisions say how cells are tracked: "
                "add --track."
            )
        return None
    if options.link:
        raise UserError("Cells are either linked (--link) or tracked (--track). Choose one.")
    if options.plane not in (None, "all"):
        raise UserError("--track needs all planes. Leave --plane out.")
    require_laptrack()
    return TrackingOptions(**given)  # type: ignore[arg-type]
