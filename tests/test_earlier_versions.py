"""Files of earlier versions: models, correction datasets and autosaved sessions stay readable.

``data/VERSION`` was written by the program of that version; it is never written anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.corrections.restoring import restore
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.datasets.check import check
from napari_unet_cells.models.card import read_card


@pytest.fixture(params=["0.1.0"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a copy of what a version wrote: reading may take a lock or a session over."""
    source = Path(__file__).parent / "data" / request.param
    return shutil.copytree(source, tmp_path / "written")


def test_a_card_is_read_with_its_thresholds(written: Path) -> None:
    card = read_card(written / "model" / "old.keras")
    expected = InstanceOptions(min_size=33, min_probability=0.25, split=0.6)
    assert card.instances == expected != InstanceOptions()
    assert card.classes == ("background", "cell", "boundary")
    assert (card.diameters, card.diameter_window) == ((10.0, 40.0), (18.0, 36.0))
    assert card.works_on == ("nuclei",)


@pytest.mark.network
def test_a_model_is_loaded(written: Path) -> None:
    from napari_unet_cells.models.catalogue import load_model

    model = load_model(read_card(written / "model" / "old.keras"))
    assert model.output_shape == (None, None, None, 3)


def test_a_dataset_is_read_without_complaint(written: Path) -> None:
    items = read_annotated_images([written / "dataset"])
    assert [item.name.rpartition("/")[2] for item in items] == [
        "nuclei_y0-50_x0-60",
        "nuclei_y50-100_x60-120",
    ]
    image, mask = items[0].read()
    assert image.dtype == np.uint16
    assert image.shape == mask.shape
    assert mask[0, 0] > 0  # the corrected pixel
    assert items[0].first is not None
    assert check(written / "dataset") == []


def test_a_session_is_restored(written: Path) -> None:
    back = restore(written / "session")
    expected = np.zeros((40, 60), np.uint16)
    expected[5:15, 5:15] = 1
    expected[20:30, 30:55] = 2
    made = back.review.made(((), 0))
    assert made[0, 0] == 0
    expected[0, 0] = 7
    np.testing.assert_array_equal(back.labels, expected)
    assert back.review.approved == {((), 1): "2026-11-03T17:32:00+01:00"}
    assert back.description["name"] == "nuclei cells"
    assert back.problem == ""
