"""What of a library's error is shown in a sentence."""

from __future__ import annotations

import pytest

from napari_unet_cells.errors import reason


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Already in use", "Already in use"),
        ("Incompatible shapes\n  at line 3", "Incompatible shapes"),
        (
            "Exception from src/inference/src/cpp/core.cpp:135:\n"
            "Check 'file' failed at src/frontend.cpp:10:\n"
            "Unable to read the model\n\n",
            "Unable to read the model",
        ),
        ("Exception from src/x.cpp:7:", "Exception from src/x.cpp:7:"),
        ("", ""),
        ("x" * 300, "x" * 200),
    ],
)
def test_the_line_that_says_why_is_taken(text: str, told: str) -> None:
    assert reason(RuntimeError(text)) == told
