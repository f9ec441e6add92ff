"""``napari-unet-cells train``: a network of one's own from annotated folders."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet_cells.cli import values
from napari_unet_cells.cli.old_names import keep_old_name
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.architectures import ARCHITECTURES, NARROWEST, WIDEST
from napari_unet_cells.models.card import MAX_DIAMETER

#: Those of `training.backends.BACKENDS`, whose module knows networks.
BACKEND_NAMES = ("tensorflow", "torch")

if TYPE_CHECKING:
    from napari_unet_cells.training.trainer import TrainOptions


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser("train", help="train a network on annotated folders")
    parser.add_argument("data", nargs="+", help="folder with images/ and masks/", type=values.path)
    parser.add_argument("-o", "--output", required=True, metavar="MODEL.keras", type=values.path)
    _add_network(parser)
    _add_crops(parser)
    _add_learning(parser)
    _add_checkpoint(parser)
    parser.set_defaults(command=_train, stopped="Stopped.")


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the network")
    group.add_argument(
        "--arch",
        default="mobilenet_unet",
        choices=sorted(ARCHITECTURES),
        help="architecture (default: mobilenet_unet)",
    )
    group.add_argument(
        "--alpha", type=float, help=f"width of the MobileNet, up to {WIDEST} (default: 0.25)"
    )
    group.add_argument(
        "--decoder",
        type=values.numbers(int),
        metavar="N,N,N",
        help="filters of the MobileNet's decoder at strides 8, 4 and 2 (default: by --alpha)",
    )
    group.add_argument(
        "--init",
        metavar="FILE|imagenet",
        help="weights to start from: a .keras model of the same build; or of the encoder alone "
        "an .npz, a file of keras.applications (no_top.h5), or imagenet, which is downloaded",
    )
    group.add_argument(
        "--classes",
        metavar="NAME,NAME,...",
        help="the masks hold classes 0, 1, 2, ... of these names (default: one number a cell)",
    )
    group.add_argument(
        "--channels",
        type=int,
        default=3,
        help="of the images: 1 grey, 3 RGB or grey (default), or any number of others",
    )


def _add_crops(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the crops that it learns from")
    group.add_argument(
        "--diameters",
        type=values.numbers(float),
        metavar="LOW,HIGH",
        help="half of the crops that are not mild (see --mild) are zoomed so that their cells are "
        "this wide, in pixels (default: 7,110)",
    )
    group.add_argument(
        "--window",
        type=values.numbers(float),
        metavar="LOW,HIGH",
        help="the model sees every image zoomed so that its cells are this wide, in pixels, and "
        "so do most of the training crops (default: as wide as they are in the data)",
    )
    mild = group.add_argument(
        "--mild",
        type=float,
        default=0.0,
        metavar="0..1",
        help="part of the crops with mild augmentation only: zoomed as images are in use, neither "
        "inverted nor recoloured (default: 0; the models that ship have 0.6 to 0.7)",
    )
    keep_old_name("--calm", mild, parser)
    group.add_argument(
        "--synthetic",
        type=float,
        default=0.0,
        metavar="0..1",
        help="part of the crops from simulated images, see the command simulate (default: 0)",
    )


def _add_learning(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it learns, and for how long")
    group.add_argument("--minutes", type=float, default=40.0, help="time budget (default: 40)")
    group.add_argument(
        "--steps",
        type=int,
        help="budget in steps instead of minutes: as much is learned, however busy the computer is",
    )
    group.add_argument("--batch", type=int, default=8, help="crops in a step (default: 8)")
    group.add_argument(
        "--learning-rate",
        type=float,
        default=2e-3,
        metavar="RATE",
        help="at the beginning; it falls to 0 (default: 0.002; less to go on from a good --init)",
    )
    group.add_argument("--seed", type=int, default=0, help="of crops and weights (default: 0)")
    group.add_argument(
        "--teacher",
        metavar="NAME_OR_PATH",
        help="a model of the same classes whose doubts are learned as well",
    )
    backend = group.add_argument(
        "--backend",
        default="tensorflow",
        choices=BACKEND_NAMES,
        help="library that trains; torch, where PyTorch is installed, takes down to a third of "
        "the time (default: tensorflow)",
    )
    keep_old_name("--engine", backend, parser)


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what an earlier training left")
    group.add_argument(
        "--checkpoint",
        metavar="DIR",
        type=values.path,
        help="where a stopped training is kept (default: MODEL.checkpoint)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint; --minutes and --steps count from the first start",
    )
    group.add_argument("--overwrite", action="store_true", help="start anew over an old model")


def _train(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.files import FileExists
    from napari_unet_cells.training.events import BatchHalved, StepDone
    from napari_unet_cells.training.train import Fitting, Trained, train

    output = options.output
    folder = options.checkpoint or output.parent / f"{output.stem}.checkpoint"
    state = folder / "state.json"
    before = None if options.resume else _changed(state)
    events = train(
        options.data,
        options.output,
        _train_options(options),
        options.checkpoint,
        options.resume,
        options.overwrite,
    )
    counted = "{n:.0f}/{total:g} steps" if options.steps else "{n:.1f}/{total:g} min"
    layout = f"{{desc}}{{percentage:3.0f}}%|{{bar}}| {counted}{{postfix}}"
    with tqdm(total=options.steps or options.minutes, bar_format=layout, disable=None) as bar:
        try:
            for event in events:
                if isinstance(event, StepDone):
                    bar.n = event.step if options.steps else min(event.minutes, options.minutes)
                    bar.set_postfix(step=event.step, loss=f"{event.loss:.3f}")
                elif isinstance(event, BatchHalved):
                    said = f"The memory is full: from here on the batch is {event.batch}."
                    bar.write(said, file=sys.stderr)
                elif isinstance(event, Fitting):
                    bar.set_postfix_str("fitting and measuring")
                elif isinstance(event, Trained):
                    bar.write(f"Model: {event.card.path}\nCurve: {event.curve}", file=sys.stdout)
        except KeyboardInterrupt:
            if _changed(state) != before:
                bar.write("The same command with --resume goes on from here.", file=sys.stderr)
            raise
        except FileExists as error:
            raise UserError(
                f"{error.path} exists and was kept: --resume goes on with it, --overwrite starts "
                "anew, or choose another name."
            ) from error
    return 0


def _changed(path: Path) -> int | None:
    """When a file changed last, in nanoseconds; None where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else None


