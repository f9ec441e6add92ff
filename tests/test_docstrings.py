"""First docstring lines: a sentence or noun phrase from which a stranger could guess the file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "napari_unet_cells"
MODULES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]

#: A line that begins with one of these does not name its subject.
NOT_FIRST = frozenset(
    [
        "He",
        "Her",
        "His",
        "How",
        "It",
        "Its",
        "She",
        "That",
        "There",
        "These",
        "They",
        "This",
        "Those",
        "What",
        "When",
        "Where",
        "Which",
        "Who",
        "Whose",
        "Why",
    ]
)

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """Yield a module or class and what is public in it, by dotted name."""
    yield name, node
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
            not child.name.startswith("_")
        ):
            yield from public(child, f"{name}:{child.name}")


def faults(source: str, name: str) -> list[str]:
    """Say what is wrong with the first docstring lines of a module."""
    found = []
    for where, node in public(ast.parse(source), name):
        line = (ast.get_docstring(node) or "").partition("\n")[0]
        first = re.match(r"\w*", line)
        if not line:
            found.append(f"{where} has no docstring.")
        elif line[-1] not in ".:":
            found.append(f"{where} does not end with a full stop or a colon: {line}")
        elif first and first[0] in NOT_FIRST:
            found.append(f"{where} begins with a pronoun: {line}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_first_lines_say_their_subject(module: str) -> None:
    assert faults((PACKAGE / module).read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("", "m has no docstring."),
        ("'''A module.'''\ndef f(): pass", "m:f has no docstring."),
        ("'''A module'''", "m does not end with a full stop or a colon: A module"),
        ("'''What it is.'''", "m begins with a pronoun: What it is."),
        ("'''A.'''\nclass C:\n  '''C.'''\n  def f(self): '''It.'''", "m:C:f begins with a pronoun"),
    ],
)
def test_a_fault_is_found(source: str, fault: str) -> None:
    (found,) = faults(source, "m")
    assert found.startswith(fault)
    assert faults("'''A module.'''\ndef _private(): pass", "m") == []
