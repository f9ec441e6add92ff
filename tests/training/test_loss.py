"""Loss functions, against their formulas written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

pytestmark = pytest.mark.network

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (2, 5, 6, 4)).astype(np.float32)
CLASSES = RNG.integers(0, 3, (2, 5, 6)).astype(np.uint8)
DEPTH = RNG.integers(0, 256, (2, 5, 6)).astype(np.uint8)
TARGETS = np.stack([CLASSES, DEPTH], axis=-1)


def divergence(distance, logit):
    """Kullback-Leibler divergence of two coins, in nats."""
    guess = special.expit(logit.astype(float))
    return special.rel_entr(distance, guess) + special.rel_entr(1 - distance, 1 - guess)


def test_classes_count_by_their_cross_entropy() -> None:
    from napari_unet_cells.training.loss import make_loss

    found = np.asarray(make_loss(distance=False)(CLASSES, LOGITS[..., :3]))
    logs = special.log_softmax(LOGITS[..., :3], axis=-1)
    expected = -np.take_along_axis(logs, CLASSES[..., None].astype(int), axis=-1)[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_distance_adds_its_divergence() -> None:
    from napari_unet_cells.training.loss import make_loss

    both = np.asarray(make_loss(distance=True)(TARGETS, LOGITS))
    classes = np.asarray(make_loss(distance=False)(CLASSES, LOGITS[..., :3]))
    expected = divergence(DEPTH / 255, LOGITS[..., 3])
    np.testing.assert_allclose(both - classes, expected, atol=2e-4)


def test_the_best_there_is_costs_nothing() -> None:
    from napari_unet_cells.training.loss import make_loss

    logits = np.full((1, 1, 256, 4), -50.0, np.float32)
    logits[..., 1] = 50.0
    depth = np.arange(256, dtype=np.uint8)
    logits[0, 0, :, 3] = special.logit(np.clip(depth / 255, 1e-7, 1 - 1e-7))
    targets = np.stack([np.ones(256, np.uint8), depth], axis=-1)[None, None]
    found = np.asarray(make_loss(distance=True)(targets, logits))
    np.testing.assert_allclose(found, 0, atol=1e-4)


@pytest.mark.parametrize("distance", [False, True])
def test_a_teacher_without_a_share_changes_nothing(distance: bool) -> None:
    from napari_unet_cells.training.loss import make_loss, soften

    targets, logits = (TARGETS, LOGITS) if distance else (CLASSES, LOGITS[..., :3])
    soft = soften(targets, RNG.normal(size=logits.shape).astype(np.float32), distance, share=0.0)
    assert soft.shape == logits.shape
    hard = np.asarray(make_loss(distance)(targets, logits))
    np.testing.assert_allclose(
        np.asarray(make_loss(distance, soft=True)(soft, logits)), hard, rtol=1e-4, atol=1e-4
    )


def test_a_teacher_who_decides_alone_is_copied() -> None:
    from napari_unet_cells.training.loss import make_loss, soften

    soft = soften(TARGETS, LOGITS, True, share=1.0)
    np.testing.assert_allclose(soft[..., :3].sum(axis=-1), 1, rtol=1e-5)
    loss = make_loss(True, soft=True)
    own = np.asarray(loss(soft, LOGITS)).mean()
    other = np.asarray(loss(soft, LOGITS + RNG.normal(0, 0.3, LOGITS.shape))).mean()
    assert own < other
