"""The one file that names PyTorch: it picks the device and computes networks there.

The network is that of `torch_network`; what follows its logits (softmax, class, 8 bit) is computed
on the device, so that bytes come back.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.predict import in_bytes
from napari_unet_cells.errors import LostDevice, OutOfMemory
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import load_model
from napari_unet_cells.models.runtimes.full_memory import is_out_of_memory
from napari_unet_cells.models.runtimes.library import claim, give_back
from napari_unet_cells.models.runtimes.network import (
    GPU_FULL,
    LONGEST_TILE,
    DeviceNetwork,
    cpu_name,
    max_tile_of,
    warm_up,
)
from napari_unet_cells.models.runtimes.table import UnusableRuntime

if TYPE_CHECKING:
    import keras

TITLE = "PyTorch"

#: A network must say the same of a picture as Keras does: how far its logits may be from those in
#: 32-bit floats, as a part of their range; and on which part of the pixels it must find the same
#: class in bfloat16.
CLOSE, AGREE = 1e-3, 0.98

#: How errors say that the GPU or its driver failed.
_SAYS_LOST = (
    "cuda error",
    "cudnn",
    "cublas",
    "cuda driver",
    "mps backend",
    "metal",
    "device-side",
)


def import_torch() -> Any:
    """Import PyTorch.

    Raises
    ------
    UnusableRuntime
        Where it is not installed, or not whole.
    SecondLibrary
        Where this process holds TensorFlow.
    """
    claim("torch")
    try:
        import torch
    except (ImportError, OSError) as error:  # the latter where its own libraries are incomplete
        give_back("torch")
        raise UnusableRuntime(
            f"PyTorch cannot be imported ({str(error).partition(chr(10))[0][:200]}). Install it "
            "(python -m pip install torch), or choose another library."
        ) from error
    return torch


def best_device() -> str:
    """Name the best device as PyTorch does: "cuda", "mps" or "cpu"."""
    torch = import_torch()
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cpu_multiplies_bfloat16() -> bool:
    """Whether bfloat16 takes less time than float32 here: narrower processors take longer."""
    return str(import_torch().backends.cpu.get_cpu_capability()).startswith("AVX512")


@dataclass(frozen=True)
class TorchDeviceNetwork(DeviceNetwork):
    """A network on a device of this process; see `network.DeviceNetwork`."""

    _network: Any
    _dtype: Any

    def _computed(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        torch = import_torch()
        with torch.inference_mode():
            logits = self._network.planes(_planes(self._network, batch, self.card, self._dtype))
            channels = list(logits.float().unbind(1))
            made = _probabilities if self.card.makes_cells else _certainty
            stacked = torch.stack(made(torch, channels, self.card), dim=-1)
            output: NDArray[np.uint8] = stacked.cpu().numpy()
        return output

    def _says_lost(self, error: BaseException) -> bool:
        return isinstance(error, RuntimeError) and any(
            word in str(error).lower() for word in _SAYS_LOST
        )

    def _free(self) -> None:
        torch = import_torch()
        with contextlib.suppress(RuntimeError):
            (torch.cuda if self._network.device == "cuda" else torch.mps).empty_cache()

    def _opened_on_cpu(self) -> TorchDeviceNetwork:
        return open_network(self.card, cpu=True)


def open_network(card: ModelCard, cpu: bool = False, why: str = "") -> TorchDeviceNetwork:
    """Load a model, bring it to the best device and run it once.

    A GPU that cannot run it is left alone: the CPU computes, and `device` says why.

    Parameters
    ----------
    card : ModelCard
    cpu : bool
        Compute on the CPU.
    why : str
        Why it is the CPU's turn, or this runtime's, for `device`; where there is a GPU, its
        full memory by default.

    Raises
    ------
    UnusableRuntime
        Where PyTorch cannot compute this model.
    OutOfMemory
        Where not even the CPU has the memory for it.
    UserError
        Where the model file is not what its card says.
    """
    import_torch()
    device = best_device()
    import keras

    with keras.device("cpu"):  # a GPU needs no second copy
        model = load_model(card)
        picture, expected = _asked_of_keras(model, card)
    if device != "cpu":
        why = why or GPU_FULL
        if not cpu:
            try:
                return _ready(model, card, device, "", picture, expected)
            except LostDevice:
                why = "the GPU failed"
            except OutOfMemory:
                pass
            except (RuntimeError, UnusableRuntime):  # drivers that do not fit, and the like
                why = "the GPU failed"
    return _ready(model, card, "cpu", why, picture, expected)


def _ready(
    model: keras.Model,
    card: ModelCard,
    device: str,
    why: str,
    picture: NDArray[np.float32],
    expected: NDArray[np.float32],
) -> TorchDeviceNetwork:
    torch = import_torch()
    try:
        network, dtype = _on_device(model, card, device, picture, expected)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        network = None
    if network is None:
        raise OutOfMemory
    precision = f"{TITLE} {str(dtype).rpartition('.')[2]}"
    on_cpu = device == "cpu"
    gpu = torch.cuda.get_device_name() if device == "cuda" else "Apple"
    made = TorchDeviceNetwork(
        card,
        cpu_name(precision, torch.get_num_threads(), why) if on_cpu else f"GPU, {precision}, {gpu}",
        max_tile=max_tile_of(card) if on_cpu else LONGEST_TILE,
        on_cpu=on_cpu,
        why=why,
        _network=network,
        _dtype=dtype,
    )
    warm_up(made, 1 if card.channels in (1, 3) else card.channels)
    return made


def _on_device(
    model: keras.Model,
    card: ModelCard,
    device: str,
    picture: NDArray[np.float32],
    expected: NDArray[np.float32],
) -> tuple[Any, Any]:
    """Make the network on a device, in the precision in which it says what Keras does.

    Raises
    ------
    UnusableRuntime
        Where it says something else in any.
    """
    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    torch = import_torch()
    network = TorchNetwork(model, device)
    network.fold_norms()
    dtypes = [torch.float32]
    if device == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        dtypes = [torch.bfloat16, torch.float32]  # earlier ones multiply it no faster
    n = len(card.classes)
    for dtype in dtypes:
        if dtype is not torch.float32:
            network.cast(dtype)
        elif len(dtypes) > 1:
            network = TorchNetwork(model, device)
            network.fold_norms()
        with torch.inference_mode():
            planes = network.planes(_planes(network, picture, card, dtype)).float()
        logits = planes.permute(0, 2, 3, 1).cpu().numpy()
        same = (logits[..., :n].argmax(-1) == expected[..., :n].argmax(-1)).mean()
        far = np.abs(logits - expected).max() / max(float(np.ptp(expected)), 1e-6)
        if same >= AGREE if dtype is not torch.float32 else far <= CLOSE:
            return network, dtype
    raise UnusableRuntime(f"{TITLE} does not give what Keras gives")


def _asked_of_keras(
    model: keras.Model, card: ModelCard
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give a smooth picture (1, y, x, channels), and the logits that Keras makes of it."""
    rng = np.random.default_rng(0)
    side = 4 * card.stride
    coarse = rng.random((1, side // 4, side // 4, card.channels), dtype=np.float32)
    picture = coarse.repeat(4, axis=1).repeat(4, axis=2)
    picture += 0.1 * rng.random(picture.shape, dtype=np.float32)
    import keras

    torch = import_torch()
    with torch.no_grad():
        logits = keras.ops.convert_to_numpy(model(torch.from_numpy(picture), training=False))
    return picture, logits


def _planes(network: Any, batch: NDArray[np.float32], card: ModelCard, dtype: Any) -> Any:
    """Bring a batch to the device, grey ones with as many channels as the network reads."""
    x = network.tensor(batch).to(dtype).permute(0, 3, 1, 2)
    return x.expand(-1, card.channels, -1, -1) if x.shape[1] < card.channels else x


def _probabilities(torch: Any, channels: list[Any], card: ModelCard) -> list[Any]:
    """Class and probabilities of some classes, as `tensorflow._probabilities` makes them."""
    depth = [torch.sigmoid(channels.pop())] if card.distance else []
    logits = torch.stack(channels)
    _, *columns = card.columns
    shares = torch.softmax(logits, dim=0)
    kept = [shares[column] for column in columns] + depth
    return [_first_largest(torch, channels), *(_in_bytes(torch, p) for p in kept)]


def _certainty(torch: Any, channels: list[Any], card: ModelCard) -> list[Any]:
    """Class and uncertainty, as `tensorflow._certainty` makes them."""
    shares = torch.softmax(torch.stack(channels), dim=0)
    first, second = shares.topk(2, dim=0).values
    return [_first_largest(torch, channels), _in_bytes(torch, 1.0 - (first - second))]


def _first_largest(torch: Any, channels: list[Any]) -> Any:
    """Give the number of the largest channel, of equals the first; `argmax` gives any of them."""
    largest, classes = channels[0], torch.zeros_like(channels[0], dtype=torch.uint8)
    for number, channel in enumerate(channels[1:], 1):
        classes = torch.where(channel > largest, number, classes)
        largest = torch.maximum(largest, channel)
    return classes.to(torch.uint8)


def _in_bytes(torch: Any, values: Any) -> Any:
    return in_bytes(values, lambda scaled: scaled.to(torch.uint8))
