"""Training as a generator: one step, one event; stop it wherever you like and resume.

The schedule runs over time, not over epochs, because the time is what a biologist has:
the learning rate follows a cosine from the first to the last of the minutes asked for; or of
the steps, where networks are compared.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import CELL_CLASSES
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.models import architectures
from napari_unet_cells.models.catalogue import find_model, load_model
from napari_unet_cells.training.backends import BACKENDS, LossForm
from napari_unet_cells.training.checkpoint import Checkpoint, Progress
from napari_unet_cells.training.crops import Annotated, AugmentOptions, Cropper
from napari_unet_cells.training.curve import Row
from napari_unet_cells.training.events import BatchHalved, StepDone
from napari_unet_cells.training.loop import Batch, Loop, LoopOptions, Weights
from napari_unet_cells.training.loss import soften

if TYPE_CHECKING:
    import keras

#: The weights that ship are an exponential moving average of the trained ones: less noise
#: than those of the last step. Updated every `AVERAGE_EVERY` steps, and in each of the first ones.
AVERAGE_DECAY, AVERAGE_EVERY = 0.98, 10

VALIDATION_BATCHES = 4

#: Of the targets, where there is a teacher; the truth has the rest.
TEACHER_SHARE = 0.5


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training: the network, the data and the budget.

    Attributes
    ----------
    architecture : str
        A name of `architectures.ARCHITECTURES`.
    classes : tuple of str
        Names of the classes of the logits. Others than `CELL_CLASSES` are those of the masks.
    channels : int
        Of the input (1 grey, 3 RGB).
    build : mapping
        Options of the architecture, such as ``{"alpha": 0.25}``.
    init : str or None
        Weights to start from: a file, or "imagenet"; see `load_encoder_weights`.
    minutes : float
        Time of all sessions together, the resumed ones included.
    steps : int or None
        Steps of all sessions together, instead of the minutes: as much is learned, and at the
        same rates, whatever else the machine does.
    batch : int
        Crops in a step; fewer, where the memory is full.
    learning_rate : float
        At the top of the cosine.
    seed : int
        Of the crops and of the untrained weights.
    augment : AugmentOptions
    teacher : str or None
        Name or file of a model that gives the same classes: its doubts are learned as well.
    backend : str
        A name of `backends.BACKENDS`: the library that takes the steps.
    """

    architecture: str = "mobilenet_unet"
    classes: tuple[str, ...] = CELL_CLASSES
    channels: int = 3
    build: Mapping[str, Any] = field(default_factory=lambda: {"alpha": 0.25})
    init: str | None = None
    minutes: float = 40.0
    steps: int | None = None
    batch: int = 8
    learning_rate: float = 2e-3
    seed: int = 0
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    teacher: str | None = None
    backend: str = "tensorflow"

    @property
    def cells(self) -> bool:
        """Whether the masks have one number a cell; else classes."""
        return self.classes == CELL_CLASSES

    @property
    def distance(self) -> bool:
        """Whether the network learns the distance to the boundary as well: for cells."""
        return self.cells

    @property
    def budget(self) -> str:
        """Length of the training, in words."""
        return f"{self.minutes:g} minutes" if self.steps is None else f"{self.steps} steps"

    def network(self) -> keras.Model:
        """Build the untrained network."""
        outputs = len(self.classes) + self.distance
        return architectures.build(self.architecture, outputs, self.channels, **self.build)


