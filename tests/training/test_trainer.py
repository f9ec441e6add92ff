"""Training: what a checkpoint keeps, what ships, and what goes wrong."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.architectures import ARCHITECTURES
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training.crops import AugmentOptions, annotate
from napari_unet_cells.training.synthetic.simulate import simulate

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def planes() -> list[Any]:
    made = []
    for seed in range(2):
        image, truth = simulate_nuclei((96, 96), diameter=16, seed=seed)
        made.append(annotate(image, truth.astype(np.int32), "simulated"))
    return made


def options(**changes: Any) -> Any:
    from napari_unet_cells.training.trainer import TrainOptions

    base = TrainOptions(
        architecture="small",
        build={"filters": 4},
        minutes=20 / 60,
        batch=2,
        augment=AugmentOptions(size=32),
    )
    return replace(base, **changes)


def trainer(planes: list[Any], folder: Path, resume: bool = False, **changes: Any) -> Any:
    from napari_unet_cells.training.trainer import Trainer

    return Trainer(planes, planes[:1], options(**changes), folder, resume)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a network that is compiled in a second, with all that has a state."""
    from napari_unet_cells.models import architectures

    def build(n_classes: int, channels: int, options: Mapping[str, Any]) -> Any:
        import keras
        from keras import layers

        image = keras.Input((None, None, channels))
        x = layers.Conv2D(options["filters"], 3, padding="same", use_bias=False)(image)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        return keras.Model(image, layers.Conv2D(n_classes, 3, padding="same")(x))

    row = architectures.Architecture(build, stride=1, bytes_per_pixel=0)
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", row)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step take one second, so that the schedule does not depend on the machine."""
    from napari_unet_cells.training import loop

    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


def steps(trained: Any, n: int) -> list[Any]:
    run = trained.run(checkpoint_every=1e9)
    try:
        return list(itertools.islice(run, n))
    finally:
        run.close()


def state(trained: Any) -> list[np.ndarray[Any, Any]]:
    optimizer = [np.asarray(variable) for variable in trained.model.optimizer.variables]
    average = [weight.copy() for weight in trained.loop.average.weights]  # it is updated in place
    return [*trained.model.get_weights(), *average, *optimizer]


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


def drawing_threads() -> set[int | None]:
    names = [(t.name, t.ident) for t in threading.enumerate() if t.is_alive()]
    return {ident for name, ident in names if name.startswith("ThreadPoolExecutor")}


