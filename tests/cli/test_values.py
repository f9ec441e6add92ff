"""What is typed is refused in words of the user, and an empty name is not the current folder."""

from __future__ import annotations

import pytest

from napari_unet_cells.cli.main import main

OUT = ["-o", "out"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "", *OUT],
        ["segment", "a.tif", "-o", ""],
        ["batch", " ", *OUT],
        ["batch", "a.tif", "-o", ""],
        ["simulate", "-o", ""],
        ["train", "", "-o", "m.keras"],
        ["train", "data", "-o", ""],
        ["train", "data", "-o", "m.keras", "--checkpoint", ""],
        ["evaluate", "cells", ""],
        ["evaluate", "cells", "data", "-o", ""],
        ["retrain", ""],
        ["dataset", "check", ""],
    ],
)
def test_an_empty_name_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "it is empty; for the current folder write a dot" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--plane=1e308", "must be a whole number, not '1e308'"),
        ("--plane=nan", "must be a whole number, not 'nan'"),
        ("--plane=", "must be a whole number, not ''"),
        ("--plane=" + "9" * 5000, "must be a whole number, not '999"),
        ("--channel=" + "9" * 5000, "must be a whole number, not '999"),
        ("--channel=0," + "9" * 5000, "must be a whole number, not '999"),
    ],
)
def test_what_is_no_number_is_said_in_short(
    option: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["segment", "a.tif", *OUT, option])
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last
    assert len(last) < 200


@pytest.mark.parametrize("option", ["--decoder", "--window", "--diameters"])
@pytest.mark.parametrize("value", ["", "x", "nan,nan", "0,1", "1,,2", "1e400,1", "9" * 5000])
def test_what_are_no_numbers_is_said_in_short(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "data", "-o", "m.keras", f"{option}={value}"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert "numbers above 0 with commas between them, not" in last
    assert len(last) < 200