class Trainer:
    """A network, its optimizer, its checkpoint and its curve.

    Parameters
    ----------
    train, validation : sequences of Annotated
        `validation` may be empty; then no validation loss is measured.
    options : TrainOptions
    checkpoint : path
        Folder of the checkpoint, made where it is missing.
    resume : bool
        Go on from the checkpoint.

    Raises
    ------
    UserError
        Where the checkpoint is missing or of another training.
    """

    def __init__(
        self,
        train: Sequence[Annotated],
        validation: Sequence[Annotated],
        options: TrainOptions,
        checkpoint: str | Path,
        resume: bool = False,
    ) -> None:
        BACKENDS[options.backend].prepare()
        import keras

        keras.utils.set_random_seed(options.seed)
        self.options = options
        crops = replace(options.augment, distance=options.distance)
        real = replace(crops, synthetic=0.0)  # how well real images are learned is what counts
        self._validation = Cropper(list(validation), real) if validation else None
        self.model = options.network()
        if options.init is not None and not resume:
            architectures.load_pretrained(
                self.model, options.architecture, options.init, options.build
            )
        self.learner = ScheduledSteps(self.model, options)
        self.loop = Loop(self.learner, Cropper(list(train), crops), _loop_options(options))
        self.curve: list[Row] = []
        self._checkpoint = Checkpoint(checkpoint, _json_options(options))
        if resume:
            self._restore()

    @property
    def finished(self) -> bool:
        """Whether the minutes, or the steps, are used up."""
        return self.loop.done >= 1

    def run(self, checkpoint_every: float = 120.0) -> Iterator[StepDone | BatchHalved]:
        """Train until minutes or steps are used up, or until the generator is closed.

        Parameters
        ----------
        checkpoint_every : float
            Seconds between checkpoints; each also measures the validation loss. The end,
            and closing the generator, write one as well.

        Yields
        ------
        StepDone
        BatchHalved
            Before the same step is tried again with half of its crops.

        Raises
        ------
        UserError
            Where the loss is no number any more, the memory is too small for a single crop,
            or the checkpoint cannot be written.
        """
        if self.finished:
            return
        saved = self.loop.seconds
        try:
            with contextlib.closing(self.loop.run()) as events:
                for event in events:
                    if isinstance(event, BatchHalved):
                        yield event
                        continue
                    due = self.finished or event.seconds - saved > checkpoint_every
                    event = replace(event, validation_loss=self._validation_loss() if due else None)
                    self.curve.append(
                        (event.step, event.minutes, event.loss, event.validation_loss)
                    )
                    if due:
                        self._save()
                        saved = event.seconds
                        self.loop.restart_clock()  # measuring is not training
                    yield event
        finally:
            if math.isfinite(self.loop.loss):  # else the last good checkpoint is worth more
                self._save()

    def trained_model(self) -> keras.Model:
        """Build a fresh network with the averaged weights: no optimizer, ready to save."""
        model = self.options.network()
        model.set_weights(self.loop.average.weights)
        return model

    def _validation_loss(self) -> float | None:
        if self._validation is None:
            return None
        crops, n = self._validation, self.loop.batch
        with self.loop.averaged():
            return self.loop.validation_loss(
                crops.batch(n, (i,)) for i in range(VALIDATION_BATCHES)
            )

    def _save(self) -> None:
        progress = Progress(self.loop.step, self.loop.seconds, self.curve)
        self._checkpoint.save(self.learner.steps, self.loop.average.weights, progress)

    def _restore(self) -> None:
        progress, average = self._checkpoint.restore(self.learner.steps)
        weights = self.learner.get_weights()
        if [one.shape for one in average] != [one.shape for one in weights]:
            raise self._checkpoint.damaged("the average is of another network")
        if not all(np.isfinite(one).all() for one in (*average, *weights)):
            raise self._checkpoint.damaged("it holds numbers that are none")
        self.loop.step, self.loop.seconds = progress.step, progress.seconds
        self.loop.average.weights = average
        self.curve = progress.curve


class ScheduledSteps:
    """Steps of a backend at the rates of a schedule, taught where there is a teacher.

    A `loop.Learner`.

    Parameters
    ----------
    model : keras.Model
    options : TrainOptions
    """

    def __init__(self, model: keras.Model, options: TrainOptions) -> None:
        backend = BACKENDS[options.backend]
        form = LossForm(options.distance, soft=options.teacher is not None)
        self.steps = backend.steps(model, form)
        self._options = options
        teacher = _load_teacher(options)
        self.teacher = None if teacher is None else backend.forward(teacher)

    def step(self, batch: Batch, done: float) -> float:
        """Learn from one batch, when this part of the budget is used; give the loss before it."""
        images, targets, weights = batch
        rate = learning_rate(self._options.learning_rate, done)
        return self.steps.step(images, self._taught(images, targets), weights, rate)

    def loss(self, batch: Batch) -> float:
        """Give the loss of a batch that is not learned from."""
        images, targets, weights = batch
        return self.steps.loss(images, self._taught(images, targets), weights)

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Copy all weights, in the order of Keras."""
        return self.steps.get_weights()

    def set_weights(self, weights: Weights) -> None:
        """Take over weights, in the order of Keras."""
        self.steps.set_weights(weights)

    def _taught(self, images: NDArray[np.float32], targets: NDArray[np.uint8]) -> NDArray[Any]:
        if self.teacher is None:
            return targets
        return soften(targets, self.teacher(images), self._options.distance, TEACHER_SHARE)


def learning_rate(top: float, done: float) -> float:
    """Cosine over the budget, `done` in [0, 1], after a linear rise over its first 2 %."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return top * min(1.0, 0.05 + done / 0.02) * max(cosine, 0.002)


def _loop_options(options: TrainOptions) -> LoopOptions:
    return LoopOptions(
        minutes=options.minutes,
        steps=options.steps,
        batch=options.batch,
        seed=options.seed,
        decay=AVERAGE_DECAY,
        average_every=AVERAGE_EVERY,
        first_batch=1,
        diverged="The training diverged at step {step} (loss {loss}). Start again with a lower "
        "learning rate.",
        too_small="The memory is too small to train this network, even with one crop in a step. "
        "Close other programs that use it, or choose a smaller architecture.",
    )


def _load_teacher(options: TrainOptions) -> keras.Model | None:
    """Load the model that is learned from.

    Raises
    ------
    UserError
        Where it does not look at the same images or does not know the same classes.
    """
    if options.teacher is None:
        return None
    card = find_model(options.teacher)
    theirs = (card.classes, card.channels, card.distance)
    if theirs != (options.classes, options.channels, options.distance):
        raise UserError(
            f"The model {card.name} cannot teach this network: it must take images of as many "
            "channels and give the same classes, and for cells the distance to the boundary. "
            "Choose a teacher that was trained by this version on the same kind of masks."
        )
    model = load_model(card)
    model.trainable = False
    return model


def _json_options(options: TrainOptions) -> dict[str, Any]:
    plain: dict[str, Any] = jsonable({**asdict(options), "distance": options.distance})
    return plain
