"""Options of earlier versions: understood for one release more, named in no help."""

from __future__ import annotations

import argparse


def keep_old_name(old: str, action: argparse.Action, parser: argparse.ArgumentParser) -> None:
    """Let an option be given under its old name, too.

    Parameters
    ----------
    old : str
        Such as "--certainty".
    action : argparse.Action
        The option under its new name, as `add_argument` returned it; it takes one value.
    parser : argparse.ArgumentParser
    """
    parser.add_argument(
        old,
        dest=action.dest,
        type=action.type or str,
        choices=action.choices,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
