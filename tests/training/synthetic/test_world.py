"""Worlds: drawn from a seed, of the kinds that were asked for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.training.synthetic.appearances import APPEARANCES
from napari_unet_cells.training.synthetic.shapes import SHAPES
from napari_unet_cells.training.synthetic.world import KINDS, World, check_kinds, draw_world


def drawn(n: int, *arguments: Any) -> list[World]:
    rng = np.random.default_rng(0)
    return [draw_world(rng, *arguments) for _ in range(n)]


def test_all_kinds_are_drawn_and_no_combination_that_nobody_sees() -> None:
    worlds = drawn(600, 256)
    assert {world.shape for world in worlds} == set(SHAPES)
    assert {world.appearance for world in worlds} == set(APPEARANCES)
    assert all(world.shape not in APPEARANCES[world.appearance].never for world in worlds)
    diameters = [world.diameter for world in worlds]
    assert 5 <= min(diameters) < 8
    assert 120 < max(diameters) <= 150
    assert drawn(3, 256) == worlds[:3]


def test_names_choose_shapes_and_appearances() -> None:
    worlds = drawn(60, 256, ["rods", "sheet", "dic"])
    assert {world.shape for world in worlds} == {"rods", "sheet"}
    assert {world.appearance for world in worlds} == {"dic"}
    fitting = {world.shape for world in drawn(200, 256, ["cytoplasm"])}
    assert fitting == set(SHAPES) - set(APPEARANCES["cytoplasm"].never)
    # Who names both gets both.
    (asked,) = {(w.shape, w.appearance) for w in drawn(5, 256, ["rods", "cytoplasm"])}
    assert asked == ("rods", "cytoplasm")


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    check_kinds(KINDS)
    with pytest.raises(UserError, match=r"There is no kind 'worms'\. Shapes: round, .*phase"):
        check_kinds(["round", "worms"])


def test_diameters_are_kept_to_and_fit_the_image() -> None:
    assert all(12 <= world.diameter <= 16 for world in drawn(50, 256, [], (12, 16)))
    assert max(world.diameter for world in drawn(200, 96)) <= 64


def test_cells_are_large_enough_to_be_seen() -> None:
    assert APPEARANCES["textured"].smallest > 5
    worlds = drawn(60, 256, ["round", "textured"])
    assert min(world.diameter for world in worlds) >= APPEARANCES["textured"].smallest
    # What was asked for holds all the same.
    assert max(world.diameter for world in drawn(9, 256, ["round", "textured"], (6, 9))) < 9.001


def test_colours_are_pale_and_never_those_of_histology() -> None:
    tints = np.array([world.tint for world in drawn(600, 256)])
    coloured = tints[(tints < 1).any(axis=1)]
    assert 20 < len(coloured) < 90
    assert coloured.min() > 0.8
    assert (coloured[:, 1] >= coloured[:, [0, 2]].max(axis=1)).all()


def test_a_world_can_be_written_down() -> None:
    (world,) = drawn(1, 64)
    written = json.loads(json.dumps(world.as_dict()))
    assert written["shape"] == world.shape
    assert written["diameter"] == pytest.approx(world.diameter, rel=0.01)
