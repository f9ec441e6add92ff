"""From annotated folders to a model file with its card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet_cells.augment import Annotated, annotate
from napari_unet_cells.dataset import Item, read_items
from napari_unet_cells.errors import UserError
from napari_unet_cells.nets import ModelCard, save_model
from napari_unet_cells.nets.training import StepDone, Trainer, TrainOptions

CELL_CLASSES = ("background", "cell", "boundary")


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
) -> Iterator[StepDone | Trained]:
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
        Go on from the checkpoint.

    Yields
    ------
    StepDone
        For each step.
    Trained
        Last. A generator that is closed earlier leaves the checkpoint.

    Raises
    ------
    UserError
        Where data, output or checkpoint cannot be used.
    """
    output = Path(output)
    if output.suffix != ".keras":
        raise UserError(f"The name of a model ends in .keras, and {output.name} does not.")
    if not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent}. Make it, or choose another one.")
    items = read_items(folders)
    planes = [item for item in items if item.split == "train"]
    if not planes:
        raise UserError("None of the images belongs to the split 'train'.")
    train_planes = _read(planes)
    trainer = Trainer(
        train_planes,
        _read([item for item in items if item.split == "val"]),
        options,
        checkpoint or output.with_suffix(".checkpoint"),
        resume,
    )
    yield from trainer.run()
    curve = output.with_suffix(".csv")
    trainer.write_curve(curve)
    yield Trained(_save(trainer, output, planes, train_planes), curve)


def _read(items: Sequence[Item]) -> list[Annotated]:
    return [annotate(*item.read(), item.kind) for item in items]


def _save(
    trainer: Trainer, output: Path, items: Sequence[Item], planes: Sequence[Annotated]
) -> ModelCard:
    from napari_unet_cells.nets.architectures import ARCHITECTURES, measure_halo

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


def _diameters(planes: Sequence[Annotated]) -> tuple[float, float]:
    """Give the range that holds nine images of ten, in pixels."""
    diameters = [plane.diameter for plane in planes if plane.diameter > 0]
    low, high = np.percentile(diameters or [0.0], (5, 95))
    return round(float(low), 1), round(float(high), 1)


def _describe(items: Sequence[Item]) -> tuple[dict[str, Any], ...]:
    sets = Counter(item.image.parent.parent.name for item in items)
    return tuple({"name": name, "images": n} for name, n in sets.items())
