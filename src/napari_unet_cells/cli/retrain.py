"""``napari-unet-cells retrain``: a better model from corrected images."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_unet_cells.errors import UserError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser("retrain", help="tune a model on corrected images")
    parser.add_argument(
        "dataset", type=Path, help="correction dataset, or a folder with images and masks"
    )
    parser.add_argument(
        "--base", metavar="MODEL", help="model to start from (default: the default model)"
    )
    parser.add_argument(
        "--start",
        default="model",
        metavar="model|encoder|imagenet|FILE",
        help="tune the base (default); or make a network for the classes of the dataset, from "
        "what the base knows (encoder) or from ImageNet weights",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="of tuning (default: 1)")
    parser.add_argument(
        "-o",
        "--output",
        metavar="NAME_OR_PATH",
        help="name in your models, or a .keras file (default: the base's name with a number)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the crops (default: 0)")
    parser.set_defaults(command=_retrain)


def _retrain(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.models.catalogue import default_model
    from napari_unet_cells.training.events import (
        Choosing,
        Preparing,
        Retrained,
        RetrainOptions,
        StepDone,
        adopt,
        describe_outcome,
    )
    from napari_unet_cells.training.retrain import retrain

    chosen = RetrainOptions(minutes=options.minutes, start=options.start, seed=options.seed)
    if (problem := chosen.problem()) is not None:
        raise UserError(f"--{problem}")
    base = options.base or default_model()
    layout = "{desc}{percentage:3.0f}%|{bar}|{postfix}"
    with tqdm(total=1.0, bar_format=layout, disable=None) as bar:
        for event in retrain(options.dataset, base, options.output, chosen):
            if isinstance(event, Preparing):
                bar.write(f"Learning from {event.learned_from} images, {event.held_out} held out.")
            elif isinstance(event, StepDone):
                bar.n = event.done
                bar.set_postfix(step=event.step, loss=f"{event.loss:.3f}")
            elif isinstance(event, Choosing):
                bar.set_postfix_str("choosing and measuring")
            elif isinstance(event, Retrained):
                bar.write(f"{describe_outcome(adopt(event))}\nModel: {event.card.path}")
    return 0
