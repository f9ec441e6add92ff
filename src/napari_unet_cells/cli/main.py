"""Command line: ``napari-unet-cells COMMAND``.

Exit codes: 0 done; 1 some of several files failed; 2 bad input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet_cells.cli import dataset as cli_dataset
from napari_unet_cells.cli import info as cli_info
from napari_unet_cells.cli import retrain as cli_retrain
from napari_unet_cells.cli import simulate as cli_simulate
from napari_unet_cells.cli import train as cli_train
from napari_unet_cells.cli.ending import (
    Terminated,
    lasting_output,
    problem_of,
    stopped_by_the_system,
)
from napari_unet_cells.cli.old_names import keep_old_name
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.files.atomic import FileExists
from napari_unet_cells.files.unforeseen import unforeseen
from napari_unet_cells.models.catalogue import DEFAULT_MODEL
from napari_unet_cells.untrusted.rules import printable, safe

if TYPE_CHECKING:
    from napari_unet_cells.batch.segment_files import Request

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

#: Said on Ctrl+C by commands that say nothing else.
STOPPED = "Stopped. What was written so far is kept."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with lasting_output() as output:
        code = _run(arguments)
        output.flush()
        if said := problem_of(output):
            print(said, file=sys.stderr)
            return code or BAD_INPUT
    return code


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        with stopped_by_the_system():
            command: Callable[[argparse.Namespace], int] = options.command
            return command(options)
    except FileExists as error:
        said = f"{error.path} exists and was kept; --overwrite replaces it."
    except UserError as error:
        said = str(error)
    except MemoryError as error:
        said = str(OutOfMemory()) if not str(error) else f"The memory is full ({error})."
    except KeyboardInterrupt as error:
        print(getattr(options, "stopped", STOPPED), file=sys.stderr)
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    except Exception as error:
        said = unforeseen(error, _log_folder())
    print(safe(said), file=sys.stderr)
    return BAD_INPUT


def _log_folder() -> Path:
    """Folder of the file with errors that nobody foresaw."""
    from napari_unet_cells.settings import user_folder

    with contextlib.suppress(OSError):
        user_folder().mkdir(parents=True, exist_ok=True)
    return user_folder()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-unet-cells",
        description="Segment cells, train networks for it, and measure them.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    own = (_add_segment, _add_models, _add_evaluate)
    others = (cli_train, cli_retrain, cli_dataset, cli_simulate, cli_info)
    for add in (*own, *(command.add for command in others)):
        add(commands)
    return parser


class _Version(argparse.Action):
    """Print the version, which is looked up for nobody else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, help="show the version and exit", **options)

    def __call__(self, parser: argparse.ArgumentParser, *values: object) -> None:
        from napari_unet_cells import __version__

        print(__version__)
        parser.exit()


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
        metavar="NAME_OR_PATH",
        help="an installed model or a .keras file (default: the one that `models` "
        f"marks as default, {DEFAULT_MODEL} unless you chose another)",
    )
    parser.add_argument(
        "--diameter",
        type=float,
        metavar="PIXELS",
        help="typical cell diameter (default: estimated for each image)",
    )
    parser.add_argument(
        "--channel",
        type=_channel,
        metavar="N,...",
        help="channel to segment, counted from 0, or its name in the file; several, such as 0,2, "
        "are projected, or become one image for a model that was trained on as many",
    )
    parser.add_argument(
        "--projection",
        choices=("max", "mean"),
        help="make one channel of the chosen ones (default: of all), such as nuclei and cytoplasm",
    )
    parser.add_argument(
        "--plane",
        type=_plane,
        metavar="N|all",
        help="planes of a stack to segment: one, counted from 0, or all",
    )
    parser.add_argument(
        "--link", choices=("z", "t"), help="link cells across the planes of a stack along this axis"
    )
    min_size = parser.add_argument(
        "--min-size",
        type=int,
        metavar="PIXELS",
        help="a cell of fewer pixels joins one that it touches, or is dropped",
    )
    keep_old_name("--smallest", min_size, parser)
    parser.add_argument(
        "--split",
        type=float,
        metavar="0..1",
        help="higher splits touching cells more readily (default: the model's own)",
    )
    min_probability = parser.add_argument(
        "--min-probability",
        type=float,
        metavar="0..1",
        help="probability threshold: drop cells whose mean probability is lower (default: the "
        "model's own; 0 keeps all)",
    )
    keep_old_name("--certainty", min_probability, parser)
    parser.add_argument("--keep-holes", action="store_true", help="do not fill holes inside cells")
    parser.add_argument(
        "--drop-border", action="store_true", help="drop cells that touch the border of the image"
    )
    _add_augmentation(parser)
    _add_runtime(parser)
    parser.add_argument(
        "--pixel-size",
        type=float,
        metavar="MICROMETERS",
        help="pixel width of images whose files do not state it",
    )
    parser.add_argument(
        "--allow-missing-chunks",
        action="store_true",
        help="read a zarr image also where none of its chunks is there (where some are, those that "
        "are missing count as empty, and that is said)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.set_defaults(command=_segment)


def _add_augmentation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tta",
        "--test-time-augmentation",
        action="store_true",
        help="average predictions over four mirrored copies (test-time augmentation): slightly "
        "more accurate, up to four times slower",
    )
    parser.add_argument(
        "--quality", dest="tta", type=_quality, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime",
        default="",
        metavar="NAME",
        help="library that computes the network: openvino, tensorflow, torch, or auto for the best "
        "one there is (default: auto)",
    )


