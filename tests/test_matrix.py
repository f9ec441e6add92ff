"""`scripts/matrix.py`: what its page says of what was run, and of what was not."""

from __future__ import annotations

import argparse
import json
import re

import pytest
from matrix import EVERY, FOUND, NAPARIS, PAGE, PYTHONS, Cell, _counts, _wanted, cell_of, page

RUN = {"passed": 80, "failed": 0, "error": 0, "skipped": 2, "whole": False, "date": "2026-11-30"}


def test_what_was_not_run_is_not_said_to_have_passed() -> None:
    found = {
        "3.11-0.7": {"result": "passed", "versions": {"napari": "0.7.1"}, **RUN},
        "3.14-0.9": {"result": "no such Python here", "date": "2026-11-30"},
    }
    text = page(found)
    rows = re.findall(r"^\| (3\.\d+) \| (.*) \|$", text, re.M)
    assert [python for python, _ in rows] == list(PYTHONS)
    table = {python: cells.split(" | ") for python, cells in rows}
    assert table["3.11"] == ["passed", *["not tried"] * len(NAPARIS)]
    assert table["3.14"][NAPARIS.index("0.9")] == "no such Python here"
    assert "3.11, 0.7: 80 passed, 0 failed, 2 skipped, of the selection, 2026-11-30" in text
    assert "napari 0.7.1" in text
    assert text.count("skipped,") == 1


def test_the_page_is_drawn_from_what_was_found() -> None:
    found = json.loads(FOUND.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == page(found)
    for name, cell in found.items():
        assert cell_of(name).name == name
        clean = not cell.get("failed") and not cell.get("error")
        assert (cell["result"] == "passed") == (cell.get("passed", 0) > 0 and clean)


def test_a_last_line_of_pytest_is_counted() -> None:
    line = "1 failed, 80 passed, 3 skipped, 9 deselected, 2 errors in 3.21s"
    assert _counts(line) == [(1, "failed"), (80, "passed"), (3, "skipped"), (2, "errors")]
    assert _counts("Fatal Python error: Segmentation fault") == []


def test_a_cell_of_a_napari_has_that_napari() -> None:
    ((*_, package, napari),) = _wanted(Cell("3.12", "0.8"))
    assert package.endswith("[test]")
    assert napari == "napari~=0.8.0"
    lowest, tools = _wanted(Cell("3.11", "lowest"))
    assert lowest[0] == "--resolution=lowest-direct"
    assert "pytest" in tools
    assert not [tool for tool in tools if "napari" in tool]


def test_only_cells_of_the_table_can_be_named() -> None:
    assert [cell_of(cell.name) for cell in EVERY] == list(EVERY)
    for name in ("3.10-0.9", "3.12", "3.12-0.6", "", "lowest"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no cell: 3"):
            cell_of(name)
