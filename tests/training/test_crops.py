"""Training crops: the same seed the same crop, image and mask together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, special

from napari_unet_cells.core.labels import UNKNOWN
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.cell_diameter import diameters_of
from napari_unet_cells.training import crops, intensity
from napari_unet_cells.training.crops import (
    BACKGROUND,
    BOUNDARY,
    CELL,
    Annotated,
    AugmentOptions,
    Cropper,
    annotate,
    boundary_classes,
    class_weights,
)
from napari_unet_cells.training.intensity import restained, stained_otherwise


@pytest.fixture(scope="module")
def nuclei() -> Annotated:
    image, truth = simulate_nuclei((300, 260), seed=2)
    return annotate(image, truth.astype(np.int32), "fluorescence")


def colour(plane: Annotated) -> Annotated:
    tint = np.array([1.0, 0.6, 0.3])
    image = (plane.image[..., None] * tint).astype(np.uint8)
    return Annotated(image, plane.mask, plane.diameter, "tissue")


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("in_colour", [False, True])
def test_a_batch_is_what_training_expects(
    nuclei: Annotated, channels: int, in_colour: bool
) -> None:
    plane = colour(nuclei) if in_colour else nuclei
    cropper = Cropper([plane], AugmentOptions(size=64, channels=channels))
    images, classes, weights = cropper.batch(24, seed=(1, 2))
    assert images.shape == (24, 64, 64, channels)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert classes.shape == weights.shape == (24, 64, 64)
    assert classes.dtype == np.uint8
    assert set(np.unique(classes)) == {BACKGROUND, CELL, BOUNDARY}
    assert weights.dtype == np.float32
    assert set(np.unique(weights)) <= {1.0, 2.0}
    assert images.std(axis=(1, 2)).max() > 0.1


def test_the_same_seed_gives_the_same_batch_in_any_thread(nuclei: Annotated) -> None:
    planes = [nuclei, colour(nuclei)]
    cropper = Cropper(planes, AugmentOptions(size=48))
    seeds = [(0, step) for step in range(6)]
    expected = [cropper.batch(3, seed) for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda seed: cropper.batch(3, seed), seeds))
    fresh = [Cropper(planes, AugmentOptions(size=48)).batch(3, seed) for seed in seeds]
    for a, b, c in zip(expected, again, fresh, strict=True):
        assert same(a, b)
        assert same(a, c)
    assert not same(expected[0], expected[1])
    assert not same(cropper.batch(3, (1, 0)), expected[0])


def test_planes_are_left_as_they_were(nuclei: Annotated) -> None:
    image, mask = nuclei.image.copy(), nuclei.mask.copy()
    Cropper([nuclei], AugmentOptions(size=64)).batch(20, (0,))
    np.testing.assert_array_equal(nuclei.image, image)
    np.testing.assert_array_equal(nuclei.mask, mask)


@pytest.mark.parametrize("zoom", [0.3, 0.45, 0.6, 0.9, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_image_and_mask_are_warped_alike(zoom: float, seed: int) -> None:
    # Discs, so that nothing is thinner than the averaging of the image.
    y, x = np.mgrid[:400, :360]
    mask = (((y % 60) - 30) ** 2 + ((x % 60) - 30) ** 2 < 400).astype(np.int32)
    plane = Annotated((mask * 255).astype(np.uint8), mask, 40.0, "discs")
    rng = np.random.default_rng(seed)
    image, labels, *_ = crops._warp(plane, zoom, 128, seed % 2 == 1, rng)
    assert 0.1 < labels.mean() < 0.8
    # The mask keeps the corners of its pixels, which the image loses: up to 0.3 pixels of the
    # coarser of the two, along the perimeter 2 pi r of the area pi r^2.
    allowed = 0.3 * max(1.0, zoom) * 2 / (20 * zoom)
    assert np.mean((image > 127) != (labels > 0)) < allowed * labels.mean()


def test_a_shift_of_one_pixel_would_be_seen_by_the_test_above() -> None:
    y, x = np.mgrid[:400, :360]
    mask = (((y % 60) - 30) ** 2 + ((x % 60) - 30) ** 2 < 400).astype(np.int32)
    shifted = np.roll(mask, 1, axis=1)
    plane = Annotated((shifted * 255).astype(np.uint8), mask, 40.0, "discs")
    image, labels, *_ = crops._warp(plane, 1.0, 128, False, np.random.default_rng(0))
    assert np.mean((image > 127) != (labels > 0)) > 0.3 * labels.mean() * 2 / 20


def test_warps_turn_flip_and_scale(nuclei: Annotated) -> None:
    # A gradient along x: its direction after the warp tells what happened.
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    plane = Annotated(ramp, np.ones((256, 256), np.int32), 20.0, "ramp")
    signs = set()
    for seed in range(60):
        image, *_ = crops._warp(plane, 1.0, 32, seed % 3 == 0, np.random.default_rng(seed))
        gy, gx = (float(np.median(np.diff(image.astype(int), axis=a))) for a in (0, 1))
        signs.add((np.sign(gy), np.sign(gx)))
    assert {(0, 1), (0, -1), (1, 0), (-1, 0)} <= signs  # quarter turns
    assert len(signs) > 4  # and others


def test_a_plane_smaller_than_the_crop_is_mirrored(nuclei: Annotated) -> None:
    small = Annotated(nuclei.image[:20, :11], nuclei.mask[:20, :11], 10.0, "small")
    images, classes, weights = Cropper([small], AugmentOptions(size=96)).batch(12, (0,))
    assert np.isfinite(images).all()
    assert classes.max() <= 2
    assert weights.min() >= 1


def test_masks_of_classes_stay_classes(nuclei: Annotated) -> None:
    classes = (nuclei.mask > 0).astype(np.int32) * 4
    plane = Annotated(nuclei.image, classes, 0.0, "classes")
    _, drawn, weights = Cropper([plane], AugmentOptions(size=64, instances=False)).batch(8, (0,))
    assert set(np.unique(drawn)) == {0, 4}
    assert (weights == 1).all()


def test_rare_classes_weigh_more() -> None:
    mask = np.zeros((100, 100), np.int32)
    mask[:10, :90], mask[50, :100] = 1, 2  # 90 %, 9 % and 1 %, and none of the last class
    planes = [Annotated(mask.astype(np.uint8), mask, 0.0, "a")]
    weights = class_weights(planes, 4)
    ratios = np.array(weights) / weights[0]
    np.testing.assert_allclose(ratios, [1, 10**0.5, 90**0.5, 900**0.5])
    part = np.array([0.9, 0.09, 0.01, 0.0])
    assert (part * weights).sum() == pytest.approx(1)

    cropper = Cropper(planes, AugmentOptions(size=64, instances=False, class_weights=weights))
    _, classes, drawn = cropper.batch(8, (0,))
    assert set(np.unique(classes)) == {0, 1, 2}
    np.testing.assert_allclose(drawn, np.array(weights)[classes], rtol=1e-6)


def test_classes_have_no_diameter() -> None:
    mask = np.zeros((64, 64), np.int32)
    mask[:20, :20] = 1
    image = simulate_nuclei((64, 64))[0]
    assert annotate(image, mask).diameter > 20
    assert annotate(image, mask, instances=False).diameter == 0


@pytest.mark.parametrize("channels", [2, 4, 5])
@pytest.mark.parametrize("zoom", [0.4, 1.0, 2.5])
def test_images_of_several_channels_keep_them_in_order(channels: int, zoom: float) -> None:
    y, x = np.mgrid[:300, :300]
    mask = (((y % 60) - 30) ** 2 + ((x % 60) - 30) ** 2 < 400).astype(np.int32)
    levels = np.linspace(0, 255, channels).astype(np.uint8)  # each channel its own
    plane = annotate((mask[..., None] * levels).astype(np.uint8), mask)
    assert plane.image.shape == (300, 300, channels)
    image, labels, *_ = crops._warp(plane, zoom, 64, True, np.random.default_rng(1))
    assert image.shape == (64, 64, channels)
    inside = image[labels > 0].mean(axis=0)
    np.testing.assert_allclose(inside, levels, atol=0.2 * 255)
    assert (np.diff(inside) > 20).all()

    images, classes, _ = Cropper([plane], AugmentOptions(size=64, channels=channels)).batch(6, (0,))
    assert images.shape == (6, 64, 64, channels)
    assert np.isfinite(images).all()
    assert classes.max() == BOUNDARY


def test_boundaries_between_touching_cells_weigh_most(nuclei: Annotated) -> None:
    mask = np.zeros((64, 64), np.int32)
    mask[10:50, 10:30], mask[10:50, 30:50] = 1, 2
    cropper = Cropper([nuclei], AugmentOptions(size=64))
    classes, weights = cropper._target(mask, 40.0)
    assert (weights[20:40, 29:31] == 2).all()
    assert (classes[20:40, 29:31] == BOUNDARY).all()
    assert (weights[20:40, 10:12] == 1).all()
    assert weights[30, 20] == weights[0, 0] == 1


def test_boundary_classes_by_hand() -> None:
    mask = np.zeros((5, 8), np.uint8)
    mask[1:4, 1:4], mask[1:4, 4:7] = 1, 2
    assert boundary_classes(mask).tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 2, 2, 2, 2, 2, 2, 0],
        [0, 2, 1, 2, 2, 1, 2, 0],
        [0, 2, 2, 2, 2, 2, 2, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert not (boundary_classes(mask, width=2) == CELL).any()


def test_the_border_of_the_plane_is_no_boundary() -> None:
    assert (boundary_classes(np.ones((6, 7), np.int32)) == CELL).all()


def brute_force(mask: NDArray[Any], width: int) -> NDArray[np.uint8]:
    classes = np.zeros(mask.shape, np.uint8)
    for y, x in zip(*np.nonzero(mask), strict=True):
        near = mask[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
        classes[y, x] = BOUNDARY if (near != mask[y, x]).any() else CELL
    return classes


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_boundary_classes_are_what_the_docstring_says(
    height: int, width: int, thickness: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (height // 3 + 1, width // 3 + 1))
    mask = np.kron(coarse, np.ones((3, 3), int))[:height, :width]
    np.testing.assert_array_equal(boundary_classes(mask, thickness), brute_force(mask, thickness))


def test_annotate_normalises_with_the_limits_of_the_plane() -> None:
    image, truth = simulate_nuclei((128, 128), seed=0)
    plane = annotate(image, truth.astype(np.int32), "k")
    assert plane.image.dtype == np.uint8
    assert plane.image.min() == 0
    assert plane.image.max() == 255
    assert 15 < plane.diameter < 25
    assert plane.modality == "k"


def test_annotate_of_nothing() -> None:
    plane = annotate(np.full((30, 30), 7, np.uint16), np.zeros((30, 30), np.int32))
    assert not plane.image.any()
    assert plane.diameter == 0
    images, classes, _ = Cropper([plane], AugmentOptions(size=32)).batch(4, (0,))
    assert np.isfinite(images).all()
    assert not classes.any()


def test_grey_saved_as_colour_becomes_grey_again() -> None:
    image, truth = simulate_nuclei((64, 64), seed=0)
    mask = truth.astype(np.int32)
    assert annotate(np.stack([image] * 3, -1), mask).image.ndim == 2
    red = np.zeros((64, 64, 3), np.uint16)
    red[..., 0] = image
    assert annotate(red, mask).image.shape == (64, 64, 3)


def test_rare_kinds_are_drawn_more_often_than_their_share(nuclei: Annotated) -> None:
    planes = [nuclei] * 9 + [colour(nuclei)]
    cropper = Cropper(planes)
    assert cropper._probability.sum() == pytest.approx(1)
    assert cropper._probability[-1] == pytest.approx(0.25)  # of kinds 9 : 1, roots 3 : 1


def test_of_a_kind_images_that_hold_more_crops_are_drawn_more_often() -> None:
    """An image of four crops twice as often as one of one crop; kinds keep their share."""

    def plane(side: int, diameter: float, kind: str) -> Annotated:
        blank = np.zeros((side, side), np.uint8)
        return Annotated(blank, blank.astype(np.int32), diameter, kind)

    planes = [plane(64, 20, "a"), plane(128, 20, "a"), plane(128, 72, "a"), plane(256, 20, "b")]
    cropper = Cropper(planes, AugmentOptions(size=64, window=(18.0, 36.0)))
    # The third is seen at half its size. Three of one kind and one of another: roots.
    expected = np.array([1, 2, 1, 0]) / 4 * 3**0.5 + np.array([0, 0, 0, 1])
    np.testing.assert_allclose(cropper._probability, expected / expected.sum())


def test_other_stains_change_colours_and_keep_the_order_of_intensities() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[np.newaxis, :, np.newaxis], 3, axis=2)
    rng = np.random.default_rng(0)
    stained = [stained_otherwise(ramp, rng) for _ in range(20)]
    for image in stained:
        assert image.shape == ramp.shape
        assert (np.diff(image.astype(int), axis=1) >= 0).all()
        assert image[0, 0].tolist() == [0, 0, 0]
        assert (image[0, -1] >= 203).all()
    middle = np.array([image[0, 128] for image in stained], float)
    assert (middle.std(axis=0) > 10).all()  # each image otherwise,
    assert (np.ptp(middle, axis=1) > 10).mean() > 0.8  # and each channel


def test_other_dyes_take_the_place_of_haematoxylin_and_eosin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nuclei in haematoxylin on tissue in eosin; nuclei become darker or paler, never invisible."""
    haematoxylin, eosin = intensity.COUNTERSTAINS[0][:2]
    nucleus, tissue, glass = 1.2 * haematoxylin + 0.2 * eosin, 0.3 * eosin, np.zeros(3)
    density = np.stack([nucleus, tissue, glass])[np.newaxis]
    image = (np.exp(-density) * 255).astype(np.uint8)
    rng = np.random.default_rng(0)
    stained = np.stack([restained(image, rng)[0] for _ in range(60)]).astype(float)
    assert (stained[:, 2] >= 250).all()  # glass takes no dye
    darkness = 255 - stained.mean(axis=2)
    assert (darkness[:, 0] > darkness[:, 1] + 10).all()
    assert (stained[:, 0].std(axis=0) > 10).all()

    monkeypatch.setattr(intensity, "COUNTERSTAINS", intensity.COUNTERSTAINS[1:2])  # with DAB
    still = Mock()
    still.integers.return_value, still.random.return_value = 0, 1.0
    still.normal.side_effect = lambda mean, _, size: np.full(size, mean)
    tissue = restained(image, still)[0, 1].astype(float)
    dab = intensity.COUNTERSTAINS[0][1]
    np.testing.assert_allclose(-np.log(tissue / 255), 0.3 * dab, atol=0.02)


