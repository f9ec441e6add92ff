"""Several processes: the same results, and a worker that is killed loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_unet_cells.batch.processes import Processes, check_workers
from napari_unet_cells.batch.run import BatchRun, Executor, here
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.batch.work import UnitDone
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals"),
    pytest.mark.timeout(600),
]

INTERRUPTED = 130


@pytest.fixture
def folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """Write eight images."""
    images = tmp_path / "in"
    images.mkdir()
    for n in range(8):
        write_image(images / f"n{n}.tif", seed=n, shape=(96, 80 + 20 * n))
    return images


def run(images: Path, output: Path, execute: Executor) -> list[UnitDone]:
    batch = BatchRun(find_units([str(images)], output), output, "cells-fast", execute=execute)
    done = [event for event in batch.events() if isinstance(event, UnitDone)]
    batch.close()
    return done


def check_same(first: Path, second: Path) -> None:
    """Compare the results of two runs, without times."""
    names = sorted(os.listdir(first))
    assert sorted(os.listdir(second)) == names
    for name in names:
        one, other = first / name, second / name
        if name.endswith(".tif"):
            pixels, others = (np.asarray(read_image(path).data) for path in (one, other))
            np.testing.assert_array_equal(pixels, others)
        elif name.endswith((".csv", ".jpg")):
            assert one.read_bytes() == other.read_bytes(), name
        elif name.endswith(".json"):
            records = [json.loads(path.read_text()) for path in (one, other)]
            assert records[0]["cells"] == records[1]["cells"]
            assert records[0]["parameters"] == records[1]["parameters"]


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Give the processes that `Processes` started."""
    found = []
    for child in process.children():
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def kill_workers(n: int, spare: Sequence[int] = ()) -> threading.Thread:
    """Kill the next workers of this process, one after the other, as soon as they are there."""

    def kill() -> None:
        killed = set(spare)
        until = time.monotonic() + 300
        while len(killed) < n + len(spare) and time.monotonic() < until:
            for worker in workers_of(psutil.Process()):
                if worker.pid not in killed and len(killed) < n + len(spare):
                    time.sleep(0.2)
                    killed.add(worker.pid)
                    worker.kill()
            time.sleep(0.05)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_two_workers_of_whom_one_is_killed_give_the_results_of_one_process(
    folder: Path, tmp_path: Path
) -> None:
    assert [done.problem for done in run(folder, tmp_path / "one", here)] == [""] * 8

    output = tmp_path / "two"
    batch = BatchRun(find_units([str(folder)], output), output, "cells-fast", execute=Processes(2))
    done = []
    for event in batch.events():
        if isinstance(event, UnitDone):
            done.append(event)
            if len(done) == 2:
                workers = workers_of(psutil.Process())
                assert len(workers) == 2
                workers[0].kill()
    batch.close()
    assert sorted(event.unit.name for event in done) == [f"n{n}" for n in range(8)]
    assert [event.problem for event in done] == [""] * 8
    assert workers_of(psutil.Process()) == []
    check_same(tmp_path / "one", output)


def test_what_ends_every_worker_is_listed_and_the_rest_is_done(
    folder: Path, tmp_path: Path
) -> None:
    killer = kill_workers(3)
    done = run(folder, tmp_path / "out", Processes(1))
    killer.join()
    assert [event.unit.name for event in done] == [f"n{n}" for n in range(8)]
    assert "3 processes that computed it ended in the middle (killed by SIGKILL)" in done[0].problem
    assert [event.problem for event in done[1:]] == [""] * 7


def start(folder: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _MAIN, "batch", str(folder), "-o", str(output)]
    command += ["--model", "cells-fast", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


#: A shell that runs tests in the background ignores Ctrl+C, and its children inherit that.
_MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from napari_unet_cells.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""


def wait_for(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_the_run_and_it_goes_on(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out"
    with start(folder, output, "--workers", "2") as process:
        wait_for(lambda: list(output.glob("n*.json")), "no image was done")
        workers = workers_of(psutil.Process(process.pid))
        assert len(workers) == 2
        process.send_signal(number)
        said = process.communicate(timeout=200)[1]
    wait_for(lambda: not any(worker.is_running() for worker in workers), "workers are left")
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "The same command goes on where it was interrupted." in said
        assert "Traceback" not in said
        assert not list(output.glob(".*"))
        assert (output / "report.html").exists()
    done = run(folder, output, here)
    assert any(event.before for event in done)
    assert [event.problem for event in done] == [""] * 8
    run(folder, tmp_path / "fresh", here)
    check_same(tmp_path / "fresh", output)


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_a_number_of_workers_that_makes_no_sense_is_a_sentence(n: int) -> None:
    with pytest.raises(UserError, match=f"must lie between 1 and 1000, not {n}"):
        check_workers(n)
