"""Selections of tests that pytest takes or refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
WAYS_OUT = (
    "`make test`",
    "`pytest -m gui`",
    "`pytest -m torch`",
    '`pytest -m "not gui and not torch"`',
)


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    """Make a folder of four test files under the `conftest.py` that the tests here have."""
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makeini(
        "[pytest]\nmarkers =\n    gui\n    network\n    torch\naddopts = --strict-markers\n"
    )
    pytester.makepyfile(
        test_window="import pytest\n@pytest.mark.gui\ndef test_a(): pass\ndef test_b(): pass\n",
        test_tensorflow="import pytest\npytestmark = pytest.mark.network\ndef test_c(): pass\n",
        test_torch="import pytest\npytestmark = pytest.mark.torch\ndef test_e(): pass\n",
        test_plain="def test_d(): pass\n",
    )
    return pytester


@pytest.mark.parametrize(
    "chosen",
    [
        ("test_window.py", "test_tensorflow.py"),
        ("test_torch.py", "test_tensorflow.py"),
        ("-m", "gui or network"),
        ("-m", "gui or torch"),
        ("-m", "not gui"),
    ],
)
def test_two_kinds_are_refused_in_one_process(
    folder: pytest.Pytester, chosen: tuple[str, ...]
) -> None:
    done = folder.runpytest_inprocess("-p", "no:pytest-qt", *chosen)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    (sentence,) = [line for line in done.errlines if line.startswith("ERROR")]
    for way_out in WAYS_OUT:
        assert way_out in sentence


@pytest.mark.parametrize(
    ("chosen", "passed"),
    [
        (("-m", "gui"), 1),
        (("-m", "not gui and not torch"), 3),
        (("test_tensorflow.py", "test_torch.py", "-m", "not torch"), 1),
        (("test_window.py",), 2),
        (("test_tensorflow.py", "test_plain.py"), 2),
        (("test_tensorflow.py", "test_window.py", "-k", "not test_a"), 2),
    ],
)
def test_one_kind_just_runs(folder: pytest.Pytester, chosen: tuple[str, ...], passed: int) -> None:
    done = folder.runpytest_inprocess("-p", "no:pytest-qt", *chosen)
    assert done.ret == pytest.ExitCode.OK
    done.assert_outcomes(passed=passed, deselected=done.parseoutcomes().get("deselected", 0))


def test_a_bare_pytest_is_refused_here() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert WAYS_OUT[0] in done.stderr
