"""Tables of the tracks of a movie among the results of a batch, once its cells were corrected.

They follow the cells where these still have tracks, and go where they have none any more. A file of
that name which no run has written stays as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_unet_cells.files.tables import is_table

#: Entry of a record: the tracks of its labels.
TRACKS = "tracks"


@dataclass(frozen=True)
class TrackTables:
    """Tables of tracks of an image.

    Attributes
    ----------
    files : tuple of Path
        The one of the last run, also where it is not there; then those of others.
    has_tracks : bool
        Whether the cells have some.
    is_ours : bool
        Whether the first file belongs to the result.
    """

    files: tuple[Path, ...]
    has_tracks: bool
    is_ours: bool

    @classmethod
    def of(
        cls,
        output: Path,
        name: str,
        kinds: Sequence[str],
        outputs: Collection[str],
        document: Mapping[str, Any],
    ) -> TrackTables:
        """Look for the tables of an image.

        Parameters
        ----------
        output : Path
            Folder of the results of a batch.
        name : str
            Of the image.
        kinds : sequence of str
            Of the tables of its cells, that of the last run first.
        outputs : collection of str
            Endings of the files that the run wrote.
        document : mapping
            Record of the cells as they are now.
        """
        first, *others = (output / f"{name}_tracks.{kind}" for kind in kinds)
        listed = document.get("files")
        named = listed if isinstance(listed, list) else ()
        is_ours = _ending(first, name) in outputs or first.name in named
        written = [path for path in others if is_table(path, "label", "t_last")]
        return cls((first, *written), TRACKS in document, is_ours)

    @property
    def writes(self) -> bool:
        """Whether the tracks are written."""
        return self.has_tracks and (self.is_ours or not self.files[0].exists())

    @property
    def is_named(self) -> bool:
        """Whether the first file is one of the result, or will be."""
        return self.is_ours or self.writes

    @property
    def written(self) -> Sequence[Path]:
        """Files that are written."""
        return self.files if self.writes else ()

    def endings_gone(self, name: str) -> Collection[str]:
        """Give the endings of files that are of the result no more."""
        return () if self.writes else (_ending(self.files[0], name),)

    def remove_gone(self) -> None:
        """Remove tables of labels that are tracks no more."""
        for path in self.files if self.is_ours and not self.writes else ():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _ending(path: Path, name: str) -> str:
    return path.name.removeprefix(Path(name).name)
