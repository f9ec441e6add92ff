"""``napari-unet-cells dataset``: check, list or split annotated images."""

from __future__ import annotations

import argparse
import sys

from napari_unet_cells.cli import values
from napari_unet_cells.untrusted.rules import printable, safe

DONE, BAD_INPUT = 0, 2


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser("dataset", help="check, list or split annotated images")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="report everything that is wrong with a folder")
    check.set_defaults(command=_check, stopped="Stopped.")
    listing = actions.add_parser("list", help="list the images or regions of a folder")
    listing.set_defaults(command=_list, stopped="Stopped.")
    split = actions.add_parser("split", help="choose held-out images for validation")
    split.add_argument(
        "--fraction", type=float, default=0.2, help="fraction of held-out images (default: 0.2)"
    )
    split.add_argument("--seed", type=int, default=0, help="random seed of the split (default: 0)")
    split.set_defaults(command=_split)
    for action in (check, listing, split):
        action.add_argument("folder", type=values.path, metavar="DIR", help="the dataset")


def _check(options: argparse.Namespace) -> int:
    from napari_unet_cells.datasets.check import check, summarize

    findings = check(options.folder)
    errors = [finding for finding in findings if finding.severity == "error"]
    for finding in findings:
        if finding.severity == "error":
            print(safe(finding.sentence), file=sys.stderr)
        else:
            print(safe(f"Note: {finding.sentence}"))
    if errors:
        return BAD_INPUT
    print(f"{options.folder} is fine: {summarize(options.folder)[0]}.")
    return DONE


def _list(options: argparse.Namespace) -> int:
    from napari_unet_cells.datasets.check import summarize

    summary, records = summarize(options.folder)
    for record in records:
        facts = [record.split or "undecided", printable(record.modality)]
        if record.version > 1:
            facts.append(f"version {record.version}")
        if record.approved:
            facts.append(f"approved {printable(record.approved[:10])}")
        if record.edited:
            facts.append("corrected")
        print(f"{printable(record.name)}: {', '.join(facts)}")
    print(f"{summary}.")
    return DONE


def _split(options: argparse.Namespace) -> int:
    from napari_unet_cells.datasets.split import split

    division = split(options.folder, options.fraction, options.seed)
    for name in division.val:
        print(f"held out: {printable(name)}")
    print(
        f"{len(division.train)} for training, {len(division.val)} held out; "
        f"{division.decided} of them were assigned now."
    )
    return DONE