def _quality(text: str) -> bool:
    """Read the value of `--quality`, the old name of `--tta`."""
    if text not in ("normal", "high"):
        raise argparse.ArgumentTypeError(f"invalid choice: {text} (choose from normal, high)")
    return text == "high"


def _channel(text: str) -> int | str | tuple[int | str, ...]:
    """Read "1", "GFP", or several with commas between them."""
    parts = [part.strip() for part in text.split(",")]
    chosen = tuple(int(part) if part.lstrip("-").isdecimal() else part for part in parts)
    return chosen[0] if len(chosen) == 1 else chosen


def _plane(text: str) -> int | str:
    return text if text == "all" else int(text)


def _request(options: argparse.Namespace) -> Request:
    from napari_unet_cells.batch.segment_files import Request
    from napari_unet_cells.files.pixel_size import LARGEST_PIXEL, SMALLEST_PIXEL
    from napari_unet_cells.segmentation.pipeline import Settings

    for name in ("diameter", "pixel_size"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, not {value:g}.")
    for name in ("split", "min_probability"):
        value = getattr(options, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')} must lie between 0 and 1, not {value:g}.")
    micrometers = options.pixel_size
    if micrometers is not None and not SMALLEST_PIXEL <= micrometers <= LARGEST_PIXEL:
        raise UserError(
            f"--pixel-size must lie between {SMALLEST_PIXEL:g} and {LARGEST_PIXEL:g} micrometers, "
            f"not {micrometers:g}."
        )
    if options.link and options.plane != "all":
        raise UserError("--link needs --plane all: cells are linked from plane to plane.")
    settings = Settings(
        diameter=options.diameter,
        min_size=options.min_size,
        split=options.split,
        min_probability=options.min_probability,
        fill_holes=False if options.keep_holes else None,
        drop_border=True if options.drop_border else None,
        test_time_augmentation=options.tta,
    )
    return Request(
        settings,
        options.channel,
        options.plane,
        options.link,
        options.pixel_size,
        options.overwrite,
        options.projection,
        options.runtime,
        options.allow_missing_chunks,
    )


def _segment(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.batch.segment_files import FileDone, PixelsDone, segment_files
    from napari_unet_cells.models.catalogue import default_model

    request = _request(options)
    paths, failed = _find(options.path)
    if not paths:
        return BAD_INPUT
    total = len(paths) + failed
    events = segment_files(paths, options.output, options.model or default_model(), request)
    with tqdm(total=len(paths), unit="image", disable=None) as bar:
        for event in events:
            if isinstance(event, PixelsDone):
                bar.set_postfix_str(f"{printable(event.path.name, 60)} {event.fraction:.0%}")
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
    """Find the images; report and count the names that match none."""
    from napari_unet_cells.files import find_images

    good = []
    for name in named:
        try:
            find_images([name])
            good.append(name)
        except UserError as error:
            print(safe(str(error)), file=sys.stderr)
    return find_images(good), len(named) - len(good)


def _file_line(event: object) -> str:
    from napari_unet_cells.batch.segment_files import FileDone

    assert isinstance(event, FileDone)
    return safe(f"{event.path.name}: {event.problem or event.summary}")


def _add_models(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="list the installed models, or describe one")
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME_OR_PATH",
        help="describe this model: modalities, scores, when not to use it",
    )
    parser.set_defaults(command=_models)


def _models(options: argparse.Namespace) -> int:
    from napari_unet_cells.models.card import ModelCard
    from napari_unet_cells.models.catalogue import (
        default_model,
        find_model,
        found_models,
        model_folders,
    )

    if options.name is not None:
        from napari_unet_cells.models.description import about_text

        print(about_text(find_model(options.name), full=True))
        return DONE
    found, default = found_models(), default_model()
    models = {name: card for name, card in found.items() if isinstance(card, ModelCard)}
    if not models:
        print("No model is installed.")
    for name, card in models.items():
        mark = " (default)" if name == default else ""
        print(safe(f"{name}{mark}: {card.description}"))
        low, high = card.diameters
        if high:
            named = safe(", ".join(card.classes))
            print(f"    for cells {low:g} to {high:g} pixels wide; finds {named}")
        print(safe(f"    {card.path}"))
    for problem in found.values():
        if isinstance(problem, UserError):
            print(safe(str(problem)), file=sys.stderr)
    print(f"Your own models go into {model_folders()[0]}: NAME.keras and NAME.json.")
    return DONE


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
    _add_augmentation(parser)
    _add_runtime(parser)
    parser.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.datasets.annotated_images import read_annotated_images
    from napari_unet_cells.engine.opening import open_network
    from napari_unet_cells.files import refuse_existing, write_json
    from napari_unet_cells.files.records import json_path
    from napari_unet_cells.models.catalogue import find_model
    from napari_unet_cells.segmentation.pipeline import Settings
    from napari_unet_cells.training.evaluate import evaluate, report, summarize_by_modality

    card = find_model(options.model)
    if options.output is not None:
        refuse_existing([json_path(options.output)], options.overwrite)
    items = read_annotated_images(options.data, None if options.split == "all" else options.split)
    settings = Settings(test_time_augmentation=options.tta)
    network = open_network(card, options.runtime)
    events = evaluate(items, network, card, settings)
    scored = list(tqdm(events, total=len(items), disable=None))
    summaries = summarize_by_modality(scored)
    for kind, summary in summaries.items():
        print(f"\n{kind}\n{summary.table()}")
    result = {**report(scored, card), "device": network.device}
    if options.output is not None:
        print(f"\nwritten: {write_json(options.output, result, options.overwrite)}")
    else:
        print(json.dumps(result["scores"]))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