def test_haze_brightens_what_is_dark_and_only_where_it_may(nuclei: Annotated) -> None:
    still = replace(
        intensity.SAME_INTENSITY,
        blurred=0.0,
        noisy=0.0,
        contrast_changed=0.0,
        hazy=1.0,
        most_haze=0.4,
    )
    cropper = Cropper([nuclei], AugmentOptions(size=128))
    square = np.full((128, 128), 51, np.uint8)
    square[:64] = 255
    for seed in range(5):
        pixels = cropper._intensity(square, still, np.random.default_rng(seed))
        assert pixels.max() <= 1
        assert (pixels[:64] == 1).all()  # what is as bright as can be stays so
        assert pixels[64:].min() > 0.2
    clear = cropper._intensity(square, replace(still, hazy=0.0), np.random.default_rng(0))
    np.testing.assert_allclose(clear, square / 255, atol=1e-6)
    assert intensity.SAME_INTENSITY.hazy == intensity.MILD_INTENSITY.hazy == 0


def test_pixels_that_are_not_looked_at_have_no_weight(nuclei: Annotated) -> None:
    weight = np.zeros(nuclei.mask.shape, np.uint8)
    weight[:, :100] = 1
    plane = Annotated(nuclei.image, nuclei.mask, nuclei.diameter, "corrected", weight)
    options = AugmentOptions(size=96, zooms=(1.0, 1.0))
    _, _, weights = Cropper([plane], options).batch(20, (0,))
    assert 0 < (weights == 0).mean() < 1
    assert all((one > 0).any() for one in weights)  # where nothing is known, none is cut
    plain = Annotated(nuclei.image, nuclei.mask, nuclei.diameter, "corrected")
    assert (Cropper([plain], options).batch(20, (0,))[2] > 0).all()


