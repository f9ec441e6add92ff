"""Words for when something was: how long ago, or on which day."""

from __future__ import annotations

from datetime import datetime, timedelta


def ago(seconds: float) -> str:
    """Give a time that has passed, such as "10 s ago"."""
    if seconds < 5:
        return "just now"
    if seconds < 60:
        return f"{5 * int(seconds / 5)} s ago"
    if seconds < 3600:
        return f"{int(seconds / 60)} min ago"
    return f"{int(seconds / 3600)} h ago"


def when(date: datetime, now: datetime | None = None) -> str:
    """Format a date for people: "today 17:32", "yesterday 17:32", "2026-11-03 17:32"."""
    now = now or datetime.now(date.tzinfo)
    days = {now.date(): "today", now.date() - timedelta(days=1): "yesterday"}
    return f"{days.get(date.date(), f'{date:%Y-%m-%d}')} {date:%H:%M}"


def since(date: datetime, now: datetime | None = None) -> str:
    """Say how long ago a date is within the hour, in minutes; else when it was.

    Seconds would be wrong a moment later, where the sentence stays in the window.
    """
    seconds = ((now or datetime.now(date.tzinfo)) - date).total_seconds()
    return ago(seconds // 60 * 60) if seconds < 3600 else when(date, now)
