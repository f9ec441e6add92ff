"""A network that asks for more memory than its file has numbers for is refused before Keras."""

from __future__ import annotations

import copy
import json
import zipfile
from typing import Any

import pytest

from napari_unet_cells.models.catalogue import SHIPPED
from napari_unet_cells.models.network_size import check_network_size
from napari_unet_cells.untrusted.rules import Malformed


def shipped(name: str) -> tuple[Any, int]:
    with zipfile.ZipFile(SHIPPED / f"{name}.keras") as archive:
        config = json.loads(archive.read("config.json"))
        return config, archive.getinfo("model.weights.h5").file_size


def first(config: Any, kind: str) -> Any:
    return next(one for one in config["config"]["layers"] if one["class_name"] == kind)


@pytest.mark.parametrize("name", ["cells", "cells-fast"])
def test_what_ships_is_as_large_as_its_file(name: str) -> None:
    config, weights = shipped(name)
    check_network_size(config, weights)
    with pytest.raises(Malformed, match=r"its layers have [\d,]+ weights, and its file has"):
        check_network_size(config, weights // 10)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("Conv2D", "filters", 10**9),
        ("Conv2D", "filters", "many"),
        ("Conv2D", "filters", 1.5),
        ("Conv2D", "kernel_size", [10**6, 10**6]),
        ("Conv2D", "kernel_size", 10**6),
        ("Conv2D", "strides", {"a": 1}),
        ("DepthwiseConv2D", "depth_multiplier", 10**6),
        ("ZeroPadding2D", "padding", [[10**6, 10**6], [0, 0]]),
        ("ZeroPadding2D", "padding", 10**6),
        ("DepthToSpace", "block_size", 10**6),
    ],
)
def test_layers_that_no_network_has_are_refused(kind: str, name: str, value: Any) -> None:
    config, weights = shipped("cells-fast")
    layer = first(config, kind)
    layer["config"][name] = value
    with pytest.raises(Malformed, match=rf"the layer {layer['name']}: {name}\S* must be"):
        check_network_size(config, weights)


def test_a_layer_that_hides_the_channels_of_its_input_counts_with_the_most() -> None:
    config, weights = shipped("cells-fast")
    layer = first(config, "Conv2D")
    layer["config"]["filters"] = 60_000
    shape = [None, None, None, 60_000]
    for stated in ({"input_shape": shape}, {}, None, "x", {"a": [1]}, {"input_shape": "x"}):
        changed = copy.deepcopy(config)
        first(changed, "Conv2D")["build_config"] = stated
        with pytest.raises(Malformed, match="its layers have"):
            check_network_size(changed, weights)


def test_a_layer_is_found_wherever_it_lies() -> None:
    config, weights = shipped("cells-fast")
    inner = copy.deepcopy(first(config, "Conv2D"))
    inner["config"]["filters"] = 10**9
    config["config"]["more"] = [{"deep": [inner]}]
    with pytest.raises(Malformed, match="filters must be"):
        check_network_size(config, weights)


@pytest.mark.parametrize("config", [None, [], "x", {"class_name": "Functional", "config": "x"}])
def test_what_is_no_network_is_no_crash(config: Any) -> None:
    if isinstance(config, dict):
        with pytest.raises(Malformed, match="must be an object"):
            check_network_size(config, 0)
    else:
        check_network_size(config, 0)
