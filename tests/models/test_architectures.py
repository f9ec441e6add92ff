"""The networks: shapes, parameters, and how far a pixel reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.architectures import ARCHITECTURES
from napari_unet_cells.models.card import MAX_CHANNELS, MAX_CLASSES, ModelCard
from napari_unet_cells.models.catalogue import load_model, save_model

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def architectures() -> Any:
    from napari_unet_cells.models import architectures

    return architectures


NAMES = ("mobilenet_unet", "resnet50_unet", "unet", "unet_mini", "vgg16_unet")


def test_these_architectures_are_offered() -> None:
    assert tuple(sorted(ARCHITECTURES)) == NAMES


@pytest.mark.parametrize(("n_classes", "channels"), [(3, 3), (2, 1), (7, 5)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_runs_is_saved_and_comes_back_the_same(
    architectures: Any, tmp_path: Path, name: str, n_classes: int, channels: int
) -> None:
    model = architectures.build(name, n_classes, channels)
    stride = ARCHITECTURES[name].stride
    assert model.input_shape == (None, None, None, channels)
    batch = np.random.default_rng(0).random((2, stride, 3 * stride, channels), np.float32)
    logits = np.asarray(model(batch, training=False))
    assert logits.shape == (2, stride, 3 * stride, n_classes)
    assert logits.min() < 0 < logits.max()  # not yet probabilities
    other = np.asarray(model(batch[..., ::-1] ** 2, training=False))
    assert np.abs(logits - other).max() > 1e-4  # the image does matter

    classes = tuple(f"class {i}" for i in range(n_classes))
    card = ModelCard(name, name, classes, channels, stride, 16, "", path=tmp_path / "m.keras")
    loaded = load_model(save_model(model, card))  # through the check of what is in the file

    assert loaded is not model
    assert loaded.count_params() == model.count_params()
    np.testing.assert_array_equal(np.asarray(loaded(batch, training=False)), logits)


@pytest.mark.parametrize(
    ("n_classes", "channels"), [(1, 3), (MAX_CLASSES + 1, 3), (3, 0), (3, MAX_CHANNELS + 1)]
)
def test_classes_and_channels_have_limits(
    architectures: Any, n_classes: int, channels: int
) -> None:
    with pytest.raises(UserError, match=f"2 to 255 classes and 1 to 16.*not {n_classes} and"):
        architectures.build("unet_mini", n_classes, channels)
    assert architectures.build("unet_mini", MAX_CLASSES, MAX_CHANNELS).count_params() > 0


def test_the_unet_is_that_of_2015(architectures: Any) -> None:
    model = architectures.build("unet", n_classes=2, channels=1)
    levels = (64, 128, 256, 512, 1024)
    inside = sum(9 * a * b + b + 9 * b * b + b for a, b in zip((1, *levels), levels, strict=False))
    back = sum(4 * 2 * b * b + b + 9 * 2 * b * b + b + 9 * b * b + b for b in levels[:-1])
    assert model.count_params() == inside + back + 64 * 2 + 2 == 31_030_658


def test_the_mini_network_is_that_of_the_seed(architectures: Any) -> None:
    assert architectures.build("unet_mini", n_classes=21, channels=3).count_params() == 472_213


def test_an_unknown_name_is_a_sentence(architectures: Any) -> None:
    with pytest.raises(UserError, match=r"no architecture 'u_net'\. Known are: mobilenet_unet, "):
        architectures.build("u_net", 3)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_alpha_widens_the_network(architectures: Any, alpha: float) -> None:
    model = architectures.build("mobilenet_unet", 3, 3, alpha=alpha)
    assert model.get_layer("conv_pw_11").filters == 512 * alpha
    assert model.get_layer("decoder_0b").filters == 192 * alpha


POINTWISE = (
    "Activation", "Add", "BatchNormalization", "Concatenate", "Dropout", "Flip", "ReLU",
    "Rescaling",
)  # fmt: skip


def needed(tensor: Any, low: int, high: int) -> tuple[int, int]:
    """Interval of the input, along one axis, that `tensor[low..high]` is computed from.

    By the definition of each layer, for inputs of even size::

        3 wide, stride 1      i - 1 .. i + 1        3 wide, stride 2     2 i .. 2 i + 2
        2 to 1 (pooling)      2 i .. 2 i + 1        1 to 2 (upsampling)  floor(i / 2)
        of several inputs     the widest
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
        assert layer.padding == "valid"
        low, high = 2 * low, 2 * high + layer.pool_size[1] - 1
    elif kind in ("UpSampling2D", "Conv2DTranspose", "DepthToSpace"):
        low, high = low // 2, high // 2
    else:
        assert kind in POINTWISE
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


PADDING = {"mobilenet_unet": 0, "resnet50_unet": 3, "vgg16_unet": 0}
CAFFE = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red


