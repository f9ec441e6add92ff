"""The list of images that the dock segments as a batch: kept beside the results, to go on with.

::

    day1/  a.tif b.tif                          the images stay as they are
    day1_cells/  a_cells.tif a.json ...         what a batch writes
                 images.unet-cells.json         which images, which model, which options
                 marks.unet-cells.json          what was approved and corrected, see `batch.marks`
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from napari_unet_cells.batch.request import Request
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import IMAGE_SUFFIXES, make_folder, write_json
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.tracking import TrackingOptions
from napari_unet_cells.untrusted.folder_record import PROGRAM, ListOptions, ListRecord, parse_list
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import SENTENCE, Malformed, printable

#: Name of the document, in the folder of the results.
LIST = "images.unet-cells.json"

#: What follows the name of a folder of images, in that of its results.
RESULTS = "_cells"


@dataclass(frozen=True)
class ImageList:
    """Images to segment, and how.

    Attributes
    ----------
    named : tuple of str
        Files and folders.
    model : str
        Name, or path of a `.keras` file.
    request : Request
        A table is CSV, nothing is overwritten, and of tracks only the movies have some.
    said : str
        The options in words, for the user.
    """

    named: tuple[str, ...]
    model: str
    request: Request = field(default_factory=Request)
    said: str = ""


def results_folder(named: Sequence[str]) -> Path:
    """Propose a folder for results: beside that of the images, never in it.

    No disk is asked, which may be that of a network that is gone: a name that ends as those of
    images do is taken for a file. Beside a whole disk is no place; there it is the user's folder.

    Parameters
    ----------
    named : sequence of str
        Files and folders; the first one counts.
    """
    first = Path(os.path.abspath(named[0]))
    is_file = first.suffix.lower() in (*IMAGE_SUFFIXES, ".zarr")
    folder = first.parent if is_file else first
    if not folder.name:
        return Path.home() / f"images{RESULTS}"
    return folder.with_name(f"{folder.name}{RESULTS}")


def save_list(output: Path, chosen: ImageList) -> None:
    """Keep a list in the folder of its results, which is made where it is missing.

    Raises
    ------
    UserError
        Where the disk refuses, or the name is taken by a file of somebody else.
    """
    make_folder(output)
    path = output / LIST
    if path.exists():
        read_list(output)  # a file of somebody else is not replaced
    document = {
        "program": PROGRAM,
        "images": list(chosen.named),
        "model": chosen.model,
        "said": printable(chosen.said, SENTENCE - 1),
        "options": _options_of(chosen.request),
    }
    write_json(path, document, overwrite=True)


def read_list(output: Path) -> ImageList:
    """Read the list of a folder of results.

    Raises
    ------
    UserError
        Where there is none, or it was damaged.
    """
    path = output / LIST
    try:
        record = parse_list(read_json(path))
        return ImageList(record.named, record.model, _request_of(record), record.said)
    except FileNotFoundError as error:
        raise UserError(
            f"{output} holds no list of images ({LIST}) that could go on. Choose the images anew."
        ) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}. See that the disk is there."
        ) from error
    except (Malformed, ValueError) as error:
        raise UserError(
            f"{path} was damaged, or is of another program ({error}). Choose another folder for "
            "the results, or move that file away; results that are there are found again."
        ) from error


_OF_SETTINGS = frozenset(one.name for one in fields(Settings)) - {"link"}


def _options_of(request: Request) -> dict[str, Any]:
    known = asdict(request) | {
        name: value for name, value in asdict(request.settings).items() if name in _OF_SETTINGS
    }
    known["track"] = request.track is not None
    return {one.name: known[one.name] for one in fields(ListOptions)}


def _request_of(record: ListRecord) -> Request:
    values = {one.name: getattr(record.options, one.name) for one in fields(ListOptions)}
    settings = {name: values.pop(name) for name in tuple(values) if name in _OF_SETTINGS}
    track = TrackingOptions() if values.pop("track") else None
    return Request(Settings(**settings), **values, track=track, stills=track is not None)
