"""Find the units of a batch, one for each image, and refuse what would go wrong before it begins.

::

    day1/            day1/a.tif day1/b.tif         a  b
    'day*/*.tif'     day1/a.tif day2/a.tif         day1/a  day2/a
    plate.zarr       plate.zarr/A/1/0 A/2/0        plate_A_1_0  plate_A_2_0
    named            images                        names of the results
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from napari_unet_cells.batch.segment_files import stem_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import find_images
from napari_unet_cells.files.zarr_metadata import ZARR_SUFFIX, images_in, is_zarr
from napari_unet_cells.untrusted.rules import printable

#: Of the number of a part, and of that of all.
_DIGITS = 7


@dataclass(frozen=True)
class Unit:
    """One image of a batch.

    Attributes
    ----------
    path : Path
        Absolute.
    name : str
        Of its results in the folder of results, without an ending; ``/`` between folders.
    columns : mapping of str to str
        What the table of the whole batch says of it, other than its name: well and field.
    problem : str
        Why it cannot be segmented, where that is known; else empty.
    """

    path: Path
    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Units:
    """Images that the user named, and what is to be said of the names.

    Attributes
    ----------
    units : tuple of Unit
        In the order in which they were named.
    problems : tuple of str
        Sentences about names that stand for no image.
    notes : tuple of str
        Sentences about images that were named more than once.
    """

    units: tuple[Unit, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Share of the units that one of several runs does, counted from 1."""

    number: int
    total: int

    @classmethod
    def of(cls, text: str) -> Part:
        """Read a text such as "3/10".

        Raises
        ------
        UserError
        """
        number, _, total = text.partition("/")
        # Python itself refuses numbers of thousands of digits.
        decimal = all(len(one) <= _DIGITS and one.isdecimal() for one in (number, total))
        if decimal and 1 <= int(number) <= int(total) <= 10**6:
            return cls(int(number), int(total))
        raise UserError(
            f"--part is a number and how many there are, such as 3/10, not '{printable(text, 40)}'."
        )

    def share(self, units: Units) -> Units:
        """Take the units of this part; those of the parts together are all, each once."""
        mine = units.units[self.number - 1 :: self.total]
        return Units(mine, units.problems if self.number == 1 else (), units.notes)


def find_units(named: Sequence[str], output: Path) -> Units:
    """List the images that files, folders, patterns, OME-Zarrs and plates stand for.

    Parameters
    ----------
    named : sequence of str
        As the user typed them.
    output : Path
        Folder of the results.

    Raises
    ------
    UserError
        Where two images would have results of one name, one lies in another, or the results
        would lie among the images.
    """
    units: dict[str, Unit] = {}
    problems, again = [], []
    for name in named:
        try:
            found = list(_units_of(name))
        except UserError as error:
            problems.append(str(error))
            continue
        _refuse_output_inside(name, found, output)
        for unit in found:
            known = units.setdefault(os.path.realpath(unit.path), unit)
            again += [] if known is unit else [unit.path]
    _refuse_nested(units)
    _refuse_one_name(list(units.values()))
    return Units(tuple(units.values()), tuple(problems), _note(again))


def _units_of(name: str) -> Iterator[Unit]:
    base = _base(name)
    for path in find_images([name]):
        inside = _inside(path, base)
        if not is_zarr(path):
            yield Unit(Path(os.path.abspath(path)), f"{inside}{stem_of(path)}")
            continue
        whole = Path(os.path.abspath(path))
        try:
            images = images_in(whole)
        except UserError as error:  # one that is damaged must not end its folder
            yield Unit(whole, f"{inside}{_zarr_name(whole)}", problem=str(error))
            continue
        for image in images:
            columns = {"well": image.well, "field": image.field} if image.well else {}
            yield Unit(image.path, f"{inside}{_zarr_name(image.path)}", columns, image.problem)


def _base(name: str) -> Path | None:
    """Folder that all of a pattern lies in; None of what is no pattern."""
    path = Path(name)
    if not glob.has_magic(name) or path.exists():
        return None
    fixed: list[str] = []
    for part in path.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _inside(path: Path, base: Path | None) -> str:
    """Folders between the base of a pattern and an image, with a ``/`` at the end."""
    if base is None:
        return ""
    parts = Path(os.path.relpath(path, base)).parts[:-1]
    return "" if ".." in parts else "".join(f"{part}/" for part in parts)


def _zarr_name(path: Path) -> str:
    """Name of an image in a zarr folder: that of the folder, and the way to the image."""
    root = _zarr_root(path)
    return "_".join([stem_of(root), *path.relative_to(root).parts])


def _zarr_root(path: Path) -> Path:
    """Folder named ``.zarr`` that an image lies in; itself where none is named so."""
    named = (one for one in (path, *path.parents) if one.suffix.lower() == ZARR_SUFFIX)
    return next(named, path)


def _refuse_output_inside(name: str, found: Sequence[Unit], output: Path) -> None:
    """Refuse results among the images: the next run would take them for images."""
    target = Path(os.path.realpath(output))
    path = Path(name)
    folders = [_zarr_root(unit.path) for unit in found if unit.path.is_dir()]
    if path.is_dir():
        folders.append(path)
    elif _may_match_in(path, target):
        raise UserError(
            f"The pattern {path} would match files in the folder of the results, {output}. Choose "
            "a folder that it does not match."
        )
    for folder in folders:
        real = Path(os.path.realpath(folder))
        if real == target or real in target.parents:
            raise UserError(
                f"The folder of the results, {output}, lies inside {folder}, whose images are to "
                "be segmented. Choose a folder outside of it."
            )


def _may_match_in(pattern: Path, target: Path) -> bool:
    """Whether a pattern looks into a folder, or into one within."""
    base = _base(str(pattern))
    if base is None:
        return False
    real = Path(os.path.realpath(base))
    if real not in target.parents:  # the images' own folder is a place for results, if need be
        return False
    below = target.relative_to(real).parts
    folders = pattern.parts[len(base.parts) : -1]
    for i, part in enumerate(below):
        if i < len(folders) and folders[i] == "**":
            return True
        if i >= len(folders) or not fnmatchcase(part, folders[i]):
            return False
    return True


def _refuse_nested(units: Mapping[str, Unit]) -> None:
    for real, unit in units.items():
        for folder in Path(real).parents:
            if str(folder) in units:
                raise UserError(
                    f"{unit.path} lies inside {units[str(folder)].path}, and both were named: the "
                    "same cells would be counted twice. Name one of them."
                )


def _refuse_one_name(units: Sequence[Unit]) -> None:
    first: dict[str, Unit] = {}  # some disks take A.tif and a.tif for the same file
    for unit in units:
        other = first.setdefault(unit.name.casefold(), unit)
        if other is not unit:
            apart = (
                "Name one kind of them, such as '*.tif',"
                if other.path.parent == unit.path.parent
                else "Name them by one pattern in quotes, such as 'day*/*.tif', which keeps their "
                "folders apart,"
            )
            raise UserError(
                f"{other.path} and {unit.path} would both be written as {unit.name}_cells.tif. "
                f"{apart} or segment them into different folders."
            )


def _note(again: Sequence[Path]) -> tuple[str, ...]:
    if not again:
        return ()
    if len(again) == 1:
        return (f"{again[0]} was named more than once; it is segmented once.",)
    return (
        f"{len(again)} images were named more than once, such as {again[0]}; each is segmented "
        "once.",
    )
