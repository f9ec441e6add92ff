"""Folded networks: the same logits and the same gradients, in fewer passes over the pixels."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.network

#: Each has what another has not: depthwise kernels, biases before a norm, no norm at all.
NAMES = ("mobilenet_unet", "resnet50_unet", "unet_mini")


def network(name: str):
    """Build a network whose batch norms have something to do."""
    from napari_unet_cells.models.architectures import build
    from napari_unet_cells.models.runtimes.tensorflow import prepare_gpus

    prepare_gpus()
    import keras

    keras.utils.set_random_seed(3)
    model = build(name, 4, 3)
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 64, 96, 3), np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_a_folded_network_gives_the_same_logits(name, images):
    model = network(name)
    from napari_unet_cells.training.folded import fold

    expected = model(images, training=False).numpy()
    found = fold(model, brief=False)(images, training=False).numpy()

    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_brief_numbers_change_the_logits_by_little(name, images):
    model = network(name)
    from napari_unet_cells.training.folded import fold

    expected = model(images, training=False).numpy()
    found = fold(model, brief=True)(images, training=False).numpy()

    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).mean() < 0.02 * np.abs(expected).max()


def test_its_variables_are_those_of_the_network(images):
    model = network("mobilenet_unet")
    from napari_unet_cells.training.folded import fold

    folded = fold(model, brief=False)
    assert {id(v) for v in folded.trainable_variables} == {id(v) for v in model.trainable_variables}

    model.set_weights([weight * 0 + 0.01 for weight in model.get_weights()])
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(folded(images).numpy(), expected, atol=1e-5)


def test_both_learn_the_same(images):
    """Their gradients are the same, through the scale that is in the kernel as well."""
    from napari_unet_cells.training.backends import KerasSteps, LossForm

    targets = np.random.default_rng(1).integers(0, 3, (2, 64, 96, 2)).astype(np.uint8)
    weights = np.ones((2, 64, 96), np.float32)
    learned = []
    for way in ("plain", "folded"):
        model = network("mobilenet_unet")
        from napari_unet_cells.training.folded import fold

        steps = KerasSteps(
            model if way == "plain" else fold(model, brief=False), LossForm(True, soft=False)
        )
        start = model.get_weights()
        loss = [steps.step(images, targets, weights, 1e-3) for _ in range(2)]
        moved = [after - before for before, after in zip(start, model.get_weights(), strict=True)]
        learned.append((loss, np.concatenate([move.ravel() for move in moved])))

    (plain_loss, plain), (folded_loss, folded) = learned
    np.testing.assert_allclose(folded_loss, plain_loss, rtol=1e-4)
    assert np.abs(plain).max() > 1e-4
    assert np.corrcoef(plain, folded)[0, 1] > 0.999
