"""The training loop of `train` and `retrain`: crops drawn ahead, one step, one event.

::

    crops --> step --> moving average of the weights --> StepDone
      ^         |
      +---------+  memory full: half as many crops in a step, BatchHalved
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.models.runtimes.full_memory import is_out_of_memory
from napari_unet_cells.training.crops import Cropper
from napari_unet_cells.training.events import BatchHalved, StepDone

#: Images, targets and loss weights, as `Cropper.batch` gives them.
Batch = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]

Weights = Sequence[NDArray[Any]]

#: Batches that are drawn before the network asks for them, and threads that draw.
AHEAD, THREADS = 4, 2


class Learner(Protocol):
    """A network that learns from batches, with its optimizer and its learning rates."""

    def step(self, batch: Batch, done: float) -> float:
        """Learn from one batch, when this part of the budget is used; give the loss before it."""

    def loss(self, batch: Batch) -> float:
        """Give the loss of a batch that is not learned from."""

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Copy all weights, in the order of Keras."""

    def set_weights(self, weights: Weights) -> None:
        """Take over weights, in the order of Keras."""


@dataclass(frozen=True)
class LoopOptions:
    """Options of the loop.

    Attributes
    ----------
    minutes : float
        Budget.
    steps : int or None
        Budget in steps, instead of the minutes.
    batch : int
        Crops in a step; fewer, where the memory is full.
    seed : int
        Of the crops.
    decay : float
        Of the moving average.
    average_every : int
        Steps between two updates of the average; in the first ones it is updated each time.
    first_batch : int
        Number of the batch of the first step.
    diverged : str
        What the user reads where the loss is no number any more, with fields step and loss.
    too_small : str
        What the user reads where the memory is too small for a single crop.
    """

    minutes: float
    steps: int | None
    batch: int
    seed: int
    decay: float
    average_every: int
    first_batch: int
    diverged: str
    too_small: str


class MovingAverage:
    """Exponential moving average of the weights: less noise than those of the last step.

    ::

        average <- d average + (1 - d) weights          d = min(decay, n / (n + 9))

    in the n-th update: a young average follows faster, else it would remember the start.

    Parameters
    ----------
    weights : sequence of arrays
        At the start; copied.
    decay : float
    every : int
        Steps between two updates, see `LoopOptions`.
    """

    def __init__(self, weights: Weights, decay: float, every: int) -> None:
        self.weights = [weight.copy() for weight in weights]
        self._decay, self._every = decay, every

    def update(self, step: int, current: Callable[[], Weights]) -> None:
        """Follow the current weights after a step, where it is time to."""
        if step >= self._every and step % self._every:
            return
        n = step / self._every
        decay = min(self._decay, n / (n + 9))
        for average, weight in zip(self.weights, current(), strict=True):
            average *= decay
            average += (1 - decay) * weight


class Loop:
    """A network that learns, and how far it is.

    Parameters
    ----------
    learner : Learner
    crops : Cropper
    options : LoopOptions

    Attributes
    ----------
    step : int
        Steps so far.
    seconds : float
        Used so far.
    batch : int
        Crops in the next step.
    loss : float
        Of the last step.
    average : MovingAverage
    """

    def __init__(self, learner: Learner, crops: Cropper, options: LoopOptions) -> None:
        self.learner, self.crops, self.options = learner, crops, options
        self.step, self.seconds, self.loss = 0, 0.0, 0.0
        self.batch = options.batch
        self.average = MovingAverage(learner.get_weights(), options.decay, options.average_every)
        self._last = 0.0

    @property
    def done(self) -> float:
        """Part of the budget that is used; 1 or more at the end."""
        if self.options.steps is not None:
            return self.step / self.options.steps
        return self.seconds / (self.options.minutes * 60)

    def run(
        self, stop: Callable[[], bool] = lambda: False
    ) -> Generator[StepDone | BatchHalved, None, None]:
        """Learn until the budget is used, or until the generator is closed.

        Parameters
        ----------
        stop : callable, optional
            Asked before every step; where it says True, the loop ends.

        Yields
        ------
        StepDone
        BatchHalved
            Before the same step is tried again with half of its crops.

        Raises
        ------
        OutOfMemory
            Where the memory is too small for a single crop.
        UserError
            Where the loss is no number any more.
        """
        self.restart_clock()
        with contextlib.closing(self.batches()) as batches:
            while self.done < 1 and not stop():
                done, batch = self.done, next(batches)
                while (loss := self._try_step(batch, done)) is None:
                    yield self._halved()
                self.loss = loss
                if not math.isfinite(loss):
                    raise UserError(self.options.diverged.format(step=self.step + 1, loss=loss))
                self.step += 1
                self.average.update(self.step, self.learner.get_weights)
                now = time.perf_counter()
                self.seconds += now - self._last
                self._last = now
                yield StepDone(self.step, self.seconds, done, loss)

    def restart_clock(self) -> None:
        """Leave out of the budget what was done since the last step."""
        self._last = time.perf_counter()

    def _try_step(self, batch: Batch, done: float) -> float | None:
        """Give the loss of a step, or None where the memory was full."""
        images, targets, weights = batch
        n = self.batch
        try:
            return self.learner.step((images[:n], targets[:n], weights[:n]), done)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        return None  # out here, because the traceback of the error keeps the batch in memory

    def _halved(self) -> BatchHalved:
        if self.batch == 1:
            raise OutOfMemory(self.options.too_small)
        self.batch //= 2
        return BatchHalved(self.batch)

    def batches(self) -> Generator[Batch, None, None]:
        """Draw crops in threads, a few steps ahead of the network."""
        number = self.step + self.options.first_batch
        with ThreadPoolExecutor(THREADS) as pool:
            ahead: deque[Future[Batch]] = deque()
            try:
                while True:
                    while len(ahead) < AHEAD:
                        seed = (self.options.seed, number)
                        ahead.append(pool.submit(self.crops.batch, self.batch, seed))
                        number += 1
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the averaged weights for a while, and then the trained ones again."""
        current = self.learner.get_weights()
        self.learner.set_weights(self.average.weights)
        try:
            yield
        finally:  # else a checkpoint, written where this is interrupted, would hold the average
            self.learner.set_weights(current)

    def validation_loss(self, batches: Iterable[Batch]) -> float:
        """Give the mean loss of the weights in use on batches that are not learned from."""
        return float(np.mean([self.learner.loss(batch) for batch in batches]))
