"""Training: what a checkpoint keeps, what ships, and what goes wrong."""

from __future__ import annotations

import csv
import itertools
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.augment import AugmentOptions, annotate
from napari_unet_cells.errors import UserError
from napari_unet_cells.sample_data import simulate_nuclei

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def planes() -> list[Any]:
    made = []
    for seed in range(2):
        image, truth = simulate_nuclei((96, 96), diameter=16, seed=seed)
        made.append(annotate(image, truth.astype(np.int32), "simulated"))
    return made


def options(**changes: Any) -> Any:
    from napari_unet_cells.nets.training import TrainOptions

    base = TrainOptions(
        architecture="small",
        build={"filters": 4},
        minutes=20 / 60,
        batch=2,
        augment=AugmentOptions(size=32),
    )
    return replace(base, **changes)


def trainer(planes: list[Any], folder: Path, resume: bool = False, **changes: Any) -> Any:
    from napari_unet_cells.nets.training import Trainer

    return Trainer(planes, planes[:1], options(**changes), folder, resume)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a network that is compiled in a second, with all that has a state."""
    from napari_unet_cells.nets import architectures

    def build(n_classes: int, channels: int, options: Mapping[str, Any]) -> Any:
        import keras
        from keras import layers

        image = keras.Input((None, None, channels))
        x = layers.Conv2D(options["filters"], 3, padding="same", use_bias=False)(image)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        return keras.Model(image, layers.Conv2D(n_classes, 3, padding="same")(x))

    row = architectures.Architecture(build, stride=1)
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", row)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step take one second, so that the schedule does not depend on the machine."""
    from napari_unet_cells.nets import training

    ticks = itertools.count()
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


def steps(trained: Any, n: int) -> list[Any]:
    run = trained.run(checkpoint_every=1e9)
    try:
        return list(itertools.islice(run, n))
    finally:
        run.close()


def state(trained: Any) -> list[np.ndarray[Any, Any]]:
    optimizer = [np.asarray(variable) for variable in trained.model.optimizer.variables]
    return [*trained.model.get_weights(), *trained._average, *optimizer]


def largest_difference(a: Any, b: Any) -> float:
    return max(
        float(np.abs(np.asarray(x, float) - np.asarray(y, float)).max())
        for x, y in zip(a, b, strict=True)
    )


def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(
    planes: list[Any], tmp_path: Path
) -> None:
    straight = trainer(planes, tmp_path / "a")
    events = steps(straight, 6)
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6]
    assert [round(event.minutes * 60) for event in events] == [1, 2, 3, 4, 5, 6]

    first = trainer(planes, tmp_path / "b")
    early = steps(first, 3)
    resumed = trainer(planes, tmp_path / "b", resume=True)
    assert largest_difference(state(first), state(resumed)) == 0  # the optimizer included
    assert int(resumed.model.optimizer.iterations) == 3
    late = steps(resumed, 3)
    assert [event.step for event in late] == [4, 5, 6]
    np.testing.assert_allclose([e.loss for e in early + late], [e.loss for e in events], rtol=1e-3)

    # The same steps with the weights alone: the optimizer does matter.
    forgetful = trainer(planes, tmp_path / "b2")
    steps(forgetful, 3)
    fresh = [np.zeros(v.shape) for v in forgetful.model.optimizer.variables[2:]]
    for variable, value in zip(forgetful.model.optimizer.variables[2:], fresh, strict=True):
        variable.assign(value)
    steps(forgetful, 3)
    assert largest_difference(
        straight.model.get_weights(), resumed.model.get_weights()
    ) < 0.1 * largest_difference(straight.model.get_weights(), forgetful.model.get_weights())


