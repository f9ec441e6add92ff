"""From a correction dataset to a better network, in a minute; see `training.fine_tuning`.

::

    items --held_out--> training examples       held-out images, whole
                             |                       |
      base --- tuned for the minutes ---> mixed with the base: t = 1, 0.75, ... 0
                                                     |  the best on held-out images
                             +--- thresholds, where enough is held out
                                                     |
                                            NAME-2.keras and its card
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.intervals import Interval, ap50_interval, mean_iou_interval
from napari_unet_cells.core.labels import CELL_CLASSES, UNKNOWN, makes_cells
from napari_unet_cells.core.metrics import (
    ClassScore,
    ImageScore,
    compare,
    compare_classes,
    summarize,
    summarize_classes,
)
from napari_unet_cells.core.predict import FunctionNetwork, Output, in_bytes, predict_plane
from napari_unet_cells.core.resample import resize_labels, scaled_shape
from napari_unet_cells.datasets.annotated_images import (
    AnnotatedImage,
    held_out,
    read_annotated_images,
)
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.models.architectures import (
    ARCHITECTURES,
    build,
    load_pretrained,
    unknown_architecture,
)
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model, load_model, next_name, save_model
from napari_unet_cells.models.runtimes.table import derive, training_library
from napari_unet_cells.segmentation.cell_diameter import diameters_of
from napari_unet_cells.segmentation.result import Fragments
from napari_unet_cells.settings import models_folder
from napari_unet_cells.training.backends import BACKENDS
from napari_unet_cells.training.calibrate import fit_instances
from napari_unet_cells.training.cell_sizes import (
    diameters_by_image,
    tuned_diameter,
    with_sizes,
    zooms_by_image,
)
from napari_unet_cells.training.crops import (
    AugmentOptions,
    Cropper,
    Mosaic,
    class_weights,
)
from napari_unet_cells.training.events import (
    Choosing,
    Event,
    Preparing,
    Retrained,
    RetrainOptions,
    StepDone,
)
from napari_unet_cells.training.examples import TrainingExample, check_examples
from napari_unet_cells.training.fine_tuning import RECIPE, Recipe, Tuner
from napari_unet_cells.training.loop import Batch, Loop, LoopOptions
from napari_unet_cells.untrusted.names import file_name
from napari_unet_cells.untrusted.rules import Malformed

#: Side of what the network sees in a step, in pixels, and crops along it at most.
CROP, MOST_TILES = 256, 3

#: Side of a crop by that of the region at the scale of the network: with what is around it.
CONTEXT = 1.2

#: How far the scale of the crops strays from that of use.
ZOOMS = (0.7, 1.4)

#: Weights of the loss (see `AugmentOptions`) for networks that give no distance to the boundary:
#: they tell touching cells apart by the boundary alone, so it counts more than its true width.
BOUNDARY_ALONE = (1.0, 1.0, 2.0, 4.0)

#: How far the tuned weights go from those of the base.
MIXTURES = (1.0, 0.75, 0.5, 0.25)

#: Standard errors by which a gain over the base is clear.
CLEAR = 2.0

#: Held-out images that it takes to choose thresholds; with fewer they are those of the base.
FEWEST_TO_CHOOSE = 3

#: Cells in the held-out images that it takes to choose thresholds.
CELLS_TO_FIT = 100

#: Of the moving average of the weights.
AVERAGE_DECAY = 0.99

#: Batches from which the batch norms learn what these images look like; where they have learned it
#: before, and most of the images are the same, fewer do. Ten cost more than twenty steps.
ADAPT_BATCHES, ADAPT_AGAIN = 10, 3

#: Images that a tuning is measured and fitted on.
MEASURED_IMAGES = 8

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Measurement:
    """AP50 (for class models mean IoU) on held-out images.

    Attributes
    ----------
    score : float
    interval : (float, float)
        See `core.intervals`.
    images : int
    cells : int
        Those that were found, were missed or are none, of which the score is a fraction; 0 where
        it is none.
    """

    score: float
    interval: Interval
    images: int
    cells: int = 0

    @property
    def error(self) -> float:
        """Standard error of the score, that of a binomial fraction; 0 where it is not known."""
        return math.sqrt(self.score * (1 - self.score) / self.cells) if self.cells else 0.0


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


def retrain(
    dataset: str | Path,
    base: str | Path,
    output: str | Path | None = None,
    options: RetrainOptions | None = None,
    stop: Stop = lambda: False,
    cache: TunerCache | None = None,
    recipe: Recipe = RECIPE,
    since: str | Path | None = None,
) -> Generator[Event, None, None]:
    """Tune a model on a correction dataset, or on any annotated folder.

    Parameters
    ----------
    dataset : path
        See `datasets.annotated_images`. In a folder made by hand everything counts as approved.
    base : str or path
        Name of an installed model, or a `.keras` file.
    output : str or path, optional
        Name of the new model, which goes to the user's own, or a `.keras` file. By default
        the name of the base with the next free number.
    options : RetrainOptions, optional
    stop : callable, optional
        Asked after every step; where it says True, the tuning ends there and its result is
        chosen and kept.
    cache : TunerCache, optional
    recipe : Recipe, optional
        What learns, and how fast: the best one that was found, where nothing else is said.
    since : str or path, optional
        Model that was tuned from the same base before: the tuning goes on from its weights. What
        comes out is compared and mixed with the base as ever.

    Yields
    ------
    Preparing, StepDone, Choosing, Retrained
        In this order. A generator that is closed leaves no model.

    Raises
    ------
    UserError
        Where dataset, model or output cannot be used.
    """
    started = time.perf_counter()
    options = options or RetrainOptions()
    problem = options.problem()
    if problem is not None:
        raise UserError(f"The option {problem}")
    card = find_model(base)
    path = _output_path(output, card)
    items = read_annotated_images([dataset])
    classes = _classes_of(items, card, options)
    learned, kept = held_out(items)
    cells = makes_cells(classes)
    train = [TrainingExample.read(item, cells, classes, card.channels) for item in learned]
    held = [TrainingExample.read(item, cells, classes, card.channels) for item in kept]
    check_examples(train, cells, dataset)
    yield Preparing(len(train), len(held))
    tuner = (cache or TunerCache()).get(card, classes, options, recipe)
    distance = _learns_distance(card, classes, options)
    made = replace(card, classes=classes, distance=distance)
    if options.start != "model":  # limits that were fitted to another network
        made = replace(made, instances=InstanceOptions(), typical_diameter=0.0)
    work = _Retraining(made, classes, tuner, train, held, options)
    before = work.measure(card) if held and options.start == "model" else None
    if since is not None:
        _go_on(tuner, find_model(since), card)
    yield from work.tune(stop, ADAPT_BATCHES if since is None else ADAPT_AGAIN)
    yield Choosing()
    tuned, mixture, after = work.choose(before)
    tuned = replace(
        tuned,
        name=path.stem,
        colors=next((item.colors for item in items if item.colors), card.colors),
        path=path,
        date=date.today().isoformat(),
        parent={"name": card.name, "sha256": card.sha256},
        description=_description(card, len(train), options, since is not None),
        trained_on=(*card.trained_on, {"name": Path(dataset).name, "images": len(train)}),
        scores=_scores(before, after, cells),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = save_model(tuner.model, tuned)
    yield Retrained(
        saved,
        before.score if before else None,
        after.score if after else None,
        mixture,
        time.perf_counter() - started,
        held_out=len(work.measured),
        before_interval=before.interval if before else None,
        after_interval=after.interval if after else None,
    )
    derive(saved)  # takes seconds, and the model is whole


def _output_path(output: str | Path | None, base: ModelCard) -> Path:
    """Where the new model will lie; checked before a minute is spent on it."""
    if output is None:
        return models_folder() / f"{next_name(base.name)}.keras"
    text = str(output)
    path = Path(text).expanduser()
    if path.suffix != ".keras":
        if "/" in text or "\\" in text:
            raise UserError(f"The name of a model file ends in .keras, and {path.name} does not.")
        path = models_folder() / _named(f"{text}.keras")
    elif path.parent == Path() and "/" not in text:
        path = Path.cwd() / path
    if not path.parent.is_dir() and path.parent != models_folder():
        raise UserError(f"There is no folder {path.parent}. Make it, or choose another one.")
    for existing in (path, path.with_suffix(".json")):
        if os.path.lexists(existing):  # a link would be written through
            raise UserError(f"{existing} exists and was kept. Choose another name.")
    return path


def _named(name: str) -> str:
    try:
        return file_name(name)
    except Malformed as error:
        raise UserError(f"The name of a model {error}. Choose another name.") from error


def _classes_of(
    items: Sequence[AnnotatedImage], base: ModelCard, options: RetrainOptions
) -> tuple[str, ...]:
    """Classes of the new network: those of the base, or those that the data bring."""
    named = {item.classes for item in items if item.classes}
    if len(named) > 1:
        listed = "; ".join(", ".join(names) for names in sorted(named))
        raise UserError(
            f"The images of the dataset have different classes ({listed}). Export them to a "
            "dataset each."
        )
    classes = named.pop() if named else base.classes
    if options.start != "model":
        if len(classes) < 2:
            raise UserError("A network needs two classes at least.")
        return classes
    if classes != base.classes:
        raise UserError(
            f"The dataset holds the classes {', '.join(classes)}, and the model {base.name} knows "
            f"{', '.join(base.classes)}. Choose another model, or start from its encoder to make "
            "a network for these classes."
        )
    return classes


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
    distance = _learns_distance(base, classes, options)
    if options.start != "model":
        outputs = len(classes) + distance
        fresh = build(base.architecture, outputs, base.channels, **base.build)
        if options.start == "encoder":
            _copy_weights(model, fresh)
        else:
            load_pretrained(fresh, base.architecture, options.start, base.build)
        model = fresh
    tuner = _tuner_class(backend.library)(model, architecture.encoder, distance, recipe)
    _halving(options.batch, lambda batch: tuner.trace(batch, CROP))
    return tuner


def _halving(batch: int, work: Callable[[int], None]) -> int:
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


def _go_on(tuner: Tuner, learned: ModelCard, base: ModelCard) -> None:
    """Put weights into a tuner that were tuned from its base before."""
    if learned.parent.get("sha256") != base.sha256:
        raise UserError(
            f"The model {learned.name} was not made from {base.name}, so the retraining cannot go "
            "on from it."
        )
    tuner.set_weights(load_model(learned).get_weights())


def _learns_distance(base: ModelCard, classes: tuple[str, ...], options: RetrainOptions) -> bool:
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


@dataclass
class _Retraining:
    """Data, network and options of one retraining."""

    card: ModelCard
    classes: tuple[str, ...]
    tuner: Tuner
    train: list[TrainingExample]
    held: list[TrainingExample]
    options: RetrainOptions
    zooms: dict[str, float] = field(init=False)
    tiles: int = field(init=False)
    loop: Loop = field(init=False)

    def __post_init__(self) -> None:
        self.cells = makes_cells(self.classes)
        known = [*self.train, *self.held] if self.cells else []
        self.zooms = zooms_by_image(known, self.card.diameter_window)
        self.measured = [example.window() for example in self.held[:MEASURED_IMAGES]]
        widths = [max(one.truth[one.inside].shape) * self._zoom(one) for one in self.train]
        self.tiles = tiles_for(widths)

    def tune(self, stop: Stop, adapting: int = ADAPT_BATCHES) -> Iterator[StepDone]:
        """Learn; the batch norms look at so many batches first."""
        options = self.options
        crops, held = self._crops(self.train), self._crops(self.measured)
        checks = [held.batch(options.batch, (i,)) for i in range(2)] if self.measured else []
        batch = options.batch
        if options.start == "model":

            def adapt(batch: int) -> None:
                looks = (crops.batch(batch, (options.seed, i)) for i in range(adapting))
                self.tuner.adapt(images for images, _, _ in looks)

            batch = _halving(batch, adapt)
        self.loop = Loop(self.tuner, crops, _loop_options(replace(options, batch=batch)))
        measured = 0
        with contextlib.closing(self.loop.run(stop)) as events:
            for event in events:
                if not isinstance(event, StepDone):
                    continue
                if (
                    checks
                    and measured < options.validations
                    and event.done >= (measured + 1) / (options.validations + 1)
                ):
                    measured += 1
                    event = self._validated(event, checks)
                yield event

    def _zoom(self, example: TrainingExample) -> float:
        return self.zooms.get(example.item.source, self.zooms[""])

    def _crops(self, examples: Sequence[TrainingExample]) -> Cropper:
        planes = [example.annotated(self.cells, self._zoom(example)) for example in examples]
        options = AugmentOptions(
            size=CROP // self.tiles,
            channels=self.card.channels,
            instances=self.cells,
            distance=self.card.distance,
            weights=AugmentOptions.weights if self.card.distance else BOUNDARY_ALONE,
            zooms=ZOOMS,
            class_weights=()
            if self.cells or not planes
            else class_weights(planes, len(self.classes)),
        )
        return Mosaic(planes, options, self.tiles, CROP)

    def _validated(self, event: StepDone, checks: list[Batch]) -> StepDone:
        with self.loop.averaged():
            loss = self.loop.validation_loss(checks)
            return replace(event, validation_loss=loss, score=self.measure(self.card).score)

    def choose(self, before: Measurement | None) -> tuple[ModelCard, float, Measurement | None]:
        """Choose how far to go, and fit what makes a cell; the network is left with it.

        Parameters
        ----------
        before : Measurement or None
            Of the base, on held-out images.
        """
        card = replace(self.card, classes=self.classes)
        if self.cells:
            images = diameters_by_image([*self.train, *self.held])
            card = with_sizes(card, images, fresh=self.options.start != "model")
            card = replace(card, tuned_diameter=tuned_diameter(images))
        if self.options.start != "model":
            self.tuner.mix(self.loop.average.weights, 1.0)
            mixture = 1.0
        else:
            mixture = self._mixture(card, before)
        if mixture == 0:
            return replace(self.card, classes=self.classes), mixture, before
        if not self.measured:
            return card, mixture, None
        after = self.measure(card)
        if self._enough_to_fit():
            # On what it learned from the network is surer than on what is new, so limits that
            # were fitted there count only where they do as well on what is new.
            fitted = replace(card, instances=fit_instances(self._examples(), card.instances, 1))
            measured = self.measure(fitted)
            if measured.score > after.score:
                card, after = fitted, measured
        return card, mixture, after

    def _mixture(self, card: ModelCard, before: Measurement | None) -> float:
        """Choose how far the weights go from those of the base, and leave the network there.

        Where that is no better than the base, they stay what they were.
        """
        learned = self.loop.average.weights
        windows = self.measured
        if before is None:
            # Those that were learned from do not say how good the new weights are, but weights that
            # went astray show in them.
            windows = [example.window() for example in self.train[:MEASURED_IMAGES]]
            self.tuner.mix(learned, 0.0)
            before = self.measure(card, windows)
        scored: dict[float, Measurement] = {}
        for t in MIXTURES:
            self.tuner.mix(learned, t)
            scored[t] = self.measure(card, windows)
        mixture = how_far(scored, before)
        self.tuner.mix(learned, mixture)
        return mixture

    def _enough_to_fit(self) -> bool:
        """Whether thresholds may be chosen: a few cells would say what those of one image need."""
        if not self.cells or len(self.measured) < FEWEST_TO_CHOOSE:
            return False
        cells = sum(len(diameters_of(one.truth[one.inside])) for one in self.measured)
        return cells >= CELLS_TO_FIT

    def _examples(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[Any]]]:
        order = np.random.default_rng(0).permutation(len(self.train))[:MEASURED_IMAGES]
        for i in order:
            example = self.train[i].window()
            probabilities = self._predict(example).probabilities
            shape = probabilities.shape[1:]
            truth = resize_labels(example.truth, shape)
            inside = tuple(
                slice(part.indices(n)[0] * m // n, part.indices(n)[1] * m // n)
                for part, n, m in zip(example.inside, example.truth.shape, shape, strict=True)
            )
            yield probabilities[(slice(None), *inside)], truth[inside]

    def measure(
        self, card: ModelCard, examples: Sequence[TrainingExample] | None = None
    ) -> Measurement:
        """AP50 (for class models mean IoU) of the weights in use on images, by default held-out."""
        examples = self.measured if examples is None else examples
        if self.cells:
            scores = list(self._cell_scores(card, examples))
            summary = summarize(scores)
            cells = sum(one.n_true + one.fp[0] for one in scores)
            return Measurement(summary.ap50, ap50_interval(scores), len(scores), cells)
        classes = list(self._class_scores(examples))
        mean_iou = summarize_classes(classes).mean_iou
        return Measurement(mean_iou, mean_iou_interval(classes), len(classes))

    def _cell_scores(
        self, card: ModelCard, examples: Sequence[TrainingExample]
    ) -> Iterator[ImageScore]:
        for example in examples:
            shape = (example.truth.shape[0], example.truth.shape[1])
            probabilities = self._predict(example).probabilities
            zoom = self._zoom(example)
            plane = Fragments.of(probabilities, card.instances, shape, zoom)
            yield compare(
                example.truth[example.inside], plane.cells(card.instances)[example.inside]
            )

    def _class_scores(self, examples: Sequence[TrainingExample]) -> Iterator[ClassScore]:
        for example in examples:
            truth, found = (
                example.truth[example.inside],
                self._predict(example).classes[example.inside],
            )
            known = truth != UNKNOWN
            yield compare_classes(truth[known], found[known], self.classes)

    def _predict(self, example: TrainingExample) -> Output:
        shape = (example.truth.shape[0], example.truth.shape[1])
        zoom = self._zoom(example)
        scaled = shape if zoom == 1 else scaled_shape(shape, zoom)
        network = self._network()
        out = Output.empty(shape, network.probabilities, scaled)
        for _ in predict_plane(example.image, network, example.limits, out, scaled):
            pass
        return out

    def _network(self) -> FunctionNetwork:
        columns = list(self.card.columns[1:]) if self.cells else []
        if self.card.distance:
            columns.append(len(self.classes))

        def predict(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
            probabilities = self.tuner.predict(batch)
            classes = probabilities[..., : len(self.classes)].argmax(axis=-1)
            classes = classes[..., np.newaxis].astype(np.uint8)
            # Without columns nobody asks how sure it is.
            kept = in_bytes(probabilities[..., columns]) if columns else np.zeros_like(classes)
            return np.concatenate([classes, kept], axis=-1)

        return FunctionNetwork(
            predict,
            self.card.stride,
            self.card.halo,
            self.card.channels,
            probabilities=len(columns),
            max_tile=1024,
        )


def how_far(scored: Mapping[float, Measurement], before: Measurement) -> float:
    """Choose a mixture: the best one, or a short way where the gain is small.

    A network that knows such images already gains little from a few regions, and going all the way
    for a gain that is within the error of a few cells costs it what it knew of others: then it is
    the shortest way that is as good as the best within one standard error, after Breiman et al.,
    "Classification and Regression Trees", 1984.

    Parameters
    ----------
    scored : mapping of float to Measurement
        By the mixture, on held-out images.
    before : Measurement
        Of the base.

    Returns
    -------
    float
        0 where none is better than the base.
    """
    best, furthest = max((found.score, t) for t, found in scored.items())
    if best < before.score or best == before.score > 0:
        return 0.0
    error = scored[furthest].error
    if best - before.score >= CLEAR * error:
        return furthest
    near = [t for t, found in scored.items() if found.score >= max(best - error, before.score)]
    return min(near)


def tiles_for(widths: Sequence[float]) -> int:
    """Choose how many crops lie along a side of what the network sees, so that regions fill them.

    A region of 256 pixels with cells of 100 pixels is 90 pixels wide at the scale of the network,
    an eighth of a crop of 256.

    Parameters
    ----------
    widths : sequence of float
        Of the regions, in pixels at the scale of the network.
    """
    tiles = int(CROP / (float(np.median(widths)) * CONTEXT))
    return min(max(tiles, 1), MOST_TILES)


def _loop_options(options: RetrainOptions) -> LoopOptions:
    return LoopOptions(
        minutes=options.minutes,
        steps=options.steps,
        batch=options.batch,
        seed=options.seed,
        decay=AVERAGE_DECAY,
        average_every=1,
        first_batch=0,
        diverged="The training diverged (the loss is no number any more); the model stays as it "
        "was. See that the masks belong to their images.",
        too_small=str(OutOfMemory()),
    )


def _description(base: ModelCard, n: int, options: RetrainOptions, goes_on: bool) -> str:
    images = "1 image or region" if n == 1 else f"{n} images or regions"
    if goes_on:  # the minutes of all its parts are not known here
        return f"{base.name}, retrained in several parts, at last on {images} of your own."
    return f"{base.name}, retrained on {images} of your own in {options.minutes:g} minutes."


def _scores(before: Measurement | None, after: Measurement | None, cells: bool) -> dict[str, Any]:
    if after is None:
        return {}
    name = "ap50" if cells else "mean_iou"
    scores: dict[str, Any] = {name: round(after.score, 4), "images": after.images}
    if before is not None:
        scores[f"{name}_of_parent"] = round(before.score, 4)
    return {"held_out": scores}
