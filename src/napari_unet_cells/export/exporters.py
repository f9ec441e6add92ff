"""Labels as files for other programs; each format is a row of `EXPORTERS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.measure import measure
from napari_unet_cells.core.tracks import FrameCells, Tracks, parents_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.export.cell_tracking_challenge import TRACKS as CHALLENGE_TRACKS
from napari_unet_cells.export.cell_tracking_challenge import challenge_folder, write_challenge
from napari_unet_cells.export.outline_formats import (
    OpenOutlines,
    coco_file,
    geojson_file,
    roi_file,
    write_outlines,
)
from napari_unet_cells.files import (
    atomic_write,
    refuse_existing,
    write_labels,
    write_table,
    write_together,
)
from napari_unet_cells.files.atomic import with_ending
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.pixels import write_pixels
from napari_unet_cells.files.results import write_result
from napari_unet_cells.files.tables import table_path
from napari_unet_cells.files.tiff import TIFF_SUFFIXES
from napari_unet_cells.layers.image_planes import pixels_of
from napari_unet_cells.layers.metadata import OURS
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.layers.protocols import ImageLayer, LabelsLayer, Layer
from napari_unet_cells.layers.selection import (
    image_layers,
    image_of_file,
    source_image,
    source_path,
)
from napari_unet_cells.layers.transforms import describe_transform
from napari_unet_cells.settings import preferences


@dataclass(frozen=True)
class Export:
    """Labels to export, and their image and metadata.

    Attributes
    ----------
    labels : integer array, (y, x), or up to (t, z, y, x)
    size : PixelSize
    record : mapping
        Transform and provenance, for the JSON beside the file.
    axes : str
        One letter for each axis of the labels.
    channels : mapping of str to array of the labels' shape
        The image, for tables; the arrays may be lazy. See `image_channels`.
    z_step : float or None
        Distance of the planes in the unit of `size`.
    means : mapping of str to array of the labels' shape
        More columns for tables, see `core.measure.measure`.
    """

    labels: NDArray[Any]
    size: PixelSize
    record: Mapping[str, Any]
    axes: str = "YX"
    channels: Mapping[str, Any] = field(default_factory=dict)
    z_step: float | None = None
    means: Mapping[str, ImageArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Exporter:
    """A format.

    Attributes
    ----------
    title : str
        In the list of formats.
    about : str
        What the file holds and which programs read it, for the tooltip.
    filter : str
        Of the file dialog.
    suffix : str
        Appended where the name has none.
    targets : callable (path) -> files that `write` makes
    write : callable (path, export, overwrite) -> written files
    measures : bool
        Whether it needs the channels of the image.
    holds_cells : bool
        Whether the cells can be made again of what is written.
    """

    title: str
    about: str
    filter: str
    suffix: str
    targets: Callable[[Path], tuple[Path, ...]]
    write: Callable[[Path, Export, bool], tuple[Path, ...]]
    measures: bool = False
    holds_cells: bool = True

    def existing(self, path: Path) -> tuple[Path, ...]:
        """Files that an export to `path` would replace."""
        return tuple(filter(Path.exists, self.targets(path)))


@dataclass(frozen=True)
class ImageChannels:
    """The pixels in which cells are measured.

    Attributes
    ----------
    arrays : mapping of str to array
        Of the shape of the labels, as `layers.export_source.export_source` gives them; not
        copied, not read. Colours are three channels.
    problem : str
        Where there are none, the sentence that says why; else empty.
    file : Path or None
        Where the image is not open, but its file is there.
    """

    arrays: Mapping[str, ImageArray]
    problem: str = ""
    file: Path | None = None


def image_channels(layer: LabelsLayer, layers: Iterable[Layer]) -> ImageChannels:
    """Find the image of a labels layer, and others that lie pixel on pixel with it.

    Those are the other channels of a microscope, which napari shows as a layer each. The image
    of a result that was opened again is found by its file. For labels that we did not make, the
    images that lie pixel on pixel with the labels count.

    Parameters
    ----------
    layer : napari labels layer
    layers : iterable of layers
        All layers of the viewer.
    """
    images = image_layers(layers)
    made = layer.metadata.get(OURS, {})
    if made:
        source = source_image(layer, images) or image_of_file(layer, images)
        if source is None:
            return _missing(layer, layers)
        same = [source, *(i for i in images if i is not source and _lie_alike(i, source))]
        plane = tuple(made.get("provenance", {}).get("source", {}).get("plane", ()))
        problem = f"'{source.name}' has another size than the labels, so intensities are missing."
    else:
        same, plane = [image for image in images if _lie_alike(image, layer)], ()
        problem = "No image lies pixel on pixel with the labels, so intensities are missing."
    arrays: dict[str, ImageArray] = {}
    for image in same:
        pixels = _pixels_at(image, layer.data.shape, plane)
        if pixels is not None:
            _add_channels(arrays, image, pixels, alone=len(same) == 1)
    return ImageChannels(arrays, "" if arrays else problem)


def _missing(layer: LabelsLayer, layers: Iterable[Layer]) -> ImageChannels:
    """Say that the image of a result is not open, and where its file is."""
    path = source_path(layer, layers)
    if path is None:
        return ImageChannels(
            {}, "The image that the cells were found in is gone, so intensities are missing."
        )
    if not path.exists():
        return ImageChannels(
            {}, f"{path.name}, the image of the cells, is not at {path.parent} any more, so "
            "intensities are missing.",
        )  # fmt: skip
    return ImageChannels(
        {}, f"{path.name}, the image of the cells, is not open, so intensities are missing.", path
    )


def _lie_alike(one: Layer, other: Layer) -> bool:
    """Whether two layers have the same planes in the same place of the world."""
    places = [describe_transform(layer) for layer in (one, other)]
    keys = ("scale", "translate", "rotate", "shear", "affine")
    return _grid(one) == _grid(other) and all(places[0][k] == places[1][k] for k in keys)


def _grid(layer: Layer) -> tuple[int, ...]:
    shape = tuple(pixels_of(layer).shape)
    return shape[:-1] if getattr(layer, "rgb", False) else shape


def _pixels_at(
    image: ImageLayer, shape: tuple[int, ...], plane: tuple[int, ...]
) -> ImageArray | None:
    """Give an image in the shape of squeezed labels, None where it has another."""
    pixels, grid = pixels_of(image), _grid(image)
    if plane and len(plane) == len(grid) - 2:
        pixels, grid = pixels[plane], grid[len(plane) :]
    squeezed = tuple(n for axis, n in enumerate(shape) if n > 1 or axis >= len(shape) - 2)
    single = [axis for axis in range(len(grid) - 2) if grid[axis] == 1]
    if tuple(n for axis, n in enumerate(grid) if axis not in single) != squeezed:
        return None
    at = tuple(0 if axis in single else slice(None) for axis in range(len(grid) - 2))
    return pixels[at] if single else pixels


def _add_channels(
    arrays: dict[str, ImageArray], image: ImageLayer, pixels: ImageArray, alone: bool
) -> None:
    """Name the channels of an image; napari sees to it that no two layers have one name."""
    if image.rgb:
        prefix = "" if alone else f"{image.name} "
        for index, colour in enumerate(("red", "green", "blue")):
            arrays[prefix + colour] = pixels[..., index]
    else:
        arrays[image.name] = pixels


def proposed_path(image_path: str | Path | None, layer_name: str, suffix: str) -> Path:
    """Propose a name beside the image, or in the home folder where it has no file.

    Where the user prefers one folder for all results, it is proposed instead.

    Parameters
    ----------
    image_path : path or None
        Of the file the image was read from.
    layer_name : str
        Of the labels; characters that a file name cannot hold are replaced.
    suffix : str
        Such as ``.tif``.
    """
    name = "".join("_" if c in '<>:"/\\|?*' or ord(c) < 32 else c for c in layer_name)
    name = "_".join(name.split()) or "labels"
    chosen = preferences().results_folder
    folder = Path.home() if image_path is None else Path(image_path).parent
    folder = Path(os.path.expanduser(chosen)) if chosen else folder
    return folder / (name + suffix)


def _mask_targets(path: Path) -> tuple[Path, ...]:
    """Give the mask, with its extension, and the JSON of the same name."""
    mask = path if path.suffix.lower() in (".tif", ".tiff") else Path(f"{path}.tif")
    return mask, mask.with_suffix(".json")


def _write_mask(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    """Write the mask as TIFF, and a JSON with transform and provenance beside it."""
    return write_result(
        _mask_targets(path)[0],
        export.labels,
        export.record,
        axes=export.axes,
        scale=Scale((export.size.y, export.size.x), export.size.unit, export.z_step),
        overwrite=overwrite,
    )


def _table_targets(path: Path) -> tuple[Path, ...]:
    return (table_path(path),)


def _write_table(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    """Measure the cells and write one row for each."""
    refuse_existing(_table_targets(path), overwrite)  # before all is measured
    size = export.size
    pixel = (size.y, size.x)
    channels = export.channels or None
    table = measure(export.labels, channels, pixel, size.unit, export.axes, export.means)
    return (write_table(path, table, overwrite),)


def _pair_targets(path: Path) -> tuple[Path, ...]:
    """Give the image, with its extension, and the mask beside it."""
    image = with_ending(path, TIFF_SUFFIXES, ".tif")
    return image, image.with_name(f"{image.stem}_mask{image.suffix}")


def _write_pair(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    """Write image and mask as TIFFs of the same size, which other programs can learn from."""
    if not export.channels:
        raise UserError(
            "The image of these labels is not open, and a pair needs it. Open it again, or export "
            "the mask alone."
        )
    image, mask = _pair_targets(path)
    place: dict[str, Any] = {
        "pixel_size": (export.size.y, export.size.x),
        "unit": export.size.unit,
        "z_step": export.z_step,
    }
    with write_together((image, mask), overwrite) as folder:
        pixels, axes = _stacked(export)
        write_pixels(folder / image.name, pixels, axes=axes, **place)
        write_labels(
            folder / mask.name, export.labels, axes=export.axes, provenance=export.record, **place
        )
    return image, mask


def _stacked(export: Export) -> tuple[NDArray[Any], str]:
    """Give all channels as one array: colours last, others before (y, x)."""
    arrays = [np.asarray(channel) for channel in export.channels.values()]
    if len(arrays) == 1:
        return arrays[0], export.axes
    last = tuple(name.rpartition(" ")[2] for name in export.channels)
    if last == ("red", "green", "blue"):
        return np.stack(arrays, axis=-1), f"{export.axes}C"
    return np.stack(arrays, axis=-3), f"{export.axes[:-2]}CYX"


def _one_file(suffix: str, ending: str) -> Callable[[Path], tuple[Path, ...]]:
    """Make a row's `targets`: a file that gets the ending where it lacks the suffix."""
    return lambda path: (with_ending(path, frozenset({suffix}), ending),)


