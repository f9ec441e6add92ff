"""What is said of the models that ship: it is what was measured, of those very files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import accuracy
import numpy as np
import pytest
import tifffile
from leave_kind_out import kinds_of, write_dataset
from ship_model import ship

from napari_unet_cells.core.metrics import THRESHOLDS, ImageScore, compare, summarize
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.datasets.index import write_index
from napari_unet_cells.datasets.origins import ORIGINS, origin_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import read_card
from napari_unet_cells.models.catalogue import SHIPPED

RESULTS: dict[str, Any] = json.loads(accuracy.RESULTS.read_text(encoding="utf-8"))
GROUPS = {name: result["groups"] for name, result in RESULTS.items()}
PAGE = accuracy.PAGE.read_text(encoding="utf-8")


def test_every_shipped_model_was_measured_and_no_other():
    measured = {name: result["sha256"] for name, result in RESULTS.items()}
    assert measured == {card.name: card.sha256 for card in accuracy.cards_of(None)}


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_the_card_has_the_scores_that_were_measured(name):
    assert read_card(SHIPPED / f"{name}.keras").scores == accuracy.card_scores(GROUPS[name])


@pytest.mark.parametrize("name", ["scores", "sizes"])
def test_the_page_has_the_tables_of_what_was_measured(name):
    table = {"scores": accuracy.scores_table, "sizes": accuracy.sizes_table}[name](GROUPS)
    assert f"<!-- {name}: start -->\n\n{table}\n\n<!-- {name}: end -->" in PAGE


README_ROWS = {
    "DSB 2018, all": "dsb2018 val",
    "- fluorescence": "dsb2018 val, fluorescence",
    "- colour histology": "dsb2018 val, histology-or-colour",
    "- bright field": "dsb2018 val, brightfield-grey",
    "Usiigaci, phase contrast": "usiigaci val",
}


@pytest.mark.parametrize("said", README_ROWS)
def test_the_readme_has_the_scores_that_were_measured(said):
    readme = (accuracy.ROOT / "README.md").read_text(encoding="utf-8")
    cells, fast = (GROUPS[name][README_ROWS[said]] for name in ("cells", "cells-fast"))
    scores = [cells["ap50"], cells["ap75"], cells["iou"], fast["ap50"]]
    row = f"| {said} | {cells['n_images']} | {' | '.join(f'{score:.3f}' for score in scores)} |"
    assert row in readme


def measured(truth: np.ndarray, cells: np.ndarray) -> accuracy.Measured:
    item = AnnotatedImage(Path("x.tif"), Path("y.tif"), "kind", "val")
    return accuracy.Measured(item, truth, truth, cells, compare(truth, cells))


def test_what_became_of_each_cell_is_told():
    truth, cells = np.zeros((2, 40, 40), np.uint16)
    for label, (y, x) in enumerate([(0, 0), (0, 10), (10, 0), (20, 0), (30, 0), (30, 20)], 1):
        truth[y : y + 8, x : x + 8] = label
    cells[0:8, 0:18] = 1  # the first two as one
    cells[10:13, 0:8], cells[15:18, 0:8] = 2, 3  # the third in pieces
    cells[20:29, 0:8] = 4  # the fourth is found
    cells[30:33, 20:28] = 5  # of the sixth a strip; the fifth is not seen
    fates = accuracy.fates_of(measured(truth, cells))
    assert fates == {
        "not seen": 1,
        "merged with a neighbour": 2,
        "cut up": 1,
        "outlined otherwise": 1,
    }


def test_sets_that_are_shown_are_credited_once(tmp_path):
    zeros = np.zeros((4, 4), np.uint16)
    shown = [
        replace(one, item=replace(one.item, folder=folder))
        for one in [measured(zeros, zeros)]
        for folder in ("bbbc039", "usiigaci", "bbbc039", "mine")
    ]
    said = " ".join(accuracy.credits_of(shown))
    assert said.startswith("Images and true outlines: BBBC039v1 (CC0); Usiigaci (MIT,")
    assert said.endswith("University); mine.")


def test_every_set_that_a_model_that_ships_learns_from_has_its_licence():
    makefile = (accuracy.ROOT / "Makefile").read_text(encoding="utf-8")
    sets = re.search(r"^SETS \?= (.+)$", makefile, re.M)[1].split()
    assert set(sets) == set(ORIGINS)
    for card in accuracy.cards_of(None):
        for known in card.trained_on:
            assert origin_of(known["name"]) == {key: known[key] for key in ("license", "origin")}
    assert origin_of("mine") == {}


def test_a_section_of_the_page_is_replaced_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: start -->\n\nold\n\n<!-- x: end -->\nb\n")
    accuracy.replace_section("x", "new\\1", page)
    assert page.read_text() == "a\n<!-- x: start -->\n\nnew\\1\n\n<!-- x: end -->\nb\n"
    with pytest.raises(SystemExit, match="no section y"):
        accuracy.replace_section("y", "new", page)


def test_what_was_measured_of_another_file_is_not_kept(tmp_path):
    name, other = sorted(RESULTS)
    old = {name: RESULTS[name], other: RESULTS[other] | {"sha256": "0"}}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    assert accuracy.still_true(path) == {name: RESULTS[name]}
    assert accuracy.still_true(tmp_path / "none.json") == {}


def test_a_kind_that_is_left_out_is_not_learned_from(tmp_path):
    mine = tmp_path / "mine"
    records = []
    for i in range(70):
        kind, split = ("light", "dark", "rare")[min(i // 32, 2)], "val" if i % 8 == 0 else "train"
        records.append({"name": f"{i}.tif", "kind": kind, "split": split})
        for part in ("images", "masks"):
            (mine / part).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(mine / part / f"{i}.tif", np.full((4, 4), i, np.uint8))
    write_index(mine, records)
    items = read_annotated_images([mine])
    assert kinds_of(items) == []  # 28 of each are too few to be worth it
    train = [item for item in items if item.modality != "light" and item.split == "train"]

    write_dataset(tmp_path / "rest", train)

    written = read_annotated_images([tmp_path / "rest"])
    assert {item.modality for item in written} == {"dark", "rare"}
    assert {item.split for item in written} == {"train"}
    assert len(written) == len(train)
    pixels = {int(item.read()[0].max()) for item in written}
    assert pixels == {int(re.sub(r"\D", "", item.image.stem)) for item in train}


@pytest.mark.slow
def test_a_model_is_shipped_with_the_words_of_its_card(tiny_model, tmp_path):
    shipped = tmp_path / "weights"
    shipped.mkdir()
    for suffix in (".keras", ".json"):
        (shipped / f"tiny{suffix}").write_bytes(tiny_model.with_suffix(suffix).read_bytes())
    before = read_card(shipped / "tiny.keras")
    words: dict[str, Any] = {
        "description": "Of old.",
        "works_on": ("nuclei",),
        "license": "BSD-3-Clause",
    }
    replace(before, **words, scores={"val": {"ap50": 0.9}}, trained_on=({"name": "old"},)).write()
    learned = ({"name": "new", "images": 3, "license": "CC0"},)
    replace(read_card(tiny_model), date="2026-01-02", trained_on=learned).write()

    ship(tiny_model, shipped)
    card = read_card(shipped / "tiny.keras")
    assert (card.description, card.works_on, card.license) == tuple(words.values())
    assert card.date == "2026-01-02"
    assert card.trained_on == learned
    assert card.scores == {}
    assert ship(tiny_model, shipped, "New.").description == "New."


def image_score(n_true: int, n_predicted: int, tp: int, both: int, either: int) -> ImageScore:
    return ImageScore(n_true, n_predicted, (tp,) * len(THRESHOLDS), 0.0, both, either, both)


def test_intervals_hold_the_score_and_come_again_with_the_seed() -> None:
    rng = np.random.default_rng(0)
    images = [
        image_score(20, 18, int(tp), int(both), 500)
        for tp, both in zip(rng.integers(8, 18, 30), rng.integers(300, 480, 30), strict=True)
    ]
    summary, intervals = summarize(images), accuracy.bootstrap_intervals(images)
    for name, score in (("ap50", summary.ap50), ("ap75", summary.ap75), ("iou", summary.iou)):
        low, high = intervals[name]
        assert low < score < high
        assert high - low < 0.2
    assert accuracy.bootstrap_intervals(images) == intervals
    assert accuracy.bootstrap_intervals(images, seed=1) != intervals
    # Four times as many images of the same kind halve the interval.
    low, high = accuracy.bootstrap_intervals(images * 4)["ap50"]
    assert (high - low) / np.subtract(*intervals["ap50"][::-1]) == pytest.approx(0.5, abs=0.1)


def test_intervals_of_a_good_and_a_bad_image() -> None:
    # Drawn are both the good one, both the bad one (a quarter of the sets each) or one of each.
    images = [image_score(10, 10, 10, 100, 100), image_score(10, 10, 0, 0, 100)]
    assert summarize(images).ap50 == pytest.approx(1 / 3)
    widest = dict.fromkeys(("ap50", "ap75", "iou"), (0.0, 1.0))
    assert accuracy.bootstrap_intervals(images) == widest
    # A bad image with few cells counts for little, because counts are summed before dividing.
    images = [image_score(1000, 1000, 1000, 100, 100)] * 9 + [image_score(1, 1, 0, 0, 100)]
    assert accuracy.bootstrap_intervals(images)["ap50"][0] > 0.99
    assert accuracy.bootstrap_intervals(images)["iou"][0] < 0.8


def test_intervals_of_one_image_and_of_none() -> None:
    one = image_score(4, 4, 3, 60, 100)
    assert accuracy.bootstrap_intervals([one])["ap50"] == (0.6, 0.6)
    assert accuracy.bootstrap_intervals([one])["iou"] == (0.6, 0.6)
    assert accuracy.bootstrap_intervals([image_score(0, 0, 0, 0, 0)])["ap50"] == (1.0, 1.0)
    with pytest.raises(UserError, match="no image was scored"):
        accuracy.bootstrap_intervals([])
