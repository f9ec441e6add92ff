"""From an image to a result that knows how it was made."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells import __version__
from napari_unet_cells.errors import UserError
from napari_unet_cells.nets import ModelCard
from napari_unet_cells.normalize import Limits
from napari_unet_cells.predict import FunctionNetwork, Output, TileDone
from napari_unet_cells.segmentation import Result, Separating, check_plane, segment_plane

CARD = ModelCard(
    name="stand-in",
    architecture="none",
    classes=("background", "cell", "boundary"),
    channels=1,
    stride=4,
    halo=4,
    sha256="0" * 64,
)


def bright_is_cell(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    cell = batch.mean(axis=-1, keepdims=True) > 0.5
    return np.concatenate([cell, cell * 255, np.zeros_like(cell)], axis=-1).astype(np.uint8)


NETWORK = FunctionNetwork(bright_is_cell, stride=4, halo=4, max_tile=64)


def squares(dtype: Any = np.uint8) -> NDArray[Any]:
    image = np.zeros((150, 130), np.uint8)
    for y in (10, 60, 110):
        for x in (20, 70):
            image[y : y + 20, x : x + 20] = 100
    return image.astype(dtype)


def result_of(image: Any, network: FunctionNetwork = NETWORK, **more: Any) -> Result:
    *_, result = segment_plane(check_plane(image), network, CARD, **more)
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((5, 5), complex), "data type complex128, not real numbers.*magnitude"),
        (np.array([["a", "b"]]), "data type <U1, not real numbers"),
        (np.array([[None, 1]]), "data type object, not real numbers"),
        (np.array([["2020-01-01"]], "M8[D]"), r"data type datetime64\[D\], not real numbers"),
        (np.zeros(7), r"shape \(7,\); one plane is segmented at a time"),
        (np.float32(3), r"shape \(\); one plane"),
        (np.zeros((4, 50, 50)), r"shape \(4, 50, 50\); one plane.*Choose a plane of the stack"),
        (np.zeros((50, 50, 2)), r"shape \(50, 50, 2\); one plane"),
        (np.zeros((2, 9, 9, 3)), r"shape \(2, 9, 9, 3\); one plane"),
        (np.zeros((0, 5)), r"image is empty: its shape is \(0, 5\)"),
        (np.zeros((5, 0, 3)), r"image is empty: its shape is \(5, 0, 3\)"),
        (np.full((5, 5), 7, np.uint16), "image is constant: every value is 7. Is it the right"),
        (np.zeros((5, 5), bool), "image is constant: every value is 0"),
        (
            np.array([[1.0, np.nan], [np.inf, 2]]),
            "2 of the image's 4 values are not finite.*nan_to",
        ),
        (np.full((5, 5), np.nan), "25 of the image's 25 values are not finite"),
        ([], r"shape \(0,\); one plane"),
    ],
)
def test_what_cannot_be_segmented_is_a_sentence(image: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_plane(image)


def test_a_good_plane_is_not_copied() -> None:
    image = squares()
    assert check_plane(image) is image
    assert check_plane(np.array([[True, False]])).dtype == np.uint8
    assert check_plane([[0, 1], [2, 3]]).tolist() == [[0, 1], [2, 3]]


def test_the_alpha_channel_is_dropped_whatever_it_holds() -> None:
    colour = np.stack([squares(np.float32)] * 4, axis=-1)
    colour[..., 3] = np.nan
    plane = check_plane(colour)
    assert plane.shape == (150, 130, 3)
    assert np.isfinite(plane).all()
    assert result_of(colour).n_cells == 6


@pytest.mark.parametrize(
    "image",
    [squares(t) for t in ("?", "u1", "i1", "u2", "i4", "u8", "f2", "f4", "f8")]
    + [squares(float) * 1e-6 + 3, np.stack([squares()] * 3, -1), np.asfortranarray(squares())],
    ids=lambda image: f"{image.dtype}-{image.ndim}",
)
def test_six_squares_are_six_cells(image: NDArray[Any]) -> None:
    before = image.copy()
    result = result_of(image)
    np.testing.assert_array_equal(image, before)
    assert result.n_cells == 6
    assert result.cells is not None
    assert result.cells.dtype == np.uint16
    assert result.classes.dtype == np.uint8
    np.testing.assert_array_equal(result.classes > 0, squares() > 0)
    np.testing.assert_array_equal(result.cells > 0, squares() > 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("dtype", ["u1", "u8", "f4", "f8"])
def test_the_smallest_planes(shape: tuple[int, int], dtype: str) -> None:
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    assert result_of(image).classes.shape == shape


@pytest.mark.parametrize("value", [0.0, -5.0, 1e30, -1e30])
def test_a_single_pixel_of_any_value_is_segmented(value: float) -> None:
    assert result_of(np.array([[value]])).classes.shape == (1, 1)


def test_a_few_bright_pixels_that_the_sample_misses_set_the_limits() -> None:
    image = np.zeros((3000, 3000), np.float32)
    image[1:31, 1:31:2] = 1e-3
    image[::2] = 0
    network = FunctionNetwork(bright_is_cell, max_tile=2048)
    result = result_of(image, network)
    assert np.count_nonzero(result.classes) == np.count_nonzero(image) > 0


def test_events_come_in_order_and_the_result_last() -> None:
    events = list(segment_plane(squares(), NETWORK, CARD))
    kinds = [type(event) for event in events]
    n = kinds.count(TileDone)
    assert n > 4
    assert kinds == [TileDone] * n + [Separating, Result]


def test_the_caller_may_supply_the_arrays() -> None:
    out = Output.empty((150, 130), boundary=True)
    result = result_of(squares(), out=out)
    assert result.classes is out.classes
    assert out.classes.any()


def test_a_closed_generator_leaves_the_tiles_so_far() -> None:
    out = Output.empty((150, 130), boundary=True)
    events = segment_plane(squares(), NETWORK, CARD, out)
    for _ in range(3):
        next(events)
    events.close()  # type: ignore[attr-defined]
    written = np.count_nonzero(out.classes)
    assert 0 < written < np.count_nonzero(squares())


def test_a_model_without_boundary_makes_classes_only() -> None:
    card = ModelCard("two", "none", ("background", "cell"), 1, 4, 4, sha256="")
    network = FunctionNetwork(lambda batch: bright_is_cell(batch)[..., :1], 4, 4, max_tile=64)
    *events, result = segment_plane(squares(), network, card)
    assert isinstance(result, Result)
    assert result.cells is None
    assert result.n_cells == 0
    assert {type(event) for event in events} == {TileDone}
    assert result.provenance["parameters"]["instances"] is None


def test_the_result_knows_its_maker() -> None:
    provenance = result_of(squares(), source={"path": "a.tif"}).provenance
    assert json.loads(json.dumps(provenance, allow_nan=False)) == provenance
    assert provenance["version"] == __version__
    assert provenance["model"] == {
        "name": "stand-in",
        "sha256": "0" * 64,
        "architecture": "none",
    }
    assert provenance["classes"] == ["background", "cell", "boundary"]
    assert provenance["parameters"]["normalization"]["percentiles"] == [1.0, 99.8]
    assert provenance["parameters"]["normalization"]["limits"] == [0.0, 100.0]
    assert provenance["parameters"]["instances"]["seed_threshold"] == 0.5
    assert provenance["source"] == {"path": "a.tif"}
    assert provenance["seconds"] >= 0


def test_the_recorded_limits_are_those_that_were_used() -> None:
    image = squares(np.float64) * 1e-3 + 5
    low, high = result_of(image).provenance["parameters"]["normalization"]["limits"]
    assert Limits(low, high).low == pytest.approx(5.0)
    assert high == pytest.approx(5.1)
