"""Progress events of training and retraining, options of retraining, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.models.catalogue import default_model, make_default
from napari_unet_cells.settings import models_folder


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
    """

    minutes: float = 1.0
    steps: int | None = None
    start: str = "model"
    batch: int = 4
    seed: int = 0

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
        return None


@dataclass(frozen=True)
class Preparing:
    """The data are read; the network is made ready, which takes some seconds.

    Attributes
    ----------
    learned_from, held_out : int
        Numbers of images.
    """

    learned_from: int
    held_out: int


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


@dataclass(frozen=True)
class Retrained:
    """The new model is written.

    Attributes
    ----------
    card : ModelCard
    before, after : float or None
        AP50 (for class models mean IoU) of the base and of the new model on
        held-out images; None where there were none.
    mixture : float
        How far the weights went from those of the base, 0 to 1.
    seconds : float
        All in all.
    is_default : bool
        Whether it is the default model from now on.
    """

    card: ModelCard
    before: float | None
    after: float | None
    mixture: float
    seconds: float
    is_default: bool = False

    @property
    def is_better(self) -> bool:
        """Whether it was measured not to be worse than its base."""
        return self.after is not None and (self.before is None or self.after >= self.before)


def describe_outcome(done: Retrained) -> str:
    """Say in a sentence what a retraining came to."""
    name, what = done.card.name, "AP50" if done.card.makes_cells else "mean IoU"
    if done.after is None:
        return (
            f"{name} is made. No image was held out to measure it on: approve five regions or "
            "more, and one in five will be."
        )
    if done.before is None:
        return f"{name} is made: {what} {done.after:.2f} on held-out images."
    scores = f"{what} {done.after:.2f} on held-out images, and its base {done.before:.2f}"
    if done.is_better:
        default = " It is the default model from now on." if done.is_default else ""
        return f"{name} is made: {scores}.{default}"
    return f"{name} is made, but it is worse: {scores}. The default model stays as it was."


Event = Preparing | StepDone | Choosing | Retrained


def adopt(done: Retrained) -> Retrained:
    """Make a new model the default, if it is not worse than its base and among the user's own.

    Where the user's preferences name another one, that stays the default.
    """
    if not done.is_better or done.card.path.parent != models_folder():
        return done
    make_default(done.card.name)
    return replace(done, is_default=default_model() == done.card.name)


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
    event: Event = kind(**known)
    return event
