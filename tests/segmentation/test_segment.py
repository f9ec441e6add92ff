"""The way in: a model, images that fit it, and what becomes of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.planes import Planes, planes_of
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import segment as module
from napari_unet_cells.segmentation.pipeline import Progress, Separating, Settings, Started
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.segment import (
    Opened,
    Segmenter,
    check_channels,
    link_axis,
    segment,
)

CARD = ModelCard("stand-in", "none", ("background", "cell", "boundary"), 1, 4, 4, sha256="")


def bright_is_cell(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    cell = batch.mean(axis=-1, keepdims=True) > 0.5
    return np.concatenate([cell, cell * 255, np.zeros_like(cell)], axis=-1).astype(np.uint8)


NETWORK = FunctionNetwork(bright_is_cell, stride=4, halo=4, max_tile=64)


def squares() -> NDArray[np.uint8]:
    image = np.zeros((60, 50), np.uint8)
    image[5:15, 5:15] = image[30:45, 20:40] = 100
    return image


def test_events_begin_with_the_device_and_end_with_the_result() -> None:
    segmenter = Segmenter.of(CARD, NETWORK)
    events = list(segmenter.events(planes_of(squares()), source={"path": "a.tif"}))
    assert events[0] == Opened(NETWORK.device)
    last = events[-1]
    assert isinstance(last, Result)
    assert [type(event) for event in events[1:]] == [Started, Progress, Separating, Result]
    assert last.details.source == {"path": "a.tif"}
    assert last.uncertainty is None
    result = segmenter.result(planes_of(squares()), Settings(min_size=150), uncertainty=True)
    assert (last.n_cells, result.n_cells) == (2, 1)
    assert result.uncertainty is not None


def test_no_network_is_opened_for_an_image_that_does_not_fit() -> None:
    opened: list[ModelCard] = []

    def open_network(card: ModelCard) -> FunctionNetwork:
        opened.append(card)
        return NETWORK

    segmenter = Segmenter(CARD, open_network)
    with pytest.raises(UserError, match="trained on images of 1 channels"):
        segmenter.result(Planes(np.zeros((9, 9, 2)), color=True))
    assert not opened
    segmenter.result(planes_of(squares()))
    assert opened == [CARD]


def test_the_function_takes_letters_and_gives_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_model", lambda name: CARD)
    monkeypatch.setattr(module, "open_network", lambda card, runtime: NETWORK)
    stack = np.stack([squares(), np.roll(squares(), 1, axis=1)])
    result = segment(stack, axes="ZYX", link="z", diameter=12)
    assert result.n_cells == 2
    assert (result.diameter, result.details.link) == (12, 0)
    assert result.uncertainty is not None
    assert segment(stack, axes="ZYX").n_cells == 4


def test_nuclei_and_cytoplasm_are_segmented_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_model", lambda name: CARD)
    monkeypatch.setattr(module, "open_network", lambda card, runtime: NETWORK)
    dim = np.zeros((60, 50), np.uint8)
    dim[48:58, 2:12] = 5  # where the other channel has nothing
    image = np.stack([squares(), dim])
    counts = [segment(image, axes="CYX", channel=n, diameter=12).n_cells for n in (0, 1)]
    assert counts == [2, 1]
    for projection in ("max", "mean"):
        result = segment(image, axes="CYX", projection=projection, diameter=12)
        assert result.n_cells == 3
        assert result.provenance["source"]["projection"] == projection
    with pytest.raises(UserError, match=r"this one has 2\. Choose a projection"):
        segment(image, axes="CYX", channel=(0, 1))
    names = ("DAPI", "GFP")
    assert segment(image, axes="CYX", channel="gfp", channel_names=names, diameter=12).n_cells == 1
    with pytest.raises(UserError, match=r"no channel RFP: the image has 0 \(DAPI\), 1 \(GFP\)"):
        segment(image, axes="CYX", channel="RFP", channel_names=names)


def test_cells_are_linked_along_an_axis_of_the_planes() -> None:
    planes = planes_of(np.zeros((1, 2, 9, 9)), "TZYX")
    assert (link_axis(planes, "TZYX", "z"), link_axis(planes, "TZYX", None)) == (1, None)
    with pytest.raises(UserError, match="cannot be linked along 'c'; the planes follow T or Z"):
        link_axis(planes, "TZYX", "c")
    with pytest.raises(UserError, match="none: it is a single plane"):
        link_axis(planes_of(np.zeros((9, 9))), None, "z")


@pytest.mark.parametrize(("channels", "shape"), [(2, (9, 9)), (2, (9, 9, 3)), (3, (9, 9, 5))])
def test_an_image_of_other_channels_than_the_model_is_a_sentence(channels: int, shape: Any) -> None:
    card = ModelCard("multi", "none", CARD.classes, channels, 4, 4, sha256="")
    planes = Planes(np.zeros(shape), color=len(shape) == 3)
    with pytest.raises(UserError, match=f"multi was trained on images of {channels} channels"):
        check_channels(planes, card)
    check_channels(Planes(np.zeros((9, 9, channels)), color=True), card)


@pytest.mark.parametrize(
    ("options", "augmented"),
    [
        ({}, False),
        ({"test_time_augmentation": True}, True),
        ({"quality": "high"}, True),
        ({"quality": "normal"}, False),
    ],
)
def test_test_time_augmentation_has_an_old_name(
    monkeypatch: pytest.MonkeyPatch, options: Any, augmented: bool
) -> None:
    monkeypatch.setattr(module, "find_model", lambda name: CARD)
    monkeypatch.setattr(module, "open_network", lambda card, runtime: NETWORK)
    assert segment(squares(), **options).details.test_time_augmentation is augmented
    with pytest.raises(UserError, match="normal or high, not 'best'"):
        segment(squares(), quality="best")
