"""Labels as files for other programs; each format is a row of `EXPORTERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_unet_cells.files import FileExists, write_json, write_labels
from napari_unet_cells.layers import PixelSize


@dataclass(frozen=True)
class Export:
    """What is exported.

    Attributes
    ----------
    labels : integer array, (y, x)
    size : PixelSize
    record : mapping
        Transform and provenance, for the JSON beside the file.
    """

    labels: NDArray[Any]
    size: PixelSize
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Exporter:
    """A format.

    Attributes
    ----------
    title : str
        On the button.
    filter : str
        Of the file dialog.
    suffix : str
        Appended where the name has none.
    write : callable (path, export, overwrite) -> written files
    """

    title: str
    filter: str
    suffix: str
    write: Callable[[Path, Export, bool], tuple[Path, ...]]


def proposed_path(image_path: str | Path | None, layer_name: str, suffix: str) -> Path:
    """Propose a name beside the image, or in the home folder where it has no file.

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
    folder = Path.home() if image_path is None else Path(image_path).parent
    return folder / (name + suffix)


def _write_mask(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    """Write the mask as TIFF, and a JSON of the same name with transform and provenance."""
    target = path if path.suffix.lower() in (".tif", ".tiff") else Path(f"{path}.tif")
    record = target.with_suffix(".json")
    if not overwrite:
        for existing in filter(Path.exists, (target, record)):
            raise FileExists(existing)  # before one of the two is written
    mask = write_labels(
        target,
        export.labels,
        pixel_size=(export.size.y, export.size.x),
        unit=export.size.unit,
        provenance=export.record,
        overwrite=overwrite,
    )
    return mask, write_json(record, export.record, overwrite=overwrite)


EXPORTERS: dict[str, Exporter] = {
    "mask": Exporter("Mask TIFF...", "TIFF (*.tif *.tiff)", ".tif", _write_mask),
}