def test_a_training_ends_with_its_minutes_and_is_then_over(
    planes: list[Any], tmp_path: Path
) -> None:
    whole = trainer(planes, tmp_path, minutes=12 / 60)
    assert not whole.finished
    before = whole.model.get_weights()
    events = list(whole.run())
    assert len(events) == 12
    assert whole.finished
    assert [e.validation_loss is None for e in events] == [True] * 11 + [False]
    assert largest_difference(before, whole.model.get_weights()) > 1e-3
    assert list(whole.run()) == []
    again = trainer(planes, tmp_path, resume=True, minutes=12 / 60)
    assert again.finished
    assert list(again.run()) == []
    threads = [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]
    assert not any(t.is_alive() for t in threads)

    # What ships is the average, without the optimizer, and no longer the untrained weights.
    shipped = whole.trained_model()
    assert not shipped.compiled
    assert largest_difference(shipped.get_weights(), whole._average) == 0
    assert largest_difference(shipped.get_weights(), before) > 1e-3
    assert largest_difference(shipped.get_weights(), whole.model.get_weights()) > 0

    path = tmp_path / "curve.csv"
    whole.write_curve(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert [float(row["loss"]) for row in rows] == [e.loss for e in events]
    assert rows[0]["validation_loss"] == ""
    assert float(rows[-1]["validation_loss"]) == events[-1].validation_loss
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_average_follows_the_weights(planes: list[Any], tmp_path: Path) -> None:
    trained = trainer(planes, tmp_path)
    trained._average = [np.zeros_like(w) for w in trained._average]
    trained._progress.step = 90  # the ninth update: half and half
    trained._update_average()
    for average, weight in zip(trained._average, trained.model.get_weights(), strict=True):
        np.testing.assert_allclose(average, weight / 2, rtol=1e-6)


def test_a_training_that_diverges_is_a_sentence_and_keeps_the_checkpoint(
    planes: list[Any], tmp_path: Path
) -> None:
    trained = trainer(planes, tmp_path)
    steps(trained, 2)
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(good) == {"model.weights.h5", "average.npz", "state.json"}
    broken = [np.full_like(w, np.nan) for w in trained.model.get_weights()]
    trained.model.set_weights(broken)
    with pytest.raises(UserError, match=r"diverged at step 3 \(loss nan\).*lower learning rate"):
        steps(trained, 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == good


def test_nothing_to_resume_is_a_sentence(planes: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training to resume in"):
        trainer(planes, tmp_path, resume=True)


def test_a_checkpoint_of_another_network_is_a_sentence(planes: list[Any], tmp_path: Path) -> None:
    steps(trainer(planes, tmp_path), 1)
    with pytest.raises(UserError, match=r"another build \(\{'filters': 4\}, not .*8"):
        trainer(planes, tmp_path, resume=True, build={"filters": 8})


@pytest.mark.parametrize("name", ["model.weights.h5", "average.npz", "state.json"])
def test_a_damaged_checkpoint_is_a_sentence(planes: list[Any], tmp_path: Path, name: str) -> None:
    steps(trainer(planes, tmp_path), 1)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:50])
    with pytest.raises(UserError, match="is damaged"):
        trainer(planes, tmp_path, resume=True)


def test_the_learning_rate_rises_and_falls(planes: list[Any], tmp_path: Path) -> None:
    trained = trainer(planes, tmp_path)
    rates = []
    for t in (0.0, 0.02, 0.5, 1.0, 2.0):
        trained._set_learning_rate(t)
        rates.append(float(trained.model.optimizer.learning_rate) / trained.options.learning_rate)
    np.testing.assert_allclose(rates, [0.05, 0.999, 0.5, 0.002, 0.002], atol=1e-3)


def test_crops_are_drawn_ahead_and_in_order(planes: list[Any], tmp_path: Path) -> None:
    trained = trainer(planes, tmp_path)
    trained._progress.step = 10
    batches = trained._batches()
    for step in (11, 12, 13):
        for drawn, expected in zip(next(batches), trained._train.batch(2, (0, step)), strict=True):
            np.testing.assert_array_equal(drawn, expected)
    batches.close()
