"""What classes mean: single cells, or classes alone."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet_cells.core.labels import CELL_CLASSES, digest, holds_cells, makes_cells


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