@pytest.mark.parametrize("name", [n for n in NAMES if ARCHITECTURES[n].encoder])
def test_the_encoder_sees_what_its_weights_were_trained_on(architectures: Any, name: str) -> None:
    """As `preprocess_input` of keras.applications makes it of 0..255."""
    import keras

    model = architectures.build(name, 3, 3)
    first = next(layer for layer in model.layers if layer.weights)
    seen = keras.Model(model.input, first._inbound_nodes[-1].input_tensors[0])
    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    expected = image * 2 - 1 if name == "mobilenet_unet" else image[..., ::-1] * 255 - CAFFE
    given = np.asarray(seen(image))[0]
    before = PADDING[name]  # which is zero
    np.testing.assert_allclose(
        given[before : before + 32, before : before + 32], expected[0], atol=1e-4
    )


def test_without_colours_the_mean_of_the_three_is_subtracted(architectures: Any) -> None:
    model = architectures.build("vgg16_unet", 3, 2)
    (layer,) = (layer for layer in model.layers if type(layer).__name__ == "Rescaling")
    assert layer.scale == 255.0
    assert layer.offset == pytest.approx(-CAFFE.mean())


def test_encoder_weights_are_copied_by_name(architectures: Any, tmp_path: Path) -> None:
    from napari_unet_cells.models.encoders import load_encoder_weights

    model = architectures.build("mobilenet_unet", 3, 3)
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    members: dict[str, Any] = {"conv1/kernel": kernel, "of_another/kernel": kernel}
    np.savez(tmp_path / "w.npz", **members)
    assert (np.asarray(model.get_layer("conv1").kernel) != kernel).any()
    assert load_encoder_weights(model, tmp_path / "w.npz") == 1
    np.testing.assert_array_equal(np.asarray(model.get_layer("conv1").kernel), kernel)