def _check_range(option: str, values: tuple[float, ...] | None) -> None:
    if values is not None and (len(values) != 2 or values[0] > values[1]):
        raise UserError(f"{option} takes two numbers, the lower one first, such as 18,36.")
    if values is not None and not 1 <= values[0] <= values[1] <= MAX_DIAMETER:
        raise UserError(f"{option} is in pixels, from 1 to {MAX_DIAMETER}.")


def _check_synthetic(options: argparse.Namespace) -> None:
    """Refuse simulated images where they do not fit the others."""
    if not 0 <= options.synthetic < 1:
        raise UserError(
            f"--synthetic must be at least 0 and below 1, not {options.synthetic:g}: some crops "
            "come from the images that were named."
        )
    if options.synthetic and (options.classes is not None or options.channels not in (1, 3)):
        raise UserError(
            "--synthetic makes grey or RGB images with one number a cell: leave it out, or leave "
            "out --classes and --channels."
        )


def _train_options(options: argparse.Namespace) -> TrainOptions:
    from napari_unet_cells.core.labels import CELL_CLASSES
    from napari_unet_cells.training.crops import AugmentOptions
    from napari_unet_cells.training.trainer import TrainOptions

    alpha = options.alpha
    if not 0 < options.minutes < math.inf or options.batch < 1 or options.seed < 0:
        raise UserError(
            "--minutes must be above 0, --batch at least 1, and --seed must not be negative."
        )
    if not 0 < options.learning_rate <= 1:
        raise UserError(
            f"--learning-rate must be above 0 and at most 1, not {options.learning_rate:g}."
        )
    if options.steps is not None and options.steps < 1:
        raise UserError("--steps must be at least 1.")
    if alpha is not None and not NARROWEST <= alpha <= WIDEST:
        raise UserError(
            f"--alpha must be at least {NARROWEST:g}, narrower than which there is no network, and "
            f"at most {WIDEST}, not {alpha:g}: MobileNets have 0.25 to 1."
        )
    known = ARCHITECTURES[options.arch].options
    if alpha is not None and "alpha" not in known:
        raise UserError(f"--alpha is the width of a MobileNet; {options.arch} has none.")
    if options.decoder is not None and (len(options.decoder) != 3 or "alpha" not in known):
        raise UserError("--decoder takes three numbers of filters, and a MobileNet only.")
    _check_range("--diameters", options.diameters)
    _check_range("--window", options.window)
    if not 0 <= options.mild <= 1:
        raise UserError(f"--mild must lie between 0 and 1, not {options.mild:g}.")
    _check_synthetic(options)
    given = {"alpha": alpha, "decoder": options.decoder and list(options.decoder)}
    build = {**known, **{name: value for name, value in given.items() if value is not None}}
    names_of_crops = ("diameters", "window", "mild", "synthetic")
    crops = {name: getattr(options, name) for name in names_of_crops}
    names = CELL_CLASSES
    if options.classes is not None:
        names = tuple(name.strip() for name in options.classes.split(","))
    return TrainOptions(
        architecture=options.arch,
        classes=names,
        channels=options.channels,
        build=build,
        init=options.init,
        minutes=options.minutes,
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
        augment=AugmentOptions(**{name: value for name, value in crops.items() if value}),
        teacher=options.teacher,
        backend=options.backend,
    )
