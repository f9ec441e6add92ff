"""Progress events of training and retraining, options of retraining, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from napari_unet_cells.core.intervals import Interval
from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.training.limits import too_much

#: A new model is called better than its base from so many held-out images on, and where its score
#: is higher by this, and the intervals of the two do not overlap.
FEWEST_HELD_OUT, LEAST_GAIN = 3, 0.02


@dataclass(frozen=True)
class RetrainOptions:
    """Options of a retraining.

    Attributes
    ----------
    minutes : float
        Of tuning; making it ready and choosing among the results come on top.
    steps : int or None
        Instead of the minutes, for measurements that must not depend on the machine.
    start : str
        "model" tunes the base; "encoder" keeps its weights but for the last layer, which is
        made anew for the classes of the data; else ImageNet weights, see
        `encoders.load_encoder_weights`.
    batch : int
        Crops in a step; fewer, where the memory is full.
    seed : int
    validations : int
        How often the tuning is measured on held-out images, which takes a part of the time.
    """

    minutes: float = 1.0
    steps: int | None = None
    start: str = "model"
    batch: int = 4
    seed: int = 0
    validations: int = 4

    def problem(self) -> str | None:
        """Say why nothing can be retrained with these options, naming the option first."""
        if not self.minutes > 0:
            return "minutes must be above 0."
        if self.steps is not None and self.steps < 1:
            return f"steps must be at least 1, and is {self.steps}."
        if not self.start:
            return "start must be model, encoder, imagenet or a file of weights."
        if self.batch < 1:
            return f"batch must be at least 1, and is {self.batch}."
        if self.seed < 0:
            return f"seed must not be negative, and is {self.seed}."
        if self.validations < 0:
            return f"validations must not be negative, and is {self.validations}."
        return too_much(self)


@dataclass(frozen=True)
class Preparing:
    """The data are read; the network is made ready, which takes some seconds.

    Attributes
    ----------
    learned_from, held_out : int
        Numbers of images.
    remark : str
        What is odd about them, in sentences; empty for nothing.
    """

    learned_from: int
    held_out: int
    remark: str = ""


@dataclass(frozen=True)
class StepDone:
    """One training step.

    Attributes
    ----------
    step : int
        From 1, over all sessions of a training that was resumed.
    seconds : float
        Spent so far.
    done : float
        Part of the budget that was used when the step began, 0 to 1.
    loss : float
        Of this batch, nats a pixel.
    validation_loss, score : float or None
        Of the averaged weights on held-out images, where it was measured: loss, and for a
        retraining AP50 (for class models mean IoU).
    """

    step: int
    seconds: float
    done: float
    loss: float
    validation_loss: float | None = None
    score: float | None = None

    @property
    def minutes(self) -> float:
        """Spent so far."""
        return self.seconds / 60


@dataclass(frozen=True)
class BatchHalved:
    """The memory was full: the training goes on with `batch` crops in a step."""

    batch: int


@dataclass(frozen=True)
class Choosing:
    """The tuning is over; its result is chosen, fitted and measured."""


class Verdict(Enum):
    """Whether a new model is better than its base, as far as held-out images tell."""

    UNMEASURED = "unmeasured"
    KEPT = "kept"
    TOO_FEW = "too few"
    WORSE = "worse"
    TIE = "tie"
    BETTER = "better"


@dataclass(frozen=True)
class Retrained:
    """The new model is written; nobody uses it until the user says so.

    Attributes
    ----------
    card : ModelCard
    before, after : float or None
        AP50 (for class models mean IoU) of the base and of the new model on
        held-out images; None where there were none.
    mixture : float
        How far the weights went from those of the base, 0 to 1. At 0 they are those of the base,
        because what was learned did no better than these.
    seconds : float
        All in all.
    held_out : int
        Images that were measured on.
    before_interval, after_interval : (float, float) or None
        Bootstrap intervals of the scores, see `core.intervals`.
    """

    card: ModelCard
    before: float | None
    after: float | None
    mixture: float
    seconds: float
    held_out: int = 0
    before_interval: Interval | None = None
    after_interval: Interval | None = None

    @property
    def verdict(self) -> Verdict:
        """Compare the new model with its base; only `Verdict.BETTER` speaks for a change."""
        if self.mixture == 0:
            return Verdict.KEPT
        if self.before is None or self.after is None:
            return Verdict.UNMEASURED
        if self.held_out < FEWEST_HELD_OUT:
            return Verdict.TOO_FEW
        gain = self.after - self.before
        if gain <= -LEAST_GAIN:
            return Verdict.WORSE
        if gain < LEAST_GAIN or self._overlap():
            return Verdict.TIE
        return Verdict.BETTER

    def _overlap(self) -> bool:
        if self.before_interval is None or self.after_interval is None:
            return True
        return self.after_interval[0] <= self.before_interval[1]

    @property
    def base(self) -> str:
        """Name of the model it was made from."""
        return self.card.parent.get("name", "its base")

    @property
    def score_name(self) -> str:
        """Name of the score that was measured."""
        return "AP50" if self.card.makes_cells else "mean IoU"


def describe_score(score: float, interval: Interval | None, held_out: int) -> str:
    """Give a score with its interval, where it was measured on enough images to have one."""
    if interval is None or held_out < FEWEST_HELD_OUT:
        return f"{score:.2f}"
    low, high = interval
    return f"{score:.2f} ({low:.2f} to {high:.2f})"


def describe_held_out(n: int) -> str:
    """Give a number of held-out images, such as "1 held-out image"."""
    return "1 held-out image" if n == 1 else f"{n} held-out images"


def describe_outcome(done: Retrained) -> str:
    """Say in a sentence what a retraining came to; the model in use is not changed by it."""
    name = done.card.name
    if done.verdict is Verdict.KEPT:
        images = describe_held_out(done.held_out) if done.held_out else "the regions themselves"
        return (
            f"{name} is made with the weights of {done.base}: what was learned did no better on "
            f"{images}. Correct more regions, or look at those there are for mistakes."
        )
    if done.after is None:
        return (
            f"{name} is made. No image was held out to measure it on: approve five regions or "
            "more, and one in five will be."
        )
    images = describe_held_out(done.held_out)
    after = describe_score(done.after, done.after_interval, done.held_out)
    measured = f"{done.score_name} {after} on {images}"
    if done.before is None:
        return f"{name} is made: {measured}."
    before = describe_score(done.before, done.before_interval, done.held_out)
    measured = f"{measured}, and {done.base} {before}"
    ends = {
        Verdict.TOO_FEW: f"is made: {measured}. So few do not tell which one is better.",
        Verdict.TIE: f"is made: {measured}. That is no clear difference.",
        Verdict.WORSE: f"is made, but it is worse: {measured}.",
        Verdict.BETTER: f"is made, and it is better: {measured}.",
    }
    return f"{name} {ends[done.verdict]}"


Event = Preparing | StepDone | Choosing | Retrained


def event_as_dict(event: Event) -> dict[str, Any]:
    """Give an event as JSON holds it, for another process."""
    values = dict(vars(event))
    if isinstance(event, Retrained):
        values["card"] = str(event.card.path)
    return {"event": type(event).__name__, **values}


def event_of_dict(values: Mapping[str, Any]) -> Event:
    """Make an event of what `event_as_dict` gave.

    Raises
    ------
    UserError
        Where the new model is gone already.
    """
    kind = {cls.__name__: cls for cls in (Preparing, StepDone, Choosing, Retrained)}[
        values["event"]
    ]
    known = {f.name: values[f.name] for f in fields(kind)}
    if kind is Retrained:
        known["card"] = read_card(Path(known["card"]))
        for name in ("before_interval", "after_interval"):
            known[name] = None if known[name] is None else tuple(known[name])
    event: Event = kind(**known)
    return event
