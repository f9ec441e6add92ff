"""Values of the Export section's form, and what is wrong with them.

No Qt here: the form fills these in, `problem` gives the sentence that the user reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_unet_cells.export.exporters import EXPORTERS, Exporter
from napari_unet_cells.layers.export_source import export_problem
from napari_unet_cells.layers.protocols import LabelsLayer


def labels_problem(labels: LabelsLayer | None) -> str | None:
    """Say why labels can be neither measured nor written.

    Parameters
    ----------
    labels : napari labels layer, or None
    """
    if labels is None:
        return "There are no labels yet. Press Segment first."
    return export_problem(labels)


@dataclass(frozen=True)
class ExportValues:
    """One export: labels, format and file.

    Attributes
    ----------
    labels : napari labels layer, or None
    format : str
        A key of `export.exporters.EXPORTERS`.
    path : Path or None
        As the user typed it; the format adds its ending where there is none.
    replace : bool
        Files that exist may be replaced.
    """

    labels: LabelsLayer | None = None
    format: str = "mask"
    path: Path | None = None
    replace: bool = False

    @property
    def exporter(self) -> Exporter:
        """Row of the table of formats."""
        return EXPORTERS[self.format]

    @property
    def existing(self) -> tuple[Path, ...]:
        """Files that would be replaced."""
        return () if self.path is None else self.exporter.existing(self.path)

    def problem(self) -> str | None:
        """Say why nothing can be written."""
        problem = labels_problem(self.labels)
        if problem is not None:
            return problem
        if self.format not in EXPORTERS:
            return f"There is no format '{self.format}'. Choose one of {', '.join(EXPORTERS)}."
        if self.path is None or not self.path.name:
            return "There is no file to write to. Choose one."
        if self.existing and not self.replace:
            return f"{file_names(self.existing)} kept; nothing was written."
        return None


@dataclass(frozen=True)
class DatasetValues:
    """Approved regions to add to a dataset.

    Attributes
    ----------
    labels : napari labels layer, or None
        Whose regions were approved, or scribbles.
    folder : Path or None
        Of the dataset; it is made where it does not exist.
    """

    labels: LabelsLayer | None = None
    folder: Path | None = None

    def problem(self) -> str | None:
        """Say why nothing can be added."""
        if self.labels is None:
            return labels_problem(None)
        if self.folder is None:
            return "There is no folder to add the regions to. Choose one."
        if self.folder.is_file():
            return f"{self.folder} is a file. Choose a folder for the regions."
        return None


def file_names(paths: tuple[Path, ...]) -> str:
    """Names of files as a sentence lists them."""
    return " and ".join(path.name for path in paths)
