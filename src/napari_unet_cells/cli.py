"""The command line: ``napari-unet-cells COMMAND``.

Exit codes: 0 done; 1 of several files some failed, the others are done; 2 bad input.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet_cells import __version__, cli_dataset, cli_retrain
from napari_unet_cells.errors import UserError
from napari_unet_cells.nets import DEFAULT_MODEL
from napari_unet_cells.nets.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from napari_unet_cells.batch import Request
    from napari_unet_cells.nets.training import TrainOptions

DONE, SOME_FAILED, BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever else the user runs Keras with
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Stopped. What was written so far is kept.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-unet-cells",
        description="Segment cells, train networks for it, and measure them.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    own = (_add_segment, _add_models, _add_train, _add_evaluate)
    for add in (*own, cli_retrain.add, cli_dataset.add):
        add(commands)
    return parser


Subparsers = argparse._SubParsersAction  # argparse has no public name for it


def _add_segment(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("segment", help="segment image files")
    parser.add_argument("path", nargs="+", help="image, folder or pattern such as 'day1/*.tif'")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        type=Path,
        help="folder for NAME_cells.tif, NAME_classes.tif, NAME_cells.csv and NAME.json",
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_PATH",
        help=f"an installed model or a .keras file (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--diameter",
        type=float,
        metavar="PIXELS",
        help="how wide the cells are (default: estimated for each image)",
    )
    parser.add_argument("--channel", type=int, metavar="N", help="channel to segment, from 0")
    parser.add_argument(
        "--plane", type=_plane, metavar="N|all", help="of a stack: one plane, from 0, or all"
    )
    parser.add_argument(
        "--link", choices=("z", "t"), help="cells keep their id along this axis of a stack"
    )
    parser.add_argument("--smallest", type=int, metavar="PIXELS", help="drop cells of fewer pixels")
    parser.add_argument(
        "--split",
        type=float,
        metavar="0..1",
        help="how readily touching cells are separated (default: the model's own)",
    )
    parser.add_argument(
        "--keep-holes", action="store_true", help="do not fill background inside of a cell"
    )
    parser.add_argument(
        "--drop-border", action="store_true", help="leave out cells cut by the image's border"
    )
    parser.add_argument(
        "--quality",
        default="normal",
        choices=("normal", "high"),
        help="high: look at everything in four flips, which takes four times as long",
    )
    parser.add_argument(
        "--pixel-size",
        type=float,
        metavar="MICROMETERS",
        help="width of a pixel, for images that do not say it",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.set_defaults(command=_segment)


def _plane(text: str) -> int | str:
    return text if text == "all" else int(text)


def _request(options: argparse.Namespace) -> Request:
    from napari_unet_cells.batch import Request
    from napari_unet_cells.segmentation import Settings

    for name in ("diameter", "pixel_size"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, not {value:g}.")
    if options.split is not None and not 0 <= options.split <= 1:
        raise UserError(f"--split must lie between 0 and 1, not {options.split:g}.")
    if options.link and options.plane != "all":
        raise UserError("--link needs --plane all: cells are linked from plane to plane.")
    settings = Settings(
        diameter=options.diameter,
        smallest=options.smallest,
        split=options.split,
        fill_holes=False if options.keep_holes else None,
        drop_border=True if options.drop_border else None,
        quality=options.quality,
    )
    return Request(
        settings,
        options.channel,
        options.plane,
        options.link,
        options.pixel_size,
        options.overwrite,
    )


def _segment(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.batch import FileDone, PixelsDone, segment_files

    request = _request(options)
    paths, failed = _find(options.path)
    if not paths:
        return BAD_INPUT
    total = len(paths) + failed
    events = segment_files(paths, options.output, options.model, request)
    with tqdm(total=len(paths), unit="image", disable=None) as bar:
        for event in events:
            if isinstance(event, PixelsDone):
                bar.set_postfix_str(f"{event.path.name} {event.fraction:.0%}")
            elif isinstance(event, FileDone):
                bar.update()
                failed += bool(event.problem)
                stream = sys.stderr if event.problem else sys.stdout
                bar.write(_file_line(event), file=stream)
    if failed == total == 1:
        return BAD_INPUT
    if total > 1:
        print(f"{total - failed} of {total} done; results in {options.output}")
    return SOME_FAILED if failed else DONE


def _find(named: Sequence[str]) -> tuple[list[Path], int]:
    """Images of what was named, and how many names stand for none; those are reported."""
    from napari_unet_cells.files import find_images

    good = []
    for name in named:
        try:
            find_images([name])
            good.append(name)
        except UserError as error:
            print(error, file=sys.stderr)
    return find_images(good), len(named) - len(good)


def _file_line(event: object) -> str:
    from napari_unet_cells.batch import FileDone

    assert isinstance(event, FileDone)
    if event.problem:
        return f"{event.path.name}: {event.problem}"
    return f"{event.path.name}: {event.summary}"


def _add_models(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="list the installed models, or describe one")
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME_OR_PATH",
        help="describe this one: what it works on, its scores, when not to use it",
    )
    parser.set_defaults(command=_models)


def _models(options: argparse.Namespace) -> int:
    from napari_unet_cells.nets import (
        broken_models,
        default_model,
        find_model,
        installed_models,
        model_folders,
    )
    from napari_unet_cells.nets.about import about_text

    if options.name is not None:
        print(about_text(find_model(options.name), full=True))
        return DONE
    models = installed_models()
    if not models:
        print("No model is installed.")
    for name, card in models.items():
        mark = " (default)" if name == default_model() else ""
        print(f"{name}{mark}: {card.description}")
        low, high = card.diameters
        if high:
            print(f"    for cells {low:g} to {high:g} pixels wide; finds {', '.join(card.classes)}")
        print(f"    {card.path}")
    for problem in broken_models().values():
        print(problem, file=sys.stderr)
    print(f"Your own models go into {model_folders()[0]}: NAME.keras and NAME.json.")
    return DONE


def _add_train(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("train", help="train a network on annotated folders")
    parser.add_argument("data", nargs="+", help="folder with images/ and masks/", type=Path)
    parser.add_argument("-o", "--output", required=True, metavar="MODEL.keras", type=Path)
    parser.add_argument(
        "--arch",
        default="mobilenet_unet",
        choices=sorted(ARCHITECTURES),
        help="architecture (default: mobilenet_unet)",
    )
    parser.add_argument("--alpha", type=float, help="width of the MobileNet (default: 0.25)")
    parser.add_argument(
        "--decoder",
        type=_numbers(int),
        metavar="N,N,N",
        help="filters of the MobileNet's decoder at strides 8, 4 and 2 (default: by --alpha)",
    )
    parser.add_argument(
        "--diameters",
        type=_numbers(float),
        metavar="LOW,HIGH",
        help="half of the crops are zoomed so that their cells are this wide, in pixels "
        "(default: 7,110)",
    )
    parser.add_argument(
        "--window",
        type=_numbers(float),
        metavar="LOW,HIGH",
        help="the model sees every image zoomed so that its cells are this wide, in pixels, and "
        "so does half of the training (default: as wide as they are in the data)",
    )
    parser.add_argument(
        "--teacher",
        metavar="NAME_OR_PATH",
        help="a model of the same classes whose doubts are learned as well",
    )
    parser.add_argument(
        "--init",
        metavar="FILE|imagenet",
        help="pretrained encoder weights: .npz, a file of keras.applications (no_top.h5), or "
        "imagenet, which is downloaded",
    )
    parser.add_argument(
        "--classes",
        metavar="NAME,NAME,...",
        help="the masks hold classes 0, 1, 2, ... of these names (default: one number a cell)",
    )
    parser.add_argument(
        "--channels",
        type=int,
        default=3,
        help="of the images: 1 grey, 3 RGB or grey (default), or any number of others",
    )
    parser.add_argument("--minutes", type=float, default=40.0, help="time budget (default: 40)")
    parser.add_argument("--batch", type=int, default=8, help="crops in a step (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of crops and weights (default: 0)")
    parser.add_argument(
        "--checkpoint",
        metavar="DIR",
        type=Path,
        help="where a stopped training is kept (default: MODEL.checkpoint)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint; --minutes counts from the first start",
    )
    parser.add_argument("--overwrite", action="store_true", help="start anew over an old model")
    parser.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.files import FileExists
    from napari_unet_cells.nets.training import BatchHalved, StepDone
    from napari_unet_cells.train import Fitting, Trained, train

    events = train(
        options.data,
        options.output,
        _train_options(options),
        options.checkpoint,
        options.resume,
        options.overwrite,
    )
    layout = "{desc}{percentage:3.0f}%|{bar}| {n:.1f}/{total:g} min{postfix}"
    with tqdm(total=options.minutes, bar_format=layout, disable=None) as bar:
        try:
            for event in events:
                if isinstance(event, StepDone):
                    bar.n = min(event.minutes, options.minutes)
                    bar.set_postfix(step=event.step, loss=f"{event.loss:.3f}")
                elif isinstance(event, BatchHalved):
                    said = f"The memory is full: from here on the batch is {event.batch}."
                    bar.write(said, file=sys.stderr)
                elif isinstance(event, Fitting):
                    bar.set_postfix_str("fitting and measuring")
                elif isinstance(event, Trained):
                    bar.write(f"Model: {event.card.path}\nCurve: {event.curve}", file=sys.stdout)
        except KeyboardInterrupt:
            folder = options.checkpoint or options.output.with_suffix(".checkpoint")
            if (folder / "state.json").is_file():
                bar.write("The same command with --resume goes on from here.", file=sys.stderr)
            raise
        except FileExists as error:
            raise UserError(
                f"{error.path} exists and was kept: --resume goes on with it, --overwrite starts "
                "anew, or choose another name."
            ) from error
    return DONE


def _numbers(kind: type[int] | type[float]) -> Callable[[str], tuple[float, ...]]:
    """Read numbers above 0 with commas between them."""

    def numbers(text: str) -> tuple[float, ...]:
        values = tuple(kind(part) for part in text.split(","))
        if not all(0 < value < math.inf for value in values):
            raise ValueError
        return values

    return numbers


def _check_range(option: str, values: tuple[float, ...] | None) -> None:
    if values is not None and (len(values) != 2 or values[0] > values[1]):
        raise UserError(f"{option} takes two numbers, the lower one first, such as 18,36.")


def _train_options(options: argparse.Namespace) -> TrainOptions:
    from napari_unet_cells.augment import AugmentOptions
    from napari_unet_cells.nets.training import CELL_CLASSES, TrainOptions

    alpha = options.alpha
    if options.minutes <= 0 or options.batch < 1 or (alpha is not None and alpha <= 0):
        raise UserError("--minutes and --alpha must be above 0 and --batch at least 1.")
    known = ARCHITECTURES[options.arch].options
    if alpha is not None and "alpha" not in known:
        raise UserError(f"--alpha is the width of a MobileNet; {options.arch} has none.")
    if options.decoder is not None and (len(options.decoder) != 3 or "alpha" not in known):
        raise UserError("--decoder takes three numbers of filters, and a MobileNet only.")
    _check_range("--diameters", options.diameters)
    _check_range("--window", options.window)
    given = {"alpha": alpha, "decoder": options.decoder and list(options.decoder)}
    build = {**known, **{name: value for name, value in given.items() if value is not None}}
    crops = {"diameters": options.diameters, "window": options.window}
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
        batch=options.batch,
        seed=options.seed,
        augment=AugmentOptions(**{name: value for name, value in crops.items() if value}),
        teacher=options.teacher,
    )


def _add_evaluate(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("evaluate", help="score a model on annotated folders")
    parser.add_argument("model", help="an installed model or a .keras file")
    parser.add_argument("data", nargs="+", help="folder with images/ and masks/", type=Path)
    parser.add_argument(
        "--split",
        default="val",
        choices=("train", "val", "all"),
        help="images to score, as index.json divides them (default: val)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE.json", type=Path, help="write scores of each image here"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.json")
    parser.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.dataset import read_items
    from napari_unet_cells.engine import open_network
    from napari_unet_cells.evaluate import evaluate, report, summarize_by_kind
    from napari_unet_cells.files import write_json
    from napari_unet_cells.nets import find_model

    card = find_model(options.model)
    if options.output is not None and options.output.exists() and not options.overwrite:
        raise UserError(f"{options.output} exists and was kept; --overwrite replaces it.")
    items = read_items(options.data, None if options.split == "all" else options.split)
    scored = list(tqdm(evaluate(items, open_network(card), card), total=len(items), disable=None))
    summaries = summarize_by_kind(scored)
    for kind, summary in summaries.items():
        print(f"\n{kind}\n{summary.table()}")
    result = report(scored, card)
    if options.output is not None:
        print(f"\nwritten: {write_json(options.output, result, options.overwrite)}")
    else:
        print(json.dumps(result["scores"]))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
