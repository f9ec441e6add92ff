"""`scripts/soak.py`: what it calls growth. The runs themselves take hours: `make soak`."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from soak import MEASURED, growth, measure, write


def rows(**grown: float) -> list[dict[str, float]]:
    """Give what two hundred runs measure, of which the first hundred fill what is kept once."""
    made = []
    for run in range(10, 210, 10):
        row = {"run": float(run), **dict.fromkeys(MEASURED, 50.0 + min(run, 100))}
        made.append(row | {name: row[name] + run * grows for name, grows in grown.items()})
    return made


def test_what_is_kept_once_is_no_growth() -> None:
    assert [growth(rows(), name) for name in MEASURED] == pytest.approx([0.0] * len(MEASURED))


def test_what_comes_with_every_run_is_growth() -> None:
    found = rows(threads=0.01, memory=0.2)
    assert growth(found, "threads") == pytest.approx(1.0)
    assert growth(found, "threads") > MEASURED["threads"][1]
    assert growth(found, "memory") == pytest.approx(20.0)
    assert growth(found, "children") == pytest.approx(0.0)
    assert growth(found[:2], "threads") == 0.0  # of two runs nothing is known


def test_all_that_is_measured_is_written_and_drawn(tmp_path: Path) -> None:
    found = measure()
    assert set(found) == set(MEASURED)
    assert found["memory"] > 10
    assert found["threads"] >= 1
    write(rows(), tmp_path / "soak")
    with open(tmp_path / "soak" / "soak.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(row["run"]) for row in table] == [row["run"] for row in rows()]
    assert (tmp_path / "soak" / "soak.png").read_bytes().startswith(b"\x89PNG")
