"""Rules for the values of a document, and the fields of an object that they are applied to.

A rule takes a value of JSON and returns it in the type that was asked for, or raises `Malformed`::

    sizes = items(whole(1, 2**31), least=2, most=5)
    sizes([512, 512])       (512, 512)
    sizes([512, 1e30])      Malformed: must be a whole number from 1 to 2147483648, not 1e+30

Rules are put together from rules, and nothing but a rule gets a value out of `Fields`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

#: Returns the value as a T, or raises `Malformed`.
Rule: TypeAlias = Callable[[object], T]

#: Characters of a name, of a sentence, and of a path.
NAME, SENTENCE, PATH = 200, 10_000, 4096

#: Characters of a wrong value that an error shows.
_SHOWN = 40


class Malformed(ValueError):
    """A document does not say what it should: the end of a sentence that names the document."""

    def within(self, place: str) -> Malformed:
        """Give the same error, said of a value that lies at a place of a larger one."""
        text = str(self)
        joint = "" if text.startswith(("[", ".")) else " "
        return Malformed(f"{place}{joint}{text}")


def printable(text: str, longest: int = NAME) -> str:
    """Make a text fit to be shown: one line, no control or turning characters, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * longest]).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def safe(text: str) -> str:
    """Take out what would steer a terminal or turn text around; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" or _is_half(c) else " " for c in text)


def _is_half(character: str) -> bool:
    """Whether it is what stands for a byte of a name that is no UTF-8: it is shown as such."""
    return "\ud800" <= character <= "\udfff"


def shown(value: object) -> str:
    """Show a wrong value in an error."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false"}.get(value, "null")  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return printable(repr(value) if len(str(value)) < 1000 else f"{value!r:.60}", _SHOWN)


# --- single values -----------------------------------------------------------------------


def flag(value: object) -> bool:
    """Take true or false."""
    if not isinstance(value, bool):
        raise Malformed(f"must be true or false, not {shown(value)}")
    return value


