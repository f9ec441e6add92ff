"""``napari-unet-cells retrain``: a better model from corrected images."""

from __future__ import annotations

import argparse

from napari_unet_cells.cli import values
from napari_unet_cells.errors import UserError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser("retrain", help="tune a model on corrected images")
    parser.add_argument(
        "dataset", type=values.path, help="correction dataset, or a folder with images and masks"
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
    parser.add_argument(
        "--make-default",
        action="store_true",
        help="use the new model by default from now on; without it the default stays as it is",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the crops (default: 0)")
    stopped = "Stopped. No new model was made, and the old one is as it was."
    parser.set_defaults(command=_retrain, stopped=stopped)


def _retrain(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.models.catalogue import default_model, make_default
    from napari_unet_cells.training.events import (
        Choosing,
        Preparing,
        Retrained,
        RetrainOptions,
        StepDone,
        describe_outcome,
    )
    from napari_unet_cells.training.retrain import retrain

    chosen = RetrainOptions(minutes=options.minutes, start=options.start, seed=options.seed)
    if (problem := chosen.problem()) is not None:
        raise UserError(f"--{problem}")
    if options.make_default and _is_path(options.output):
        raise UserError(
            "--make-default is for a model among your own: give -o a name without folder and "
            ".keras, or leave it out."
        )
    base = options.base or default_model()
    layout = "{desc}{percentage:3.0f}%|{bar}|{postfix}"
    with tqdm(total=1.0, bar_format=layout, disable=None) as bar:
        for event in retrain(options.dataset, base, options.output, chosen):
            if isinstance(event, Preparing):
                bar.write(f"Learning from {event.learned_from} images, {event.held_out} held out.")
                if event.remark:
                    bar.write(event.remark)
            elif isinstance(event, StepDone):
                bar.n = event.done
                bar.set_postfix(step=event.step, loss=f"{event.loss:.3f}")
            elif isinstance(event, Choosing):
                bar.set_postfix_str("choosing and measuring")
            elif isinstance(event, Retrained):
                options.stopped = f"Stopped. The new model is whole: {event.card.path}"
                if options.make_default:
                    make_default(event.card.name)
                bar.write(f"{describe_outcome(event)}\n{_describe_default(event.card.name)}")
                bar.write(f"Model: {event.card.path}")
    return 0


def _is_path(output: str | None) -> bool:
    """Whether a model goes elsewhere than among the user's own, where no default is looked for."""
    return output is not None and (output.endswith(".keras") or bool({"/", "\\"} & set(output)))


def _describe_default(name: str) -> str:
    from napari_unet_cells.models.catalogue import default_model

    default = default_model()
    if default == name:
        return f"{name} is the default model from now on."
    return f"The default model stays {default}; --make-default changes it."
