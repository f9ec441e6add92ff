"""Names that become paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_unet_cells.untrusted.names import file_name, is_link, path_inside
from napari_unet_cells.untrusted.rules import Malformed


@pytest.mark.parametrize("name", ["a.tif", "cells v2.keras", "\u00e9.tif", ".hidden", "a" * 250])
def test_a_name_of_a_file(name: str) -> None:
    assert file_name(name) == name
    assert path_inside(name) == name
    assert path_inside(f"images/{name}") == f"images/{name}"


LEADING_ELSEWHERE = (
    *("", ".", "..", "./", ".//.", "../a", "a/../../b", "a/..", "/a", "/", "//a"),
    *("\\a", "..\\a", "C:\\a", "C:a", "a\0b", "a\nb", "\x1b[2J", "x" * 5000, "\u00e9" * 200),
)


@pytest.mark.parametrize("name", LEADING_ELSEWHERE)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        file_name(name)
    with pytest.raises(Malformed):
        path_inside(name)


@pytest.mark.parametrize("name", [None, 3, True, ["a"], {"a": 1}])
def test_what_is_no_text_is_refused(name: object) -> None:
    with pytest.raises(Malformed, match="must be a text"):
        file_name(name)
    with pytest.raises(Malformed, match="must be a text"):
        path_inside(name)


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a?", "10:30", "con.tif", "NUL", "a.", "a "])
def test_a_new_file_has_a_name_that_every_system_takes(name: str) -> None:
    with pytest.raises(Malformed, match="must be the name of a file"):
        file_name(name)


def test_a_link_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not is_link(tmp_path / "file")
    assert not is_link(tmp_path / "missing")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    assert is_link(tmp_path / "link")


def test_a_path_is_put_in_order() -> None:
    for path in ("images/a.tif", "./images/a.tif", "images//a.tif", "images/./a.tif"):
        assert path_inside(path) == "images/a.tif"
    assert path_inside("2026-11-29T10:30:00.tif") == "2026-11-29T10:30:00.tif"
