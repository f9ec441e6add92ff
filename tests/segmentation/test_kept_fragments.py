"""Fragments are compressed and come back the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.result import Fragments

OPTIONS = InstanceOptions()


def plane_of(x: int) -> Fragments:
    """Fragments of two squares, at half the size of the plane."""
    probabilities = np.zeros((2, 40, 60), np.uint8)
    probabilities[0, 5:15, x : x + 10] = probabilities[0, 22:37, 30:50] = 230
    return Fragments.of(probabilities, OPTIONS, (80, 120), 0.5)


def test_cells_of_packed_fragments_are_the_same() -> None:
    planes = [plane_of(5), plane_of(15)]
    kept = KeptFragments(planes)
    wanted = [plane.cells(replace(OPTIONS, min_size=150)) for plane in planes]
    before = kept.n_bytes
    kept.pack()
    assert kept.n_bytes < before / 20
    assert kept.zoom == 0.5
    for plane, cells in zip(kept, wanted, strict=True):
        np.testing.assert_array_equal(plane.cells(replace(OPTIONS, min_size=150)), cells)
        assert plane.base.shape == (80, 120)


def test_a_plane_that_was_asked_for_stays_unpacked_until_it_is_packed_again() -> None:
    kept = KeptFragments([plane_of(5), plane_of(15)])
    kept.pack()
    small = kept.n_bytes
    first = kept[0]
    assert kept[0] is first
    assert kept[-2:][0] is first
    assert kept.n_bytes > small
    kept.pack()
    assert kept.n_bytes == small


def test_what_is_forgotten_is_empty() -> None:
    kept = KeptFragments([plane_of(5)])
    assert kept
    kept.forget()
    assert not kept
    assert (len(kept), kept.n_bytes) == (0, 0)
