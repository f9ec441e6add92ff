"""Errors of the libraries that mean that memory was missing."""

from __future__ import annotations

import sys

from napari_unet_cells.errors import OutOfMemory

#: How errors say it that have no class of their own. "Dst tensor" is what copying a batch to a
#: full GPU ends in (issue 7025 of TensorFlow).
_SAYS_FULL = (
    "out of memory",
    "out_of_memory",
    "oom when allocating",
    "failed to allocate",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",  # the same on Windows
    "can't alloc",  # Xbyak's, by which OpenVINO writes the code of a layer for a size of tile
    "dst tensor is not initialized",
    "defaultcpuallocator",  # PyTorch's
    "exception:status: 1, ",  # oneDNN's, inside an AbortedError: dnnl_out_of_memory is 1
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of TensorFlow, PyTorch, NumPy or Python means that memory was missing.

    Parameters
    ----------
    error : BaseException

    Notes
    -----
    On the CPU no error may come at all. Measured with TensorFlow 2.21 under `ulimit -v`: a
    tensor that is refused raises `ResourceExhaustedError`, but the scratch memory of oneDNN and
    Eigen throws a `std::bad_alloc` that nobody catches, which aborts the process; and where
    memory is promised and then missing, as Linux does by default, the system kills it. Only a
    parent survives that: see `engine`.
    """
    if isinstance(error, (MemoryError, OutOfMemory)):
        return True
    tf, torch = sys.modules.get("tensorflow"), sys.modules.get("torch")
    if tf is not None and isinstance(error, tf.errors.ResourceExhaustedError):
        return True
    if tf is None and torch is None:  # else the error is none of theirs
        return False
    theirs = (RuntimeError,) if tf is None else (RuntimeError, tf.errors.OpError)
    return isinstance(error, theirs) and says_full(error)


def says_full(error: BaseException) -> bool:
    """Whether the text of an error, whoever raised it, says that memory was missing.

    Parameters
    ----------
    error : BaseException
    """
    return any(words in str(error).lower() for words in _SAYS_FULL)
