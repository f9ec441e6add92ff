"""Training as a generator: one step, one event; stop it wherever you like and resume.

The schedule runs over time, not over epochs, because the time is what a biologist has:
the learning rate follows a cosine from the first to the last of the minutes asked for; or of
the steps, where networks are compared.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import shutil
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import atomic_write
from napari_unet_cells.models import architectures
from napari_unet_cells.models.catalogue import find_model, load_model
from napari_unet_cells.models.runtimes.tensorflow import is_out_of_memory, prepare_gpus
from napari_unet_cells.training.backends import ENGINES, LossForm
from napari_unet_cells.training.crops import Annotated, AugmentOptions, Cropper
from napari_unet_cells.training.loss import soften

if TYPE_CHECKING:
    import keras

#: The weights that ship are an exponential moving average of the trained ones: less noise
#: than those of the last step. Updated every `EMA_EVERY` steps, and in each of the first ones.
EMA_DECAY, EMA_EVERY = 0.98, 10

VALIDATION_BATCHES = 4

#: Of the targets, where there is a teacher; the truth has the rest.
TEACHER_SHARE = 0.5

#: What masks of cells become, see `crops.boundary_classes`.
CELL_CLASSES = ("background", "cell", "boundary")

#: Folders that a checkpoint is written to in turn.
_SLOTS = ("a", "b")


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
    engine : str
        A name of `backends.ENGINES`, which takes the steps.
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
    engine: str = "tensorflow"

    @property
    def distance(self) -> bool:
        """Whether the network learns the distance to the boundary as well: for cells."""
        return self.classes == CELL_CLASSES

    @property
    def budget(self) -> str:
        """Length of the training, in words."""
        return f"{self.minutes:g} minutes" if self.steps is None else f"{self.steps} steps"

    def network(self) -> keras.Model:
        """Build the untrained network."""
        outputs = len(self.classes) + self.distance
        return architectures.build(self.architecture, outputs, self.channels, **self.build)


@dataclass(frozen=True)
class StepDone:
    """One training step.

    Attributes
    ----------
    step : int
        Counted over all sessions, from 1.
    minutes : float
        Spent on training so far, over all sessions.
    loss : float
        Weighted cross-entropy of this batch, nats a pixel.
    validation_loss : float or None
        Of the averaged weights on fixed validation crops, where it was measured.
    """

    step: int
    minutes: float
    loss: float
    validation_loss: float | None = None


@dataclass(frozen=True)
class BatchHalved:
    """The memory was full: the training goes on with `batch` crops in a step."""

    batch: int


@dataclass
class _Progress:
    """What a checkpoint keeps besides the weights."""

    step: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float, float | None]] = field(default_factory=list)


class Trainer:
    """A network, its optimizer and where they stand.

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
        import keras

        prepare_gpus()
        keras.utils.set_random_seed(options.seed)
        self.options = options
        crops = replace(options.augment, distance=options.distance)
        self._train = Cropper(list(train), crops)
        self._validation = Cropper(list(validation), crops) if validation else None
        self._checkpoint = Path(checkpoint)
        self._slot: str | None = None
        self._batch = options.batch
        self._progress = _Progress()
        self.model = options.network()
        if options.init is not None and not resume:
            architectures.load_pretrained(
                self.model, options.architecture, options.init, options.build
            )
        engine = ENGINES[options.engine]
        form = LossForm(options.distance, soft=options.teacher is not None)
        self.steps = engine.steps(self.model, form)
        teacher = _load_teacher(options)
        self._teacher = None if teacher is None else engine.forward(teacher)
        self._average = self.steps.get_weights()
        if resume:
            self._restore()

    @property
    def finished(self) -> bool:
        """Whether the minutes, or the steps, are used up."""
        return self._part_done >= 1

    @property
    def _part_done(self) -> float:
        if self.options.steps is not None:
            return self._progress.step / self.options.steps
        return self._progress.seconds / (self.options.minutes * 60)

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
        progress = self._progress
        last = saved = time.perf_counter()
        loss = 0.0
        try:
            with contextlib.closing(self._batches()) as batches:
                for batch in batches:
                    while (found := self._try_step(batch)) is None:
                        yield self._halved()
                    loss = found
                    if not math.isfinite(loss):
                        raise UserError(
                            f"The training diverged at step {progress.step + 1} (loss {loss}). "
                            "Start again with a lower learning rate."
                        )
                    progress.step += 1
                    if progress.step < EMA_EVERY or progress.step % EMA_EVERY == 0:
                        self._update_average()
                    now = time.perf_counter()
                    progress.seconds += now - last
                    last = now
                    done = self._part_done >= 1
                    due = done or now - saved > checkpoint_every
                    validation = self._validation_loss() if due else None
                    minutes = progress.seconds / 60
                    progress.curve.append((progress.step, minutes, loss, validation))
                    if due:
                        self._save()
                        last = saved = time.perf_counter()  # measuring is not training
                    yield StepDone(progress.step, minutes, loss, validation)
                    if done:
                        return
        finally:
            if math.isfinite(loss):  # else the last good checkpoint is worth more
                self._save()

    def _try_step(self, batch: tuple[Any, Any, Any]) -> float | None:
        """Give the loss of a step, or None where the memory was full."""
        try:
            return self._step(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        return None  # out here, because the traceback of the error keeps the batch in memory

    def _halved(self) -> BatchHalved:
        if self._batch == 1:
            raise UserError(
                "The memory is too small to train this network, even with one crop in a step. "
                "Close other programs that use it, or choose a smaller architecture."
            )
        self._batch //= 2
        return BatchHalved(self._batch)

    def _step(self, batch: tuple[Any, Any, Any]) -> float:
        images, targets, weights = (part[: self._batch] for part in batch)
        rate = self._learning_rate(self._part_done)
        return self.steps.step(images, self._taught(images, targets), weights, rate)

    def _taught(self, images: NDArray[np.float32], targets: NDArray[np.uint8]) -> NDArray[Any]:
        if self._teacher is None:
            return targets
        return soften(targets, self._teacher(images), self.options.distance, TEACHER_SHARE)

    def trained_model(self) -> keras.Model:
        """Build a fresh network with the averaged weights: no optimizer, ready to save."""
        model = self.options.network()
        model.set_weights(self._average)
        return model

    def _batches(self) -> Generator[tuple[Any, Any, Any], None, None]:
        """Draw crops in threads, a few steps ahead of the network."""
        seed, step = self.options.seed, self._progress.step
        with ThreadPoolExecutor(2) as pool:
            ahead: deque[Future[tuple[Any, Any, Any]]] = deque()
            try:
                while True:
                    while len(ahead) < 4:
                        step += 1
                        ahead.append(pool.submit(self._train.batch, self._batch, (seed, step)))
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _learning_rate(self, t: float) -> float:
        """Cosine over the budget, `t` in [0, 1], after a linear rise over its first 2 %."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(t, 1.0)))
        return self.options.learning_rate * min(1.0, 0.05 + t / 0.02) * max(cosine, 0.002)

    def _update_average(self) -> None:
        # A young average follows faster, else it would remember the untrained weights.
        n = self._progress.step / EMA_EVERY
        decay = min(EMA_DECAY, n / (n + 9))
        for average, weight in zip(self._average, self.steps.get_weights(), strict=True):
            average *= decay
            average += (1 - decay) * weight

    def _validation_loss(self) -> float | None:
        if self._validation is None:
            return None
        current = self.steps.get_weights()
        self.steps.set_weights(self._average)
        losses = []
        try:
            for i in range(VALIDATION_BATCHES):
                images, targets, weights = self._validation.batch(self._batch, (i,))
                losses.append(self.steps.loss(images, self._taught(images, targets), weights))
        finally:  # else a checkpoint, written where this is interrupted, would hold the average
            self.steps.set_weights(current)
        return float(np.mean(losses))

    def _save(self) -> None:
        """Write the checkpoint beside the one before, which stays until the new one is whole.

        ::

            a/average.npz  a/...    the one before; what `Steps.save` writes, and the average
            b/average.npz  b/...    the new one
            state.json              says which counts; replaced last, at once

        Raises
        ------
        UserError
            Where the disk refuses; the checkpoint before stays as it was.
        """
        try:
            self._write_checkpoint(self._checkpoint)
        except OSError as error:
            raise UserError(
                f"The checkpoint cannot be written to {self._checkpoint} "
                f"({error.strerror or error}). Free some space; --resume goes on from the last one."
            ) from error

    def _write_checkpoint(self, folder: Path) -> None:
        slot = _SLOTS[1] if self._slot == _SLOTS[0] else _SLOTS[0]
        (folder / slot).mkdir(parents=True, exist_ok=True)
        self.steps.save(folder / slot)
        np.savez(folder / slot / "average.npz", *self._average)
        options = _json_options(self.options)
        state = {"slot": slot, "options": options, **asdict(self._progress)}
        with atomic_write(folder / "state.json", overwrite=True) as temporary:
            temporary.write_text(json.dumps(state))
        self._slot = slot
        for other in set(_SLOTS) - {slot}:
            shutil.rmtree(folder / other, ignore_errors=True)
        for name in ("model.weights.h5", "average.npz"):  # where version 0.1.0 wrote them
            (folder / name).unlink(missing_ok=True)

    def _restore(self) -> None:
        folder = self._checkpoint
        try:
            state = json.loads((folder / "state.json").read_text())
            before = {"classes": [*CELL_CLASSES], "distance": False, "engine": "tensorflow"}
            theirs = {**before, **state["options"]}
            ours = _json_options(self.options)
        except FileNotFoundError as error:
            raise UserError(f"There is no training to resume in {folder}.") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise _damaged(folder, error) from error
        differ = [
            key
            for key in ("architecture", "build", "classes", "channels", "distance", "engine")
            if theirs.get(key) != ours[key]
        ]
        if differ:
            raise UserError(
                f"{folder} holds a training with another {differ[0]} "
                f"({theirs.get(differ[0])}, not {ours[differ[0]]})."
            )
        try:
            self._slot = state.get("slot")
            files = folder / (self._slot or "")
            self.steps.load(files)
            with np.load(files / "average.npz") as arrays:
                self._average = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
            self._progress = _Progress(
                state["step"], state["seconds"], [tuple(row) for row in state["curve"]]
            )
        except Exception as error:  # whatever is raised on a damaged file
            raise _damaged(folder, error) from error

    def write_curve(self, path: str | Path) -> None:
        """Write the training curve as CSV, and as PNG beside it.

        Parameters
        ----------
        path : path ending in ``.csv``
            Columns step, minutes, loss, validation_loss (empty where it was not measured).
            Older files of these names are replaced.

        Raises
        ------
        UserError
            Where they cannot be written.
        """
        path = Path(path)
        with (
            atomic_write(path, overwrite=True) as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(("step", "minutes", "loss", "validation_loss"))
            writer.writerows(self._progress.curve)
        with atomic_write(path.with_suffix(".png"), overwrite=True) as temporary:
            _plot_curve(self._progress.curve, temporary)


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


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"The checkpoint in {folder} is damaged ({error}). Train again without resuming."
    )


def _json_options(options: TrainOptions) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(
        json.dumps({**asdict(options), "distance": options.distance})
    )
    return plain


def _plot_curve(curve: Sequence[tuple[int, float, float, float | None]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="minutes", ylabel="loss (nats a pixel)", yscale="log")
    if curve:
        minutes = np.array([row[1] for row in curve])
        losses = np.array([row[2] for row in curve])
        window = max(1, len(losses) // 50)
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(minutes, losses, alpha=0.2, color="C0")
        axes.plot(minutes[window - 1 :], smooth, color="C0", label="training")
        measured = [(row[1], row[3]) for row in curve if row[3] is not None]
        if measured:
            axes.plot(*zip(*measured, strict=True), "o-", color="C1", label="validation")
        axes.legend()
    figure.savefig(path, dpi=120)