def test_classes_that_nobody_painted_have_no_weight() -> None:
    mask = np.full((120, 120), UNKNOWN, np.int32)
    mask[40:60], mask[60:80] = 0, 1
    plane = Annotated(np.zeros((120, 120), np.uint8), mask, 0.0, "strokes")
    weights = crops.class_weights([plane], 2)
    assert weights == pytest.approx((1.0, 1.0))
    options = AugmentOptions(size=64, instances=False, zooms=(1.0, 1.0), class_weights=weights)
    _, classes, loss_weights = Cropper([plane], options).batch(8, (0,))
    assert set(np.unique(classes)) == {0, 1}
    assert (loss_weights == 0).any()
    assert (loss_weights[classes == 1] == 1).all()


def test_the_distance_is_one_where_a_cell_is_deepest_whatever_its_size() -> None:
    mask = np.zeros((40, 60), np.int32)
    mask[2:9, 2:9] = 1  # 7 pixels wide
    mask[5:34, 15:44] = 2  # 29 pixels wide
    mask[5:34, 44:58] = 3  # touches it
    mask[38, 3] = 4  # a single pixel
    depth = crops.boundary_distance(mask)
    assert depth.dtype == np.uint8
    assert (depth[mask == 0] == 0).all()
    for cell in range(1, 5):
        assert depth[mask == cell].max() == 255
        assert (depth[mask == cell] > 0).all()
    assert depth[5, 5] == 255
    # Three pixels inside, of 3 in all: (n + 1/2) / (3 + 1/2).
    np.testing.assert_array_equal(
        depth[5, 2:6], np.round(np.array([0.5, 1.5, 2.5, 3.5]) / 3.5 * 255)
    )
    # A valley between cells that touch, which a threshold of half the depth separates.
    assert depth[20, 43] < 30
    assert depth[20, 44] < 30


