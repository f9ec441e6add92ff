"""Run all tests and sum them up as pytest does: ``python scripts/run_tests.py``.

They run as three pytest processes, because TensorFlow, PyTorch and Mesa's OpenGL end in a
segmentation fault when one process loads two of them. All always run; the exit code is 0 if all
succeed. They run side by side: a line of progress begins with its suite, and what a suite reports
at its end (failures, skipped tests) is printed in one piece.

``--one-by-one`` runs a suite after the other, for a machine of one core or little
memory. ``--fast`` runs the quick tests only, in one process: none opens a window, loads
TensorFlow or takes a second. Ctrl+C ends whatever runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from xml.etree import ElementTree

import psutil

SUITES = ("not gui and not torch", "gui", "torch")
FAST = ("not gui and not network and not torch and not slow",)

#: A screen of its own keeps the windows of the tests off the user's desktop.
XVFB = ("xvfb-run", "-a", "-s", "-screen 0 1400x900x24")

#: What a shell says of a program that Ctrl+C ended.
INTERRUPTED = 130

#: Seconds that pytest has to end by itself after Ctrl+C.
GRACE = 10.0

_printing = Lock()

Outcome = tuple[int, Counter[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites and print the sum of their results."""
    parser = argparse.ArgumentParser(description="Run the tests and sum them up.")
    parser.add_argument("--fast", action="store_true", help="run the quick tests only")
    parser.add_argument(
        "--one-by-one", action="store_true", help="run the suites one after the other"
    )
    options = parser.parse_args(arguments)
    suites = FAST if options.fast else SUITES
    start = time.monotonic()
    try:
        if len(suites) == 1 or options.one_by_one:
            outcomes = [run_suite(suite) for suite in suites]
        else:
            outcomes = run_side_by_side(suites)
    except KeyboardInterrupt:
        end_children()
        say("Interrupted.")
        return INTERRUPTED
    total: Counter[str] = Counter()
    for _, counts in outcomes:
        total += counts
    say(closing_line(total, time.monotonic() - start))
    return 1 if any(code for code, _ in outcomes) else 0


def run_side_by_side(suites: Sequence[str]) -> list[Outcome]:
    """Run suites at the same time; Ctrl+C ends them all.

    Parameters
    ----------
    suites : sequence of str
        Marker expressions, as for `run_suite`.

    Returns
    -------
    list of (int, Counter)
        As of `run_suite`, in the same order.
    """
    with ThreadPoolExecutor(len(suites)) as pool:
        running = [pool.submit(run_suite, suite, piped=True) for suite in suites]
        try:
            return [suite.result() for suite in running]
        except KeyboardInterrupt:
            end_children()  # or leaving the pool would wait for the tests
            raise


def run_suite(marker: str, piped: bool = False) -> Outcome:
    """Run the tests that a marker expression selects.

    Parameters
    ----------
    marker : str
        As for ``pytest -m``.
    piped : bool
        Whether another suite prints at the same time, so that `show` has to tell them apart.

    Returns
    -------
    code : int
        Of pytest; 5, which says that no test was found, is a failure like any other.
    counts : Counter
        Number of tests by outcome. A process that ended without a failed test, yet not well
        (a crash, nothing collected), counts as one error.
    """
    say(f"\n##### pytest -m '{marker}'")
    environment = dict(os.environ)
    screen: Sequence[str] = ()
    if marker == "gui" and sys.platform == "linux":
        if shutil.which(XVFB[0]) is None:
            say("xvfb-run is missing: the tests that open a window cannot run.")
            return 1, Counter(error=1)
        screen = XVFB
        environment["QT_QPA_PLATFORM"] = "xcb"  # not Wayland, not offscreen, which has no OpenGL
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        pytest = (sys.executable, "-m", "pytest", "-m", marker, f"--junitxml={report}")
        code = run((*screen, *pytest), environment, marker if piped else None)
        counts = read_report(report)
    if code != 0 and not counts["failed"] + counts["error"]:
        say(f"pytest -m '{marker}' ended with exit code {code}.")
        counts["error"] = 1
    return code, counts


def run(command: Sequence[str], environment: dict[str, str], name: str | None) -> int:
    """Run a command to its end and return its exit code; a name has `show` print for it."""
    if name is None:
        return subprocess.Popen(command, env=environment).wait()
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    with process.stdout as lines:
        show(name, lines)
    return process.wait()


def show(name: str, lines: Iterable[str]) -> None:
    """Print the progress of pytest as it comes, and the report that follows it in one piece.

    Parameters
    ----------
    name : str
        Of the suite; begins each line of progress.
    lines : iterable of str
        What pytest prints. Its report begins at the second line that is ruled with ``=``.
    """
    ruled, report = 0, []
    for line in lines:
        ruled += line.startswith("=====")
        if ruled < 2:
            say(f"{name:>7} | {line.rstrip()}")
        else:
            report.append(line)
    if report:
        say(f"\n##### pytest -m '{name}'\n{''.join(report)}")


def say(text: str) -> None:
    """Print whole lines, also where two threads do."""
    with _printing:
        print(text, flush=True)


def end_children() -> None:
    """End the processes that this one started, and theirs.

    Ctrl+C in a terminal reaches them all, and pytest then ends by itself; a signal that was sent
    to this process alone does not.
    """
    _, alive = psutil.wait_procs(psutil.Process().children(recursive=True), GRACE)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                end(process)
        _, alive = psutil.wait_procs(alive, GRACE)


def read_report(path: Path) -> Counter[str]:
    """Count the tests of a JUnit report by outcome; a crash leaves no report and no counts."""
    counts: Counter[str] = Counter()
    if not path.exists():
        return counts
    for suite in ElementTree.parse(path).iter("testsuite"):
        failed, error, skipped, tests = (
            int(suite.get(name, "0")) for name in ("failures", "errors", "skipped", "tests")
        )
        passed = tests - failed - error - skipped
        counts.update(failed=failed, passed=passed, skipped=skipped, error=error)
    return counts


def closing_line(counts: Counter[str], seconds: float) -> str:
    """Write the last line as pytest writes it: ``=== 2 failed, 8 passed in 3.21s ===``."""
    parts = [
        f"{counts[name]} {name}{'s' if name == 'error' and counts[name] > 1 else ''}"
        for name in ("failed", "passed", "skipped", "error")
        if counts[name]
    ]
    return f" {', '.join(parts) or 'no tests ran'} in {seconds:.2f}s ".center(80, "=")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends it as Ctrl+C does
    sys.exit(main())
