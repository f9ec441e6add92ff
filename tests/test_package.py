"""The package as others meet it: the manifest, what an import loads, the wheel, the pins."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from npe2 import PluginManifest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import napari_unet_cells
import napari_unet_cells.widgets
from napari_unet_cells.layers.reader import PATTERNS

ROOT = Path(__file__).parents[1]
NAME = "napari-unet-cells"
PACKAGE = Path(napari_unet_cells.__file__).parent
MANIFEST = PACKAGE / "napari.yaml"

NETWORK = {"keras", "tensorflow"}
WINDOW = {"PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui", "napari", "qtpy", "superqt", "vispy"}


def run_python(code: str, *options: str, **environment: str) -> Any:
    """Run code in a fresh interpreter, which loaded nothing yet, and give what it printed."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def loaded_by(modules: Iterable[str]) -> set[str]:
    """Import modules in a fresh interpreter; give the top-level packages this loaded."""
    return set(
        run_python(
            f"import importlib, json, sys\n"
            f"for name in {list(modules)!r}: importlib.import_module(name)\n"
            "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
        )
    )


def our_modules(package: Any = napari_unet_cells) -> list[str]:
    """Name a package and all modules below it; no module is imported for that but packages."""
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package.__name__, *(module.name for module in found)]


def manifest() -> dict[str, Any]:
    """Read the manifest as it is written, before npe2 fills in or drops anything."""
    loaded: dict[str, Any] = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    return loaded


# --- the manifest ----------------------------------------------------------------------------


def test_manifest_at_the_root_is_a_link_to_that_of_the_package() -> None:
    link = ROOT / "napari.yaml"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == MANIFEST.resolve()
    assert link.read_bytes() == MANIFEST.read_bytes()


def test_entry_point_leads_to_the_manifest() -> None:
    (ours,) = entry_points(group="napari.manifest", name=NAME)
    assert ours.value == "napari_unet_cells:napari.yaml"
    assert PluginManifest.from_distribution(NAME) == PluginManifest.from_file(MANIFEST)


def test_dock_is_the_first_widget_and_bears_the_name_of_the_plugin() -> None:
    # Under another name the menu and `napari -w` would open two docks, each with its child.
    first = manifest()["contributions"]["widgets"][0]
    assert first["display_name"] == manifest()["display_name"] == NAME
    assert first["command"] == "napari-unet-cells.dock"


def test_every_contribution_names_a_command_that_exists() -> None:
    contributions = manifest()["contributions"]
    known = {command["id"] for command in contributions["commands"]}
    items = [
        *contributions["widgets"],
        *contributions["sample_data"],
        *contributions["readers"],
        *contributions["writers"],
        *(item for menu in contributions["menus"].values() for item in menu if "command" in item),
    ]
    assert items
    assert {item["command"] for item in items if "uri" not in item} <= known


@pytest.mark.slow
def test_every_command_can_be_imported() -> None:
    # In a process of its own: the widgets load Qt.
    names = [command["python_name"] for command in manifest()["contributions"]["commands"]]
    callables = run_python(
        f"import json\n"
        f"from pkgutil import resolve_name\n"
        f"print(json.dumps([callable(resolve_name(name)) for name in {names!r}]))"
    )
    assert callables == [True] * len(names)


def test_reader_claims_our_results_only_and_writer_single_labels() -> None:
    contributions = manifest()["contributions"]
    (reader,) = contributions["readers"]
    assert tuple(reader["filename_patterns"]) == PATTERNS
    assert reader["accepts_directories"] is False
    (writer,) = contributions["writers"]
    assert writer["layer_types"] == ["labels"]
    assert writer["filename_extensions"] == [".tif", ".tiff"]


def test_every_menu_is_one_that_napari_fills() -> None:
    # napari drops entries for a misspelt menu without a word.
    known = run_python(
        "import json\n"
        "from napari._app_model.constants import MenuId\n"
        "print(json.dumps(sorted(map(str, MenuId.contributables()))))"
    )
    contributions = manifest()["contributions"]
    own = {submenu["id"] for submenu in contributions.get("submenus", ())}
    assert "napari/layers/segment" in contributions["menus"]
    assert set(contributions["menus"]) - own <= set(known)


# --- what an import loads --------------------------------------------------------------------


def test_importing_the_package_is_cheap() -> None:
    loaded = loaded_by(["napari_unet_cells"])
    assert not loaded & (NETWORK | WINDOW | {"numpy", "scipy", "skimage"})


def test_all_that_is_no_widget_loads_neither_network_nor_window() -> None:
    modules = [
        name
        for name in our_modules()
        if not name.startswith("napari_unet_cells.widgets") and not name.endswith("__main__")
    ]
    assert "napari_unet_cells.training.trainer" in modules
    assert not loaded_by(modules) & (NETWORK | WINDOW)


@pytest.mark.slow
def test_widgets_load_no_network() -> None:
    modules = our_modules(napari_unet_cells.widgets)
    assert "napari_unet_cells.widgets.dock" in modules
    loaded = loaded_by(modules)
    assert "qtpy" in loaded  # so `loaded_by` does see what must not be loaded elsewhere
    assert not loaded & NETWORK


# --- what is shipped -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the hatchling of this environment: needs no network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    source = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".yaml", ".keras", ".json", ".npz")
    }
    with zipfile.ZipFile(wheel) as archive:
        assert source <= set(archive.namelist())
        assert archive.read("napari_unet_cells/napari.yaml") == MANIFEST.read_bytes()


def test_wheel_holds_models_and_their_cards(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        weights = [
            name
            for name in archive.namelist()
            if name.startswith("napari_unet_cells/models/weights/")
        ]
    models = {Path(name).stem for name in weights if name.endswith(".keras")}
    assert "cells-fast" in models
    assert models == {Path(name).stem for name in weights if name.endswith(".json")}


def test_installed_wheel_brings_its_manifest(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    package, display_name = run_python(
        "import json, napari_unet_cells\n"
        "from npe2 import PluginManifest\n"
        "manifest = PluginManifest.from_distribution('napari-unet-cells')\n"
        "print(json.dumps([napari_unet_cells.__file__, manifest.display_name]))",
        "-P",
        PYTHONPATH=str(tmp_path),
    )
    assert Path(package).is_relative_to(tmp_path)
    assert display_name == NAME


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_every_library_has_a_lowest_version_and_the_tested_one_is_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pins = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}
    extras = project["optional-dependencies"]
    # Those of developers are the newest that the constraints allow.
    users = [line for name, some in extras.items() if name not in ("test", "dev") for line in some]
    wanted = [Requirement(line) for line in (*project["dependencies"], *users)]
    assert len(wanted) > 20
    for one in wanted:
        assert ">=" in {part.operator for part in one.specifier}, f"{one}: make matrix"
        pin = pins.get(canonicalize_name(one.name))
        assert pin is None or pin in one.specifier
