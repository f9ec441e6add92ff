"""The table of runtimes, and which of them opens a model."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.runtimes.library import TITLES, SecondLibrary, installed, library_here
from napari_unet_cells.models.runtimes.network import GPU_FULL, RuntimeNetwork
from napari_unet_cells.settings import preferences

#: The name that stands for the best one there is.
AUTO = "auto"


@dataclass(frozen=True)
class Runtime:
    """A library that computes networks.

    Attributes
    ----------
    title : str
        For the user.
    library : str
        Name under which it is imported.
    module : str
        In this folder; it alone imports the library, and has an ``open_network(card, cpu, why)``
        that gives a `RuntimeNetwork`.
    """

    title: str
    library: str
    module: str

    @property
    def installed(self) -> bool:
        """Whether the library is there; it is not imported."""
        return installed(self.library)

    def open(self, card: ModelCard, cpu: bool = False, why: str = "") -> RuntimeNetwork:
        """Open a model.

        Parameters
        ----------
        card : ModelCard
        cpu : bool
            Compute on the CPU, even where there is a GPU.
        why : str
            Reason for a second choice, for the device line.

        Raises
        ------
        UnusableRuntime
            Where this runtime cannot do it, and another one may.
        UserError
            Where the model file is not what its card says.
        """
        module = importlib.import_module(f"{__package__}.{self.module}")
        network: RuntimeNetwork = module.open_network(card, cpu, why)
        return network


RUNTIMES = {
    "openvino": Runtime("OpenVINO", "openvino", "openvino"),
    "tensorflow": Runtime("TensorFlow", "tensorflow", "tensorflow"),
    "torch": Runtime("PyTorch", "torch", "torch"),
}

#: Runtimes for the CPU and for GPUs, the best choice first. PyTorch brings the libraries of CUDA
#: with it, TensorFlow only where it was asked to.
FOR_CPUS, FOR_GPUS = ("openvino", "tensorflow", "torch"), ("torch", "tensorflow")


class UnusableRuntime(UserError):
    """A runtime that is installed and cannot compute this model on this computer."""


def open_network(card: ModelCard, runtime: str = "", cpu: bool = False) -> RuntimeNetwork:
    """Open a model with the best runtime, or with one that was chosen.

    Parameters
    ----------
    card : ModelCard
    runtime : str
        A name of `RUNTIMES`, or `AUTO`; empty for what the user's preferences say.
    cpu : bool
        Compute on the CPU, even where there is a GPU.

    Raises
    ------
    OutOfMemory
        Where not even the CPU has the memory for it.
    UserError
        Where the model file is not what its card says, or the runtime that was chosen is not
        installed or cannot compute it.
    """
    name = chosen_runtime(runtime)
    if name != AUTO:
        try:
            return RUNTIMES[name].open(card, cpu)
        except UnusableRuntime as error:
            raise UserError(
                f"{RUNTIMES[name].title} cannot compute the model {card.name}: {error}. Or choose "
                f"the runtime '{AUTO}', which takes another one then."
            ) from error
    why = ""
    gpus = [name for name in FOR_GPUS if RUNTIMES[name].installed and _gpu_in_sight(name)]
    if gpus and cpu:
        why = GPU_FULL
    for name in () if cpu else gpus:
        try:
            network = RUNTIMES[name].open(card)
        except UnusableRuntime as error:
            why = str(error)
            continue
        if not network.on_cpu:
            return network
        why = network.why
        break  # its library is loaded, and the next one would be a second
    return _open_on_cpu(card, cpu or bool(why), why)


def _open_on_cpu(card: ModelCard, cpu: bool, why: str) -> RuntimeNetwork:
    """Open a model with the first runtime for CPUs that is installed and can compute it."""
    problem = UserError("Nothing that computes networks is installed: pip install tensorflow.")
    for name in (name for name in FOR_CPUS if RUNTIMES[name].installed):
        try:
            return RUNTIMES[name].open(card, cpu or name == "openvino", why)
        except UnusableRuntime as error:
            problem, why = error, str(error)
        except SecondLibrary as error:  # what is loaded here may come next in the row
            problem = error
    raise problem


def training_library() -> str:
    """Name the library that retrains where nobody chose: "tensorflow" or "torch".

    What this process holds already; else what was chosen to predict, if it is one of the two; else
    the one that can use a GPU. On a CPU TensorFlow takes bfloat16 with AMX, as PyTorch does.
    """
    there = [name for name in TITLES if installed(name)]
    held = library_here()
    if held or len(there) == 1:
        return held or there[0]
    chosen = chosen_runtime()
    if chosen in there:
        return chosen
    return next((name for name in FOR_GPUS if name in there and _gpu_in_sight(name)), "tensorflow")


def derive(card: ModelCard) -> None:
    """Convert a new model for the runtime that needs it, so that its first use need not.

    What fails here fails there again, and is said then.
    """
    with contextlib.suppress(Exception):
        if RUNTIMES["openvino"].installed:
            from napari_unet_cells.models.runtimes.openvino import prepare

            prepare(card)


def chosen_runtime(runtime: str = "") -> str:
    """Name the runtime that was asked for, or `AUTO`.

    Parameters
    ----------
    runtime : str
        Empty for what the user's preferences say.

    Raises
    ------
    UserError
        Where there is no such runtime, or it is not installed.
    """
    name = (runtime or preferences().runtime or AUTO).strip().lower()
    if name == AUTO:
        return name
    if name not in RUNTIMES:
        raise UserError(
            f"There is no runtime '{name}'; there are {AUTO}, {', '.join(RUNTIMES)}. Choose one "
            "of them on the command line (--runtime) or in the preferences."
        )
    known = RUNTIMES[name]
    if not known.installed:
        raise UserError(
            f"{known.title} is not installed. Install it (python -m pip install {known.library}), "
            f"or choose the runtime '{AUTO}', which takes what is there."
        )
    return name


def _gpu_in_sight(runtime: str) -> bool:
    """Whether a runtime may be able to use a GPU; it is not imported, which takes seconds.

    It takes a driver and the libraries of CUDA, which PyTorch's own builds hold and the extra `gpu`
    installs for TensorFlow, under Linux only; or a processor of Apple's.
    """
    if runtime == "torch" and (sys.platform, platform.machine()) == ("darwin", "arm64"):
        return True
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1") or not _driver_installed():
        return False
    return _torch_has_cuda() if runtime == "torch" else _cuda_installed()


def _driver_installed() -> bool:
    if sys.platform == "win32":
        return find_library("nvcuda") is not None
    places = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")  # the last is of WSL
    return sys.platform == "linux" and any(Path(place).exists() for place in places)


def _torch_has_cuda() -> bool:
    spec = find_spec("torch")
    libraries = Path(spec.origin).parent / "lib" if spec and spec.origin else Path()
    return any((libraries / name).is_file() for name in ("libtorch_cuda.so", "torch_cuda.dll"))


def _cuda_installed() -> bool:
    if sys.platform != "linux":
        return False
    with contextlib.suppress(ImportError, ValueError):
        if find_spec("nvidia.cudnn") is not None:
            return True
    return find_library("cudnn") is not None
