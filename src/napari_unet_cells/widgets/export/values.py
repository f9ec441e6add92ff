"""Values of the Export section's form, and what is wrong with them.

No Qt here: the form fills these in, `problem` gives the sentence that the user reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from napari_unet_cells.datasets.index import INDEX
from napari_unet_cells.export.exporters import EXPORTERS, Exporter
from napari_unet_cells.layers.export_source import export_problem
from napari_unet_cells.layers.metadata import CELLS, CLASSES, OURS, PART_OF, ZARR
from napari_unet_cells.layers.protocols import LabelsLayer, Layer
from napari_unet_cells.widgets.export.large_formats import large_problem

#: Characters that no file name can hold on every system.
_FORBIDDEN = frozenset('<>:"/\\|?*')

#: Names of files that a sentence lists.
MOST_NAMES = 3


def labels_problem(labels: LabelsLayer | None) -> str | None:
    """Say why labels can be neither measured nor written.

    Parameters
    ----------
    labels : napari labels layer, or None
    """
    if labels is None:
        return "There are no labels yet. Press Segment first."
    return export_problem(labels)


def large_result(labels: LabelsLayer | None) -> Path | None:
    """OME-Zarr that cells are read from, as their image is so large; None for other labels.

    Parameters
    ----------
    labels : napari labels layer, or None
    """
    made = {} if labels is None else labels.metadata.get(OURS, {})
    if ZARR not in made or PART_OF in made or made.get("role") != CELLS:
        return None
    folder = Path(made[ZARR])
    return None if folder.parent.suffix == ".part" else folder  # which is still being written


def _is_tracked(labels: LabelsLayer | None) -> bool:
    """Whether the record of a layer says which tracks its cells have."""
    made = {} if labels is None else labels.metadata.get(OURS, {})
    return "tracks" in made.get("provenance", {})


def large_remark(folder: Path, layers: Iterable[Layer]) -> str:
    """Say that what is edited in a part of a large result is not on the disk yet; else empty.

    Parameters
    ----------
    folder : Path
        The OME-Zarr.
    layers : iterable of layers
        All layers of the viewer.
    """
    parts = (one for one in layers if is_part_of(one, folder))
    return next(
        (f"What you edited in '{one.name}' is not in it: put it back first" for one in parts), ""
    )


def is_part_of(layer: Layer, folder: Path) -> bool:
    """Tell whether a layer is a part of a large result that is being edited."""
    part_of = layer.metadata.get(OURS, {}).get(PART_OF)
    return part_of is not None and Path(part_of["zarr"]) == folder


def unfinished_problem(labels: LabelsLayer | None) -> str | None:
    """Say that the classes of a run are no result yet: it goes on, or was cancelled.

    Parameters
    ----------
    labels : napari labels layer, or None
    """
    made = {} if labels is None else labels.metadata.get(OURS, {})
    is_done = made.get("provenance", {}).get("complete", True)
    if labels is None or made.get("role") != CLASSES or is_done:
        return None
    return (
        f"'{labels.name}' holds only the part of the image that was done. Segment the image to "
        "its end, then export."
    )


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
    format: str = field(
        default="mask",
        metadata={
            "label": "Format",
            "choices": [(row.title, name) for name, row in EXPORTERS.items()],
        },
    )
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

    @property
    def large(self) -> Path | None:
        """OME-Zarr of a large result; see `large_result`."""
        return large_result(self.labels)

    def labels_problem(self) -> str | None:
        """Say why these labels are not written in this format."""
        if self.format not in EXPORTERS:
            return f"There is no format '{self.format}'. Choose one of {', '.join(EXPORTERS)}."
        if self.large is None:
            return labels_problem(self.labels) or unfinished_problem(self.labels)
        return large_problem(self.format, _is_tracked(self.labels))

    def problem(self) -> str | None:
        """Say why nothing can be written."""
        problem = self.labels_problem()
        if problem is not None:
            return problem
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
        unfinished = unfinished_problem(self.labels)
        if unfinished is not None:
            return unfinished
        if self.folder is None:
            return "There is no folder to add the regions to. Choose one."
        if self.folder.is_file():
            return f"{self.folder} is a file. Choose a folder for the regions."
        return None


@dataclass(frozen=True)
class DatasetFolder:
    """Folder of a dataset as the user names it; it need not exist.

    Attributes
    ----------
    parent : str
        Folder that it lies in; ``~`` is the user's own.
    name : str
    """

    parent: str = field(
        default="",
        metadata={
            "label": "In the folder",
            "tooltip": "The folder that the dataset lies in, or shall lie in.",
        },
    )
    name: str = field(
        default="",
        metadata={
            "label": "Name",
            "tooltip": "Of the dataset's own folder: a new name makes a new dataset, that of a "
            "dataset adds to it.",
        },
    )

    @classmethod
    def of(cls, folder: Path) -> DatasetFolder:
        """Part a folder into where it lies and its name."""
        return cls(str(folder.parent), folder.name)

    @classmethod
    def proposed(cls, last: str | None, image: Path | None) -> DatasetFolder:
        """Propose the dataset of the last time, else a new one beside the image.

        Parameters
        ----------
        last : str or None
            Folder of the dataset that was used last; it counts while it is there.
        image : Path or None
            File of the image; without one the dataset is proposed in the home folder.
        """
        if last and Path(last).is_dir():
            return cls.of(Path(last))
        folder, name = (Path.home(), "cells") if image is None else (image.parent, image.stem)
        return cls(str(folder), f"{name}_dataset")

    @property
    def folder(self) -> Path:
        """Whole path."""
        return Path(os.path.expanduser(self.parent.strip())) / self.name.strip()

    def problem(self) -> str | None:
        """Say why there can be no dataset."""
        name = self.name.strip()
        if not name or name in (".", ".."):
            return "The dataset has no name. Type one."
        wrong = sorted(_FORBIDDEN.intersection(name))
        if wrong:
            return f"A name cannot hold {' '.join(wrong)}. Type another one."
        if not self.parent.strip() or not self.folder.parent.is_dir():
            return f"There is no folder {self.parent.strip() or 'chosen'}. Choose one that exists."
        if self.folder.is_file():
            return f"{name} is a file there. Type another name."
        return None

    def describe(self) -> str:
        """Say what happens there, or why nothing can."""
        problem = self.problem()
        if problem is not None:
            return problem
        if not self.folder.exists():
            return f"The new folder {self.folder.name} is made."
        if (self.folder / INDEX).is_file():
            return f"The regions are added to the dataset {self.folder.name}."
        return f"The regions are added to the folder {self.folder.name}, which exists already."


def file_names(paths: tuple[Path, ...]) -> str:
    """Names of files as a sentence lists them; of many the first, and how many others."""
    if len(paths) > MOST_NAMES:
        return f"{paths[0].name} and {len(paths) - 1} other files"
    return " and ".join(path.name for path in paths)
