"""`scripts/soak.py`: what it calls growth. The runs themselves take half an hour: `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import MEASURED, draw, growth, measure, more_than_control, read, write


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
    write(rows(), tmp_path / "soak" / "soak.csv")
    assert read(tmp_path / "soak" / "soak.csv") == rows()
    assert read(tmp_path / "control.csv") == []
    draw(rows(), rows(memory=0.1), tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_what_napari_keeps_by_itself_is_not_ours() -> None:
    found, control = rows(memory=0.2, objects=5.0), rows(memory=0.2)
    assert more_than_control(found, control, "memory") == pytest.approx(0.0)
    assert more_than_control(found, control, "objects") == pytest.approx(500.0)
    assert more_than_control(found, control, "objects") > MEASURED["objects"][1]
