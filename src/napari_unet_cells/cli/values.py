"""Read values of the command line, and refuse them in a sentence.

argparse says of a `ValueError` which function raised it, which means nothing to whoever typed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from napari_unet_cells.untrusted.rules import shown


def name(text: str) -> str:
    """Take a name or a path; an empty one would stand for the current folder.

    Parameters
    ----------
    text : str
        Empty where a variable of the shell is not set: ``-o "$OUT"``.

    Raises
    ------
    argparse.ArgumentTypeError
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; for the current folder write a dot")
    return text


def path(text: str) -> Path:
    """Take a path; see `name`."""
    return Path(name(text))


def channel(text: str) -> int | str | tuple[int | str, ...]:
    """Read "1", "GFP", or several with commas between them."""
    parts = [part.strip() for part in text.split(",")]
    chosen = tuple(_whole(part) if part.lstrip("-").isdecimal() else part for part in parts)
    return chosen[0] if len(chosen) == 1 else chosen


def plane(text: str) -> int | str:
    """Read the number of a plane, or "all"."""
    return text if text == "all" else _whole(text)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:  # also of thousands of digits
        said = f"must be a whole number, not {shown(text)}"
        raise argparse.ArgumentTypeError(said) from error


def numbers(kind: type[int] | type[float]) -> Callable[[str], tuple[float, ...]]:
    """Read numbers above 0 with commas between them.

    Parameters
    ----------
    kind : type
        Of the numbers.

    Returns
    -------
    callable (str) -> tuple
        The `type` of an option.
    """

    def read(text: str) -> tuple[float, ...]:
        try:
            values = tuple(kind(part) for part in text.split(","))
        except ValueError:
            values = ()
        if not values or not all(0 < value < math.inf for value in values):
            kinds = "whole numbers" if kind is int else "numbers"
            raise argparse.ArgumentTypeError(
                f"must be {kinds} above 0 with commas between them, not {shown(text)}"
            )
        return values

    return read
