"""Options that the image at hand gives to a list, without Qt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_unet_cells.batch.request import Request
from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import StackAxis
from napari_unet_cells.layers.metadata import INPUT
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.tracking import TrackingOptions
from napari_unet_cells.widgets.folder.at_hand import AtHand
from napari_unet_cells.widgets.folder.values import FolderValues
from napari_unet_cells.widgets.segment.channels import SPLIT, Split
from napari_unet_cells.widgets.segment.values import UNSAID, SegmentValues, StackValues

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")
AXES = (StackAxis(0, 4, "z"), StackAxis(1, 2, "c"))


def image(**known: Any) -> Any:
    source = SimpleNamespace(path="/data/day1/a.tif")
    return SimpleNamespace(name="a", metadata={INPUT: known}, source=source)


def values(stack: StackValues | None = None, **known: Any) -> SegmentValues:
    return SegmentValues(image(**known), stack or StackValues(), model="cells")


def test_without_an_image_all_is_the_models_own() -> None:
    at_hand = AtHand(SegmentValues(model="cells"))
    assert at_hand.problem() is None
    assert at_hand.request == Request()
    assert at_hand.sentence == "Model cells, cell size automatic for each image."
    assert at_hand.path is None


def test_the_form_and_the_sliders_count() -> None:
    own = CARD.instances
    moved = replace(own, split=0.55, min_size=own.min_size + 50, drop_border=True)
    details = RunDetails(card=CARD, options=moved, zoom=0.5)
    chosen = replace(values(), diameter=31.0, augment=True)
    at_hand = AtHand(chosen, details, "openvino")
    assert at_hand.request == Request(
        Settings(
            diameter=31.0,
            min_size=4 * moved.min_size,
            split=0.55,
            drop_border=True,
            test_time_augmentation=True,
        ),
        runtime="openvino",
    )
    assert at_hand.sentence == (
        f"Model cells, cell size 31 px, minimum size {4 * moved.min_size}, split 0.55, cut cells "
        "are dropped, test-time augmentation (as set for 'a')."
    )


@pytest.mark.parametrize("options", [CARD.instances, None])
def test_what_is_the_models_own_is_left_to_it(options: InstanceOptions | None) -> None:
    assert AtHand(values(), RunDetails(card=CARD, options=options)).request == Request()


def test_sliders_of_another_model_do_not_count() -> None:
    details = RunDetails(card=CARD, options=replace(CARD.instances, split=0.1))
    assert AtHand(replace(values(), model="cells-fast"), details).request.settings == Settings()


@pytest.mark.parametrize(
    ("stack", "known", "expected", "words"),
    [
        (
            StackValues(AXES, channel_axis=1, channel=1, all_planes=True, link=0),
            {},
            {"channel": 1, "plane": "all", "link": "Z"},
            "channel 2, all planes of stacks, linked",
        ),
        (
            StackValues(AXES, channel_axis=1, channel=0),
            {},
            {"channel": 0, "plane": 2},
            "channel 1, plane 3 of stacks",
        ),
        (
            StackValues(AXES, 1, projection="max", channels=(0, 1), all_planes=True),
            {},
            {"channel": (0, 1), "projection": "max", "plane": "all"},
            "max of the channels 1, 2, all planes of stacks",
        ),
        (StackValues(n_split=3, channel=2), {"channel": 2}, {"channel": 2}, "channel 3"),
        (
            StackValues(),
            {"projection": "mean", "channels": [0, 2]},
            {"channel": (0, 2), "projection": "mean"},
            "mean of the channels 1, 3",
        ),
        (
            StackValues(),
            {"pixel_size": (0.5, 0.5, "micrometer")},
            {"pixel_size": 0.5},
            "0.5 µm a pixel where the file does not say it",
        ),
    ],
)
def test_channels_planes_and_pixel_size(
    stack: StackValues, known: dict[str, Any], expected: dict[str, Any], words: str
) -> None:
    at_hand = AtHand(values(stack, **known), plane=2)
    assert at_hand.request == Request(**expected)
    assert f", {words} (as set for 'a')." in at_hand.sentence


def test_a_list_names_its_images_and_says_its_options() -> None:
    chosen = AtHand(values()).chosen(["/data/day1"])
    assert (chosen.named, chosen.model) == (("/data/day1",), "cells")
    assert chosen.said == "Model cells, cell size automatic for each image (as set for 'a')."


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (SegmentValues(), "No model is installed."),
        (replace(values(), diameter=-1.0), "The cell size is 0 pixels"),
        (values(StackValues((StackAxis(0, 3, ""),), UNSAID)), "holds channels or planes"),
    ],
)
def test_what_is_wrong_is_said(wrong: SegmentValues, said: str) -> None:
    assert said in (AtHand(wrong).problem() or "")


def test_what_is_chosen_for_a_list_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = AtHand(SegmentValues(model="cells"))
    zarr = plain.asked(FolderValues(format="ome-zarr"))
    assert zarr.problem() is None
    assert zarr.request == Request(format="ome-zarr")
    assert zarr.sentence.endswith(", written as OME-Zarr.")
    tracked = plain.asked(FolderValues(track=True))
    assert tracked.problem() is None
    assert tracked.request == Request(plane="all", track=TrackingOptions(), stills=True)
    assert tracked.sentence.endswith(", all planes of stacks, cells of movies tracked.")
    both = plain.asked(FolderValues(format="ome-zarr", track=True))
    assert both.problem() is None
    assert both.request == replace(tracked.request, format="ome-zarr")
    linked = StackValues(axes=AXES, channel_axis=1, all_planes=True, link=0)
    zarr = AtHand(values(linked)).asked(FolderValues(format="ome-zarr"))
    assert "each plane has its own numbers" in (zarr.problem() or "")

    def missing() -> None:
        raise UserError("Tracking needs laptrack.")

    monkeypatch.setattr("napari_unet_cells.widgets.folder.at_hand.require_laptrack", missing)
    assert tracked.problem() == "Tracking needs laptrack."


def test_channels_that_only_the_user_knows_are_told() -> None:
    unnamed = (StackAxis(0, 1, "-4"), StackAxis(1, 2, "-3"))
    at_hand = AtHand(values(StackValues(unnamed, channel_axis=1, channel=1)))
    assert at_hand.request == Request(axes="CYX", channel=1)
    assert "axis 1 for channels where the file does not say it, channel 2" in at_hand.sentence
    zarr = at_hand.asked(FolderValues(format="ome-zarr"))
    assert zarr.problem() is None
    assert zarr.request.zarr_request().axes == "CYX"
    assert AtHand(values(StackValues(AXES, channel_axis=1))).request.axes == ""


def test_of_a_layer_that_was_split_its_channels_are_told(tmp_path: Path) -> None:
    plain, named = tmp_path / "a.tif", tmp_path / "b.tif"
    pixels = np.zeros((2, 40, 50), np.uint8)
    tifffile.imwrite(plain, pixels, photometric="minisblack")
    tifffile.imwrite(named, pixels, imagej=True, metadata={"axes": "CYX"})
    for path, axes in ((plain, "CYX"), (named, "")):
        split = Split("a", (pixels,), 0, (), str(path), {}, False)
        layer = image(channel=1)
        layer.metadata[SPLIT] = split
        chosen = SegmentValues(layer, StackValues(n_split=2, channel=1), model="cells")
        assert AtHand(chosen).request == Request(axes=axes, channel=1)
