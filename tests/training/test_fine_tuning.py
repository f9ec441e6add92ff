"""Tuning: what moves in which part of the time, and what the batch norms take over."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special

from napari_unet_cells.errors import OutOfMemory

pytestmark = pytest.mark.network

SIDE = 32


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.random((2, SIDE, SIDE, 3), np.float32)
    targets = rng.integers(0, 3, (2, SIDE, SIDE)).astype(np.uint8)
    return images, targets, np.ones((2, SIDE, SIDE), np.float32)


def network():
    """Build a network in two parts, each a convolution with its batch norm."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    image = x = keras.Input((None, None, 3))
    for name, width in (("encoder", 8), ("decoder", 6)):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    return keras.Model(image, layers.Conv2D(3, 1, name="head")(x))


@pytest.fixture
def tuner(monkeypatch):
    from napari_unet_cells.models.runtimes.tensorflow import prepare_gpus
    from napari_unet_cells.training import fine_tuning

    prepare_gpus()
    encoder = SimpleNamespace(skips=("encoder_relu",))
    monkeypatch.setattr(fine_tuning, "ENCODERS", {"small": encoder})

    def make(**recipe):
        made = fine_tuning.Tuner(network(), "small", recipe=fine_tuning.Recipe(**recipe))
        made.trace(2, SIDE)
        return made

    return make


def moved(one, done, batch) -> set[str]:
    """Say what a step moves: of the encoder and the decoder, kernels or norms."""
    before = one.get_weights()
    one.step(batch, done)
    pairs = zip(one.model.weights, before, one.get_weights(), strict=True)
    return {_part(variable.path) for variable, old, new in pairs if (old != new).any()}


def _part(path: str) -> str:
    side = "encoder" if path.startswith("encoder") else "decoder"
    return f"{side} norms" if "_bn" in path else side


@pytest.mark.parametrize(
    ("recipe", "early", "late"),
    [
        ({"decoder": 0.0}, {"encoder", "decoder"}, {"encoder", "decoder"}),
        ({"decoder": 0.5}, {"decoder"}, {"encoder", "decoder"}),
        ({"decoder": 1.0}, {"decoder"}, {"decoder"}),
        (
            {"decoder": 0.0, "norms": True, "kernels": False},
            {"encoder norms", "decoder norms"},
            {"encoder norms", "decoder norms"},
        ),
    ],
)
def test_what_moves_is_what_the_recipe_says(tuner, batch, recipe, early, late):
    """Keras asks what may move when it makes a graph, so it is asked anew for another size."""
    one = tuner(**recipe)

    assert moved(one, 0.1, batch) == early
    assert moved(one, 0.9, batch) == late
    small = tuple(part[:1] for part in batch)
    assert moved(one, 0.1, small) == early


def test_the_rate_falls_to_a_hundredth(tuner, batch):
    one = tuner(decoder=0.0, rate=1e-3)
    steps = []
    for done in (0.0, 0.999):
        before = one.get_weights()
        one.step(batch, done)
        after = one.get_weights()
        steps.append(max(np.abs(a - b).max() for a, b in zip(after, before, strict=True)))

    assert steps[0] > 20 * steps[1] > 0


def test_batch_norms_take_mean_and_variance_of_all_batches_together(tuner, batch):
    one = tuner(decoder=0.0)
    images, _, _ = batch
    other = images[:, ::-1] * 0.5

    def statistics(*batches):
        one.restart()
        one.adapt(batches)
        layer = one.model.get_layer("encoder_bn")
        return layer.moving_mean.numpy(), layer.moving_variance.numpy()

    together = statistics(np.concatenate([images, other]))
    np.testing.assert_allclose(statistics(images, other), together, rtol=1e-3, atol=1e-6)
    assert np.abs(statistics(images)[0] - together[0]).max() > 1e-3


def test_batch_norms_are_as_before_where_adapting_is_interrupted(tuner, batch):
    one = tuner(decoder=0.0)
    layer = one.model.get_layer("encoder_bn")
    momentum = layer.momentum

    def full():
        yield batch[0]
        raise MemoryError

    with pytest.raises(OutOfMemory):
        one.adapt(full())
    assert layer.momentum == momentum
    one.restart()
    assert moved(one, 0.0, batch) == {"encoder", "decoder"}


def test_what_is_saved_computes_what_was_tuned(tuner, batch, tmp_path):
    import keras

    one = tuner(decoder=0.0)
    one.adapt([batch[0]])
    for _ in range(3):
        one.step(batch, 0.0)
    one.model.save(tmp_path / "tuned.keras")

    saved = keras.saving.load_model(tmp_path / "tuned.keras")
    logits = saved.predict_on_batch(batch[0])
    np.testing.assert_allclose(special.softmax(logits, axis=-1), one.predict(batch[0]), atol=1e-6)
    folded = one._network.predict_on_batch(batch[0])
    assert np.abs(folded - logits).mean() < 0.02 * np.abs(logits).max()


def test_restart_forgets_what_was_learned(tuner, batch):
    one = tuner(decoder=0.0)
    first = [one.step(batch, 0.0) for _ in range(3)]
    one.restart()

    np.testing.assert_allclose([one.step(batch, 0.0) for _ in range(3)], first, rtol=1e-3)
