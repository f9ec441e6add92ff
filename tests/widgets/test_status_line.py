"""Words of the line at the foot of the dock; `test_dock` tests that it follows corrections."""

from __future__ import annotations

import pytest

from napari_unet_cells.widgets.status_line import describe_ago

pytestmark = pytest.mark.gui


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "just now"),
        (4.9, "just now"),
        (14, "10 s ago"),
        (59.9, "55 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7300, "2 h ago"),
    ],
)
def test_the_time_since_the_last_save_is_said(seconds: float, said: str) -> None:
    assert describe_ago(seconds) == said