def test_the_distance_ignores_the_border_of_the_plane() -> None:
    mask = np.zeros((30, 30), np.int32)
    mask[:10, 5:25] = 1
    depth = crops.boundary_distance(mask)
    assert depth[0, 15] == 255
    assert (crops.boundary_distance(np.ones((5, 5), np.int32)) == 255).all()
    assert not crops.boundary_distance(np.zeros((5, 5), np.int32)).any()


def test_mild_crops_look_as_images_do_in_use(nuclei: Annotated) -> None:
    """Cells are as bright as they were, and as wide as the window wants them."""

    def crops(mild: float) -> tuple[NDArray[Any], NDArray[Any]]:
        options = AugmentOptions(size=96, channels=1, window=(18.0, 18.0), mild=mild)
        images, classes, _ = Cropper([nuclei], options).batch(60, (0,))
        brighter, widths = [], []
        for image, drawn in zip(images[..., 0], classes, strict=True):
            if np.count_nonzero(drawn == CELL) > 50:
                brighter.append(image[drawn == CELL].mean() - image[drawn == BACKGROUND].mean())
                widths.append(np.median(diameters_of(ndimage.label(drawn == CELL)[0])))
        assert len(widths) > 30
        return np.array(brighter), np.array(widths)

    mild, widths = crops(mild=1.0)
    assert (mild > 0).all()
    usual, stray = np.median(widths), np.std(np.log(widths))
    wild, widths = crops(mild=0.0)
    assert 0.4 < (wild > 0).mean() < 0.9  # three of ten are inverted
    assert np.std(np.abs(wild)) > 1.5 * np.std(mild)
    assert np.std(np.log(widths)) > 1.5 * stray
    assert 0.6 < usual / 18 < 1.1  # without its boundary a cell is narrower


