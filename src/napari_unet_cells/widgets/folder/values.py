"""Values of the dialog of a new list, and what is wrong with them.

No Qt here: the form fills these in, `problem` gives the sentence that the user reads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_unet_cells.batch.image_list import results_folder

#: Between names of files in one line, as nobody has it in a name.
_BETWEEN = " | "


@dataclass(frozen=True)
class FolderValues:
    """A new list: images, and where their results go.

    Attributes
    ----------
    images : str
        A folder, or files with `_BETWEEN` in between.
    output : str
        Folder of the results; it is made where it is missing.
    """

    images: str = field(
        default="",
        metadata={
            "label": "Images",
            "tooltip": "A folder, whose images are segmented (not those in its subfolders), or "
            "single files.",
        },
    )
    output: str = field(
        default="",
        metadata={
            "label": "Results in",
            "tooltip": "Folder for cells, tables and the report; it is made where it is missing. "
            "It may not lie among the images, where the next run would take results for images.",
        },
    )
    format: str = field(
        default="tiff",
        metadata={
            "label": "Write",
            "choices": [("TIFF", "tiff"), ("OME-Zarr", "ome-zarr")],
            "tooltip": "TIFF masks, or one OME-Zarr an image with all label images, which is "
            "computed block by block: for images of any size. Tables are CSV.",
        },
    )
    track: bool = field(
        default=False,
        metadata={
            "label": "Track cells",
            "tooltip": "In movies, stacks with the axis T, cells keep their number from frame to "
            "frame, and NAME_tracks.csv is written. All planes are segmented; other images are "
            "done as without.",
        },
    )

    @classmethod
    def of(cls, named: Sequence[str], format: str = "tiff") -> FolderValues:
        """Name images, with the results beside them.

        Parameters
        ----------
        named : sequence of str
        format : str
            That of the list that is open: results of another one would lie beside its own.
        """
        output = str(results_folder(named)) if named else ""
        return cls(_BETWEEN.join(named), output, format)

    @property
    def named(self) -> tuple[str, ...]:
        """Files and folders, absolute."""
        names = (name.strip() for name in self.images.split(_BETWEEN.strip()))
        return tuple(os.path.abspath(os.path.expanduser(name)) for name in names if name)

    @property
    def folder(self) -> Path:
        """Folder of the results, absolute."""
        return Path(os.path.abspath(os.path.expanduser(self.output.strip())))

    def problem(self) -> str | None:
        """Say why there can be no such list; what lies in the folders, a thread looks up."""
        if not self.named:
            return "No images are chosen. Choose a folder, or files."
        if not self.output.strip():
            return "There is no folder for the results. Choose one."
        if self.folder.is_file():
            return f"{self.folder} is a file. Choose a folder for the results."
        return None
