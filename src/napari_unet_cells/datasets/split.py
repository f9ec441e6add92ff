"""Choose the validation split of a dataset and write it into its index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_unet_cells.datasets.annotated_images import annotated_image_of, member_of
from napari_unet_cells.datasets.holdout import FEWEST, FRACTION, decide, enough
from napari_unet_cells.datasets.index import current, locked, read_index, write_index
from napari_unet_cells.datasets.layouts import Pair, find_pairs
from napari_unet_cells.errors import UserError
from napari_unet_cells.untrusted.dataset_record import DatasetRecord, parse_record
from napari_unet_cells.untrusted.rules import Malformed


@dataclass(frozen=True)
class Division:
    """Validation split of a dataset.

    Attributes
    ----------
    train, val : tuple of str
        Names of the images to train on, and of those held out.
    decided : int
        How many of them were undecided until now.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    decided: int


def split(folder: str | Path, fraction: float = FRACTION, seed: int = 0) -> Division:
    """Hold out a part of a dataset for validation; earlier decisions stay.

    A folder without an index gets one.

    Parameters
    ----------
    folder : path
    fraction : float
        Fraction held out, between 0 and 1.
    seed : int
        Random seed of the split.

    Raises
    ------
    UserError
        Where the dataset cannot be read or written, or has too few regions.
    """
    folder = Path(folder)
    if not 0 < fraction < 1:
        raise UserError(f"The validation fraction must lie between 0 and 1, not {fraction:g}.")
    records_of(folder)  # any other folder is refused before a lock is left in it
    with locked(folder):
        records = records_of(folder)
        newest = current(records)
        members = [member_of(annotated_image_of(folder, record), record.split) for record in newest]
        if not enough(members):
            raise UserError(
                f"{folder} has {len(members)} images or regions, and validation needs at least "
                f"{FEWEST}. Approve and export more of them."
            )
        splits = decide(members, fraction, seed)
        decided = {record.name: side for record, side in zip(newest, splits, strict=True)}
        write_index(folder, _follow(records, decided))
    sides = {
        side: tuple(r.name for r, chosen in zip(newest, splits, strict=True) if chosen == side)
        for side in ("train", "val")
    }
    return Division(sides["train"], sides["val"], sum(not member.split for member in members))


def _follow(records: Sequence[DatasetRecord], decided: Mapping[str, str]) -> list[DatasetRecord]:
    """Give the newest versions the split that was decided, and older ones that of their newest."""
    by_name = {record.name: record for record in records}
    followed = []
    for record in records:
        newest, seen = record, set[str]()
        while newest.replaced_by in by_name and newest.name not in seen:
            seen.add(newest.name)
            newest = by_name[newest.replaced_by]
        followed.append(record.in_split(decided.get(newest.name, newest.split)))
    return followed


def records_of(folder: Path) -> list[DatasetRecord]:
    """Read the list of a folder, or make one of what lies in it.

    Raises
    ------
    UserError
        Where the list cannot be read, or the folder holds no dataset.
    """
    records = read_index(folder)
    if records is not None:
        return records
    found = find_pairs(folder)
    for finding in found.findings:
        if finding.severity == "error":
            raise UserError(finding.sentence)
    return [_record_of(folder, pair) for pair in found.pairs]


def _record_of(folder: Path, pair: Pair) -> DatasetRecord:
    image, mask = (path.relative_to(folder).as_posix() for path in (pair.image, pair.mask))
    record = {"name": pair.image.name, "kind": "unknown", "split": pair.split}
    if (image, mask) != (f"images/{pair.image.name}", f"masks/{pair.image.name}"):
        record |= {"name": image, "image": image, "mask": mask}
    try:
        return parse_record(record)
    except Malformed as error:
        raise UserError(
            f"{pair.image.parent} holds a file that no list can name ({error}). Rename it."
        ) from error
