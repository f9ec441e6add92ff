"""Labels of several planes go back into an OME-Zarr, each plane as a version of what changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_planes import put_back_planes
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale

PLANES = np.stack([np.kron(np.arange(1, 13).reshape(3, 4), np.ones((40, 40)))] * 3).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = LabelZarr(
        tmp_path / "a.ome.zarr", PLANES.shape, "zyx", 512, Scale(None, "pixel", None)
    )
    labels.create("cells", np.uint16)
    for number, plane in enumerate(PLANES):
        labels.write("cells", (number,), (slice(0, 120), slice(0, 160)), plane)
    labels.finish("cells", {"cells": 36}, {})
    return labels.folder


def test_what_changed_of_each_plane_becomes_a_version(folder: Path) -> None:
    labels = PLANES.astype(np.int64)
    assert put_back_planes(folder, labels) is None
    labels[0][labels[0] == 6] = 0
    labels[2, 50:60, 50:60] = 77
    versions = LabelVersions(folder)
    assert put_back_planes(folder, labels) == versions.file_of(2)
    np.testing.assert_array_equal(np.asarray(label_levels(folder, "cells")[0]), labels)
    one, other = versions.version(1), versions.version(2)
    assert (one.plane, one.box) == ((0,), np.s_[40:80, 40:80])
    assert (other.plane, other.box, other.n_used) == ((2,), np.s_[50:60, 50:60], 77)


def test_labels_of_another_size_and_ids_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="of another size"):
        put_back_planes(folder, PLANES[:2])
    labels = PLANES.astype(np.int64)
    labels[0, 0, 0] = 70_000
    with pytest.raises(UserError, match="no ids left"):
        put_back_planes(folder, labels)
    np.testing.assert_array_equal(np.asarray(label_levels(folder, "cells")[0]), PLANES)
