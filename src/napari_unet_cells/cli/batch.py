"""The command ``batch``: many images, which may be interrupted at any time and goes on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from napari_unet_cells.cli import values
from napari_unet_cells.cli.image_options import add_image_options, request_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.untrusted.rules import printable, safe

if TYPE_CHECKING:
    from napari_unet_cells.batch.run import BatchRun, Executor
    from napari_unet_cells.batch.work import UnitDone

#: Exit codes, see `cli.main`.
_DONE, _SOME_FAILED, _BAD_INPUT = 0, 1, 2


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "batch", help="segment many images; goes on where it was interrupted, and writes a report"
    )
    parser.add_argument(
        "path",
        nargs="+",
        type=values.name,
        metavar="INPUT",
        help="image, folder, pattern such as 'day*/*.tif', OME-Zarr or plate",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        type=values.path,
        help="folder for the results of each image, cells.csv and report.html",
    )
    add_image_options(parser)
    _add_files(parser)
    _add_sharing(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that are in the way or were changed by somebody else; what is done "
        "and unchanged stays",
    )
    parser.set_defaults(
        command=_batch, stopped="Stopped. The same command goes on where it was interrupted."
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    """Add the options for the files that are written."""
    parser.add_argument(
        "--format",
        choices=("tiff", "ome-zarr"),
        default="tiff",
        help="files of the labels: TIFFs, or one OME-Zarr for each image, for images of any size "
        "(default: tiff)",
    )
    parser.add_argument(
        "--ngff",
        choices=("0.4", "0.5"),
        default="0.5",
        help="version of OME-Zarr that is written (default: 0.5)",
    )
    parser.add_argument(
        "--table",
        choices=("csv", "parquet"),
        default="csv",
        help="kind of the tables of cells (default: csv; parquet needs pyarrow)",
    )


def _add_sharing(parser: argparse.ArgumentParser) -> None:
    """Add the options for sharing the images among processes or computers."""
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes of this computer that share the images (default: 1)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="scheduler of dask.distributed, such as tcp://10.0.0.5:8786, whose workers share the "
        "images; they must see the same folders",
    )
    parser.add_argument(
        "--part",
        metavar="N/M",
        help="do the N-th of M parts of the images, without table and report, as jobs of an array "
        "do; the same command without --part writes them afterwards",
    )


def _batch(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from napari_unet_cells.batch.run import BatchRun
    from napari_unet_cells.batch.units import Part, find_units
    from napari_unet_cells.models.catalogue import default_model

    request = replace(
        request_of(options), table=options.table, format=options.format, ngff=options.ngff
    )
    units = find_units(options.path, options.output)
    if options.part is not None:
        units = Part.of(options.part).share(units)
    for sentence in (*units.problems, *units.notes):
        print(safe(sentence), file=sys.stderr)
    if not units.units:  # there may be more parts than images
        return _BAD_INPUT if options.part is None or units.problems else _DONE
    model = options.model or default_model()
    with _executor(options) as execute:
        whole = options.part is None
        run = BatchRun(units, options.output, model, request, execute, whole)
        try:
            _follow(run)
        finally:
            run.close()
    failed = len(units.problems) + sum(bool(done.problem) for done in run.done.values())
    total = len(units.units) + len(units.problems)
    report = f"report: {options.output / 'report.html'}" if whole else f"part {options.part}"
    print(f"{total - failed} of {total} done; {report}")
    return _SOME_FAILED if failed else _DONE


@contextmanager
def _executor(options: argparse.Namespace) -> Iterator[Executor]:
    """Give what does the images: this process, several ones, or a cluster."""
    from napari_unet_cells.batch.processes import Processes, check_workers
    from napari_unet_cells.batch.run import here

    check_workers(options.workers)
    if options.scheduler is None:
        yield here if options.workers == 1 else Processes(options.workers)
        return
    if options.workers != 1:
        raise UserError(
            "--workers is for this computer, and --scheduler for a cluster, which has as many "
            "workers as were started there. Leave one of them out."
        )
    from napari_unet_cells.batch.cluster import cluster

    with cluster(options.scheduler) as execute:
        yield execute


def _follow(run: BatchRun) -> None:
    """Show how the run goes on."""
    from tqdm import tqdm

    from napari_unet_cells.batch.work import Note, UnitDone

    before = 0
    with (
        closing(run.events()) as events,
        tqdm(total=len(run.units.units), unit="image", disable=None) as bar,
    ):
        for event in events:
            if isinstance(event, Note):
                bar.write(safe(event.text), file=sys.stderr)
                continue
            if not isinstance(event, UnitDone):
                bar.set_postfix_str(f"{printable(event.path.name, 60)} {event.fraction:.0%}")
                continue
            bar.update()
            before += event.before
            if not event.before:
                before = _say_before(before, bar.write)
                stream = sys.stderr if event.problem else sys.stdout
                bar.write(_line(event), file=stream)
        _say_before(before, bar.write)


def _say_before(n: int, write: Callable[[str], None]) -> int:
    """Say how many images were done before, once; return how many are left to be said."""
    if n:
        write(f"{n} {'was' if n == 1 else 'were'} done by an earlier run.")
    return 0


def _line(done: UnitDone) -> str:
    anew = f" (began anew: {done.why})" if done.why else ""
    said = done.problem or (done.record.summary if done.record else "")
    return safe(f"{done.unit.name}: {said}{anew}")
