"""One retraining in memory: its data, its network, and what is chosen of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.intervals import ap50_interval, mean_iou_interval
from napari_unet_cells.core.labels import UNKNOWN, makes_cells
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
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.models.card import ModelCard, check_card
from napari_unet_cells.segmentation.cell_diameter import diameters_of
from napari_unet_cells.segmentation.result import Fragments
from napari_unet_cells.training.calibrate import fit_instances
from napari_unet_cells.training.cell_sizes import (
    diameters_by_image,
    tuned_diameter,
    with_sizes,
    zooms_by_image,
)
from napari_unet_cells.training.crops import AugmentOptions, Cropper, Mosaic, class_weights
from napari_unet_cells.training.events import RetrainOptions, StepDone
from napari_unet_cells.training.examples import TrainingExample
from napari_unet_cells.training.fine_tuning import Tuner
from napari_unet_cells.training.loop import Batch, Loop, LoopOptions
from napari_unet_cells.training.merge_fitting import Pairs, fit_merge
from napari_unet_cells.training.mixing import MIXTURES, Measurement, how_far
from napari_unet_cells.training.tuner_cache import CROP, halving

#: Crops along a side of what the network sees in a step, at most.
MOST_TILES = 3

#: Side of a crop by that of the region at the scale of the network: with what is around it.
CONTEXT = 1.2

#: How far the scale of the crops strays from that of use.
ZOOMS = (0.7, 1.4)

#: Cells of which the base finds less than this (AP50) are seen larger, in the tuning and in use:
#: the window into which images are zoomed is so many times as wide. Rough outlines and missed
#: borders of thin cells become fewer (docs/retraining.md).
KNOWN, FINER = 0.5, 1.5

#: Narrowest cells, in pixels as they are seen then, at most: else what is retrained again and again
#: would see an image larger each time.
MOST_FINE = 27.0

#: Weights of the loss (see `AugmentOptions`) for networks that give no distance to the boundary:
#: they tell touching cells apart by the boundary alone, so it counts more than its true width.
BOUNDARY_ALONE = (1.0, 1.0, 2.0, 4.0)

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


@dataclass
class Tuning:
    """Data, network and options of one retraining.

    Attributes
    ----------
    card : ModelCard
        Of the base, with the classes that are learned; from `look` on at the scale of the tuning.
    base : ModelCard
        As it was given.
    classes : tuple of str
    tuner : Tuner
        Holds the network.
    train, held : list of TrainingExample
        To learn from, and held out.
    options : RetrainOptions
    zooms : dict of str to float
        At which the network sees each image, by its source.
    loop : Loop
        The tuning, once it has begun.
    """

    card: ModelCard
    classes: tuple[str, ...]
    tuner: Tuner
    train: list[TrainingExample]
    held: list[TrainingExample]
    options: RetrainOptions
    zooms: dict[str, float] = field(init=False)
    loop: Loop = field(init=False)

    def __post_init__(self) -> None:
        """Find the scale of each image, and what is measured."""
        self.cells = makes_cells(self.classes)
        self.base = self.card
        self._goes_on = False
        self._see(self.card)
        self.measured = [example.window() for example in self.held[:MEASURED_IMAGES]]
        # Those that are learned from do not say how good new weights are, but weights that went
        # astray show in them, and where there is little to learn (see `how_far`).
        self._judged = self.measured or [one.window() for one in self.train[:MEASURED_IMAGES]]

    def look(self, since: ModelCard | None = None) -> Measurement:
        """Measure the base, and choose the scale at which the tuning sees the images.

        Parameters
        ----------
        since : ModelCard, optional
            Of a tuning that goes on: a larger scale stays.

        Returns
        -------
        Measurement
            On held-out images, or where there are none on those that are learned from.
        """
        before = self.measure(self.card, self._judged)
        self._goes_on = since is not None
        was_finer = since is not None and since.diameter_window != self.base.diameter_window
        if self.cells and (was_finer or self._is_new(before)):
            self._see_finer()
        return before

    def _is_new(self, before: Measurement) -> bool:
        """Whether the base does not know such cells; it has learned from none of these images."""
        if before.score >= KNOWN or not self.measured:
            return before.score < KNOWN
        # Held-out ones are few: two missed cells would make a kind of image a new one.
        seen = [one.window() for one in [*self.held, *self.train][:MEASURED_IMAGES]]
        return self.measure(self.card, seen).score < KNOWN

    def _see_finer(self) -> None:
        """See the images larger, where that is possible."""
        before = self.zooms[""]
        low, high = (FINER * width for width in self.base.diameter_window)
        if not 0 < low <= MOST_FINE:
            return
        self._see(replace(self.base, diameter_window=(low, high)))
        instances = self.base.instances.zoomed(self.zooms[""] / before)
        self.card = replace(self.card, instances=instances)
        try:
            check_card(self.card)
        except UserError:  # a stranger's card that is near a limit
            self._see(self.base)
        if self.zooms[""] == before:
            self._see(self.base)

    def _see(self, card: ModelCard) -> None:
        """See the images at the scale of a card."""
        self.card = card
        known = [*self.train, *self.held] if self.cells else []
        self.zooms = zooms_by_image(known, card.diameter_window)

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

            batch = halving(batch, adapt)
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
        widths = [max(one.truth[one.inside].shape) * self._zoom(one) for one in self.train]
        tiles = tiles_for(widths)
        options = AugmentOptions(
            size=CROP // tiles,
            channels=self.card.channels,
            instances=self.cells,
            distance=self.card.distance,
            weights=AugmentOptions.weights if self.card.distance else BOUNDARY_ALONE,
            zooms=ZOOMS,
            class_weights=()
            if self.cells or not planes
            else class_weights(planes, len(self.classes)),
        )
        return Mosaic(planes, options, tiles, CROP)

    def _validated(self, event: StepDone, checks: list[Batch]) -> StepDone:
        with self.loop.averaged():
            loss = self.loop.validation_loss(checks)
            return replace(event, validation_loss=loss, score=self.measure(self.card).score)

    def choose(self, before: Measurement | None) -> tuple[ModelCard, float, Measurement | None]:
        """Choose how far to go, and fit what makes a cell; the network is left with it.

        Parameters
        ----------
        before : Measurement or None
            What `look` gave; None for networks that are made anew.

        Returns
        -------
        ModelCard
            Of the base, where nothing was better than that.
        float
            How far the weights went.
        Measurement or None
            Of the new model on held-out images; None without any.
        """
        card = replace(self.card, classes=self.classes)
        if self.cells:
            images = diameters_by_image([*self.train, *self.held])
            card = with_sizes(card, images, fresh=self.options.start != "model")
            card = replace(card, tuned_diameter=tuned_diameter(images))
        if before is None:
            self.tuner.mix(self.loop.average.weights, 1.0)
            mixture = 1.0
        else:
            mixture = self._mixture(card, before)
        if mixture == 0:
            return self.base, mixture, before if self.measured else None
        if not self.measured:
            return card, mixture, None
        after = self.measure(card)
        # On what it learned from the network is surer than on what is new, so what was fitted
        # there counts only where it does as well on what is new.
        ruled = replace(card, instances=self._with_merge(card.instances))
        if ruled != card and (measured := self.measure(ruled)).score >= after.score:
            card, after = ruled, measured
        if self._enough_to_fit():
            fitted = replace(card, instances=fit_instances(self._examples(), card.instances, 1))
            measured = self.measure(fitted)
            if measured.score > after.score:
                card, after = fitted, measured
        return card, mixture, after

    def _with_merge(self, instances: InstanceOptions) -> InstanceOptions:
        """Fit the rule for touching parts to the regions, near that of the base, if it has one."""
        rule = instances.merge
        if rule is None or not self.cells:
            return instances
        pairs = [Pairs.of(*example, instances, rule.certain) for example in self._examples()]
        return replace(instances, merge=fit_merge([Pairs.joined(pairs)], rule) or rule)

    def _mixture(self, card: ModelCard, before: Measurement) -> float:
        """Choose how far the weights go from those of the base, and leave the network there.

        Where that is no better than the base, they stay what they were.
        """
        learned = self.loop.average.weights
        scored: dict[float, Measurement] = {}
        for t in MIXTURES:
            self.tuner.mix(learned, t)
            scored[t] = self.measure(card, self._judged)
        # A tuning that goes on begins with weights that were mixed before: to shorten their way
        # each time would be to learn nothing.
        learned_from = not self.measured and not self._goes_on
        mixture = how_far(scored, before, learned_from)
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
