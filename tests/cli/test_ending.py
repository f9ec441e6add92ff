"""Output that nobody takes, and signals: as a program, since the streams are those of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.cli import main as cli
from napari_unet_cells.cli.ending import (
    LastingStream,
    Terminated,
    lasting_output,
    stopped_by_the_system,
)
from napari_unet_cells.cli.main import main
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.training.events import Retrained

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such streams")

PROGRAM = [sys.executable, "-m", "napari_unet_cells.cli"]


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = " ".join(PROGRAM)
    return subprocess.run(
        ["sh", "-c", command.replace("PROGRAM", program)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "NAPARI_UNET_CELLS_HOME": str(folder / "home")},
    )


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("PROGRAM models >&-", 0, ""),
        ("PROGRAM models >&- 2>&- <&-", 0, ""),
        ("(sleep 0.2; exit 0) | PROGRAM models", 0, ""),
        ("{ PROGRAM models; echo $? >code; } | true; cat code >&2", 0, "0\n"),
        ("PROGRAM models >/dev/full", 2, "could not be written (No space left on device)"),
        ("PROGRAM models nowhere 2>/dev/full", 2, ""),
    ],
)
def test_output_that_nobody_takes_is_no_traceback(
    tmp_path: Path, command: str, code: int, said: str
) -> None:
    if "/dev/full" in command and not Path("/dev/full").exists():
        pytest.skip("there is no full device")
    done = shell(command, tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_stray_module_in_the_current_folder_is_not_imported(tmp_path: Path) -> None:
    for name in ("numpy.py", "argparse.py", "pathlib.py"):
        (tmp_path / name).write_text("raise SystemExit('stray')")
    done = subprocess.run(
        [*PROGRAM, "--version"], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stream_goes_on_after_its_first_error() -> None:
    class Full:
        n = 0

        def write(self, text: str) -> int:
            self.n += 1
            raise OSError(28, os.strerror(28))

        def fileno(self) -> int:
            raise ValueError

    full = Full()
    stream = LastingStream(full)
    assert stream.write("abc") == 3
    stream.write("more")
    assert full.n == 1
    assert stream.error is not None
    assert stream.error.errno == 28


@posix
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 143), ("SIGINT", 130)])
def test_a_signal_stops_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    number = getattr(signal, name)
    kept: list[str] = []

    def train(*_: object) -> int:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            kept.append("checkpoint")
        return 0

    monkeypatch.setattr(cli, "_models", train)
    # As `nohup` leaves it, where it runs the tests.
    of_the_terminal = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = signal.getsignal(signal.SIGTERM)
    # A shell that starts the tests in the background has them ignore Ctrl+C.
    of_ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["models"]) == code
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, of_ctrl_c)
        signal.signal(signal.SIGHUP, of_the_terminal)
    assert kept == ["checkpoint"]
    assert capsys.readouterr().err == f"{cli.STOPPED}\n"
    assert signal.getsignal(signal.SIGTERM) is before


@posix
def test_what_is_ignored_stays_ignored() -> None:
    """`nohup` has a program go on when its terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_the_system():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nothing_that_is_printed_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with lasting_output() as stream:
        print("a\x1b[2Jb\x07\x9b2J\u202ec\td")
        stream.write("\r50%")
    assert capsys.readouterr().out == "a [2Jb  2J c\td\n\r50%"


def test_a_name_that_holds_commands_for_a_terminal_is_harmless_in_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x\x1b[2J.keras").write_bytes(b"")
    for command in (["info", "--no-device"], ["models"], ["segment", "\x1b[2J", "-o", "out"]):
        main(command)
    said = capsys.readouterr()
    assert "x [2J" in said.out
    assert not any("\x00" <= c < " " and c not in "\n\t" for c in said.out + said.err)


def test_a_retraining_that_is_stopped_at_its_end_says_that_the_model_is_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    card = ModelCard(
        "new", "none", ("background", "cell"), 1, 16, 32, "", path=tmp_path / "n.keras"
    )

    def retrain(*_: Any) -> Any:
        yield Retrained(card, None, None, 1.0, 1.0, held_out=0)
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_unet_cells.training.retrain.retrain", retrain)
    assert main(["retrain", str(tmp_path)]) == 130
    said = capsys.readouterr().err
    assert f"Stopped. The new model is whole: {tmp_path / 'n.keras'}" in said
    assert "No new model" not in said


def test_a_retraining_that_is_stopped_says_that_nothing_was_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def retrain(*_: Any) -> Any:
        raise Terminated

    monkeypatch.setattr("napari_unet_cells.training.retrain.retrain", retrain)
    assert main(["retrain", str(tmp_path)]) == 143
    said = capsys.readouterr().err
    assert "No new model was made" in said
    assert "kept" not in said


def test_only_the_main_thread_takes_signals() -> None:
    from threading import Thread

    entered: list[bool] = []

    def work() -> None:
        with stopped_by_the_system():
            entered.append(True)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [True]
