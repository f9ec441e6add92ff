"""Find the images that paths, folders and patterns of the user stand for."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import PathLike
from napari_unet_cells.files.failures import read_failure
from napari_unet_cells.files.labels import read_provenance
from napari_unet_cells.files.reading import IMAGE_SUFFIXES
from napari_unet_cells.files.zarr_metadata import ZARR_SUFFIX, is_zarr
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed, plain_mapping

_RESULT_NAME = re.compile(r".*_((cells|classes)\.(tiff?|zarr)|outlines\.jpg)", re.IGNORECASE)


def find_images(paths: Iterable[PathLike]) -> list[Path]:
    """List the images that paths, folders and patterns stand for.

    A file and a zarr folder stand for themselves, whatever they are; any other folder for
    the images in it, not in its subfolders; a pattern (``*``, ``?``, ``[...]``, and ``**``
    for any depth) for the images it matches. Hidden files and our own results
    (``*_cells.tif``, ``*_classes.tif``, ``*_outlines.jpg``, and any ``.zarr`` that says so) are
    left out, unless named or asked for by a pattern that ends so.

    Parameters
    ----------
    paths : iterable of str or os.PathLike
        As the user named them, in this order.

    Returns
    -------
    list of Path
        Without duplicates; ``cell2.tif`` stands before ``cell10.tif``.

    Raises
    ------
    UserError
        If a path does not exist, or a folder or pattern holds no image.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for image in _images_of(Path(path)):
            found.setdefault(os.path.realpath(image), image)
    return list(found.values())


def _images_of(path: Path) -> list[Path]:
    is_pattern = glob.has_magic(str(path))
    try:
        if path.is_file() or is_zarr(path):
            return [path]
        if path.is_dir():
            candidates = list(path.iterdir())
        elif path.exists():  # a pipe or a device: whoever reads it says what it is
            return [path]
        elif is_pattern:
            candidates = [Path(name) for name in glob.glob(str(path), recursive=True)]
        else:
            raise UserError(f"{path} does not exist. Check the name and the folder.")
        images = [candidate for candidate in candidates if _is_image(candidate)]
    except OSError as error:
        raise read_failure(path, error) from error
    if _asks_for_results(path):
        wanted = images
    else:
        wanted = [image for image in images if not _is_result(image)]
    if not wanted:
        raise _nothing_found(path, images, is_pattern and not path.is_dir())
    return sorted(wanted, key=_natural_key)


def _nothing_found(path: Path, results: Sequence[Path], is_pattern: bool) -> UserError:
    if results:
        return UserError(
            f"{path} holds results only ({results[0].name}). To segment such a file, name it."
        )
    reason = "matches no image" if is_pattern else "is a folder without images"
    kinds = "TIFF, OME-Zarr, PNG, JPEG, BMP"
    return UserError(f"{path} {reason} ({kinds}). Check the name and the folder.")


def _is_image(path: Path) -> bool:
    is_hidden = path.name.startswith(".")
    suffix = path.suffix.lower()
    is_image = suffix in IMAGE_SUFFIXES and path.is_file()
    return not is_hidden and (is_image or (suffix == ZARR_SUFFIX and path.is_dir()))


def _asks_for_results(path: Path) -> bool:
    return _RESULT_NAME.fullmatch(path.name) is not None


def _is_result(path: Path) -> bool:
    """Whether we wrote the file: the name alone may be a biologist's, as in HeLa_cells.tif."""
    is_zarr_folder = path.suffix.lower() == ZARR_SUFFIX
    if not _asks_for_results(path) and not is_zarr_folder:
        return False
    try:
        if path.suffix.lower() == ".jpg":  # it holds no record, which lies beside it
            stem = path.name[: -len("_outlines.jpg")]
            document = plain_mapping(read_json(path.with_name(f"{stem}.json")))
            return document.get("program") == "napari-unet-cells"
        return bool(read_provenance(path))
    except (UserError, Malformed, OSError):
        return False


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbers by value, text by letter; the name itself decides between 1 and 01."""
    parts = re.findall(r"\d+|\D+", str(path).lower())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], str(path)
