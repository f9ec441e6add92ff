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

from napari_unet_cells.augment import Annotated, annotate
from napari_unet_cells.dataset import Item, read_items
from napari_unet_cells.engine import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.evaluate import evaluate, summarize_by_kind
from napari_unet_cells.files import FileExists, make_folder
from napari_unet_cells.fit import LARGEST, Example, fit_instances
from napari_unet_cells.instances import InstanceOptions
from napari_unet_cells.nets import ModelCard, read_card, save_model
from napari_unet_cells.nets.architectures import ARCHITECTURES, measure_halo
from napari_unet_cells.nets.training import StepDone, Trainer, TrainOptions
from napari_unet_cells.normalize import percentile_limits
from napari_unet_cells.predict import Network, Output, predict_plane

#: Training images on which the limits of the watershed are fitted; more would take longer
#: and not move them.
FIT_IMAGES = 60

CELL_CLASSES = ("background", "cell", "boundary")


@dataclass(frozen=True)
class Fitting:
    """The network is trained; the limits of the watershed are fitted to the training images."""


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
) -> Iterator[StepDone | Fitting | Trained]:
    """Train a network on annotated folders, the split "train" only.

    Parameters
    ----------
    folders : paths
        As `dataset` describes them.
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
    if options.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UserError(f"There is no architecture '{options.architecture}'. Known: {known}.")
    items = read_items(folders)
    planes = [item for item in items if item.split == "train"]
    validation = [item for item in items if item.split == "val"]
    if not planes:
        raise UserError("None of the images belongs to the split 'train'.")
    train_planes = _read(planes)
    _check_instances(train_planes)
    make_folder(folder)
    trainer = Trainer(train_planes, _read(validation), options, folder, resume)
    if trainer.finished and _is_complete(output):
        raise UserError(
            f"The training in {folder} has used up its {options.minutes:g} minutes. Ask for more "
            "minutes in all to go on with it."
        )
    yield from trainer.run()
    curve = output.with_suffix(".csv")
    trainer.write_curve(curve)
    card = _save(trainer, output, planes, train_planes)
    yield Fitting()
    yield Trained(_with_scores(card, planes, validation), curve)


def _check_output(
    output: Path, checkpoint: str | Path | None, replace_old: bool
) -> tuple[Path, Path]:
    """Check where the model and its checkpoint will lie, before an hour is spent on them."""
    if output.suffix != ".keras":
        raise UserError(f"The name of a model ends in .keras, and {output.name} does not.")
    if not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent}. Make it, or choose another one.")
    folder = Path(checkpoint or output.with_suffix(".checkpoint"))
    if not replace_old:
        ours = [output.with_suffix(end) for end in (".keras", ".json", ".csv", ".png")]
        ours.append(folder / "state.json")
        for existing in filter(Path.exists, ours):
            raise FileExists(existing)  # before the training, not after
    make_folder(output.parent)
    return output, folder


def _is_complete(output: Path) -> bool:
    """Whether the model was fitted and scored; else a resumed training does that."""
    try:
        card = read_card(output)
    except UserError:
        return False
    return bool(card.scores) or card.instances != InstanceOptions()


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


def _read(items: Sequence[Item]) -> list[Annotated]:
    return [annotate(*item.read(), item.kind) for item in items]


def _save(
    trainer: Trainer, output: Path, items: Sequence[Item], planes: Sequence[Annotated]
) -> ModelCard:
    options = trainer.options
    model = trainer.trained_model()
    stride = ARCHITECTURES[options.architecture].stride
    card = ModelCard(
        name=output.stem,
        architecture=options.architecture,
        classes=CELL_CLASSES,
        channels=options.channels,
        stride=stride,
        halo=measure_halo(model, stride),
        sha256="",
        diameters=_diameters(planes),
        description=f"{options.architecture} {dict(options.build)}, {options.minutes:g} minutes.",
        date=date.today().isoformat(),
        trained_on=_describe(items),
        path=output,
    )
    return save_model(model, card)


def _with_scores(card: ModelCard, planes: Sequence[Item], validation: Sequence[Item]) -> ModelCard:
    """Fit the limits of the watershed on training images, score on the validation ones."""
    network = open_network(card)
    chosen = np.random.default_rng(0).permutation(len(planes))[:FIT_IMAGES]
    examples = [example for i in chosen for example in _examples(planes[i], network)]
    card = replace(card, instances=fit_instances(examples))
    if validation:
        scored = list(evaluate(validation, network, card))
        scores = {kind: s.as_dict() for kind, s in summarize_by_kind(scored).items()}
        card = replace(card, scores={"val": scores})
    card.write()
    return card


def _examples(item: Item, network: Network) -> Iterator[Example]:
    """Predict a training image; one without any contrast says nothing."""
    image, truth = item.read()
    limits = percentile_limits(image)
    if limits is None:
        return
    plane = image[:LARGEST, :LARGEST]
    out = Output.empty((plane.shape[0], plane.shape[1]), boundary=True)
    for _ in predict_plane(plane, network, limits, out):
        pass
    yield out.probabilities, truth[:LARGEST, :LARGEST]


def _diameters(planes: Sequence[Annotated]) -> tuple[float, float]:
    """Give the range that holds nine images of ten, in pixels."""
    diameters = [plane.diameter for plane in planes if plane.diameter > 0]
    low, high = np.percentile(diameters or [0.0], (5, 95))
    return round(float(low), 1), round(float(high), 1)


def _describe(items: Sequence[Item]) -> tuple[dict[str, Any], ...]:
    sets = Counter(item.image.parent.parent.name for item in items)
    return tuple({"name": name, "images": n} for name, n in sets.items())
