"""``napari-unet-cells info``: versions, device and folders, for a report of a problem."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from napari_unet_cells import __version__
from napari_unet_cells.errors import UserError

#: Distributions whose versions matter where something goes wrong.
DISTRIBUTIONS = ("numpy", "tensorflow", "keras", "torch", "napari", "PyQt6", "PySide6", "PyQt5")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of the program."""
    parser = commands.add_parser(
        "info",
        help="print versions, device and folders, for a report of a problem",
        description="Print versions, device and folders. Add them to a report of a problem.",
    )
    parser.add_argument(
        "--no-device", action="store_true", help="do not load TensorFlow to ask for the device"
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line ``name: value`` for each fact."""
    for name, value in facts(device=not arguments.no_device):
        print(f"{name}: {value}", flush=True)
    return 0


def facts(device: bool) -> Iterator[tuple[str, str]]:
    """Give names and values in the order in which they are printed.

    Parameters
    ----------
    device : bool
        Whether to load the network's library, which takes seconds, and ask for its device.
    """
    from napari_unet_cells.models.catalogue import broken_models, installed_models
    from napari_unet_cells.settings import models_folder, user_folder

    yield "napari-unet-cells", __version__
    yield "Python", f"{platform.python_version()}, {platform.python_implementation()}"
    yield "system", platform.platform()
    for name in DISTRIBUTIONS:
        yield name, _version(name)
    if device:
        yield "device", _device()
    yield "folder of sessions", str(user_folder())
    yield "folder of models", str(models_folder())
    yield "models", ", ".join(installed_models()) or "none"
    for name, error in broken_models().items():
        yield f"model {name}", str(error)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _device() -> str:
    from napari_unet_cells.engine.opening import open_network
    from napari_unet_cells.models.catalogue import default_model, find_model

    try:
        return str(open_network(find_model(default_model())).device)
    except (UserError, ImportError, OSError) as error:  # also a library that cannot be loaded
        return f"cannot be asked for ({error})"
