"""List the licences of the libraries that an installation brings: ``python scripts/licences.py``.

Read from what the libraries say of themselves where they are installed, with the versions of
``constraints.txt``: `make setup` first, or `make licences`, which does. ``docs/licences.md`` is
drawn from it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from napari_unet_cells.files.atomic import atomic_write

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "licences.md"
PACKAGE = "napari-unet-cells"

#: Extras that the page lists beside what always comes. Those for GPUs bring other libraries on
#: each computer; those of developers are not what users install.
EXTRAS = ("all", "parquet", "cluster")

#: What libraries write, where it is not the name of a licence in SPDX's list. "BSD" alone stays:
#: it does not say which one.
SPDX = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd license": "BSD",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "lgpl v3": "LGPL-3.0-only",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "osi approved :: apache software license": "Apache-2.0",
    "python software foundation license": "PSF-2.0",
}

#: A licence that asks something of who passes the library on in a program of his own.
COPYLEFT = re.compile(r"\b(A|L)?GPL|\bMPL", re.IGNORECASE)


@dataclass(frozen=True)
class Library:
    """A library, the version whose licence was read, and that licence.

    Attributes
    ----------
    name, version : str
    licence : str
        Its name by SPDX where one could be told; empty where the library states none.
    wanted : tuple of str
        The extras that bring it, "" for what always comes.
    """

    name: str
    version: str
    licence: str
    wanted: tuple[str, ...]


def libraries() -> list[Library]:
    """Find what an installation of this package brings, with all it needs in turn."""
    brought = {extra: set(_needed(extra)) for extra in ("", *EXTRAS)}
    names = sorted(set().union(*brought.values()))
    found = []
    for name in names:
        installed = distribution(name)
        wanted = ("",) if name in brought[""] else tuple(e for e in EXTRAS if name in brought[e])
        found.append(Library(name, installed.version, licence_of(installed), wanted))
    return found


def _needed(extra: str) -> Iterator[str]:
    """Name what this package needs with an extra, and what that needs, each once."""
    waiting, seen = [(PACKAGE, extra)], set()
    while waiting:
        name, chosen = waiting.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            # What another system needs, or what its place here is taken by.
            continue
        if name != PACKAGE:
            yield name
        for wanted in map(Requirement, lines):
            if wanted.marker is None or wanted.marker.evaluate({"extra": chosen}):
                needed = canonicalize_name(wanted.name)
                waiting += [(needed, more) for more in ("", *wanted.extras)]


def licence_of(installed: Distribution) -> str:
    """Give the licence that a library states, by its name in SPDX's list where that is known."""
    said = {
        name: installed.metadata.get_all(name) or []
        for name in ("License-Expression", "License", "Classifier")
    }
    if said["License-Expression"]:
        return str(said["License-Expression"][0])
    stated = _named("".join(said["License"][:1]).strip().partition("\n")[0])
    classifiers = [
        _named(line.rpartition("::")[2].strip())
        for line in said["Classifier"]
        if line.startswith("License :: ") and not line.endswith("OSI Approved")
    ]
    # A classifier cannot say which BSD licence it is; a field of free text often does.
    if stated in set(SPDX.values()) - {"BSD"} or (stated and not classifiers):
        return stated
    return " AND ".join(sorted(set(classifiers))) or _of_its_file(installed)


def _named(text: str) -> str:
    """Give the name of a licence in SPDX's list, else the text itself."""
    text = re.sub(r"\s+", " ", text).strip()
    begin = re.match(r"(?i)(bsd [23]-clause license)\b", text)
    known = SPDX.get((begin.group() if begin else text).lower())
    return known or ("" if text.upper() == "UNKNOWN" else text)


def _of_its_file(installed: Distribution) -> str:
    """Give the licence that the file beside a library begins with, where it names none itself."""
    for file in installed.files or []:
        if re.search(r"(?i)\blicen[cs]e[^/]*$", str(file)):
            text = Path(str(file.locate())).read_text("utf-8", "replace")[:500]
            begin = re.search(r"Apache License|MIT License|BSD [23]-Clause License", text)
            if begin:
                return _named(begin.group())
    return ""


def page(found: list[Library]) -> str:
    """Draw the page of licences."""
    rows = [
        f"| {one.name} | {one.version} | {one.licence or 'not stated'} | {_wanted(one)} |"
        for one in found
    ]
    bound = [
        f"- {one.name}: {one.licence}, {_wanted(one)}"
        for one in found
        if COPYLEFT.search(one.licence)
    ]
    return _PAGE.format(rows="\n".join(rows), bound="\n".join(bound), count=len(found))


def _wanted(library: Library) -> str:
    return " ".join(f"`[{extra}]`" for extra in library.wanted if extra) or "always"


_PAGE = """# Licences of the libraries

This program is under the BSD 3-Clause licence. These are the {count} libraries that an installation
brings under Linux, with the licence that each states of itself: drawn by `make licences` from the
versions of `constraints.txt`, not legal advice. "BSD" stands where a library does not say which of
the BSD licences it means.

None is part of this program: pip fetches each from its authors. Who passes them on together with a
program, such as an installer or an image of a container, minds these:

{bound}

PyQt6 is chosen by `[all]`; the program itself asks for any binding of Qt by qtpy. Not listed are
`[torch]` and `[gpu]`: their builds for GPUs bring NVIDIA's libraries, under licences of NVIDIA's.

| library | version | licence | comes with |
|---|---|---|---|
{rows}
"""


def main() -> int:
    """Write the page."""
    with atomic_write(PAGE, overwrite=True) as temporary:
        temporary.write_text(page(libraries()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