def test_a_model_that_ships_is_a_start_with_decoder_and_head(architectures: Any) -> None:
    from napari_unet_cells.models.card import read_card
    from napari_unet_cells.models.catalogue import SHIPPED, load_model
    from napari_unet_cells.models.encoders import load_encoder_weights

    card = read_card(SHIPPED / "cells-fast.keras")
    shipped = load_model(card).get_weights()
    model = architectures.build("mobilenet_unet", 4, 3, alpha=0.25)
    assert load_encoder_weights(model, card.path) == len(shipped)
    for ours, theirs in zip(model.get_weights(), shipped, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    wider = architectures.build("mobilenet_unet", 4, 3, alpha=0.5)
    with pytest.raises(UserError, match=r"same alpha"):
        load_encoder_weights(wider, card.path)


def test_encoder_weights_that_do_not_fit_are_a_sentence(architectures: Any, tmp_path: Path) -> None:
    from napari_unet_cells.models.encoders import load_encoder_weights

    model = architectures.build("mobilenet_unet", 3, 3)
    path = tmp_path / "w.npz"
    members: dict[str, Any] = {"conv1/kernel": np.zeros((3, 3, 3, 32), np.float32)}
    np.savez(path, **members)
    with pytest.raises(UserError, match=r"conv1/kernel is \(3, 3, 3, 32\) in the file.*same alpha"):
        load_encoder_weights(model, path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(UserError, match="holds no weights"):
        load_encoder_weights(model, path)
    whole = path.read_bytes()
    for content in (b"not an archive", b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as pretrained weights"):
            load_encoder_weights(model, path)
    path.write_text("not an archive")
    with pytest.raises(UserError, match="cannot be read as pretrained weights"):
        load_encoder_weights(model, path)
    with pytest.raises(UserError, match="cannot be read as pretrained weights"):
        load_encoder_weights(model, tmp_path / "missing.npz")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_encoder_weights_that_are_no_numbers_are_refused(
    architectures: Any, tmp_path: Path, value: float
) -> None:
    from napari_unet_cells.models.encoders import load_encoder_weights

    model = architectures.build("mobilenet_unet", 3, 3)
    before = np.asarray(model.get_layer("conv1").kernel)
    kernel = np.zeros((3, 3, 3, 8))
    kernel[1, 1, 1, 1] = value
    members: dict[str, Any] = {"conv1/kernel": kernel}
    np.savez(tmp_path / "w.npz", **members)
    with pytest.raises(UserError, match=r"holds numbers that are none .* in conv1/kernel\. Copy"):
        load_encoder_weights(model, tmp_path / "w.npz")
    np.testing.assert_array_equal(np.asarray(model.get_layer("conv1").kernel), before)


def test_for_other_channels_the_first_kernel_is_averaged(
    architectures: Any, tmp_path: Path
) -> None:
    """So a grey image in all channels gives the same features as in three."""
    from napari_unet_cells.models.encoders import load_encoder_weights

    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    members: dict[str, Any] = {"conv1/kernel": kernel}
    np.savez(tmp_path / "w.npz", **members)
    for channels in (1, 2, 5):
        model = architectures.build("mobilenet_unet", 3, channels)
        assert load_encoder_weights(model, tmp_path / "w.npz") == 1
        found = np.asarray(model.get_layer("conv1").kernel)
        assert found.shape == (3, 3, channels, 8)
        np.testing.assert_allclose(found.sum(axis=2), kernel.sum(axis=2), rtol=1e-5, atol=1e-5)


# --- weights of keras.applications ------------------------------------------------------


def keras_file(path: Path, name: str) -> Any:
    """Write random weights of a backbone as Keras does: `.weights.h5`, or the older `.h5`."""
    import keras

    from napari_unet_cells.models.encoders import ENCODERS

    keras.utils.set_random_seed(7)
    backbone = ENCODERS[name].construct(3, {}, None)
    if path.name.endswith(".weights.h5"):
        backbone.save_weights(path)
    else:
        backbone.save(path)
    return backbone


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("file_name", ["a_no_top.h5", "a.weights.h5"])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("mobilenet_unet", "conv_dw_5"),
        ("resnet50_unet", "conv3_block2_2_conv"),
        ("vgg16_unet", "block5_conv3"),
    ],
)
def test_a_file_of_keras_is_loaded(
    architectures: Any, tmp_path: Path, name: str, layer: str, file_name: str
) -> None:
    backbone = keras_file(tmp_path / file_name, str(ARCHITECTURES[name].encoder))
    model = architectures.build(name, 2, 3)
    expected = np.asarray(backbone.get_layer(layer).kernel)
    assert (np.asarray(model.get_layer(layer).kernel) != expected).any()

    copied = architectures.load_pretrained(model, name, tmp_path / file_name, {})

    np.testing.assert_array_equal(np.asarray(model.get_layer(layer).kernel), expected)
    ours = {one.name for one in model.layers} & {one.name for one in backbone.layers}
    assert copied == sum(len(backbone.get_layer(one).weights) for one in ours) > 20


def test_a_file_of_keras_that_does_not_fit_is_a_sentence(
    architectures: Any, tmp_path: Path
) -> None:
    model = architectures.build("vgg16_unet", 3, 3)
    path = tmp_path / "m.weights.h5"
    keras_file(path, "mobilenet")
    with pytest.raises(UserError, match=r"m\.weights\.h5 cannot be read .*the one without top"):
        architectures.load_pretrained(model, "vgg16_unet", path, {})
    path.write_text("no HDF5")
    with pytest.raises(UserError, match="cannot be read as pretrained weights of this encoder"):
        architectures.load_pretrained(model, "vgg16_unet", path, {})
    with pytest.raises(UserError, match="there is no such file"):
        architectures.load_pretrained(model, "vgg16_unet", tmp_path / "lost.h5", {})


@pytest.mark.parametrize("name", ["unet", "unet_mini"])
def test_a_network_without_an_encoder_takes_no_imagenet(architectures: Any, name: str) -> None:
    model = architectures.build(name, 3, 3)
    with pytest.raises(UserError, match="no encoder that imagenet could be loaded into"):
        architectures.load_pretrained(model, name, "imagenet", {})


@pytest.mark.parametrize("name", [n for n in NAMES if ARCHITECTURES[n].encoder])
def test_imagenet_without_a_network_says_what_to_do(
    architectures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import urllib.error

    from keras.src.utils import file_utils

    asked = []

    def urlretrieve(url: str, *_: Any) -> None:
        asked.append(url)
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(file_utils, "urlretrieve", urlretrieve)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    model = architectures.build(name, 3, 3)

    with pytest.raises(UserError) as caught:
        architectures.load_pretrained(model, name, "imagenet", {"alpha": 0.25})

    assert len(asked) == 1
    said = str(caught.value)
    assert said.startswith("The ImageNet weights could not be downloaded: ")
    assert asked[0] in said  # which file
    assert "Name or service not known" in said
    assert f"put it into {tmp_path / 'keras' / 'models'}, or name it with --init FILE." in said


def test_imagenet_from_the_cache_of_keras(
    architectures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras.src.utils import file_utils

    backbone = keras_file(tmp_path / "cached.h5", "mobilenet")
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(tmp_path / "cached.h5"))
    model = architectures.build("mobilenet_unet", 3, 3, alpha=0.25)
    assert architectures.load_pretrained(model, "mobilenet_unet", "imagenet", {"alpha": 0.25}) > 20
    np.testing.assert_array_equal(
        np.asarray(model.get_layer("conv1").kernel), np.asarray(backbone.get_layer("conv1").kernel)
    )
    with pytest.raises(UserError, match=r"These ImageNet weights cannot be used: .*alpha"):
        architectures.load_pretrained(model, "mobilenet_unet", "imagenet", {"alpha": 0.3})
