"""The networks: shapes, parameters, and how far a pixel reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.errors import UserError

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def architectures() -> Any:
    from napari_unet_cells.nets import architectures

    return architectures


NAMES = ("mobilenet_unet", "unet_mini")


def test_every_architecture_is_tested_here(architectures: Any) -> None:
    assert tuple(sorted(architectures.ARCHITECTURES)) == NAMES


def test_the_mini_network_is_that_of_the_seed(architectures: Any) -> None:
    assert architectures.build("unet_mini", n_classes=21, channels=3).count_params() == 472_213


def test_an_unknown_name_is_a_sentence(architectures: Any) -> None:
    with pytest.raises(UserError, match=r"no architecture 'u_net'\. Known are: mobilenet_unet, "):
        architectures.build("u_net", 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_have_the_size_of_the_input(architectures: Any, name: str, channels: int) -> None:
    model = architectures.build(name, 5, channels)
    stride = architectures.ARCHITECTURES[name].stride
    assert model.input_shape == (None, None, None, channels)
    batch = np.random.default_rng(0).random((2, stride, 3 * stride, channels), np.float32)
    logits = np.asarray(model(batch, training=False))
    assert logits.shape == (2, stride, 3 * stride, 5)
    assert logits.min() < 0 < logits.max()  # not yet probabilities


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_alpha_widens_the_network(architectures: Any, alpha: float) -> None:
    model = architectures.build("mobilenet_unet", 3, 3, alpha=alpha)
    assert model.get_layer("conv_pw_11").filters == 512 * alpha
    assert model.get_layer("decoder_0b").filters == 192 * alpha


def needed(tensor: Any, low: int, high: int) -> tuple[int, int]:
    """Interval of the input, along one axis, that `tensor[low..high]` is computed from.

    By the definition of each layer, for inputs of even size::

        3 wide, stride 1      i - 1 .. i + 1        3 wide, stride 2     2 i .. 2 i + 2
        2 to 1 (pooling)      2 i .. 2 i + 1        1 to 2 (upsampling)  floor(i / 2)
    """
    layer, node_index, _ = tensor._keras_history
    kind = type(layer).__name__
    if kind == "InputLayer":
        return low, high
    if kind in ("Conv2D", "DepthwiseConv2D"):
        width, stride = layer.kernel_size[1], layer.strides[1]
        before = (width - stride) // 2 if layer.padding == "same" else 0
        low, high = low * stride - before, high * stride - before + width - 1
    elif kind == "ZeroPadding2D":
        before = layer.padding[1][0]
        low, high = low - before, high - before
    elif kind == "MaxPooling2D":
        low, high = 2 * low, 2 * high + 1
    elif kind in ("UpSampling2D", "Conv2DTranspose", "DepthToSpace"):
        low, high = low // 2, high // 2
    inputs = layer._inbound_nodes[node_index].input_tensors
    intervals = [needed(tensor, low, high) for tensor in inputs]
    return min(a for a, _ in intervals), max(b for _, b in intervals)


@pytest.mark.parametrize("name", NAMES)
def test_the_measured_halo_is_what_the_layers_add_up_to(architectures: Any, name: str) -> None:
    model = architectures.build(name, 3, 3)
    stride = architectures.ARCHITECTURES[name].stride
    low, high = needed(model.outputs[0], 0, stride - 1)
    reach = max(-low, high + 1 - stride)
    assert architectures.measure_halo(model, stride) == -(-reach // stride) * stride
    assert reach > 3 * stride  # the computation did walk through the network


def test_the_halo_does_not_depend_on_width_and_channels(architectures: Any) -> None:
    halos = {
        architectures.measure_halo(architectures.build("mobilenet_unet", 2, c, alpha=a), 16)
        for c, a in ((1, 0.25), (3, 0.5))
    }
    assert len(halos) == 1


def test_encoder_weights_are_copied_by_name(architectures: Any, tmp_path: Path) -> None:
    from napari_unet_cells.nets.encoders import load_encoder_weights

    model = architectures.build("mobilenet_unet", 3, 3)
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    np.savez(tmp_path / "w.npz", **{"conv1/kernel": kernel, "of_another/kernel": kernel})
    assert (np.asarray(model.get_layer("conv1").kernel) != kernel).any()
    assert load_encoder_weights(model, tmp_path / "w.npz") == 1
    np.testing.assert_array_equal(np.asarray(model.get_layer("conv1").kernel), kernel)


def test_encoder_weights_that_do_not_fit_are_a_sentence(architectures: Any, tmp_path: Path) -> None:
    from napari_unet_cells.nets.encoders import load_encoder_weights

    model = architectures.build("mobilenet_unet", 3, 3)
    path = tmp_path / "w.npz"
    np.savez(path, **{"conv1/kernel": np.zeros((3, 3, 3, 32), np.float32)})
    with pytest.raises(UserError, match=r"conv1/kernel is \(3, 3, 3, 32\) in the file.*same alpha"):
        load_encoder_weights(model, path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(UserError, match="holds no weights"):
        load_encoder_weights(model, path)
    path.write_text("not an archive")
    with pytest.raises(UserError, match="cannot be read as pretrained weights"):
        load_encoder_weights(model, path)
    with pytest.raises(UserError, match="cannot be read as pretrained weights"):
        load_encoder_weights(model, tmp_path / "missing.npz")
