"""JSON with limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.untrusted.json_text import DEEPEST, LONGEST, parse_json, read_json
from napari_unet_cells.untrusted.rules import Malformed


def nested(n: int) -> str:
    return "[" * n + "]" * n


def test_what_json_can_hold_comes_as_it_is() -> None:
    value = parse_json('{"a": [1, -2.5, true, null, "\u00e9"], "b": {"c": {}}}'.encode())
    assert value == {"a": [1, -2.5, True, None, "\u00e9"], "b": {"c": {}}}
    assert parse_json("\ufeff[]".encode()) == []  # as a Windows editor saves it
    assert parse_json(nested(DEEPEST)) is not None


BAD: dict[str, tuple[str | bytes, str]] = {
    "none": ("", "no JSON"),
    "cut off": ("{", "no JSON"),
    "no UTF-8": (b'"\xff"', "no JSON"),
    "a little too deep": (nested(DEEPEST + 2), f"nested more than {DEEPEST} times"),
    "20,000 deep": (nested(20_000), f"nested more than {DEEPEST} times"),
    "200,000 deep": ('{"a":' * 200_000, "nested more than|no JSON"),
    "NaN": ('{"a": NaN}', "holds NaN, which is no number"),
    "Infinity": ("[-Infinity]", "holds -Infinity"),
    "1e999": ("[[1e999]]", "the number inf, which is too large"),
    "10^400": ("1" + "0" * 400, "too large"),
    "10^5000": ("1" + "0" * 5000, "no JSON"),
    "half a character": ('{"a": "\\udcff"}', "half a character"),
    "half a character in a name": ('{"\\ud800": 1}', "half a character"),
    "a zero byte": ('["a\\u0000b"]', "a zero byte"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_document_is_refused_in_words(name: str) -> None:
    document, words = BAD[name]
    with pytest.raises(Malformed, match=words):
        parse_json(document)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_numbers_of_other_programs_become_null(text: str) -> None:
    assert parse_json(f'{{"a": [1, {text}]}}', lenient=True) == {"a": [1, None]}


def test_a_file_is_read_where_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1]")
    assert read_json(path) == [1]
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "b.json")
    with path.open("wb") as file:
        file.truncate(LONGEST + 1)
    with pytest.raises(Malformed, match="longer than 64 MB"):
        read_json(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    make_pipe: Any = os.mkfifo  # type: ignore[attr-defined,unused-ignore]
    make_pipe(tmp_path / "a.json")
    with pytest.raises(Malformed, match="a pipe or a device, not a file"):
        read_json(tmp_path / "a.json")
