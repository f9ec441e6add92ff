"""What classes mean: single cells, or classes alone."""

from __future__ import annotations

import zlib

import imagecodecs
import numpy as np
import pytest

from napari_unet_cells.core.labels import (
    CELL_CLASSES,
    FEW_IDS,
    count_ids,
    digest,
    holds_cells,
    makes_cells,
)


@pytest.mark.parametrize(
    ("classes", "network", "mask"),
    [
        (CELL_CLASSES, True, True),
        (("boundary", "debris", "cell"), True, True),
        (("background", "cell"), False, False),
        (["background", "nucleus", "vessel"], False, False),
        ((), False, True),  # a folder that names no classes
    ],
)
def test_cells_are_separated_where_a_boundary_is_learned(
    classes: tuple[str, ...], network: bool, mask: bool
) -> None:
    assert makes_cells(classes) is network
    assert holds_cells(classes) is mask


def test_a_digest_tells_whether_somebody_painted() -> None:
    labels = np.zeros((5, 6), np.int32)
    before = digest(labels)
    assert digest(labels[:, ::-1][:, ::-1]) == before
    labels[2, 3] = 1
    assert digest(labels) != before


@pytest.mark.parametrize("shape", [(0, 5), (), (5, 7), (2, 3, 400, 500)])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_a_digest_is_that_of_records_of_earlier_versions(monkeypatch, shape, dtype):
    labels = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    known = zlib.crc32(labels.tobytes())
    assert digest(labels) == known

    def missing(pixels):
        raise ImportError

    monkeypatch.setattr(imagecodecs, "deflate_crc32", missing)
    assert digest(labels) == known


@pytest.mark.parametrize("shape", [(0, 5), (5, 7), (3, 2000, 900), (2, 2, 30, 40)])
def test_ids_are_counted_in_every_block(shape):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4000, shape, dtype=np.int32)
    assert count_ids(labels) == np.count_nonzero(np.unique(labels))


def test_great_ids_are_counted_without_a_table_of_their_size():
    labels = np.array([[0, 5, 2**31 - 1], [5, 2**30, FEW_IDS]], dtype=np.int32)
    assert count_ids(labels) == 4
    assert count_ids(labels[:, ::-1].T) == 4


def test_counting_ends_where_it_is_stopped():
    assert count_ids(np.ones((3, 4), dtype=np.uint8), lambda: True) == 0