def test_a_share_of_the_crops_is_simulated(
    nuclei: Annotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    modalities: list[str] = []
    crop = Cropper._crop

    def noted(self: Cropper, plane: Annotated, rng: np.random.Generator) -> Any:
        modalities.append(plane.modality)
        return crop(self, plane, rng)

    monkeypatch.setattr(Cropper, "_crop", noted)
    options = AugmentOptions(size=64, distance=True, synthetic=0.5)
    batch = Cropper([nuclei], options).batch(40, (3,))
    simulated = [name for name in modalities if name.startswith("simulated-")]
    assert 10 < len(simulated) < 30
    assert len(set(simulated)) > 3
    assert set(modalities) - set(simulated) == {"fluorescence"}
    assert same(batch, Cropper([nuclei], options).batch(40, (3,)))
    images, targets, _ = batch
    for i in range(40):
        assert np.isfinite(images[i]).all()
        inside = targets[i, ..., 0] == CELL
        if inside.any():
            assert targets[i, ..., 1][inside].max() > 60


def test_without_a_share_crops_are_those_of_before(
    nuclei: Annotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops, "simulate", Mock(side_effect=AssertionError))
    assert same(
        Cropper([nuclei], AugmentOptions(size=64, synthetic=0.0)).batch(8, (0,)),
        Cropper([nuclei], AugmentOptions(size=64)).batch(8, (0,)),
    )


def test_the_distance_is_drawn_with_its_crop(nuclei: Annotated) -> None:
    options = AugmentOptions(size=64, distance=True)
    _, targets, _ = Cropper([nuclei], options).batch(12, (0,))
    assert targets.shape == (12, 64, 64, 2)
    assert targets.dtype == np.uint8
    classes, depth = targets[..., 0], targets[..., 1].astype(float)
    np.testing.assert_array_equal(
        classes, Cropper([nuclei], AugmentOptions(size=64)).batch(12, (0,))[1]
    )
    # What is deep lies inside, and the boundary is shallow.
    assert depth[classes == CELL].mean() > 2 * depth[classes == BOUNDARY].mean()
    assert depth[classes == BACKGROUND].mean() < 5


@pytest.mark.parametrize(("diameter", "usual"), [(9.0, 18.0), (25.0, 25.0), (90.0, 36.0)])
def test_half_of_the_crops_lie_in_the_window_and_half_anywhere(
    diameter: float, usual: float
) -> None:
    options = AugmentOptions(window=(18.0, 36.0), diameters=(8.0, 90.0))
    rng = np.random.default_rng(0)
    seen = diameter * np.array([crops._draw_zoom(diameter, options, rng) for _ in range(8000)])
    low, high = np.array(crops.ZOOMS) * diameter  # what a zoom can do
    assert seen.min() >= low * (1 - 1e-9)
    assert seen.max() <= high * (1 + 1e-9)
    for below in np.geomspace(10.0, 85.0, 12):
        if not low < below < high:
            continue
        near = special.ndtr(np.log(below / usual) / 0.25)
        anywhere = np.log(below / 8.0) / np.log(90.0 / 8.0)
        assert (seen < below).mean() == pytest.approx((near + anywhere) / 2, abs=0.025)


@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_a_mosaic_holds_the_crops_and_nothing_is_learned_between_them(
    nuclei: Annotated, tiles: int
) -> None:
    size = 64 // tiles
    options = AugmentOptions(size=size, zooms=(1.0, 1.0), distance=True)
    plain = Cropper([nuclei], options).batch(2 * tiles**2, (5,))
    mosaic = crops.Mosaic([nuclei], options, tiles, 64).batch(2, (5,))

    for one, many in zip(mosaic, plain, strict=True):
        assert one.shape == (2, 64, 64, *many.shape[3:])
        assert one.dtype == many.dtype
    for number in range(2 * tiles**2):
        which, (row, column) = number // tiles**2, divmod(number % tiles**2, tiles)
        there = (
            which,
            slice(row * size, (row + 1) * size),
            slice(column * size, (column + 1) * size),
        )
        for one, many in zip(mosaic[:2], plain[:2], strict=True):
            np.testing.assert_array_equal(one[there], many[number])
        weights, inner = mosaic[2][there], slice(crops.SEAM, -crops.SEAM)
        if tiles == 1:
            np.testing.assert_array_equal(weights, plain[2][number])
            continue
        np.testing.assert_array_equal(weights[inner, inner], plain[2][number][inner, inner])
        assert weights.sum() == weights[inner, inner].sum() > 0
    assert not mosaic[2][:, tiles * size :].any()
