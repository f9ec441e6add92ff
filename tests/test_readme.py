"""The READMEs of both languages: the same commands, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from napari_unet_cells.models.card import read_card
from napari_unet_cells.models.catalogue import SHIPPED

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")


def commands(name: str) -> list[str]:
    """Give the lines of the shell blocks of a README."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_both_languages_give_the_same_commands() -> None:
    english, chinese = map(commands, READMES)
    assert "make run     # opens napari with a sample image and the dock" in english
    assert chinese == english


def test_both_languages_give_the_same_figures() -> None:
    english, chinese = (
        [
            re.findall(r"-?\d+\.\d+", line)
            for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
            if line.startswith("|")
        ]
        for name in READMES
    )
    best, fast = (read_card(SHIPPED / f"{name}.keras").scores for name in ("cells", "cells-fast"))
    rows = [[float(figure) for figure in row[-4:]] for row in english]
    for images in ("dsb2018 val", "usiigaci val", "bbbc039 val", "bitdepth_nucseg val"):
        ours = [best[images][name] for name in ("ap50", "ap75", "iou")]
        figures = pytest.approx([*ours, fast[images]["ap50"]], abs=0.0006)  # cards round as well
        assert any(len(row) == 4 and row == figures for row in rows), images
    assert chinese == english


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_lead_to_files(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not ((ROOT / name).parent / link).exists()] == []


@pytest.mark.parametrize("name", READMES)
def test_make_knows_the_targets(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    named = re.findall(r"^make ([\w-]+)", "\n".join(commands(name)), re.MULTILINE)
    assert named == ["run", "test"]
    assert set(named) <= set(targets)


def test_the_architecture_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "napari_unet_cells"
    named = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text)
    found = [n for n in named if any((base / n).exists() for base in (package, ROOT))]
    assert len(named) > 10
    assert named == found
