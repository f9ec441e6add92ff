"""Options under the names of earlier versions."""

from __future__ import annotations

import argparse

import pytest

from napari_unet_cells.cli.old_names import keep_old_name


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    new = parser.add_argument("--new", type=int, choices=(1, 2), default=1)
    keep_old_name("--old", new, parser)
    return parser


@pytest.mark.parametrize(
    ("arguments", "value"),
    [([], 1), (["--new", "2"], 2), (["--old", "2"], 2), (["--new", "1", "--old", "2"], 2)],
)
def test_the_old_name_sets_the_new_one(
    parser: argparse.ArgumentParser, arguments: list[str], value: int
) -> None:
    assert vars(parser.parse_args(arguments)) == {"new": value}


def test_the_old_name_has_the_same_choices(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--old", "3"])
    assert "--old: invalid choice: 3" in capsys.readouterr().err


def test_help_names_the_new_one_only(parser: argparse.ArgumentParser) -> None:
    assert "--new" in parser.format_help()
    assert "--old" not in parser.format_help()
