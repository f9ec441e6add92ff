"""The table of all keys: the manual shows it, and no key is one of napari's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from napari.utils.shortcuts import default_shortcuts

from napari_unet_cells.settings import Preferences
from napari_unet_cells.widgets.correct.keys import ANYWHERE, OUTLINES_KEY, TOOL, all_keys
from napari_unet_cells.widgets.correct.tools import TOOLS

# No window is opened, but napari is loaded: not with TensorFlow in one process.
pytestmark = pytest.mark.gui

MANUAL = Path(__file__).parents[3] / "docs" / "correcting.md"

#: Groups of napari's shortcuts that reach neither its viewer nor a labels layer.
ELSEWHERE = re.compile(
    r"image|points|shape|surface|tracks|vectors|rectangle|ellipse|_line_|_path_|polyline"
    r"|add_polygon|direct_mode|activate_select_mode|vertex|orient_plane|select_all|append_all"
    r"|contrast"
)


def taken_by_napari():
    """Keys of napari's viewer and of its labels layer."""
    used = {name: keys for name, keys in default_shortcuts.items() if not ELSEWHERE.search(name)}
    assert {"napari:activate_labels_fill_mode", "napari:new_label", "napari:toggle_ndisplay"} <= {
        *used
    }
    return {str(key): name for name, keys in used.items() for key in keys}


def test_the_manual_lists_exactly_these():
    text = MANUAL.read_text(encoding="utf-8").partition("## All keys")[2]
    listed = [line for line in text.splitlines() if line.startswith("| ")][1:]
    expected = [f"| {row.key} | {row.does} | {row.where} |" for row in all_keys(Preferences())]
    assert len(expected) > 15
    assert listed == expected


def test_the_manual_names_the_key_of_every_tool_where_it_explains_it():
    text = MANUAL.read_text(encoding="utf-8")
    for name, tool in TOOLS.items():
        assert f"| {name.capitalize()} ({tool.key}) |" in text
    assert f"**Outlines** ({OUTLINES_KEY})" in text


def test_none_is_napari_s_own_and_none_is_there_twice():
    taken = taken_by_napari()
    assert taken["M"] == "napari:new_label"
    # Those of a chosen tool are napari's again without one; undo and redo are napari's.
    rows = [row for row in all_keys(Preferences()) if row.where != TOOL]
    keys = [row.key for row in rows if row.does not in ("Undo", "Redo")]
    assert len(keys) == len(set(keys))
    assert {key: taken[key] for key in keys if key in taken} == {}


def test_what_the_user_chose_is_listed_and_what_she_emptied_is_not():
    chosen = replace(Preferences(), next_key="Control-Alt-N", approve_key="")
    rows = {row.does: row.key for row in all_keys(chosen) if row.where == ANYWHERE}
    assert rows["Next region of the review"] == "Control+Alt+N"
    assert "Approve the region and go on" not in rows
    assert "Approve the region and go on" in {row.does for row in all_keys(Preferences())}
