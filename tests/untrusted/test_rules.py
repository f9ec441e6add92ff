"""Rules for values, and the words in which they refuse one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from napari_unet_cells.untrusted.rules import (
    Fields,
    Malformed,
    color,
    date,
    either,
    fields,
    flag,
    items,
    mapping,
    matching,
    number,
    one_of,
    pair,
    printable,
    shown,
    text,
    whole,
)

KEPT: list[tuple[Any, Any, Any]] = [
    (flag, True, True),
    (whole(1, 64), 64, 64),
    (whole(1, 64), 16.0, 16),
    (number(0, 1), 1, 1.0),
    (text(3), "abc", "abc"),
    (one_of(("a", "b")), "b", "b"),
    (matching("[0-9]+", "digits"), "12", "12"),
    (color, "#ff8800", "#ff8800"),
    (items(whole(0, 9)), [1, 2], (1, 2)),
    (pair(number()), [1, 2.5], (1.0, 2.5)),
    (mapping(flag), {"a": True}, {"a": True}),
    (either(flag, text()), "a", "a"),
    (date, "2026-01-02T03:04:05+00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
]


@pytest.mark.parametrize(("rule", "value", "expected"), KEPT)
def test_a_value_that_keeps_its_rule(rule: Any, value: Any, expected: Any) -> None:
    found = rule(value)
    assert found == expected
    assert type(found) is type(expected)


BROKEN: list[tuple[Any, Any, str]] = [
    (flag, 1, "must be true or false, not 1"),
    (whole(1, 64), True, "a whole number from 1 to 64, not true"),
    (whole(1, 64), "x", "a whole number from 1 to 64, not 'x'"),
    (whole(1, 64), 1e30, "a whole number from 1 to 64, not 1000000000"),
    (whole(1, 64), 1.5, "not 1.5"),
    (whole(1, 64), float("inf"), "not inf"),
    (whole(0, 9), 10**400, "a whole number from 0 to 9, not 1000"),
    (number(0, 1), None, "a number from 0 to 1, not null"),
    (number(0, 1), float("nan"), "not nan"),
    (number(), 10**400, "a number from -1e.300 to 1e.300"),
    (number(), True, "not true"),
    (text(3), "abcd", "a text of 0 to 3 characters, and it has 4"),
    (text(), {"a": 1}, "must be a text, not an object"),
    (one_of(("a", "b")), "c", "one of 'a', 'b', not 'c'"),
    (one_of(("a", "b")), ["a"], "not a list of 1"),
    (color, "red", "a colour such as #ff8800, not 'red'"),
    (color, "#ff880", "not '#ff880'"),
    (items(whole(0, 9)), "12", "must be a list, not '12'"),
    (items(whole(0, 9), most=2), [1, 2, 3], "a list of 0 to 2 values, and it has 3"),
    (items(items(whole(0, 9))), [[1], [2, "x"]], r"^\[1\]\[1\] must be a whole number"),
    (pair(number()), [1], "a list of 2 to 2 values, and it has 1"),
    (mapping(flag), [], "an object with names and values, not a list of 0"),
    (mapping(flag), {"a": {"b": 1}}, r"^\.a must be true"),
    (mapping(flag, most=1), {"a": True, "b": True}, "at most 1 names"),
    (either(flag, text(1)), "ab", "a text of 0 to 1"),
    (date, "yesterday", "a date such as 2026-11-29, not 'yesterday'"),
    (date, 20261129, "must be a date"),
    (fields(lambda f: f.take("a", flag)), {}, "has no 'a'"),
    (fields(lambda f: f.take("a", flag)), {"a": None}, "^a must be true or false, not null"),
]


@pytest.mark.parametrize(("rule", "value", "words"), BROKEN)
def test_a_value_that_breaks_its_rule_is_named(rule: Any, value: Any, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        rule(value)


def test_fields_give_nothing_without_a_rule() -> None:
    values = Fields({"a": 1, "none": None})
    assert "a" in values
    assert "none" not in values
    assert values.take("a", whole(0, 9)) == 1
    assert values.take_or("none", whole(0, 9), 7) == 7
    assert values.optional("none", flag) is None
    assert values.optional("missing", flag) is None
    with pytest.raises(Malformed, match=r"^a must be true"):
        values.optional("a", flag)
    with pytest.raises(Malformed, match="unknown 'a'"):
        values.refuse_others({"none"})


def test_what_is_shown_is_one_short_line_without_control_characters() -> None:
    assert printable("a\x1b[31m\nb\u202ec") == "a [31m b c"
    assert printable("x" * 300, 10) == "xxxxxxx..."
    assert len(shown("x" * 10_000)) <= 40
    assert "\x1b" not in shown("\x1b[2J")
    assert len(shown(10**4000)) <= 40
