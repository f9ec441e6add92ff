"""The training loop: budget, batches, average, full memory; the network is one number."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training import loop as loop_module
from napari_unet_cells.training.crops import AugmentOptions, Cropper, annotate
from napari_unet_cells.training.events import BatchHalved, StepDone
from napari_unet_cells.training.loop import Loop, LoopOptions, MovingAverage

OPTIONS = LoopOptions(
    minutes=1.0,
    steps=None,
    batch=8,
    seed=3,
    decay=0.5,
    average_every=1,
    first_batch=0,
    diverged="no number at step {step}: {loss}",
    too_small="too small",
)


class Counter:
    """A network of one weight, which grows by 1 in every step."""

    def __init__(self, most: int = 99, losses: tuple[float, ...] = ()) -> None:
        self.weight, self.most, self.losses = np.zeros(1), most, losses
        self.tried: list[int] = []
        self.seen: list[tuple[np.ndarray[Any, Any], float]] = []

    def step(self, batch: Any, done: float) -> float:
        self.tried.append(len(batch[0]))
        assert len(batch[0]) == len(batch[1]) == len(batch[2])
        if len(batch[0]) > self.most:
            raise OutOfMemory
        self.seen.append((batch[0], done))
        self.weight = self.weight + 1
        return self.losses[len(self.seen) - 1] if self.losses else 1.0

    def loss(self, batch: Any) -> float:
        return float(self.weight[0])

    def get_weights(self) -> list[Any]:
        return [self.weight.copy()]

    def set_weights(self, weights: Any) -> None:
        (self.weight,) = weights


@pytest.fixture(scope="module")
def crops() -> Cropper:
    image, truth = simulate_nuclei((64, 64), diameter=16)
    return Cropper([annotate(image, truth.astype(np.int32))], AugmentOptions(size=16))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Let a second pass whenever somebody asks for the time."""
    ticks = itertools.count()

    def tick() -> float:
        return float(next(ticks))

    monkeypatch.setattr(loop_module, "time", SimpleNamespace(perf_counter=tick))
    return tick


def seconds(event: StepDone | BatchHalved) -> float:
    assert isinstance(event, StepDone)
    assert event.minutes == event.seconds / 60
    return event.seconds


def test_a_budget_of_minutes_is_counted_in_seconds_of_steps(crops: Cropper) -> None:
    learner = Counter()
    events = list(Loop(learner, crops, replace(OPTIONS, minutes=4 / 60)).run())
    assert events == [StepDone(n, float(n), (n - 1) / 4, 1.0) for n in (1, 2, 3, 4)]
    assert [done for _, done in learner.seen] == [0, 0.25, 0.5, 0.75]


def test_what_was_done_between_two_steps_counts_unless_the_clock_is_restarted(
    crops: Cropper, clock: Callable[[], float]
) -> None:
    one = Loop(Counter(), crops, OPTIONS)
    events = one.run()
    assert seconds(next(events)) == 1
    clock()
    assert seconds(next(events)) == 3
    clock()
    one.restart_clock()
    assert seconds(next(events)) == 4
    events.close()


@pytest.mark.parametrize("first", [0, 1])
def test_batches_are_drawn_in_order_and_go_on_where_it_stopped(crops: Cropper, first: int) -> None:
    learner = Counter()
    one = Loop(learner, crops, replace(OPTIONS, steps=5, first_batch=first))
    assert len(list(itertools.islice(one.run(), 2))) == 2
    assert one.step == 2
    list(one.run())
    assert len(learner.seen) == 5
    for n, (images, _) in enumerate(learner.seen):
        np.testing.assert_array_equal(images, crops.batch(8, (3, n + first))[0])


def test_it_ends_where_it_is_told_to_stop(crops: Cropper) -> None:
    asked = iter(range(100))
    one = Loop(Counter(), crops, replace(OPTIONS, steps=50))
    assert len(list(one.run(lambda: next(asked) >= 3))) == 3
    assert one.done == 3 / 50


def test_where_the_memory_is_full_half_of_the_crops_are_learned_from(crops: Cropper) -> None:
    learner = Counter(most=2)
    one = Loop(learner, crops, replace(OPTIONS, steps=2))
    first, second, *steps = one.run()
    assert (first, second) == (BatchHalved(4), BatchHalved(2))
    assert steps == [StepDone(1, 1.0, 0.0, 1.0), StepDone(2, 2.0, 0.5, 1.0)]
    assert learner.tried == [8, 4, 2, 2]  # what there was no room for is not asked for again
    np.testing.assert_array_equal(learner.seen[1][0], crops.batch(8, (3, 1))[0][:2])


def test_a_memory_too_small_for_one_crop_ends_it(crops: Cropper) -> None:
    learner = Counter(most=0)
    with pytest.raises(OutOfMemory, match="too small"):
        list(Loop(learner, crops, OPTIONS).run())
    assert learner.tried == [8, 4, 2, 1]


def test_a_loss_that_is_no_number_ends_it(crops: Cropper) -> None:
    one = Loop(Counter(losses=(1.0, math.nan)), crops, OPTIONS)
    with pytest.raises(UserError, match="no number at step 2: nan"):
        list(one.run())
    assert one.step == 1
    assert math.isnan(one.loss)


def test_the_average_is_used_for_a_while(crops: Cropper) -> None:
    learner = Counter()
    one = Loop(learner, crops, replace(OPTIONS, steps=2))
    list(one.run())
    # 0 -> 0.1 * 0 + 0.9 * 1 -> 2/11 * 0.9 + 9/11 * 2
    expected = 2 / 11 * 0.9 + 9 / 11 * 2
    with one.averaged():
        assert one.validation_loss([crops.batch(1, (0,))] * 2) == pytest.approx(expected)
    assert learner.weight == 2
    with pytest.raises(KeyboardInterrupt), one.averaged():
        raise KeyboardInterrupt
    assert learner.weight == 2


def test_an_average_of_every_tenth_step_follows_each_of_the_first_ones() -> None:
    average = MovingAverage([np.zeros(1)], decay=0.9, every=10)
    followed = []
    for step in range(1, 31):
        before = average.weights[0].copy()
        average.update(step, lambda: [np.ones(1)])
        if (average.weights[0] != before).any():
            followed.append(step)
    assert followed == [*range(1, 10), 10, 20, 30]
