"""`scripts/run_tests.py` on suites of a test or two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import run_tests

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

Write = Callable[[str], object]

#: Each half of the pair needs the other one to run at the same time.
PAIR = """
import time
from pathlib import Path

import pytest


def meet(mine, other, seconds):
    Path(mine).touch()
    end = time.monotonic() + seconds
    while not Path(other).exists():
        assert time.monotonic() < end, f"{other} does not run"
        time.sleep(0.01)


@pytest.mark.one
def test_one(): meet("one", "two", %(seconds)s)


@pytest.mark.two
def test_two(): meet("two", "one", %(seconds)s)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes the test file of a folder with the markers one and two."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    one\n    two\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(run_tests, "SUITES", ("one", "two"))
    return lambda text: (tmp_path / "test_it.py").write_text(text, "utf-8")


def test_the_suites_run_side_by_side_and_are_told_apart(
    write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    write(PAIR % {"seconds": 60})

    assert run_tests.main([]) == 0

    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].startswith("==")
    assert " 2 passed in " in lines[-1]
    for suite in ("one", "two"):
        assert f"{suite:>7} | collected 2 items / 1 deselected / 1 selected" in lines


def test_one_by_one_the_second_begins_when_the_first_has_ended(
    write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    write(PAIR % {"seconds": 0.5})

    assert run_tests.main(["--one-by-one"]) == 1

    text = capfd.readouterr().out
    assert "two does not run" in text
    assert "one does not run" not in text  # the first one was there
    assert " 1 failed, 1 passed in " in text.splitlines()[-1]


def test_what_failed_is_printed_in_full_and_in_one_piece(
    write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    write(
        "import pytest\n"
        "@pytest.mark.one\ndef test_bad(): assert sum(range(7)) == 20\n"
        "@pytest.mark.two\ndef test_good(): pass\n"
    )

    assert run_tests.main([]) == 1

    text = capfd.readouterr().out
    _, report = text.split("= FAILURES =", 1)
    report = report[: report.index("FAILED test_it.py::test_bad")]
    assert "assert 21 == 20" in report
    assert " | " not in report
    assert " 1 failed, 1 passed in " in text.splitlines()[-1]


def test_a_crash_counts_as_an_error(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    write(
        "import os\nimport pytest\n"
        "@pytest.mark.one\ndef test_bad(): os._exit(3)\n"
        "@pytest.mark.two\ndef test_good(): pass\n"
    )

    assert run_tests.main([]) == 1

    lines = capfd.readouterr().out.splitlines()
    assert "pytest -m 'one' ended with exit code 3." in lines
    assert " 1 passed, 1 error in " in lines[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no Ctrl+C to a program alone")
@pytest.mark.parametrize("options", [[], ["--one-by-one"]])
def test_ctrl_c_ends_both(write: Write, tmp_path: Path, options: list[str]) -> None:
    write(
        "import time\nfrom pathlib import Path\nimport pytest\n"
        "@pytest.mark.one\ndef test_one(): Path('one').touch(), time.sleep(60)\n"
        "@pytest.mark.two\ndef test_two(): Path('two').touch(), time.sleep(60)\n"
    )
    code = (
        "import signal, sys, run_tests; "
        # What runs in the background of a shell was told to ignore Ctrl+C.
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        "run_tests.SUITES = ('one', 'two'); "
        f"sys.exit(run_tests.main({options}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what a terminal sends goes to all of a session
    )
    started = ["one"] if options else ["one", "two"]
    end = time.monotonic() + 60
    while not all((tmp_path / name).exists() for name in started):
        assert time.monotonic() < end
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == len(started)

    os.killpg(process.pid, signal.SIGINT)

    out, _ = process.communicate(timeout=30)
    assert process.returncode == run_tests.INTERRUPTED
    assert out.splitlines()[-1] == "Interrupted."
    assert not any(child.is_running() for child in children)
    assert (tmp_path / "two").exists() is not bool(options)
