"""Words for when something was."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from napari_unet_cells.corrections.times import ago, since, when

NOW = datetime(2026, 11, 4, 9, 0)


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
def test_the_time_that_has_passed_is_said(seconds: float, said: str) -> None:
    assert ago(seconds) == said


def test_dates_of_today_and_yesterday_have_words() -> None:
    date = datetime(2026, 11, 3, 17, 32)
    assert when(date, date + timedelta(hours=1)) == "today 17:32"
    assert when(date, NOW) == "yesterday 17:32"
    assert when(date, NOW + timedelta(days=1)) == "2026-11-03 17:32"


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (timedelta(seconds=-1), "just now"),  # the clock was put back
        (timedelta(seconds=50), "just now"),
        (timedelta(minutes=10, seconds=59), "10 min ago"),
        (timedelta(minutes=70), "today 07:50"),
        (timedelta(days=1), "yesterday 09:00"),
        (timedelta(days=2), "2026-11-02 09:00"),
    ],
)
def test_within_the_hour_it_is_said_how_long_ago_a_date_was(before: timedelta, said: str) -> None:
    assert since(NOW - before, NOW) == said
