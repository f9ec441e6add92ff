"""From annotated folders to a model file with its card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.labels import makes_cells
from napari_unet_cells.core.normalize import percentile_limits
from napari_unet_cells.core.predict import Network, Output, predict_plane
from napari_unet_cells.core.resample import resize_labels, scaled_shape
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.datasets.origins import origin_of
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import check_folder, make_folder, refuse_existing
from napari_unet_cells.files.file_set import refuse_link
from napari_unet_cells.models.architectures import ARCHITECTURES, check_options, measure_halo
from napari_unet_cells.models.card import (
    MAX_CHANNELS,
    MAX_CLASSES,
    ModelCard,
    check_card,
    read_card,
)
from napari_unet_cells.models.catalogue import save_model
from napari_unet_cells.models.runtimes.table import AUTO, RUNTIMES
from napari_unet_cells.segmentation.cell_diameter import diameters_of, zoom_for
from napari_unet_cells.training.backends import BACKENDS
from napari_unet_cells.training.calibrate import LARGEST, Example, fit_instances
from napari_unet_cells.training.crops import Annotated, annotate, class_weights
from napari_unet_cells.training.curve import write_curve
from napari_unet_cells.training.evaluate import evaluate, summarize_by_modality
from napari_unet_cells.training.events import BatchHalved, StepDone
from napari_unet_cells.training.limits import too_much
from napari_unet_cells.training.trainer import Trainer, TrainOptions

#: The runtime that what is fitted and scored rests on. Where PyTorch trained, it computes in a
#: process of its own.
REFERENCE = "tensorflow"

#: Training images on which the limits of the watershed are fitted; more take longer
#: and hardly move them; with 60 `min_probability` was fitted to a few images.
FIT_IMAGES = 240


@dataclass(frozen=True)
class Fitting:
    """The network is trained; it is measured, and for cells the watershed's limits are fitted."""


@dataclass(frozen=True)
class Trained:
    """The training is over; the model and its card are written.

    Attributes
    ----------
    card : ModelCard
    curve : Path
        The training curve as CSV; a PNG lies beside it.
    """

    card: ModelCard
    curve: Path


