"""``napari-unet-cells info``: versions, device and folders, for bug reports."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterator

#: Distributions whose versions matter where something goes wrong.
DISTRIBUTIONS = (
    "numpy",
    "openvino",
    "tensorflow",
    "keras",
    "torch",
    "laptrack",
    "napari",
    "PyQt6",
    "PySide6",
    "PyQt5",
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of the program."""
    parser = commands.add_parser(
        "info",
        help="print versions, device and folders, for bug reports",
        description="Print versions, device and folders. Add them to a bug report.",
    )
    parser.add_argument(
        "--no-device", action="store_true", help="do not load a network, which names the device"
    )
    parser.set_defaults(command=run, stopped="Stopped.")


def run(arguments: argparse.Namespace) -> int:
    """Print one line ``name: value`` each."""
    for name, value in facts(device=not arguments.no_device):
        line = f"{name}: {' '.join(value.split())}"
        # A console whose encoding lacks a character must not end the report.
        encoding = sys.stdout.encoding or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    return 0


def facts(device: bool) -> Iterator[tuple[str, str]]:
    """Give names and values in the order in which they are printed.

    Parameters
    ----------
    device : bool
        Whether to load a network, which may take seconds, and ask for its device.
    """
    from napari_unet_cells import __version__
    from napari_unet_cells.models.catalogue import installed_models
    from napari_unet_cells.settings import models_folder, user_folder

    yield "napari-unet-cells", __version__
    yield "Python", f"{platform.python_version()}, {platform.python_implementation()}"
    yield "system", platform.platform()
    for name in DISTRIBUTIONS:
        yield name, _version(name)
    yield "folder of sessions", _said(lambda: str(user_folder()))
    yield "folder of models", _said(lambda: str(models_folder()))
    yield "models", _said(lambda: ", ".join(installed_models()) or "none")
    yield "damaged models", _said(_damaged)
    yield "runtimes", _said(_runtimes)
    if device:
        yield "device", _said(_device)


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _said(ask: Callable[[], str]) -> str:
    """Give a value, or why it is not known: bug reports come from broken installations."""
    try:
        return ask()
    except Exception as error:  # a half-installed library may raise anything
        return f"unknown ({type(error).__name__}: {error})"


def _damaged() -> str:
    from napari_unet_cells.models.catalogue import broken_models

    return "; ".join(f"{name}: {error}" for name, error in broken_models().items()) or "none"


def _runtimes() -> str:
    from napari_unet_cells.models.runtimes.table import RUNTIMES, chosen_runtime

    return f"{', '.join(name for name in RUNTIMES if RUNTIMES[name].installed)}; chosen: " + (
        chosen_runtime()
    )


def _device() -> str:
    from napari_unet_cells.engine.opening import open_network
    from napari_unet_cells.models.catalogue import default_model, find_model

    return str(open_network(find_model(default_model())).device)
