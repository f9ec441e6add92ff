"""Labels as files for other programs; each format is a row of `EXPORTERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
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
    targets : callable (path) -> files that `write` makes
    write : callable (path, export, overwrite) -> written files
    """

    title: str
    filter: str
    suffix: str
    targets: Callable[[Path], tuple[Path, ...]]
    write: Callable[[Path, Export, bool], tuple[Path, ...]]

    def existing(self, path: Path) -> tuple[Path, ...]:
        """Files that an export to `path` would replace."""
        return tuple(filter(Path.exists, self.targets(path)))


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


def _mask_targets(path: Path) -> tuple[Path, ...]:
    """Give the mask, with its extension, and the JSON of the same name."""
    mask = path if path.suffix.lower() in (".tif", ".tiff") else Path(f"{path}.tif")
    return mask, mask.with_suffix(".json")


def _write_mask(path: Path, export: Export, overwrite: bool) -> tuple[Path, ...]:
    """Write the mask as TIFF, and a JSON with transform and provenance beside it."""
    mask, record = _mask_targets(path)
    if not overwrite:
        for existing in filter(Path.exists, (mask, record)):
            raise FileExists(existing)  # before one of the two is written
    was_there = mask.exists()
    write_labels(
        mask,
        export.labels,
        pixel_size=(export.size.y, export.size.x),
        unit=export.size.unit,
        provenance=export.record,
        overwrite=overwrite,
    )
    try:
        write_json(record, export.record, overwrite=overwrite)
    except UserError:
        if not was_there:
            mask.unlink(missing_ok=True)  # a mask without its record is half an export
        raise
    return mask, record


EXPORTERS: dict[str, Exporter] = {
    "mask": Exporter("Mask TIFF...", "TIFF (*.tif *.tiff)", ".tif", _mask_targets, _write_mask),
}
