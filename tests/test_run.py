"""The words of a run."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet_cells.result import Result
from napari_unet_cells.run import describe_progress, describe_result


@pytest.mark.parametrize(
    ("done", "total", "seconds", "words"),
    [
        (0, 100, 0.0, "0 %"),
        (25, 100, 2.0, "25 % - 6 s left"),
        (1, 100, 2.0, "1 % - 3 min 18 s left"),
        (99, 100, 1.0, "99 % - 1 s left"),
        (100, 100, 9.0, "100 %"),
        (3 * 10**9, 6 * 10**9, 7.0, "50 % - 7 s left"),
    ],
)
def test_progress(done, total, seconds, words):
    assert describe_progress(done, total, seconds) == words


def made(cells):
    provenance = {"seconds": 1.94, "device": "CPU, 2 threads", "classes": ["a", "b"]}
    n = 0 if cells is None else int(cells.max())
    return Result(cells, np.zeros((1, 1), np.uint8), provenance, n)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (np.array([[0, 214]], np.uint16), "214 cells in 1.9 s on CPU, 2 threads"),
        (np.array([[0, 1]], np.uint16), "1 cell in 1.9 s on CPU, 2 threads"),
        (np.array([[0, 0]], np.uint16), "0 cells in 1.9 s on CPU, 2 threads. Is the right channel"),
        (np.array([[0, 70_000]], np.uint32), "70000 cells in 1.9 s on CPU, 2 threads. So many ids"),
        (None, "2 classes in 1.9 s on CPU, 2 threads"),
    ],
)
def test_result(cells, words):
    assert describe_result(made(cells)).startswith(words)