def _write_rois(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    return _write_outlines(_ROIS(path)[0], roi_file, export, overwrite)


def _write_geojson(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    return _write_outlines(_GEOJSON(path)[0], geojson_file, export, overwrite)


def _write_coco(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    return _write_outlines(_COCO(path)[0], coco_file, export, overwrite)


def _write_outlines(
    target: Path, open_file: OpenOutlines, export: Export, overwrite: bool
) -> tuple[Path, ...]:
    with atomic_write(target, overwrite) as temporary:
        write_outlines(temporary, open_file, export.labels, export.axes, export.record)
    return (target,)


def _frames(export: Export) -> NDArray[Any]:
    """Give the labels as a movie (t, y, x) whose ids are those of tracks.

    Raises
    ------
    UserError
        Where they are none.
    """
    record = export.record
    axes = export.axes
    if axes == "YX":
        return export.labels[None]
    if axes != "TYX":
        raise UserError(
            f"Tracks are those of a movie (t, y, x), and these labels have the axes {axes}. If "
            "they are a movie, press Track cells on the page Correct first; else export the table."
        )
    parameters = record.get("parameters") or {}
    alone = "linked_along_axis" in parameters and parameters["linked_along_axis"] is None
    if alone and "tracks" not in record:
        raise UserError(
            "The cells are not tracked: each frame is numbered on its own. Press Track cells on "
            "the page Correct, or segment the movie with --track."
        )
    return export.labels


def _challenge_targets(path: Path) -> tuple[Path, ...]:
    """Give the file that every export of tracks writes; the masks depend on the movie."""
    return (challenge_folder(path) / CHALLENGE_TRACKS,)


def _write_challenge(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    return write_challenge(
        path, _frames(export), parents_of(export.record.get("tracks")), overwrite
    )


def _write_tracks(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    """Write one row for each track."""
    refuse_existing(_table_targets(path), overwrite)
    frames = [FrameCells.of(plane, number) for number, plane in enumerate(_frames(export))]
    tracks = Tracks.of(frames, parents_of(export.record.get("tracks")))
    table = tracks.table((export.size.y, export.size.x), export.size.unit)
    return (write_table(path, table, overwrite),)


_ROIS = _one_file(".zip", ".zip")
_GEOJSON = _one_file(".geojson", ".geojson")
_COCO = _one_file(".json", "_coco.json")  # NAME.json is the record beside the mask

EXPORTERS: dict[str, Exporter] = {
    "mask": Exporter(
        "Mask TIFF",
        "Labels as a TIFF for Fiji, CellProfiler and Python, with pixel size and position, and a "
        "JSON that says how they were made. Open result shows them again in their place.",
        "TIFF (*.tif *.tiff)",
        ".tif",
        _mask_targets,
        _write_mask,
    ),
    "table": Exporter(
        "Table CSV",
        "One row a cell for Excel, R and Python: area, shape, place, and intensity in the image.",
        "CSV (*.csv)",
        ".csv",
        _table_targets,
        _write_table,
        measures=True,
        holds_cells=False,
    ),
    "pair": Exporter(
        "Image and mask TIFF",
        "Two TIFFs of one size, the image and its labels, as Cellpose and StarDist learn from.",
        "TIFF (*.tif *.tiff)",
        "_pair.tif",
        _pair_targets,
        _write_pair,
        measures=True,
    ),
    "rois": Exporter(
        "ImageJ ROIs",
        "Outlines as a ZIP for the ROI Manager of ImageJ and Fiji.",
        "ZIP (*.zip)",
        ".zip",
        _ROIS,
        _write_rois,
    ),
    "geojson": Exporter(
        "QuPath GeoJSON",
        "Outlines as objects for QuPath.",
        "GeoJSON (*.geojson)",
        ".geojson",
        _GEOJSON,
        _write_geojson,
    ),
    "coco": Exporter(
        "COCO JSON",
        "Outlines as COCO annotations, for programs that train networks.",
        "JSON (*.json)",
        "_coco.json",
        _COCO,
        _write_coco,
    ),
    "tracks": Exporter(
        "Tracks CSV",
        "One row a track of a movie: first and last frame, parent, place, way, and mean area.",
        "CSV (*.csv)",
        "_tracks.csv",
        _table_targets,
        _write_tracks,
        holds_cells=False,
    ),
    "challenge": Exporter(
        "Cell Tracking Challenge",
        "A folder with one 16-bit mask a frame and res_track.txt, which programs for tracking read "
        "and score.",
        "Folder (*)",
        "_ctc",
        _challenge_targets,
        _write_challenge,
    ),
}
