"""The network in PyTorch computes what Keras computes, of every architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.models import architectures

pytestmark = pytest.mark.torch

#: Of which the widths are small here.
SMALL = {"mobilenet_unet": {"alpha": 0.125, "decoder": [16, 16, 8]}}


def filled(name: str, channels: int = 3) -> Any:
    """Build a network whose every weight says something."""
    made = architectures.build(name, 4, channels, **SMALL.get(name, {}))
    rng = np.random.default_rng(0)
    made.set_weights(
        [
            weight
            + (
                rng.random(weight.shape)
                if "variance" in variable.path
                else rng.normal(0, 0.05, weight.shape) / max(1.0, weight[..., 0].size / 64) ** 0.5
            )
            for variable, weight in zip(made.weights, made.get_weights(), strict=True)
        ]
    )
    return made


@pytest.fixture(scope="module")
def model() -> Any:
    return filled("mobilenet_unet")


def pictures(channels: int = 3) -> Any:
    return np.random.default_rng(1).random((2, 48, 80, channels), dtype=np.float32)


def planes(network: Any, images: Any) -> Any:
    """Compute in 32-bit floats, as predictions on a CPU do."""
    import torch

    with torch.inference_mode():
        logits = network.planes(torch.from_numpy(images).permute(0, 3, 1, 2))
        return logits.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("name", "channels"),
    [*((name, 3) for name in architectures.ARCHITECTURES), ("vgg16_unet", 2)],
)
def test_every_architecture_gives_the_numbers_of_keras(name: str, channels: int) -> None:
    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    model = filled(name, channels)
    images = pictures(channels)
    expected = model.predict_on_batch(images)
    assert np.ptp(expected) > 0
    network = TorchNetwork(model, "cpu")
    tolerance = 1e-4 * np.ptp(expected)
    np.testing.assert_allclose(planes(network, images), expected, atol=tolerance)
    norms = [key for key in network._values if key.endswith("/gamma")]
    assert bool(norms) == (name not in ("unet_mini", "unet"))
    network.fold_norms()
    assert not [key for key in network._values if key.endswith("/gamma")]
    np.testing.assert_allclose(planes(network, images), expected, atol=tolerance)


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_kernels_with_gaps_give_the_numbers_of_keras(kind: str, dilation: int) -> None:
    import keras

    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    size = {"filters": 5} if kind == "Conv2D" else {}
    layer = getattr(keras.layers, kind)(
        kernel_size=3, padding="same", dilation_rate=dilation, bias_initializer="ones", **size
    )
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layer(image))
    images = pictures()
    expected = model.predict_on_batch(images)
    np.testing.assert_allclose(planes(TorchNetwork(model, "cpu"), images), expected, atol=1e-5)


def test_bfloat16_costs_what_eight_bits_cost(model: Any) -> None:
    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    images = pictures()
    expected = model.predict_on_batch(images)
    logits = TorchNetwork(model, "cpu").logits(images)
    assert logits.shape == expected.shape == (2, 48, 80, 4)
    tolerance = 0.02 * np.ptp(expected)
    np.testing.assert_allclose(logits, expected, atol=tolerance)
    # A shift by a pixel is told from that.
    assert np.abs(logits[:, 1:] - expected[:, :-1]).max() > 2 * tolerance


def test_weights_go_there_and_back_unchanged(model: Any) -> None:
    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    copy = TorchNetwork(model, "cpu")
    for ours, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    halves = [weight / 2 for weight in model.get_weights()]
    copy.set_weights(halves)
    for ours, half in zip(copy.get_weights(), halves, strict=True):
        np.testing.assert_array_equal(ours, half)


def test_frozen_layers_have_no_parameters_to_learn(model: Any) -> None:
    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    network = TorchNetwork(model, "cpu")
    assert len(network.parameters) == len(model.trainable_variables)
    without_norms = network.parameters_of(kinds={"BatchNormalization"})
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    assert len(without_norms) == len(network.parameters) - 2 * len(norms)
    assert len(network.parameters_of(frozen={"head"})) == len(network.parameters) - 2


def test_norms_learn_only_where_they_may(model: Any) -> None:
    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    network = TorchNetwork(model, "cpu")
    before = network.get_weights()
    network.norms_learn = False
    network(pictures(), training=True)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    network.norms_learn, network.momentum = True, 0.5
    network(pictures(), training=True)
    moved = [
        variable.path
        for variable, old, new in zip(model.weights, before, network.get_weights(), strict=True)
        if not np.array_equal(old, new)
    ]
    assert moved
    assert all("moving_" in path for path in moved)


def test_a_network_with_other_layers_is_refused_with_a_sentence() -> None:
    architectures.build("unet_mini", 2)
    import keras

    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    image = keras.Input((None, None, 3))
    other = keras.Model(image, keras.layers.LeakyReLU()(image))
    with pytest.raises(UserError, match=r"layers LeakyReLU are known .* Choose TensorFlow\."):
        TorchNetwork(other, "cpu")
