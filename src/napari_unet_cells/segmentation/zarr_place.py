"""Place of the OME-Zarr of an image, where a run like the one to come may have made it already.

::

    slide.ome.zarr                 the image
    slide_cells.ome.zarr           its result          slide_cells.csv      the table
    slide_cells-2.ome.zarr         of other settings   slide_cells-2.csv

    n1.ome.zarr                    result of a list of images
    n1_cells.csv                   its table         n1.json    its record

A run that was begun owns its names, so that nobody else replaces what it has done.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from napari_unet_cells.files.zarr_metadata import ZARR_SUFFIX, zarr_record, zarr_run
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.block_store import CELLS
from napari_unet_cells.segmentation.zarr_output import begun_key
from napari_unet_cells.segmentation.zarr_request import ZarrRequest, run_key
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.result_record import parse_record
from napari_unet_cells.untrusted.rules import Fields, Malformed, anything

#: Ending of a result.
SUFFIX = ".ome.zarr"

#: Endings that are no part of the name of an image.
_ENDINGS = (SUFFIX, ZARR_SUFFIX, ".ome.tif", ".ome.tiff")

#: How `place_for` ends the name of a result.
_OURS = re.compile(rf"_{CELLS}(-\d+)?$")


@dataclass(frozen=True)
class Place:
    """Place of a result.

    Attributes
    ----------
    output : Path
    is_there : bool
        A run of the same image, model, settings and version has made it.
    n_cells : int or None
        Of a result that is there, where it is known.
    """

    output: Path
    is_there: bool = False
    n_cells: int | None = None


def place_for(image: Path, folder: Path, card: ModelCard, request: ZarrRequest) -> Place:
    """Find the result of a run that is there, or the first name that is free.

    Parameters
    ----------
    image : Path
    folder : Path
        Of the results.
    card : ModelCard
    request : ZarrRequest

    Raises
    ------
    UserError
        Where the image cannot be read.
    """
    key, name = run_key(image, card, request), name_of(image)
    for number in count(1):
        output = folder / f"{name}_cells{'' if number == 1 else f'-{number}'}{SUFFIX}"
        if os.path.lexists(output):
            if zarr_run(output) == key:
                return Place(output, True, _counted(output))
        elif _is_free(output, key):
            return Place(output)
    raise AssertionError("one of the names is free")


def _is_free(output: Path, key: str) -> bool:
    """Whether a name is that of no other run that was begun, nor of a table of somebody else."""
    begun = begun_key(output)
    if begun is not None:
        return begun == key
    return not os.path.lexists(table_of(output))


def folder_beside(image: Path) -> Path:
    """Folder in which an image lies; of one in a zarr folder, that of the zarr folder."""
    return _outermost(image).parent


def name_of(image: Path) -> str:
    """Name of an image without its ending; in a zarr folder its place there is a part of it."""
    whole = _outermost(image)
    name = whole.name
    ending = next((one for one in _ENDINGS if name.lower().endswith(one)), whole.suffix)
    inside = image.relative_to(whole).parts
    return "_".join([name.removesuffix(name[len(name) - len(ending) :]), *inside])


def table_of(output: Path) -> Path:
    """Path of the table of the cells in a result that is called as `place_for` calls it."""
    return output.with_name(f"{output.name.removesuffix(SUFFIX)}.csv")


def table_beside(output: Path) -> Path:
    """Path of the table of the cells in a result, also in one of a list of images.

    A list calls the OME-Zarr of an image as the image, and each table after its image too.

    Parameters
    ----------
    output : Path
        Of the result; its table need not be there.
    """
    name, own = output.name.removesuffix(SUFFIX), table_of(output)
    of_list = output.with_name(f"{name}_{CELLS}.csv")
    if _is_of_list(output, name):
        return of_list
    is_ours = _OURS.search(name) is not None
    return of_list if not is_ours and of_list.is_file() and not own.is_file() else own


def _is_of_list(output: Path, name: str) -> bool:
    """Whether a record beside a result says that it is of a list of images."""
    try:
        files = Fields(read_json(output.with_name(f"{name}.json"))).take("files", anything)
    except (OSError, Malformed):
        return False
    return isinstance(files, list) and output.name in files


def _outermost(image: Path) -> Path:
    whole = image.absolute()
    inside = [one for one in (whole, *whole.parents) if one.suffix.lower() == ZARR_SUFFIX]
    return inside[-1] if inside else whole


def _counted(output: Path) -> int | None:
    try:
        record = parse_record(zarr_record(output / "labels" / CELLS))
    except Malformed:
        return None
    n_cells = record.document.get("cells")
    return n_cells if isinstance(n_cells, int) else None
