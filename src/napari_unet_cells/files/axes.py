"""Axes and channel names that a file states, without reading its pixels."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

import tifffile

from napari_unet_cells.files.atomic import PathLike
from napari_unet_cells.files.quiet import quiet_tifffile
from napari_unet_cells.files.zarr_metadata import is_zarr, zarr_image
from napari_unet_cells.untrusted.ome_xml import parse_ome
from napari_unet_cells.untrusted.rules import Malformed, printable

#: What Fiji writes before the label of a page of a hyperstack.
_POSITION = re.compile(r"^(?:[czt]:\d+/\d+ ?)+(?:- )?")


@dataclass(frozen=True)
class FileAxes:
    """Axes of an image as its file states them.

    Attributes
    ----------
    letters : str
        One for each axis, such as "ZCYX"; colours at the end are "S". Empty where they are not
        known; Q, I and others are pages of unknown meaning.
    shape : tuple of int
        Length of each; empty where it was not looked up.
    channel_names : tuple of str
        One for each channel; empty where the file does not say.
    is_guessed : bool
        Whether the file names no axis, and the letters follow from their number alone.
    """

    letters: str = ""
    shape: tuple[int, ...] = ()
    channel_names: tuple[str, ...] = ()
    is_guessed: bool = False


def file_axes(path: PathLike) -> FileAxes:
    """Look up the axes of a TIFF or a zarr, as napari's own readers give them.

    Those readers drop the names. Never raises: of a file that cannot be read nothing is known.

    Parameters
    ----------
    path : str or os.PathLike
        Any file or zarr folder, or none.
    """
    try:
        if is_zarr(Path(path)):
            found = zarr_image(Path(path))
            return FileAxes(found.axes, (), found.channel_names, found.is_guessed)
        if not Path(path).is_file():
            return FileAxes()
        with quiet_tifffile(), tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            axes, shape = str(series.axes), tuple(int(n) for n in series.shape)
            return FileAxes(axes, shape, tiff_channel_names(tif, axes, shape))
    except Exception:  # see `pixel_size.pixel_size_of`
        return FileAxes()


def tiff_channel_names(
    tif: tifffile.TiffFile, axes: str, shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Names of true channels, by OME or by ImageJ's labels; empty where not every one has one."""
    at = axes.find("C")
    if at < 0 or at == len(axes) - 1:
        return ()
    names: list[str] = []
    if tif.ome_metadata:
        with contextlib.suppress(Malformed):
            names = list(parse_ome(tif.ome_metadata).channels)
    elif tif.imagej_metadata:
        labels = tif.imagej_metadata.get("Labels", ())
        names = _page_names([labels] if isinstance(labels, str) else labels, shape[at])
    return tuple(names) if len(names) == shape[at] and all(names) else ()


def _page_names(labels: list[str], n: int) -> list[str]:
    """Names of channels from the labels of pages, channel after channel in each plane."""
    plain = [printable(_POSITION.sub("", str(label))) for label in labels]
    of_channel = [set(plain[channel::n]) for channel in range(n)]
    # Labels of single planes, such as file names, are no names of channels.
    return [names.pop() if len(names) == 1 else "" for names in of_channel]
