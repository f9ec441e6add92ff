"""Run the tests with several versions of Python and napari, and write the table of them.

``python scripts/matrix.py`` makes an environment for each cell in ``build/matrix`` with uv, from
the package registry and without the pins of ``constraints.txt``; and one with the lowest versions
that ``pyproject.toml`` allows. A version of Python is used where uv finds it on this computer:
none is downloaded. A cell says "passed" only where its tests were run here, else why they were
not. What is found stays in ``docs/versions.json``, so that cells can be run one after the other,
also elsewhere; ``docs/versions.md`` is drawn from it.

Cells are named as in ``python scripts/matrix.py 3.12-0.8 3.11-lowest``. ``--whole`` runs all tests
of a cell, which takes half an hour and more, instead of a selection where versions are felt.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from napari_unet_cells.files.atomic import atomic_write

ROOT = Path(__file__).parent.parent
FOUND = ROOT / "docs" / "versions.json"
PAGE = ROOT / "docs" / "versions.md"

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
NAPARIS = ("0.7", "0.8", "0.9")

#: What stands for napari where the lowest versions of everything are tried.
LOWEST = "lowest"

#: The quick selection, by the marker of its process: where versions of libraries are felt.
QUICK = {
    "not gui and not torch and not network": (
        *("tests/files", "tests/layers", "tests/untrusted", "tests/test_package.py"),
    ),
    "gui": ("tests/widgets/test_napari_versions.py", "tests/widgets/test_wiring.py"),
}

#: Seconds that the tests of a cell may take: a window that hangs is an error, not an endless wait.
LONGEST = 7200

#: Puts windows on a screen of their own.
XVFB = ("xvfb-run", "-a", "-s", "-screen 0 1400x900x24")


@dataclass(frozen=True)
class Cell:
    """One combination of versions.

    Attributes
    ----------
    python, napari : str
        Such as "3.12" and "0.8"; or `LOWEST` for the lowest versions of all that we need.
    """

    python: str
    napari: str

    @property
    def name(self) -> str:
        """Name of its folder, and of what was found."""
        return f"{self.python}-{self.napari}"

    @property
    def folder(self) -> Path:
        """Folder of its environment."""
        return ROOT / "build" / "matrix" / self.name


#: What is run where no cell is named.
EVERY = (*(Cell(python, napari) for python in PYTHONS for napari in NAPARIS), Cell("3.11", LOWEST))


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run uv, which may not fetch a Python: only what the registry has is installed."""
    program = shutil.which(
        "uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    )
    if program is None:
        raise SystemExit("uv is missing: python -m pip install uv")
    return subprocess.run(
        [program, "--no-python-downloads", *arguments], capture_output=True, text=True
    )


def make(cell: Cell) -> str:
    """Make the environment of a cell; gives why it could not, empty where it could."""
    interpreter = _interpreter(cell.python)
    if not interpreter:
        return "no such Python here"
    if (cell.folder / "made").is_file():
        return ""
    uv("venv", "--clear", "--python", interpreter, str(cell.folder))
    python = str(_python(cell))
    for wanted in _wanted(cell):
        done = uv("pip", "install", "--python", python, *wanted)
        if done.returncode:
            return f"cannot be installed: {_short(done.stderr)}"
    (cell.folder / "made").touch()
    return ""


def _interpreter(version: str) -> str:
    """Find an installed Python, also one that pyenv does not show; empty for none."""
    found = uv("python", "find", "--system", version)
    if found.returncode == 0:
        return found.stdout.strip()
    places = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    return next(map(str, sorted(places)), "")


def _wanted(cell: Cell) -> list[list[str]]:
    """Give what is installed into a cell, one step after the other."""
    if cell.napari != LOWEST:
        return [["--editable", f"{ROOT}[test]", f"napari~={cell.napari}.0"]]
    # The lowest versions of what users need; the tests' own tools are the newest.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tools = [one for one in project["optional-dependencies"]["test"] if "napari" not in one]
    package = f"{ROOT}[all,cluster,parquet]"
    return [["--resolution=lowest-direct", "--editable", package], tools]


def _python(cell: Cell) -> Path:
    places = (cell.folder / "bin" / "python", cell.folder / "Scripts" / "python.exe")
    return next((place for place in places if place.exists()), places[0])


def _short(text: str) -> str:
    lines = [
        line.strip(" \u00d7\u2570\u2500\u25b6\u2502\u251c")
        for line in text.splitlines()
        if line.strip()
    ]
    return " ".join(lines)[:160]


def run(cell: Cell, whole: bool) -> dict[str, Any]:
    """Run the tests of a cell, and give what came of them."""
    found: dict[str, Any] = {"date": date.today().isoformat()}
    problem = make(cell)
    if problem:
        return {"result": problem, **found}
    counts = {"passed": 0, "failed": 0, "skipped": 0, "error": 0}
    for name, command, windows in _commands(cell, whole):
        for number, kind in _counts(_last_line(cell, name, command, windows)):
            counts[kind.removesuffix("s") if kind == "errors" else kind] += number
    failed = counts["failed"] + counts["error"]
    result = f"{failed} failed" if failed else "passed" if counts["passed"] else "nothing ran"
    return {"result": result, **counts, **found, "whole": whole, "versions": _versions(cell)}


def _commands(cell: Cell, whole: bool) -> list[tuple[str, list[str], bool]]:
    """Give name of the log, command and whether it opens windows, of each process to run."""
    python = str(_python(cell))
    if whole:
        return [("whole", [python, "scripts/run_tests.py", "--one-by-one"], False)]
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m"]
    return [
        ("windows" if marker == "gui" else "plain", [*pytest, marker, *paths], marker == "gui")
        for marker, paths in QUICK.items()
    ]


def _last_line(cell: Cell, name: str, command: Sequence[str], windows: bool) -> str:
    """Run tests in a cell, keep what they print beside it, and give the line of their counts."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["CI"] = "true"  # as where all tests are run; hypothesis asks for no speed then
    if windows and sys.platform == "linux":
        command = [*XVFB, *command]
        environment["QT_QPA_PLATFORM"] = "xcb"
    log = cell.folder / f"{name}.log"
    with log.open("wb") as stream:
        try:
            subprocess.run(
                command,
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired:
            return "1 error"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    # A crash leaves no count.
    return lines[-1] if lines and _counts(lines[-1]) else "1 error"


def _counts(line: str) -> list[tuple[int, str]]:
    found = re.findall(r"(\d+) (passed|failed|skipped|errors?)", line)
    return [(int(number), kind) for number, kind in found]


def _versions(cell: Cell) -> dict[str, str]:
    """Give the versions of what matters in a cell."""
    code = (
        "import json, platform, sys; from importlib.metadata import version\n"
        "print(json.dumps({'python': platform.python_version(), "
        "**{n: version(n) for n in sys.argv[1:]}}))"
    )
    names = ("napari", "numpy", "tensorflow", "keras", "openvino", "zarr", "PyQt6")
    done = subprocess.run(
        [str(_python(cell)), "-c", code, *names], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def page(found: dict[str, Any]) -> str:
    """Draw the page of what was found."""
    cells = [Cell(python, napari) for python in PYTHONS for napari in (*NAPARIS, LOWEST)]
    rows = []
    for python in PYTHONS:
        row = [
            found.get(cell.name, {}).get("result", "not tried")
            for cell in cells
            if cell.python == python
        ]
        rows.append(f"| {python} | {' | '.join(row)} |")
    details = [
        _detail(cell, found[cell.name])
        for cell in cells
        if found.get(cell.name, {}).get("versions")
    ]
    return _PAGE.format(
        head=" | ".join([*(f"napari {napari}" for napari in NAPARIS), "lowest versions"]),
        rules="|---" * (len(NAPARIS) + 2),
        rows="\n".join(rows),
        details="\n".join(details),
    )


def _detail(cell: Cell, found: dict[str, Any]) -> str:
    named = sorted(found["versions"].items(), key=lambda item: item[0].lower())
    versions = ", ".join(f"{name} {version}" for name, version in named)
    tests = "all tests" if found["whole"] else "the selection"
    failed = found["failed"] + found["error"]
    return (
        f"- {cell.python}, {cell.napari}: {found['passed']} passed, {failed} failed, "
        f"{found['skipped']} skipped, of {tests}, {found['date']} ({versions})"
    )


_PAGE = """# Versions that were tried

Drawn by `make matrix`, which makes an environment of its own for each cell, with the newest of all
other libraries; "lowest versions" has the lowest version of each library that `pyproject.toml`
allows. In each it runs a selection of the tests: those of files, layers, untrusted input and the
package, and, in windows, of what the dock needs of napari that has no public name, and of what it
connects to; `make matrix WHOLE=--whole` runs all tests. Where it does not say "passed", not all of
them passed, or none was run.

| Python | {head} |
{rules}|
{rows}

What was run:

{details}

All tests run on each change with the versions of `constraints.txt`.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run cells, write what was found and the page, and give the exit code."""
    parser = argparse.ArgumentParser(description="Run the tests with several versions.")
    parser.add_argument(
        "cells", nargs="*", type=cell_of, metavar="PYTHON-NAPARI", help="3.12-0.8, 3.11-lowest, ..."
    )
    parser.add_argument("--whole", action="store_true", help="run all tests, not a selection")
    parser.add_argument("--page", action="store_true", help="draw the page, and run nothing")
    options = parser.parse_args(arguments)
    found = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    failed = False
    for cell in [] if options.page else options.cells or EVERY:
        found[cell.name] = run(cell, options.whole)
        failed |= "failed" in found[cell.name]["result"]
        print(f"{cell.name}: {found[cell.name]['result']}", flush=True)
        write(found)
    write(found)
    return 1 if failed else 0


def cell_of(name: str) -> Cell:
    """Give the cell of a name such as "3.12-0.8"."""
    python, _, napari = name.partition("-")
    cell = Cell(python, napari)
    if python not in PYTHONS or napari not in (*NAPARIS, LOWEST):
        raise argparse.ArgumentTypeError(
            f"{name!r} is no cell: {', '.join(PYTHONS)}, then a dash, "
            f"then {', '.join(NAPARIS)} or {LOWEST}"
        )
    return cell


def write(found: dict[str, Any]) -> None:
    """Write what was found, and the page of it."""
    for path, text in (
        (FOUND, json.dumps(found, indent=1, sort_keys=True) + "\n"),
        (PAGE, page(found)),
    ):
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
