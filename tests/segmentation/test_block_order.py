"""Which block of an image comes next while somebody looks at a part of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from napari_unet_cells.core.plane_blocks import PlaneBlocks
from napari_unet_cells.segmentation.block_order import nearest_first

#: Four by five blocks of a hundred pixels, in three planes.
STORE: Any = SimpleNamespace(
    blocks=PlaneBlocks((400, 500), (400, 500), 100, 0),
    planes=(3,),
    plan=SimpleNamespace(side=100),
)
PLANE: Any = SimpleNamespace(blocks=STORE.blocks, planes=(), plan=STORE.plan)


def test_without_a_place_they_come_as_they_are() -> None:
    assert list(nearest_first(lambda: None)(PLANE, [3, 1, 2])) == [3, 1, 2]


def test_the_nearest_comes_next_wherever_the_view_moves() -> None:
    places = [(250.0, 250.0), (250.0, 250.0), (0.0, 0.0), (9e9, 9e9)]
    order = nearest_first(lambda: places.pop(0) if places else None)(PLANE, range(20))
    first = [next(order) for _ in range(4)]
    assert first[0] == 12
    assert first[1] in (6, 7, 8, 11, 13, 16, 17, 18)
    assert first[2:] == [0, 19]
    rest = list(order)
    assert sorted([*first, *rest]) == list(range(20))
    assert rest == sorted(rest)


def test_the_plane_that_is_shown_comes_before_the_others() -> None:
    order = list(nearest_first(lambda: (2.0, 0.0, 499.0))(STORE, range(60)))
    assert order[0] == 44
    assert {number // 20 for number in order[:20]} == {2}
    assert {number // 20 for number in order[20:40]} == {1}


def test_axes_that_only_the_file_or_the_layer_has_do_not_count() -> None:
    assert next(nearest_first(lambda: (7.0, 2.0, 350.0, 450.0))(STORE, range(60))) == 59
    assert next(nearest_first(lambda: (350.0, 450.0))(STORE, range(60))) in (19, 39, 59)
