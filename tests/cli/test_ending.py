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
from napari_unet_cells.cli.ending import LastingStream, Terminated, stopped_by_the_system
from napari_unet_cells.cli.main import main

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
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_stops_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    kept: list[str] = []

    def train(*_: object) -> int:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            kept.append("checkpoint")
        return 0

    monkeypatch.setattr(cli, "_models", train)
    before = signal.getsignal(signal.SIGTERM)
    # A shell that starts the tests in the background has them ignore Ctrl+C.
    of_ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["models"]) == code
    finally:
        signal.signal(signal.SIGINT, of_ctrl_c)
    assert kept == ["checkpoint"]
    assert capsys.readouterr().err == f"{cli.STOPPED}\n"
    assert signal.getsignal(signal.SIGTERM) is before


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
