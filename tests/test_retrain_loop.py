"""The bench of the retraining loop: tasks are the same in every run, and a stopped run goes on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import retrain_loop
from retrain_loop import TASKS, Bench, Run, Task, plot, table

from napari_unet_cells.models.catalogue import find_model


def result(task: str, k: int, ap50: float, **more: Any) -> dict[str, Any]:
    made = {"choice": "random" if k else "", "way": "default" if k else "", "seed": 0}
    return {"base": "1", "task": task, "k": k, "steps": 10 * (k > 0), "ap50": ap50, **made, **more}


ONE, TWO = list(TASKS)[:2]
RESULTS = [
    result(ONE, 0, 0.1),
    result(TWO, 0, 0.5),
    result(ONE, 4, 0.4),
    result(ONE, 4, 0.6, seed=1),
    result(TWO, 4, 0.7),
    result(ONE, 8, 0.8),
]


def test_a_simulated_task_is_the_same_in_every_run(tmp_path):
    task = Task(("rods", "phase-contrast"), 20)
    learned, scored = task.items("rods", tmp_path, tmp_path / "a")
    again, _ = task.items("rods", tmp_path, tmp_path / "b")

    assert (len(learned), len(scored)) == (retrain_loop.LEARNED, retrain_loop.SCORED)
    assert not {item.image for item in learned} & {item.image for item in scored}
    for one, other in zip(learned, again, strict=True):
        (image, mask), (image_again, mask_again) = one.read(), other.read()
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(mask, mask_again)
        assert len(np.unique(mask)) > 10
    assert (learned[0].read()[0] != learned[1].read()[0]).any()


def test_what_is_in_the_results_is_not_run_again(tmp_path, monkeypatch):
    scored = []
    monkeypatch.setattr(retrain_loop, "scores", lambda card, items: scored.append(1) or {"ap50": 1})
    monkeypatch.setattr(retrain_loop, "TASKS", {"rods": Task(("rods", "dic"), 20)})
    run = Run("rods", 0, "", 0, "", 0)

    Bench("cells-fast", tmp_path, tmp_path).run(run)
    Bench("cells-fast", tmp_path, tmp_path).run(run)
    assert len(scored) == 1
    Bench("cells", tmp_path, tmp_path).run(run)  # another base is another result
    assert len(scored) == 2
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["rods", "rods"]


def test_the_table_has_a_row_for_each_task_and_the_median_over_them():
    rows = table(RESULTS).splitlines()
    assert rows[0] == "| task | way | regions | base | 4 | 8 |"
    assert rows[2] == f"| {ONE} | default | random | 0.10 | 0.50 (0.40, 0.60) | 0.80 |"
    assert rows[3] == f"| {TWO} | default | random | 0.50 | 0.70 |  |"
    assert rows[4] == "| **median** | default | random | **0.30** | **0.60** | **0.80** |"


@pytest.mark.parametrize("way", ["default", "all"])
def test_the_plot_leaves_out_tasks_that_are_not_finished(tmp_path, way):
    results = [one | {"way": way} if one["k"] else one for one in RESULTS]
    plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.parametrize("text", ["| a |", "| b |\n| c |"])
def test_the_page_gets_the_table_between_its_marks(tmp_path, monkeypatch, text):
    (tmp_path / "images").mkdir()
    page, picture = tmp_path / "page.md", tmp_path / "plot.png"
    page.write_text("before\n<!-- tasks: start -->\n| old |\n<!-- tasks: end -->\nafter\n")
    picture.write_bytes(b"1")
    monkeypatch.setattr(retrain_loop, "PAGE", page)

    retrain_loop.write_page(text, picture)

    marked = f"before\n<!-- tasks: start -->\n\n{text}\n\n<!-- tasks: end -->\nafter\n"
    assert page.read_text() == marked
    assert (tmp_path / "images" / "retrain-tasks.png").read_bytes() == b"1"


def test_the_page_has_the_table_of_what_was_measured():
    results = [json.loads(line) for line in retrain_loop.RESULTS.read_text().splitlines()]
    page = retrain_loop.PAGE.read_text(encoding="utf-8")
    assert f"<!-- tasks: start -->\n\n{table(results)}\n\n<!-- tasks: end -->" in page
    assert (retrain_loop.PAGE.parent / "images" / retrain_loop.PICTURE).is_file()


def test_the_median_of_the_base_is_of_the_tasks_that_were_learned():
    rows = table([*RESULTS, result(list(TASKS)[2], 0, 0.9)]).splitlines()
    assert rows[4].startswith("| **median** | default | random | **0.30** |")


def test_all_regions_are_a_column_beside_every_choice():
    three = result(list(TASKS)[2], -1, 0.1, choice="all")  # nothing else is known of it
    rows = table([*RESULTS, result(ONE, -1, 0.9, choice="all"), three]).splitlines()
    assert rows[0].endswith("| base | 4 | 8 | all |")
    assert rows[2].endswith("| random | 0.10 | 0.50 (0.40, 0.60) | 0.80 | 0.90 |")
    assert rows[4].endswith("| random | **0.30** | **0.60** | **0.80** | **0.90** |")


def test_the_score_of_all_regions_alone_is_printed_without_a_plot(tmp_path, monkeypatch, capsys):
    base = {"base": find_model("cells").sha256, "task": ONE, "choice": "", "seed": 0, "way": ""}
    steps = retrain_loop.STEPS["cells"]
    every = {"k": -1, "choice": "all", "way": "default", "steps": steps, "ap50": 0.9}
    known = [base | {"k": 0, "steps": 0, "ap50": 0.1}, base | every]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in known))
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path), "--tasks", ONE, "--regions", "-1"])
    retrain_loop.main()
    assert "| task |" in capsys.readouterr().out
    assert not (tmp_path / retrain_loop.PICTURE).exists()
