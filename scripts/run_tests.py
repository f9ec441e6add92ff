"""Run all tests and sum them up as pytest does: ``python scripts/run_tests.py``.

They run as two pytest processes, because TensorFlow and Mesa's OpenGL end in a segmentation
fault when one process loads both. Both always run; the exit code is 0 if both succeed.

``--fast`` runs the quick tests only, in one process: none opens a window, loads TensorFlow or
takes a second.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

SUITES = ("not gui", "gui")
FAST = ("not gui and not network and not slow",)

#: A screen of its own keeps the windows of the tests off the user's desktop.
XVFB = ("xvfb-run", "-a", "-s", "-screen 0 1400x900x24")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites and print the sum of their results."""
    parser = argparse.ArgumentParser(description="Run the tests and sum them up.")
    parser.add_argument("--fast", action="store_true", help="run the quick tests only")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    total: Counter[str] = Counter()
    codes = []
    for suite in FAST if options.fast else SUITES:
        code, counts = run_suite(suite)
        codes.append(code)
        total += counts
    print(closing_line(total, time.monotonic() - start), flush=True)
    return 1 if any(codes) else 0


def run_suite(marker: str) -> tuple[int, Counter[str]]:
    """Run the tests that a marker expression selects.

    Parameters
    ----------
    marker : str
        As for ``pytest -m``.

    Returns
    -------
    code : int
        Of pytest; 5, which says that no test was found, is a failure like any other.
    counts : Counter
        Number of tests by outcome. A process that ended without a failed test, yet not well
        (a crash, nothing collected), counts as one error.
    """
    print(f"\n##### pytest -m '{marker}'", flush=True)
    environment = dict(os.environ)
    screen: Sequence[str] = ()
    if marker == "gui" and sys.platform == "linux":
        if shutil.which(XVFB[0]) is None:
            print("xvfb-run is missing: the tests that open a window cannot run.", flush=True)
            return 1, Counter(error=1)
        screen = XVFB
        environment["QT_QPA_PLATFORM"] = "xcb"  # not Wayland, not offscreen, which has no OpenGL
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        pytest = (sys.executable, "-m", "pytest", "-m", marker, f"--junitxml={report}")
        code = subprocess.run((*screen, *pytest), env=environment, check=False).returncode
        counts = read_report(report)
    if code != 0 and not counts["failed"] + counts["error"]:
        print(f"pytest -m '{marker}' ended with exit code {code}.", flush=True)
        counts["error"] = 1
    return code, counts


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
    sys.exit(main())