def test_a_training_of_so_many_steps_learns_at_the_same_rates_however_slow_the_machine(
    planes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_unet_cells.training import loop

    def rates(seconds: float) -> list[float]:
        ticks = itertools.count(0.0, seconds)
        slow = SimpleNamespace(perf_counter=lambda: next(ticks))
        monkeypatch.setattr(loop, "time", slow)
        one = trainer(planes, tmp_path / f"{seconds:g}", steps=60)
        found: list[float] = []
        steps = one.learner.steps
        monkeypatch.setattr(steps, "step", lambda *given: found.append(given[-1]) or 0.5)
        assert len(list(one.run(checkpoint_every=1e9))) == 60
        return found

    fast = rates(1.0)
    assert fast == rates(7.0)
    assert fast[0] < max(fast) > 50 * fast[-1]


@pytest.mark.parametrize("budget", [{"minutes": 12 / 60}, {"steps": 12}])
def test_a_training_ends_with_its_budget_and_is_then_over(
    planes: list[Any], tmp_path: Path, budget: dict[str, Any]
) -> None:
    from napari_unet_cells.training.curve import write_curve

    running = drawing_threads()  # of other libraries, from other tests
    whole = trainer(planes, tmp_path, **budget)
    assert not whole.finished
    before = whole.model.get_weights()
    events = list(whole.run())
    assert len(events) == 12
    assert whole.finished
    assert [e.validation_loss is None for e in events] == [True] * 11 + [False]
    assert largest_difference(before, whole.model.get_weights()) > 1e-3
    assert list(whole.run()) == []
    again = trainer(planes, tmp_path, resume=True, **budget)
    assert again.finished
    assert list(again.run()) == []
    assert drawing_threads() == running

    # What ships is the average, without the optimizer, and no longer the untrained weights.
    shipped = whole.trained_model()
    assert not shipped.compiled
    assert largest_difference(shipped.get_weights(), whole.loop.average.weights) == 0
    assert largest_difference(shipped.get_weights(), before) > 1e-3
    assert largest_difference(shipped.get_weights(), whole.model.get_weights()) > 0

    path = tmp_path / "curve.csv"
    write_curve(whole.curve, path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert [float(row["loss"]) for row in rows] == [e.loss for e in events]
    assert rows[0]["validation_loss"] == ""
    assert float(rows[-1]["validation_loss"]) == events[-1].validation_loss
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_average_follows_the_weights(planes: list[Any], tmp_path: Path) -> None:
    trained = trainer(planes, tmp_path)
    average = trained.loop.average
    average.weights = [np.zeros_like(w) for w in average.weights]
    average.update(90, trained.model.get_weights)  # the ninth update: half and half
    for mean, weight in zip(average.weights, trained.model.get_weights(), strict=True):
        np.testing.assert_allclose(mean, weight / 2, rtol=1e-6)


def test_a_training_that_diverges_is_a_sentence_and_keeps_the_checkpoint(
    planes: list[Any], tmp_path: Path
) -> None:
    trained = trainer(planes, tmp_path)
    steps(trained, 2)
    good = files_in(tmp_path)
    assert set(good) == {"a/weights.npz", "a/optimizer.npz", "a/average.npz", "state.json"}
    broken = [np.full_like(w, np.nan) for w in trained.model.get_weights()]
    trained.model.set_weights(broken)
    with pytest.raises(UserError, match=r"diverged at step 3 \(loss nan\).*lower learning rate"):
        steps(trained, 1)
    assert files_in(tmp_path) == good


def files_in(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_an_interrupted_validation_keeps_the_trained_weights(
    planes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trainer(planes, tmp_path)
    for event in training.run():
        if event.step == 3:
            break
    weights = training.model.get_weights()
    assert not all(map(np.array_equal, weights, training.loop.average.weights))

    def interrupted(*_: Any, **__: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(training.model, "test_on_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training._validation_loss()
    assert all(map(np.array_equal, weights, training.model.get_weights()))


@pytest.mark.parametrize("at", ["average", "state", "replace", "clean up"])
def test_a_checkpoint_that_is_not_finished_leaves_the_one_before(
    planes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """As where the power fails between two of its files."""

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    trained = trainer(planes, tmp_path)
    steps(trained, 2)
    before = state(trained)
    with monkeypatch.context() as patch:
        if at == "average":
            patch.setattr("numpy.savez", killed)
        elif at == "state":
            patch.setattr("json.dumps", killed)
        elif at == "replace":
            patch.setattr("os.replace", killed)
        else:
            patch.setattr("shutil.rmtree", killed)
        with pytest.raises(Killed):
            steps(trained, 1)
    assert largest_difference(before, state(trained)) > 0

    resumed = trainer(planes, tmp_path, resume=True)

    if at == "clean up":  # the new one counts already
        assert resumed.loop.step == 3
        before = state(trained)
    assert largest_difference(before, state(resumed)) == 0
    steps(resumed, 2)
    assert len(files_in(tmp_path)) == 4
    assert largest_difference(state(resumed), state(trainer(planes, tmp_path, True))) == 0


def test_a_checkpoint_of_version_0_1_0_is_resumed_and_replaced(
    planes: list[Any], tmp_path: Path
) -> None:
    first = trainer(planes, tmp_path)
    steps(first, 3)
    record = json.loads((tmp_path / "state.json").read_text())
    del record["slot"], record["options"]["classes"], record["options"]["augment"]["class_weights"]
    assert record["options"].pop("backend") == "tensorflow"
    record["options"]["n_classes"] = 3
    (tmp_path / "state.json").write_text(json.dumps(record))
    (tmp_path / "a" / "average.npz").rename(tmp_path / "average.npz")
    shutil.rmtree(tmp_path / "a")
    first.model.save_weights(tmp_path / "model.weights.h5")  # with the optimizer, as it was then
    assert set(files_in(tmp_path)) == {"model.weights.h5", "average.npz", "state.json"}

    resumed = trainer(planes, tmp_path, resume=True)

    assert largest_difference(state(first), state(resumed)) == 0
    assert [event.step for event in steps(resumed, 1)] == [4]
    now = {"a/weights.npz", "a/optimizer.npz", "a/average.npz", "state.json"}
    assert set(files_in(tmp_path)) == now
    assert trainer(planes, tmp_path, resume=True).loop.step == 4


def test_a_checkpoint_that_calls_its_backend_an_engine_is_resumed(
    planes: list[Any], tmp_path: Path
) -> None:
    steps(trainer(planes, tmp_path), 2)
    record = json.loads((tmp_path / "state.json").read_text())
    record["options"]["engine"] = record["options"].pop("backend")
    (tmp_path / "state.json").write_text(json.dumps(record))

    assert [event.step for event in steps(trainer(planes, tmp_path, resume=True), 1)] == [3]

    record["options"]["engine"] = "torch"
    (tmp_path / "state.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"another backend \(torch, not tensorflow\)"):
        trainer(planes, tmp_path, resume=True)


def test_nothing_to_resume_is_a_sentence(planes: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training to resume in"):
        trainer(planes, tmp_path, resume=True)


def test_a_checkpoint_of_another_network_is_a_sentence(planes: list[Any], tmp_path: Path) -> None:
    steps(trainer(planes, tmp_path), 1)
    with pytest.raises(UserError, match=r"another build \(\{'filters': 4\}, not .*8"):
        trainer(planes, tmp_path, resume=True, build={"filters": 8})
    with pytest.raises(UserError, match=r"another classes \(\['background', 'cell', 'bound"):
        trainer(planes, tmp_path, resume=True, classes=("background", "nucleus", "vessel"))


@pytest.mark.parametrize(
    "name", ["a/weights.npz", "a/optimizer.npz", "a/average.npz", "state.json"]
)
def test_a_damaged_checkpoint_is_a_sentence(planes: list[Any], tmp_path: Path, name: str) -> None:
    steps(trainer(planes, tmp_path), 1)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:50])
    with pytest.raises(UserError, match="is damaged"):
        trainer(planes, tmp_path, resume=True)


@pytest.mark.parametrize("name", ["weights", "average"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda arrays: arrays[:-1], "is damaged"),
        (lambda arrays: [one[..., np.newaxis] for one in arrays], "is damaged"),
        (lambda arrays: [one * np.nan for one in arrays], r"is damaged \(it holds numbers"),
    ],
)
def test_arrays_of_another_network_in_a_checkpoint_are_a_sentence(
    planes: list[Any], tmp_path: Path, name: str, change: Any, sentence: str
) -> None:
    steps(trainer(planes, tmp_path), 1)
    path = tmp_path / "a" / f"{name}.npz"
    with np.load(path) as arrays:
        found = [arrays[f"arr_{index}"] for index in range(len(arrays))]
    np.savez(path, *change(found))
    with pytest.raises(UserError, match=sentence):
        trainer(planes, tmp_path, resume=True)


def test_the_learning_rate_rises_and_falls(planes: list[Any], tmp_path: Path) -> None:
    from napari_unet_cells.training.trainer import learning_rate

    trained = trainer(planes, tmp_path)
    rates = [learning_rate(trained.options.learning_rate, t) for t in (0.0, 0.02, 0.5, 1.0, 2.0)]
    top = trained.options.learning_rate
    np.testing.assert_allclose(np.divide(rates, top), [0.05, 0.999, 0.5, 0.002, 0.002], atol=1e-3)
    steps(trained, 1)
    assert float(trained.model.optimizer.learning_rate) == pytest.approx(rates[0], rel=1e-6)


def test_crops_are_drawn_ahead_and_in_order(planes: list[Any], tmp_path: Path) -> None:
    trained = trainer(planes, tmp_path)
    trained.loop.step = 10
    batches, crops = trained.loop.batches(), trained.loop.crops
    for step in (11, 12, 13):
        for drawn, expected in zip(next(batches), crops.batch(2, (0, step)), strict=True):
            np.testing.assert_array_equal(drawn, expected)
    batches.close()


# --- memory -----------------------------------------------------------------------------


def full_above(trained: Any, monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Let the memory hold `most` crops; give the sizes of the batches that were tried."""
    import tensorflow as tf

    tried: list[int] = []
    step = trained.model.train_on_batch

    def train_on_batch(images: Any, classes: Any, sample_weight: Any) -> Any:
        assert len(images) == len(classes) == len(sample_weight)
        tried.append(len(images))
        if len(images) > most:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return step(images, classes, sample_weight=sample_weight)

    monkeypatch.setattr(trained.model, "train_on_batch", train_on_batch)
    return tried


def test_where_the_memory_is_full_the_batch_is_halved_until_it_fits(
    planes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_unet_cells.training.events import BatchHalved, StepDone

    trained = trainer(planes, tmp_path, batch=8, minutes=8 / 60)
    tried = full_above(trained, monkeypatch, most=3)

    events = list(trained.run())

    assert events[:2] == [BatchHalved(4), BatchHalved(2)]
    assert all(isinstance(event, StepDone) for event in events[2:])
    assert [event.step for event in events[2:]] == list(range(1, len(events) - 1))
    assert tried == [8, 4, 2] + [2] * (len(events) - 3)
    assert events[-1].validation_loss > 0
    assert trained.finished
    batches = trained.loop.batches()
    assert len(next(batches)[0]) == 2  # what is drawn from now on
    batches.close()


def test_a_memory_too_small_for_one_crop_is_a_sentence_and_keeps_the_checkpoint(
    planes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = drawing_threads()
    trained = trainer(planes, tmp_path, batch=4)
    assert len(steps(trained, 2)) == 2
    tried = full_above(trained, monkeypatch, most=0)
    with pytest.raises(UserError, match="too small to train this network, even with one crop"):
        list(trained.run())
    assert tried == [4, 2, 1]
    assert trainer(planes, tmp_path, resume=True).loop.step == 2
    assert drawing_threads() == running


def test_other_errors_of_a_step_are_not_taken_for_a_full_memory(
    planes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer(planes, tmp_path)
    monkeypatch.setattr(trained.model, "train_on_batch", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(trained.run())


# --- classes, channels, architectures ---------------------------------------------------


def test_simulated_crops_are_learned_from_and_not_validated_on(
    planes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = Mock(wraps=simulate)
    monkeypatch.setattr("napari_unet_cells.training.crops.simulate", simulated)
    augment = AugmentOptions(size=32, synthetic=0.9)
    trained = trainer(planes, tmp_path / "c", augment=augment, steps=2)
    assert trained._validation_loss() > 0
    assert simulated.call_count == 0
    list(trained.run())
    assert simulated.call_count > 0


def test_classes_are_learned_as_they_are(tmp_path: Path) -> None:
    """Brightness tells three classes; the loss falls far below that of guessing."""
    mask = np.zeros((96, 96), np.int32)
    mask[:, 32:64], mask[:, 64:] = 1, 2
    plane = annotate((mask * 100).astype(np.uint8), mask, instances=False)
    names = ("background", "nucleus", "vessel")
    # crops as they are, so that brightness stays a sign
    crops = AugmentOptions(size=32, instances=False, class_weights=(1.0, 1.0, 1.0))
    trained = trainer(
        [plane], tmp_path, classes=names, minutes=2, learning_rate=0.05, augment=crops
    )
    events = list(trained.run())
    assert trained.model.output_shape[-1] == 3
    early, late = (np.mean([e.loss for e in part]) for part in (events[:5], events[-20:]))
    assert late < 0.7 * early
    assert late < 0.8 * np.log(3)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels_is_trained(tmp_path: Path, channels: int) -> None:
    image, truth = simulate_nuclei((96, 96), diameter=16)
    stack = image if channels == 1 else np.stack([image] * channels, axis=-1)
    plane = annotate(stack, truth.astype(np.int32))
    crops = AugmentOptions(size=32, channels=channels)
    trained = trainer([plane], tmp_path, channels=channels, augment=crops)
    (event,) = steps(trained, 1)
    assert trained.model.input_shape[-1] == channels
    assert event.loss > 0


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "small"])
def test_every_architecture_learns(planes: list[Any], tmp_path: Path, name: str) -> None:
    build = dict(ARCHITECTURES[name].options)
    trained = trainer(planes, tmp_path, architecture=name, build=build, batch=1)
    trained.model.run_eagerly = True  # tracing a graph for one step takes most of the time
    before = trained.model.get_weights()
    (event,) = steps(trained, 1)
    assert np.isfinite(event.loss)
    after = trained.model.get_weights()
    assert all((a != b).any() for a, b in zip(before, after, strict=True) if a.ndim == 4)


def teacher(folder: Path, **changes: Any) -> str:
    """Write a network that could teach the small one, and give its file."""
    from napari_unet_cells.models.card import ModelCard
    from napari_unet_cells.models.catalogue import save_model

    own = options(build={"filters": 6})
    card = ModelCard(
        "teacher", "small", own.classes, 3, 1, 0, "", distance=True, path=folder / "teacher.keras"
    )
    save_model(own.network(), replace(card, **changes))
    return str(card.path)


def test_a_teacher_is_learned_from_and_stays_as_it_is(planes: list[Any], tmp_path: Path) -> None:
    from napari_unet_cells.models.catalogue import find_model, load_model

    name = teacher(tmp_path)
    taught = trainer(planes, tmp_path / "taught", teacher=name)
    alone = trainer(planes, tmp_path / "alone")
    steps(taught, 12)
    steps(alone, 12)
    assert largest_difference(taught.model.get_weights(), alone.model.get_weights()) > 1e-3
    # It comes nearer to what its teacher thinks than who learned alone.
    images, _, _ = taught.loop.crops.batch(8, (99,))
    thought = taught.learner.teacher(images)
    untouched = load_model(find_model(name)).predict_on_batch(images)
    np.testing.assert_array_equal(thought, untouched)

    def far(trained: Any) -> float:
        return float(np.abs(trained.model.predict_on_batch(images) - thought).mean())

    assert far(taught) < far(alone)


def test_a_training_with_a_teacher_is_resumed(planes: list[Any], tmp_path: Path) -> None:
    name = teacher(tmp_path)
    steps(trainer(planes, tmp_path / "a", teacher=name), 3)
    again = trainer(planes, tmp_path / "a", resume=True, teacher=name)
    assert steps(again, 2)[-1].step == 5


def test_who_knows_other_things_cannot_teach(planes: list[Any], tmp_path: Path) -> None:
    from napari_unet_cells.models.architectures import build
    from napari_unet_cells.models.card import ModelCard
    from napari_unet_cells.models.catalogue import save_model

    path = tmp_path / "old.keras"
    card = ModelCard("old", "small", options().classes, 3, 1, 0, "", path=path)
    save_model(build("small", 3, 3, filters=4), card)  # without the distance
    with pytest.raises(UserError, match="old cannot teach this network"):
        trainer(planes, tmp_path / "a", teacher=str(path))
    with pytest.raises(UserError, match="There is no model 'nobody'"):
        trainer(planes, tmp_path / "a", teacher="nobody")
