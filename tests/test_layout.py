"""Every module has a test file of its name, or a line in README.md that says what covers it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "src" / "napari_unet_cells"

#: The lines of README.md: ``| `files/tiff.py` | `files/test_reading.py` |``.
COVERED = dict(
    re.findall(
        r"^\| `(\S+\.py)` \| `(\S+\.py)`", (TESTS / "README.md").read_text(encoding="utf-8"), re.M
    )
)


def has_test_of_its_name(module: Path) -> bool:
    return (TESTS / module.parent / f"test_{module.name}").is_file()


def test_every_module_has_a_test_of_its_name_or_a_line() -> None:
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    assert Path("core/tiling.py") in modules
    without = {
        module.as_posix()
        for module in modules
        if module.name != "__init__.py" and not has_test_of_its_name(module)
    }
    # Only `make run` starts it, in a window that stays.
    assert without - {"__main__.py"} == set(COVERED)


def test_what_covers_a_module_exists() -> None:
    assert [path for path in COVERED.values() if not (TESTS / path).is_file()] == []