def train(
    folders: Sequence[str | Path],
    output: str | Path,
    options: TrainOptions,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[StepDone | BatchHalved | Fitting | Trained]:
    """Train a network on annotated folders, the split "train" only.

    By default the masks hold cells. Where `options.classes` names others than background,
    cell and boundary, the masks hold these classes, as 0, 1, 2, ..., and are learned as they
    are; rare classes weigh more, see `crops.class_weights`.

    Parameters
    ----------
    folders : paths
        As `datasets.annotated_images` describes them.
    output : path ending in ``.keras``
        The model; card (``.json``), curve (``.csv``, ``.png``) and by default the
        checkpoint (folder ``.checkpoint``) lie beside it under its name.
    options : TrainOptions
    checkpoint : path, optional
    resume : bool
        Go on from the checkpoint; a model that is there is replaced.
    overwrite : bool
        Replace a model and a checkpoint that are there.

    Yields
    ------
    StepDone
        For each step.
    BatchHalved
        Where the memory was full.
    Fitting
        Once.
    Trained
        Last. A generator that is closed earlier leaves the checkpoint.

    Raises
    ------
    UserError
        Where data, output or checkpoint cannot be used.
    """
    output, folder = _check_output(Path(output), checkpoint, resume or overwrite)
    _check_options(options)
    items = read_annotated_images(folders)
    planes = [item for item in items if item.split == "train"]
    validation = [item for item in items if item.split == "val"]
    if not planes:
        raise UserError("None of the images belongs to the split 'train'.")
    train_planes, validation_planes = _read(planes, options), _read(validation, options)
    options = _with_crops(options, train_planes)
    check_card(_card(options, output, planes, train_planes))
    make_folder(folder)
    trainer = Trainer(train_planes, validation_planes, options, folder, resume)
    if trainer.finished and _is_complete(output, bool(validation)):
        raise UserError(
            f"The training in {folder} has used up its {options.budget}. Ask for more in all to "
            "go on with it."
        )
    yield from trainer.run()
    curve = output.with_suffix(".csv")
    write_curve(trainer.curve, curve)
    card = _save(trainer, output, planes, train_planes)
    yield Fitting()
    yield Trained(_with_scores(card, planes, validation), curve)


def _check_output(
    output: Path, checkpoint: str | Path | None, replace_old: bool
) -> tuple[Path, Path]:
    """Check where the model and its checkpoint will lie, before an hour is spent on them."""
    if output.suffix != ".keras":
        raise UserError(f"The name of a model ends in .keras, and {output.name} does not.")
    check_folder(output.parent)
    folder = Path(checkpoint or output.with_suffix(".checkpoint"))
    ours = [output.with_suffix(end) for end in (".keras", ".json", ".csv", ".png")]
    for path in ours[:2]:  # before the training, not after
        refuse_link(path)
    refuse_existing([*ours, folder / "state.json"], replace_old)
    return output, folder


def _is_complete(output: Path, scored: bool) -> bool:
    """Whether the model was fitted and scored; else a resumed training does that."""
    try:
        card = read_card(output)
    except UserError:
        return False
    return bool(card.scores) or (not scored and card.instances != InstanceOptions())


def _check_options(options: TrainOptions) -> None:
    problem = too_much(options)
    if problem is not None:
        raise UserError(f"--{problem}")
    BACKENDS[options.backend].check()
    if options.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UserError(f"There is no architecture '{options.architecture}'. Known: {known}.")
    check_options(options.architecture, options.build)
    if not 1 <= options.channels <= MAX_CHANNELS:
        raise UserError(f"A network has 1 to {MAX_CHANNELS} channels, not {options.channels}.")
    names = options.classes
    if not 2 <= len(names) <= MAX_CLASSES or len(set(names)) < len(names) or not all(names):
        raise UserError(
            f"The classes '{','.join(names)}' must be 2 to {MAX_CLASSES} different names, that of "
            "the value 0 first, such as background,nucleus,vessel."
        )
    if not options.cells and makes_cells(names):
        raise UserError(
            "Classes named both cell and boundary are made from masks with one number a cell: "
            "leave out --classes, or choose other names."
        )


def _with_crops(options: TrainOptions, planes: Sequence[Annotated]) -> TrainOptions:
    """Check what was read, and say how crops are drawn from it."""
    crops = replace(options.augment, channels=options.channels, instances=options.cells)
    if options.cells:
        _check_instances(planes)
    else:
        _check_classes(planes, options.classes)
        crops = replace(crops, class_weights=class_weights(planes, len(options.classes)))
    return replace(options, augment=crops)


def _check_classes(planes: Sequence[Annotated], classes: Sequence[str]) -> None:
    found = {int(value) for plane in planes for value in np.unique(plane.mask)}
    if len(found) < 2:
        raise UserError(
            f"The masks hold one class only, {classes[found.pop()]}: there is nothing to tell "
            "apart. See that they belong to these images."
        )


def _check_instances(planes: Sequence[Annotated]) -> None:
    """Refuse masks that say where cells are and not which pixel belongs to which cell."""
    if all(len(np.unique(plane.mask)) <= 2 for plane in planes):
        parts = sum(int(ndimage.label(plane.mask)[1]) for plane in planes)
        if parts > 2 * len(planes):
            raise UserError(
                "All cells of a mask have the same number, so touching cells cannot be told apart. "
                "Give each cell a number of its own (in Fiji: Analyze Particles, Count Masks)."
            )
        if parts == 0:
            raise UserError("The masks are empty: there is not one cell to learn from.")


def _read(items: Sequence[AnnotatedImage], options: TrainOptions) -> list[Annotated]:
    return [_annotated(item, options) for item in items]


def _annotated(item: AnnotatedImage, options: TrainOptions) -> Annotated:
    image, mask = item.read(() if options.cells else options.classes)
    channels = image.shape[2] if image.ndim == 3 else 1
    # Grey and RGB can be made of each other.
    if channels != options.channels and not {channels, options.channels} <= {1, 3}:
        raise UserError(
            f"{item.image} has {channels} channels, and the network is to have "
            f"{options.channels}. Choose --channels {channels}, or leave this image out."
        )
    return annotate(image, mask, item.modality, options.cells)


def _save(
    trainer: Trainer, output: Path, items: Sequence[AnnotatedImage], planes: Sequence[Annotated]
) -> ModelCard:
    model, card = trainer.trained_model(), _card(trainer.options, output, items, planes)
    return save_model(model, replace(card, halo=measure_halo(model, card.stride)))


def _card(
    options: TrainOptions,
    output: Path,
    items: Sequence[AnnotatedImage],
    planes: Sequence[Annotated],
) -> ModelCard:
    """Say what is known of a model before it is trained."""
    return ModelCard(
        name=output.stem,
        architecture=options.architecture,
        classes=options.classes,
        channels=options.channels,
        stride=ARCHITECTURES[options.architecture].stride,
        halo=0,
        sha256="",
        distance=options.distance,
        build=dict(options.build),
        diameters=_diameters(planes),
        diameter_window=_window(options, planes),
        description=_description(options),
        date=date.today().isoformat(),
        trained_on=_describe(items),
        path=output,
    )


def _with_scores(
    card: ModelCard, planes: Sequence[AnnotatedImage], validation: Sequence[AnnotatedImage]
) -> ModelCard:
    """Fit the limits of the watershed on training images, score on the validation ones."""
    # What is fitted must not depend on the processor and the library that trained.
    network = open_network(card, REFERENCE if RUNTIMES[REFERENCE].installed else AUTO)
    if card.makes_cells:
        chosen = np.random.default_rng(0).permutation(len(planes))[:FIT_IMAGES]
        window = card.diameter_window
        examples = [example for i in chosen for example in predicted(planes[i], network, window)]
        card = replace(card, instances=fit_instances(examples))
    if validation:
        scored = list(evaluate(validation, network, card))
        scores = {kind: s.as_dict() for kind, s in summarize_by_modality(scored).items()}
        card = replace(card, scores={"val": scores})
    card.write()
    return card


def predicted(
    item: AnnotatedImage, network: Network, window: tuple[float, float]
) -> Iterator[Example]:
    """Predict a training image, zoomed as it will be; one without any contrast says nothing.

    Parameters
    ----------
    item : AnnotatedImage
    network : Network
    window : (float, float)
        See `zoom_for`.
    """
    image, truth = item.read()
    limits = percentile_limits(image)
    if limits is None:
        return
    zoom = zoom_for(float(np.median(diameters_of(truth))) if truth.any() else 0.0, window)
    side = int(LARGEST / zoom)
    plane, truth = image[:side, :side], truth[:side, :side]
    scaled = scaled_shape((plane.shape[0], plane.shape[1]), zoom)
    out = Output.empty((plane.shape[0], plane.shape[1]), network.probabilities, scaled)
    for _ in predict_plane(plane, network, limits, out, scaled):
        pass
    yield out.probabilities, resize_labels(truth, scaled)


def _diameters(planes: Sequence[Annotated]) -> tuple[float, float]:
    """Give the range that holds nine images of ten, in pixels."""
    diameters = [plane.diameter for plane in planes if plane.diameter > 0]
    low, high = np.percentile(diameters or [0.0], (5, 95))
    return round(float(low), 1), round(float(high), 1)


def _window(options: TrainOptions, planes: Sequence[Annotated]) -> tuple[float, float]:
    """Median diameters into which images are zoomed: by default those that were learned from."""
    if not options.cells:
        return (0.0, 0.0)
    return options.augment.window or _diameters(planes)


def _description(options: TrainOptions) -> str:
    simulated = options.augment.synthetic
    part = f", {simulated:.0%} of the crops simulated" if simulated else ""
    return f"{options.architecture} {dict(options.build)}, {options.budget}{part}."


def _describe(items: Sequence[AnnotatedImage]) -> tuple[dict[str, Any], ...]:
    sets = Counter(item.folder for item in items)
    return tuple({"name": name, "images": n, **origin_of(name)} for name, n in sets.items())
