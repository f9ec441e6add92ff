"""JSON with limits: of bytes, depth, numbers and characters, before anything is made of it.

What passes can be computed with, shown and written again without surprise: no number is NaN,
infinite or wider than 64 bits, no text holds half a character or a zero byte.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from napari_unet_cells.errors import UserError
from napari_unet_cells.untrusted.regular import read_bytes
from napari_unet_cells.untrusted.rules import Malformed, shown

#: Bytes of a document; the index of a dataset of 30,000 regions takes a half.
LONGEST = 2**26

#: Objects and lists in each other. Ours have less than 10.
DEEPEST = 32

#: Whole numbers: sizes, checksums, and times in nanoseconds need no more.
_WIDEST = 2**63


def parse_json(text: str | bytes, lenient: bool = False) -> Any:
    """Turn JSON into plain values.

    Parameters
    ----------
    text : str or bytes
        Bytes in UTF-8.
    lenient : bool
        Numbers that are not finite or too wide become null, as in the metadata of other
        programs; else they are refused.

    Raises
    ------
    Malformed
    """
    if len(text) > LONGEST:
        raise Malformed(f"it is longer than {LONGEST // 2**20} MB")
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        value = json.loads(decoded, parse_constant=_nothing if lenient else _refuse)
    except Malformed:
        raise
    except RecursionError as error:
        raise Malformed(f"it is nested more than {DEEPEST} times") from error
    except MemoryError as error:
        raise Malformed("it does not fit into the memory") from error
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise Malformed(f"it is no JSON: {shown(str(error))[1:-1]}") from error
    return _checked(value, lenient)


def read_json(path: Path, lenient: bool = False) -> Any:
    """Read a file with JSON; see `parse_json`.

    Raises
    ------
    Malformed
        Also where it is no regular file.
    OSError
        Where the disk refuses.
    """
    try:
        content = read_bytes(path, LONGEST)
    except UserError as error:
        raise Malformed(str(error)) from error
    return parse_json(content, lenient)


def _refuse(name: str) -> NoReturn:
    raise Malformed(f"it holds {name}, which is no number")


def _nothing(name: str) -> None:
    """Stand for NaN and Infinity."""


def _checked(document: Any, lenient: bool) -> Any:
    """Look at every value, without recursion: that is what is to be refused."""
    root = [document]
    pending: list[tuple[Any, int]] = [(root, 0)]
    while pending:
        container, depth = pending.pop()
        if depth > DEEPEST:
            raise Malformed(f"it is nested more than {DEEPEST} times")
        is_object = isinstance(container, dict)
        for key, value in list(container.items() if is_object else enumerate(container)):
            if is_object:
                _check_text(key)
            if isinstance(value, dict | list):
                pending.append((value, depth + 1))
            elif isinstance(value, str):
                _check_text(value)
            elif not _is_usable(value):
                if not lenient:
                    raise Malformed(f"it holds the number {shown(value)}, which is too large")
                container[key] = None
    return root[0]


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Malformed(f"the text {shown(text)} holds a zero byte")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Malformed(f"the text {shown(text)} holds half a character") from error


def _is_usable(value: Any) -> bool:
    """Whether a number can be computed with; true, false and null can."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or -_WIDEST <= value < _WIDEST
