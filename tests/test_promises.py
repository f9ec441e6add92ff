"""What `docs/promises.md` promises: the tests it names exist; two watch a whole command."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tifffile

from napari_unet_cells.sample_data import simulate_nuclei

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "promises.md"

#: Writes down what Python tells of: names that are looked up, connections, files that are written.
_WATCHED = """
import json, os, sys
seen = {"network": [], "written": []}
watching = True

def watch(event, values):
    global watching
    if not watching:
        return
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        seen["network"].append(f"{event} {values[1:]!r}")
    elif event == "open" and isinstance(values[0], (str, bytes)) and values[2] & (
        os.O_WRONLY | os.O_RDWR | os.O_CREAT
    ):
        seen["written"].append(os.path.realpath(os.fsdecode(values[0])))
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.symlink", "shutil.rmtree"):
        seen["written"].append(os.path.realpath(os.fsdecode(values[0])))
    elif event in ("os.rename", "os.link"):
        seen["written"] += [os.path.realpath(os.fsdecode(path)) for path in values[:2]]

sys.addaudithook(watch)
sys.dont_write_bytecode = True
from napari_unet_cells.cli.main import main
code = main(sys.argv[1:])
watching = False
print(json.dumps({"code": code, **seen}))
"""


def watched(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run a command in a process of its own, and give what it did outside of itself."""
    (tmp_path / "temporary").mkdir()
    environment = {
        **os.environ,
        "NAPARI_UNET_CELLS_HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.network
def test_segmenting_asks_nothing_of_the_network_and_writes_where_it_was_told(
    tmp_path: Path,
) -> None:
    image = tmp_path / "images" / "nuclei.tif"
    image.parent.mkdir()
    tifffile.imwrite(image, simulate_nuclei((160, 160), seed=1)[0])
    output = tmp_path / "results"
    told = watched(tmp_path, "segment", str(image), "-o", str(output), "--model", "cells-fast")
    assert told["code"] == 0
    assert told["network"] == []
    allowed = [str(tmp_path / name) for name in ("results", "home", "temporary")]
    outside = [
        path for path in told["written"] if not path.startswith(("/dev/", "/proc/", *allowed))
    ]
    assert outside == []
    assert str(output / "nuclei_cells.tif") in told["written"], "it watches nothing"


def test_what_is_watched_for_is_seen(tmp_path: Path) -> None:
    code = _WATCHED.replace(
        "code = main(sys.argv[1:])",
        "import socket\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), timeout=0.01)\n"
        "except OSError:\n    pass\n"
        "open(sys.argv[1], 'w').close()\ncode = 0",
    )
    path = tmp_path / "written"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["network"]
    assert os.path.realpath(path) in told["written"]


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(\w[\w/]*\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 20
    for path, name in named:
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{path} has no {name}"


def test_every_promise_names_a_test() -> None:
    rows = [row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| ")]
    without = [
        row for row in rows if ".py::" not in row and "---" not in row and "held by" not in row
    ]
    assert without == []