def whole(low: int, high: int) -> Rule[int]:
    """Rule for a whole number within bounds; a float without a fraction is one."""

    def check(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            said = f"must be a whole number from {low} to {high}, not {shown(value)}"
            raise Malformed(said)
        return value

    return check


def number(low: float = -1e300, high: float = 1e300) -> Rule[float]:
    """Rule for a finite number within bounds."""

    def check(value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # NaN is not within any bounds; an int may be too large for a float
        if not is_number or not low <= value <= high:  # type: ignore[operator]
            raise Malformed(f"must be a number from {low:g} to {high:g}, not {shown(value)}")
        return float(value)  # type: ignore[arg-type]

    return check


def text(longest: int = NAME, least: int = 0) -> Rule[str]:
    """Rule for a text of so many characters."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise Malformed(f"must be a text, not {shown(value)}")
        if not least <= len(value) <= longest:
            raise Malformed(
                f"must be a text of {least} to {longest} characters, and it has {len(value)}"
            )
        return value

    return check


def one_of(choices: Collection[str]) -> Rule[str]:
    """Rule for one of some words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            known = ", ".join(map(repr, sorted(choices)))
            raise Malformed(f"must be one of {known}, not {shown(value)}")
        return value

    return check


def matching(pattern: str, what: str) -> Rule[str]:
    """Rule for a text of a form, which `what` says in words."""
    compiled = re.compile(pattern)

    def check(value: object) -> str:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise Malformed(f"must be {what}, not {shown(value)}")
        return value

    return check


#: A colour, such as "#ff8800".
color = matching(r"#(?:[0-9a-fA-F]{3,4}){1,2}", "a colour such as #ff8800")


def date(value: object) -> datetime:
    """Take a date and time of ISO 8601; without a zone, it is that of this computer."""
    try:
        found = datetime.fromisoformat(text(64)(value))
        return found if found.tzinfo is not None else found.astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise Malformed(f"must be a date such as 2026-11-29, not {shown(value)}") from error


# --- values made of others ---------------------------------------------------------------


def either(first: Rule[Any], *others: Rule[Any]) -> Rule[Any]:
    """Rule for a value that keeps one of several rules; the error is that of the last."""

    def check(value: object) -> Any:
        for rule in (first, *others)[:-1]:
            try:
                return rule(value)
            except Malformed:
                continue
        return (first, *others)[-1](value)

    return check


def items(rule: Rule[T], least: int = 0, most: int = 1000) -> Rule[tuple[T, ...]]:
    """Rule for a list of values that keep a rule each."""

    def check(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            raise Malformed(f"must be a list, not {shown(value)}")
        if not least <= len(value) <= most:
            said = f"must be a list of {least} to {most} values, and it has {len(value)}"
            raise Malformed(said)
        return tuple(_each(value, rule))

    return check


def _each(values: list[object] | tuple[object, ...], rule: Rule[T]) -> Iterator[T]:
    for index, value in enumerate(values):
        try:
            yield rule(value)
        except Malformed as error:
            raise error.within(f"[{index}]") from error


def pair(rule: Rule[T]) -> Rule[tuple[T, T]]:
    """Rule for a list of two values."""

    def check(value: object) -> tuple[T, T]:
        first, second = items(rule, 2, 2)(value)
        return first, second

    return check


def mapping(rule: Rule[T], most: int = 1000, longest_key: int = NAME) -> Rule[dict[str, T]]:
    """Rule for an object whose values keep a rule each, under any names."""

    def check(value: object) -> dict[str, T]:
        if not isinstance(value, Mapping):
            raise Malformed(f"must be an object with names and values, not {shown(value)}")
        if len(value) > most:
            raise Malformed(f"must have at most {most} names, and it has {len(value)}")
        name = text(longest_key)
        return {name(key): _at(str(key), rule, item) for key, item in value.items()}

    return check


def _at(key: str, rule: Rule[T], value: object) -> T:
    try:
        return rule(value)
    except Malformed as error:
        raise error.within(f".{printable(key, _SHOWN)}") from error


def anything(value: object) -> Any:
    """Take what is passed on as it is, and neither computed with nor made a path.

    `json_text.parse_json` has seen to it that it is finite, not too deep and of real characters.
    """
    return value


#: An object whose values are passed on as they are.
plain_mapping = mapping(anything)


def fields(make: Callable[[Fields], T]) -> Rule[T]:
    """Rule for an object that `make` turns into a T."""

    def check(value: object) -> T:
        return make(Fields(value))

    return check


_REQUIRED: Any = object()


class Fields:
    """The names and values of an object; a value comes out by a rule, or not at all.

    Parameters
    ----------
    value : object
        Of JSON.

    Raises
    ------
    Malformed
        Where it is no object.
    """

    def __init__(self, value: object) -> None:
        self._values = mapping(anything, most=10**6, longest_key=PATH)(value)

    def __contains__(self, key: str) -> bool:
        """Whether there is a value of this name, other than null."""
        return self._values.get(key) is not None

    def take(self, key: str, rule: Rule[T]) -> T:
        """Give the value of a name, which must be there."""
        if key not in self._values:
            raise Malformed(f"has no '{key}'")
        return self._checked(key, rule)

    def take_or(self, key: str, rule: Rule[T], default: Any) -> T:
        """Give the value of a name; `default` where it is missing or null."""
        return self._checked(key, rule) if key in self else default

    def optional(self, key: str, rule: Rule[T]) -> T | None:
        """Give the value of a name; None where it is missing or null."""
        return self._checked(key, rule) if key in self else None

    def refuse_others(self, known: Collection[str]) -> None:
        """Refuse names that are not known: they are wrong, or of a later version."""
        others = sorted(self._values.keys() - set(known))
        if others:
            raise Malformed(f"has an unknown '{printable(others[0], _SHOWN)}'")

    def as_they_are(self) -> dict[str, Any]:
        """Give all values, unchecked, to be written again."""
        return dict(self._values)

    def _checked(self, key: str, rule: Rule[T]) -> T:
        try:
            return rule(self._values[key])
        except Malformed as error:
            raise error.within(key) from error
