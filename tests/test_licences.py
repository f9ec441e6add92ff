"""`scripts/licences.py`: every library that comes is listed, with what it says of itself."""

from __future__ import annotations

import re
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path

import pytest
from licences import COPYLEFT, EXTRAS, PAGE, ROOT, Library, libraries, licence_of, page
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LISTED = {
    name: (version, licence, wanted)
    for name, version, licence, wanted in re.findall(
        r"^\| (\S+) \| (\d\S*) \| (.+?) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.M
    )
}


def stating(tmp_path: Path, *lines: str, file: str = "") -> Distribution:
    """Make an installed library whose metadata says this, beside the text of a licence."""
    folder = tmp_path / "made-1.0.dist-info"
    (folder / "licenses").mkdir(parents=True)
    heading = ("Metadata-Version: 2.4", "Name: made", "Version: 1.0")
    (folder / "METADATA").write_text("\n".join((*heading, *lines)) + "\n")
    (folder / "licenses" / "LICENSE").write_text(file)
    (folder / "RECORD").write_text(f"{folder.name}/METADATA,,\n{folder.name}/licenses/LICENSE,,\n")
    return PathDistribution(folder)


def test_every_library_that_is_asked_for_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = list(project["dependencies"])
    for extra in EXTRAS:
        asked += project["optional-dependencies"][extra]
    names = {canonicalize_name(Requirement(line).name) for line in asked}
    assert len(names) > 15
    assert names <= set(LISTED)


def test_the_list_has_the_versions_that_are_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pins = {canonicalize_name(name): version for name, _, version in _parted(lines)}
    listed = {name: version for name, (version, _, _) in LISTED.items() if name in pins}
    assert len(listed) > 100
    assert listed == {name: pins[name] for name in listed}, "make licences"


def _parted(lines: list[str]) -> list[tuple[str, str, str]]:
    return [line.partition("==") for line in lines]


def test_the_list_says_what_the_libraries_say() -> None:
    compared = 0
    for name, (version, licence, _) in LISTED.items():
        with suppress(PackageNotFoundError):
            installed = distribution(name)
            if installed.version == version:
                assert licence == licence_of(installed), name
                compared += 1
    # Also where all is newer than what is tested, some libraries are at their end.
    assert compared > 10


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need other libraries")
def test_what_an_installation_brings_is_found_and_listed() -> None:
    found = {library.name: library for library in libraries()}
    assert found["numpy"].wanted == ("",)
    assert found["pyqt6"].wanted == ("all",)
    assert found["zict"].wanted == ("cluster",)
    # A tool of developers, which no user gets.
    assert "mypy" not in found
    assert "napari-unet-cells" not in found
    assert "pyqt6" in LISTED


def test_no_licence_is_missing_and_what_binds_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "not stated" not in text
    for name, (_, licence, wanted) in LISTED.items():
        assert (f"- {name}: {licence}, {wanted}" in text) == bool(COPYLEFT.search(licence))
    assert "- pyqt6: GPL" in text


def test_a_library_that_states_nothing_is_shown_as_such() -> None:
    drawn = page([Library("made", "1.0", "", ("all",)), Library("other", "2", "MPL-2.0", ("",))])
    assert "| made | 1.0 | not stated | `[all]` |" in drawn
    assert "- other: MPL-2.0, always" in drawn
    assert "- made" not in drawn


@pytest.mark.parametrize(
    ("lines", "file", "licence"),
    [
        (["License-Expression: MIT", "License: GPL"], "", "MIT"),
        (["License: Apache License 2.0"], "", "Apache-2.0"),
        (["License: BSD 3-Clause License  Copyright (c) 2022"], "", "BSD-3-Clause"),
        (["License: BSD", "Classifier: License :: OSI Approved :: BSD License"], "", "BSD"),
        (["License: A long text of its own"], "", "A long text of its own"),
        (
            [
                "License: Files: *",
                "Classifier: License :: OSI Approved",
                "Classifier: License :: OSI Approved :: MIT License",
            ],
            "",
            "MIT",
        ),
        (["License: UNKNOWN"], "Copyright 2023\n\n      Apache License\n", "Apache-2.0"),
        ([], "All rights are mine\n", ""),
    ],
)
def test_the_licence_is_what_the_library_states(
    lines: list[str], file: str, licence: str, tmp_path: Path
) -> None:
    assert licence_of(stating(tmp_path, *lines, file=file)) == licence
