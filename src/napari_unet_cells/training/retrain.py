"""From a correction dataset to a better network, in a minute; see `training.fine_tuning`.

::

    items --held_out--> training examples       held-out images, whole
                             |                       |
      base --- tuned for the minutes ---> mixed with the base: t = 1, 0.75, ... 0
      (of cells that it does not know at a larger scale)
                                                     |  the best on held-out images
                             +--- thresholds, where enough is held out
                                                     |
                                            NAME-2.keras and its card
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.labels import makes_cells
from napari_unet_cells.datasets.annotated_images import (
    AnnotatedImage,
    held_out,
    read_annotated_images,
)
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import check_folder
from napari_unet_cells.models.card import ModelCard, check_card
from napari_unet_cells.models.catalogue import find_model, next_name, save_model
from napari_unet_cells.models.runtimes.table import derive
from napari_unet_cells.settings import models_folder
from napari_unet_cells.training.cell_sizes import describe_kinds
from napari_unet_cells.training.events import (
    Choosing,
    Event,
    Preparing,
    Retrained,
    RetrainOptions,
)
from napari_unet_cells.training.examples import TrainingExample, check_examples
from napari_unet_cells.training.fine_tuning import RECIPE, Recipe
from napari_unet_cells.training.mixing import Measurement
from napari_unet_cells.training.tuner_cache import TunerCache, go_on, learns_distance
from napari_unet_cells.training.tuning import ADAPT_AGAIN, ADAPT_BATCHES, Stop, Tuning
from napari_unet_cells.untrusted.names import file_name
from napari_unet_cells.untrusted.rules import Malformed


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
        Model that was tuned from the same base before: the tuning goes on from its weights, at its
        scale. What comes out is compared and mixed with the base as ever.

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
    distance = learns_distance(card, classes, options)
    made = replace(
        card,
        classes=classes,
        distance=distance,
        name=path.stem,
        colors=next((item.colors for item in items if item.colors), card.colors),
        path=path,
        date=date.today().isoformat(),
        parent={"name": card.name, "sha256": card.sha256},
        description=_description(card, len(train), options, since is not None),
        trained_on=(*card.trained_on, {"name": Path(dataset).name, "images": len(train)}),
    )
    if options.start != "model":  # limits that were fitted to another network
        made = replace(made, instances=InstanceOptions(), typical_diameter=0.0)
    check_card(made)
    yield Preparing(len(train), len(held), describe_kinds([*train, *held]) if cells else "")
    tuner = (cache or TunerCache()).get(card, classes, options, recipe)
    work = Tuning(made, classes, tuner, train, held, options)
    last = None if since is None else find_model(since)
    known = work.look(last) if options.start == "model" else None
    before = known if held else None
    if last is not None:
        go_on(tuner, last, card)
    yield from work.tune(stop, ADAPT_BATCHES if last is None else ADAPT_AGAIN)
    yield Choosing()
    tuned, mixture, after = work.choose(known)
    tuned = replace(tuned, scores=_scores(before, after, cells))
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
    path = Path(os.path.expanduser(text))
    if path.suffix != ".keras":
        if "/" in text or "\\" in text:
            raise UserError(f"The name of a model file ends in .keras, and {path.name} does not.")
        path = models_folder() / _named(f"{text}.keras")
    elif path.parent == Path() and "/" not in text:
        path = Path.cwd() / path
    if path.parent.is_dir() or path.parent != models_folder():  # else it is made, at the end
        check_folder(path.parent)
    for existing in (path, path.with_suffix(".json")):
        if os.path.lexists(existing):  # a link would be written through
            raise UserError(f"{existing} exists and was kept. Choose another name.")
    return path


def _named(name: str) -> str:
    if not name.removesuffix(".keras").strip(" ."):
        raise UserError("The name of a model is empty. Choose a name, or leave -o out.")
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
