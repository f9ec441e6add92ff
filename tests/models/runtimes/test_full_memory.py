"""What says that memory was missing, and what says something else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.models.runtimes.full_memory import is_out_of_memory


def tensorflow_error(name: str, text: str) -> Exception:
    import tensorflow as tf

    error: Exception = getattr(tf.errors, name)(None, None, text)
    return error


def numpy_error() -> MemoryError:
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 62, np.uint8)
    return caught.value


def tensorflow_raises() -> Exception:
    """Ask TensorFlow's CPU allocator for more than any machine has."""
    import tensorflow as tf

    with pytest.raises(tf.errors.ResourceExhaustedError) as caught:
        tf.zeros((1 << 20, 1 << 20, 1 << 10)) + 1.0
    return caught.value


FULL: list[Callable[[], BaseException]] = [
    MemoryError,
    OutOfMemory,
    numpy_error,
    tensorflow_raises,
    lambda: tensorflow_error("ResourceExhaustedError", "OOM when allocating tensor"),
    lambda: tensorflow_error("InternalError", "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of it"),
    lambda: tensorflow_error("InternalError", "Dst tensor is not initialized."),
    lambda: tensorflow_error("InternalError", "cudaSetDevice() failed. Status: out of memory"),
    lambda: tensorflow_error("UnknownError", "Failed to allocate scratch space"),
    lambda: RuntimeError("implicit initialization on GPU:0 failed. Status: out of memory"),
]

NOT_FULL: list[Callable[[], BaseException]] = [
    lambda: ValueError("out of memory"),
    lambda: UserError("The file is called out of memory.tif."),
    lambda: tensorflow_error("InternalError", "no kernel image is available"),
    lambda: tensorflow_error("InvalidArgumentError", "Incompatible shapes"),
    lambda: RuntimeError("Already in use"),
    KeyboardInterrupt,
]


@pytest.mark.network
@pytest.mark.parametrize("make", FULL)
def test_what_says_that_memory_is_full(make: Callable[[], BaseException]) -> None:
    assert is_out_of_memory(make())


@pytest.mark.network
@pytest.mark.parametrize("make", NOT_FULL)
def test_what_says_something_else(make: Callable[[], BaseException]) -> None:
    assert not is_out_of_memory(make())


@pytest.mark.torch
def test_pytorch_says_it_in_words_and_by_a_class() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    with pytest.raises(RuntimeError) as other:
        torch.zeros(2) + torch.zeros(3)
    assert not is_out_of_memory(other.value)
    assert not is_out_of_memory(ValueError("out of memory"))
