"""Training steps in PyTorch: the numbers of Keras, and checkpoints."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training.crops import AugmentOptions, annotate

pytestmark = pytest.mark.torch


@pytest.fixture
def torch() -> Any:
    from napari_unet_cells.models.runtimes.torch import import_torch

    return import_torch()


@pytest.fixture
def model() -> Any:
    """Give a MobileNet U-Net whose every weight says something."""
    from napari_unet_cells.models import architectures

    made = architectures.build("mobilenet_unet", 4, 3, alpha=0.125, decoder=[16, 16, 8])
    rng = np.random.default_rng(0)
    made.set_weights(
        [
            weight
            + (
                rng.random(weight.shape)
                if "variance" in variable.path
                else rng.normal(0, 0.05, weight.shape)
            )
            for variable, weight in zip(made.weights, made.get_weights(), strict=True)
        ]
    )
    return made


def batch(n: int = 2) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(1)
    images = rng.random((n, 48, 80, 3), np.float32)
    targets = rng.integers(0, 3, (n, 48, 80, 2)).astype(np.uint8)
    return images, targets, rng.random((n, 48, 80), np.float32)


def options(**changes: Any) -> Any:
    from napari_unet_cells.training.trainer import TrainOptions

    return TrainOptions(
        build={"alpha": 0.125, "decoder": [16, 16, 8]},
        batch=2,
        augment=AugmentOptions(size=32),
        backend="torch",
        **changes,
    )


def plane() -> Any:
    image, truth = simulate_nuclei((96, 96), diameter=16, seed=0)
    return annotate(image, truth.astype(np.int32), "simulated")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("distance", [False, True])
def test_the_loss_is_that_of_keras(torch: Any, distance: bool, soft: bool) -> None:
    from napari_unet_cells.training.loss import make_loss, soften
    from napari_unet_cells.training.torch_steps import make_torch_loss

    rng = np.random.default_rng(2)
    _, targets, _ = batch()
    if not distance:
        targets = targets[..., 0]
    logits = rng.normal(0, 2, (2, 48, 80, 3 + distance)).astype(np.float32)
    if soft:
        targets = soften(targets, rng.normal(0, 2, logits.shape).astype(np.float32), distance, 0.5)
    expected = np.asarray(make_loss(distance, soft)(targets, logits))

    loss = make_torch_loss(torch, distance, soft)(torch.tensor(targets), torch.tensor(logits))

    assert expected.shape == (2, 48, 80)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_steps_go_where_those_of_keras_go(torch: Any, model: Any) -> None:
    from napari_unet_cells.training.backends import BACKENDS, LossForm

    data, form = batch(), LossForm(distance=True, soft=False)
    before = model.get_weights()
    copy = BACKENDS["torch"].steps(model, form)
    keras = BACKENDS["tensorflow"].steps(model, form)

    losses = [(copy.step(*data, rate), keras.step(*data, rate)) for rate in (1e-3, 1e-3, 2e-3)]

    ours, theirs = zip(*losses, strict=True)
    np.testing.assert_allclose(ours, theirs, rtol=5e-3)
    assert theirs[2] < theirs[1] < theirs[0]
    assert copy.loss(*data) == pytest.approx(keras.loss(*data), rel=5e-3)
    # Adam moves by the sign of a gradient first, and bfloat16 turns some of the smallest around.
    moves = [_moved(steps.get_weights(), before) for steps in (copy, keras)]
    assert all(np.linalg.norm(move) > 0.1 for move in moves)
    cosine = moves[0] @ moves[1] / np.prod([np.linalg.norm(move) for move in moves])
    assert cosine > 0.8


def _moved(after: Any, before: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([(a - b).ravel() for a, b in zip(after, before, strict=True)])


def test_a_training_resumes_with_its_optimizer_and_makes_a_keras_model(
    torch: Any, tmp_path: Path
) -> None:
    from napari_unet_cells.training.trainer import Trainer

    first = Trainer([plane()], [plane()], options(minutes=5), tmp_path)
    run: Any = first.run(checkpoint_every=1e9)
    taken = list(itertools.islice(run, 3))
    run.close()
    assert [event.step for event in taken] == [1, 2, 3]

    resumed = Trainer([plane()], [plane()], options(minutes=5), tmp_path, resume=True)

    for ours, theirs in zip(
        resumed.learner.steps.get_weights(), first.learner.steps.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    data = first.loop.crops.batch(2, (0, 9))
    losses = [[t.learner.steps.step(*data, 1e-2) for _ in range(2)] for t in (first, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    shipped = first.trained_model().get_weights()
    for average, weight in zip(first.loop.average.weights, shipped, strict=True):
        np.testing.assert_array_equal(average, weight)
