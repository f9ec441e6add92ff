"""Tuners that are made once: their graphs take longer to make than many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_unet_cells.core.labels import CELL_CLASSES
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.models.architectures import (
    ARCHITECTURES,
    build,
    load_pretrained,
    unknown_architecture,
)
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import load_model
from napari_unet_cells.models.runtimes.table import training_library
from napari_unet_cells.training.backends import BACKENDS
from napari_unet_cells.training.events import RetrainOptions
from napari_unet_cells.training.fine_tuning import RECIPE, Recipe, Tuner

#: Side of what the network sees in a step, in pixels.
CROP = 256


@dataclass(frozen=True)
class TunerKey:
    """Key of a cached `Tuner`: a retraining with an equal key may use it again."""

    sha256: str
    start: str
    classes: tuple[str, ...]
    batch: int
    recipe: Recipe


@dataclass
class TunerCache:
    """The tuner that was made last: its graphs take longer to make than many steps."""

    key: TunerKey | None = None
    tuner: Tuner | None = None

    def get(
        self,
        base: ModelCard,
        classes: tuple[str, ...],
        options: RetrainOptions,
        recipe: Recipe = RECIPE,
    ) -> Tuner:
        """Give a tuner at its start, a new one where that of before is of something else."""
        key = TunerKey(base.sha256, options.start, classes, options.batch, recipe)
        if self.tuner is None or key != self.key:
            self.key = self.tuner = None
            self.tuner = _make_tuner(base, classes, options, recipe)
            self.key = key
        self.tuner.restart()
        return self.tuner


def prepare(base: ModelCard, options: RetrainOptions, cache: TunerCache) -> None:
    """Make the graphs for retraining a model beforehand."""
    cache.get(base, base.classes, options)


def _make_tuner(
    base: ModelCard, classes: tuple[str, ...], options: RetrainOptions, recipe: Recipe
) -> Tuner:
    problem = unknown_architecture(base)
    if problem:
        raise UserError(f"{problem} Choose another model.")
    architecture = ARCHITECTURES[base.architecture]
    backend = BACKENDS[training_library()]
    backend.prepare()
    model = load_model(base)
    distance = learns_distance(base, classes, options)
    if options.start != "model":
        outputs = len(classes) + distance
        fresh = build(base.architecture, outputs, base.channels, **base.build)
        if options.start == "encoder":
            _copy_weights(model, fresh)
        else:
            load_pretrained(fresh, base.architecture, options.start, base.build)
        model = fresh
    tuner = _tuner_class(backend.library)(model, architecture.encoder, distance, recipe)
    halving(options.batch, lambda batch: tuner.trace(batch, CROP))
    return tuner


def halving(batch: int, work: Callable[[int], None]) -> int:
    """Do some work for a batch, or for half of it where the memory is full, and so on.

    Parameters
    ----------
    batch : int
        Crops.
    work : callable (batch) -> None

    Returns
    -------
    int
        Crops for which there is memory.

    Raises
    ------
    OutOfMemory
        Where there is none for a single crop.
    """
    while True:
        try:
            work(batch)
            return batch
        except OutOfMemory:
            if batch == 1:
                raise
        batch //= 2  # out here, because the traceback of the error keeps the batch in memory


def _tuner_class(library: str) -> type[Tuner]:
    if library != "torch":
        return Tuner
    from napari_unet_cells.training.torch_tuner import TorchTuner

    return TorchTuner


def go_on(tuner: Tuner, learned: ModelCard, base: ModelCard) -> None:
    """Put weights into a tuner that were tuned from its base before."""
    if learned.parent.get("sha256") != base.sha256:
        raise UserError(
            f"The model {learned.name} was not made from {base.name}, so the retraining cannot go "
            "on from it."
        )
    tuner.set_weights(load_model(learned).get_weights())


def learns_distance(base: ModelCard, classes: tuple[str, ...], options: RetrainOptions) -> bool:
    """Whether the network gives the distance to the boundary: as it did, or a new one of cells."""
    return base.distance if options.start == "model" else classes == CELL_CLASSES


def _copy_weights(source: Any, target: Any) -> None:
    """Copy the weights of all layers but the last, which has other classes."""
    for layer in target.layers:
        try:
            weights = source.get_layer(layer.name).get_weights()
        except ValueError:  # a layer without weights, whose name Keras counts up
            continue
        own = layer.get_weights()
        if [w.shape for w in weights] == [w.shape for w in own]:
            layer.set_weights(weights)
