"""Command line: ``napari-unet-cells COMMAND``.

Exit codes: 0 done; 1 some of several files failed; 2 bad input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_unet_cells.cli import batch as cli_batch
from napari_unet_cells.cli import dataset as cli_dataset
from napari_unet_cells.cli import info as cli_info
from napari_unet_cells.cli import retrain as cli_retrain
from napari_unet_cells.cli import simulate as cli_simulate
from napari_unet_cells.cli import train as cli_train
from napari_unet_cells.cli import values
from napari_unet_cells.cli.ending import (
    Terminated,
    lasting_output,
    problem_of,
    stopped_by_the_system,
)
from napari_unet_cells.cli.image_options import (
    add_augmentation,
    add_image_options,
    add_runtime,
    request_of,
)
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.files.atomic import FileExists
from napari_unet_cells.files.unforeseen import unforeseen
from napari_unet_cells.untrusted.rules import printable, safe

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

#: Said on Ctrl+C by commands that say nothing else.
STOPPED = "Stopped. What was written so far is kept."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault(
        "PYTHON_COLORS", "0"
    )  # of argparse, which `lasting_output` would take out
    with lasting_output() as output:
        code = _run(arguments)
        output.flush()
        if said := problem_of(output):
            print(said, file=sys.stderr)
            return code or BAD_INPUT
    return code


def _run(arguments: Sequence[str] | None) -> int:
    options = argparse.Namespace()
    try:
        with stopped_by_the_system():
            _parser().parse_args(arguments, options)
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

    try:
        folder = user_folder()
    except UserError:
        return Path(os.devnull)  # no folder: nothing is noted
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="napari-unet-cells",
        description="Segment cells, train networks for it, and measure them.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    own = (_add_segment, _add_models, _add_evaluate)
    others = (cli_batch, cli_train, cli_retrain, cli_dataset, cli_simulate, cli_info)
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
    parser = commands.add_parser("segment", help="segment a handful of image files")
    parser.add_argument(
        "path", nargs="+", type=values.name, help="image, folder or pattern such as 'day1/*.tif'"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        type=values.path,
        help="folder for NAME_cells.tif, NAME_classes.tif, NAME_cells.csv and NAME.json (with "
        "--track NAME_tracks.csv, too)",
    )
    add_image_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.set_defaults(command=_segment)


def _segment(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.batch.one_image import PixelsDone
    from napari_unet_cells.batch.segment_files import FileDone, segment_files
    from napari_unet_cells.models.catalogue import default_model

    request = request_of(options)
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
    from napari_unet_cells.models.architectures import unknown_architecture
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
        if unknown_architecture(card):
            print(safe(f"    {unknown_architecture(card)}"))
        print(safe(f"    {card.path}"))
    for problem in found.values():
        if isinstance(problem, UserError):
            print(safe(str(problem)), file=sys.stderr)
    print(f"Your own models go into {model_folders()[0]}: NAME.keras and NAME.json.")
    return DONE


def _add_evaluate(commands: Subparsers[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("evaluate", help="score a model on annotated folders")
    parser.add_argument("model", help="an installed model or a .keras file")
    parser.add_argument("data", nargs="+", help="folder with images/ and masks/", type=values.path)
    parser.add_argument(
        "--split",
        default="val",
        choices=("train", "val", "all"),
        help="images to score, as index.json divides them (default: val)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE.json",
        type=values.path,
        help="write scores of each image here",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.json")
    add_augmentation(parser)
    add_runtime(parser)
    parser.set_defaults(command=_evaluate, stopped="Stopped. Nothing was written.")


def _evaluate(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.datasets.annotated_images import read_annotated_images
    from napari_unet_cells.engine.opening import open_network
    from napari_unet_cells.files import check_folder, refuse_existing, write_json
    from napari_unet_cells.files.records import json_path
    from napari_unet_cells.models.catalogue import find_model
    from napari_unet_cells.segmentation.pipeline import Settings
    from napari_unet_cells.training.evaluate import evaluate, report, summarize_by_modality

    card = find_model(options.model)
    if options.output is not None:
        refuse_existing([json_path(options.output)], options.overwrite)
        check_folder(options.output.parent)
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
