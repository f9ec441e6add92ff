"""What was derived from a model: kept, found, and never taken for that of another one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.models import catalogue, derived
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.derived import (
    DamagedGraph,
    DerivedGraph,
    cache_folder,
    find_graph,
    keep_graph,
    read_graph,
)

CARD = ModelCard(
    "some", "unet", ("background", "cell"), 1, 16, 16, sha256="5" * 64, path=Path("some.keras")
)
GRAPH = DerivedGraph("float32", b'<?xml version="1.0"?>\n<net name="a">\n</net>\n', b"\0\1\2" * 99)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "shipped")


def test_what_is_kept_is_found_by_the_sha256_of_the_model() -> None:
    assert find_graph(CARD) is None
    keep_graph(CARD, GRAPH)
    assert find_graph(CARD) == GRAPH
    assert find_graph(replace(CARD, path=Path("renamed.keras"))) == GRAPH
    assert find_graph(replace(CARD, sha256="6" * 64)) is None
    names = [f"{CARD.sha256}.float32.bin", f"{CARD.sha256}.float32.xml"]
    assert sorted(path.name for path in cache_folder().iterdir()) == names


def test_what_ships_comes_first_and_integers_before_floats() -> None:
    keep_graph(CARD, GRAPH)
    fast = replace(GRAPH, precision="int8", weights=b"small")
    fast.write(catalogue.SHIPPED, "some", CARD)
    assert find_graph(CARD) == fast
    assert find_graph(replace(CARD, path=Path("elsewhere/some.keras"))) == fast


def test_the_graph_of_another_model_is_passed_over() -> None:
    GRAPH.write(catalogue.SHIPPED, "some", replace(CARD, sha256="6" * 64))
    assert find_graph(CARD) is None
    keep_graph(CARD, GRAPH)
    assert find_graph(CARD) == GRAPH


@pytest.mark.parametrize(
    "other",
    [{"classes": ("cell", "background")}, {"distance": True}, {"channels": 3}],
    ids=lambda other: next(iter(other)),
)
def test_the_graph_of_another_card_is_passed_over(other: dict[str, Any]) -> None:
    keep_graph(CARD, GRAPH)
    assert find_graph(replace(CARD, **other)) is None


def test_a_graph_of_another_version_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_graph(CARD, GRAPH)
    monkeypatch.setattr(derived, "FORMAT", derived.FORMAT + 1)
    assert find_graph(CARD) is None
    keep_graph(CARD, GRAPH)
    assert find_graph(CARD) == GRAPH


def test_one_that_came_with_a_model_from_elsewhere_is_not_looked_at(tmp_path: Path) -> None:
    GRAPH.write(tmp_path, "some", CARD)
    assert find_graph(replace(CARD, path=tmp_path / "some.keras")) is None


@pytest.mark.parametrize(
    ("old", "new"), [(b'"a"', b'"b"'), (b"\0\1\2\0", b"\0\1\3\0"), (b"-->", b"->"), (b"{", b"[")]
)
def test_a_damaged_one_is_named(old: bytes, new: bytes) -> None:
    path = GRAPH.write(cache_folder(), CARD.sha256, CARD)
    for part in (path, path.with_suffix(".bin")):
        part.write_bytes(part.read_bytes().replace(old, new, 1))
    with pytest.raises(DamagedGraph, match=r"5\.float32\.xml (is|cannot) .*; delete it$"):
        find_graph(CARD)


def test_one_without_its_numbers_is_named() -> None:
    path = GRAPH.write(cache_folder(), "x", CARD)
    path.with_suffix(".bin").unlink()
    with pytest.raises(DamagedGraph, match=r"x\.float32\.bin is missing; delete x\.float32\.xml$"):
        read_graph(path, CARD)


def test_of_many_the_oldest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "MOST_KEPT", 2)
    cards = [replace(CARD, sha256=digit * 64) for digit in "123"]
    for age, card in enumerate(cards):
        keep_graph(card, GRAPH)
        os.utime(cache_folder() / f"{card.sha256}.float32.xml", (age, age))
    assert [find_graph(card) for card in cards] == [None, GRAPH, GRAPH]
    assert len(list(cache_folder().iterdir())) == 4


def test_a_folder_that_refuses_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    keep_graph(CARD, GRAPH)
    assert find_graph(CARD) is None


def test_two_that_keep_the_same_graph_at_once_leave_it_whole() -> None:
    keep_graph(CARD, GRAPH)
    with ThreadPoolExecutor(2) as pool:
        kept = [pool.submit(keep_graph, CARD, GRAPH) for _ in range(40)]
        while not all(one.done() for one in kept):
            assert find_graph(CARD) == GRAPH  # else it would raise DamagedGraph
    assert [one.exception() for one in kept] == [None] * 40
    assert len(list(cache_folder().iterdir())) == 2


def test_whoever_reads_the_file_otherwise_reads_a_comment() -> None:
    from xml.etree import ElementTree

    path = GRAPH.write(cache_folder(), "x", CARD)
    assert ElementTree.parse(path).getroot().tag == "net"
    assert CARD.sha256 in path.read_text().splitlines()[1]
