"""Count what the fuzzers tried, and say it at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def tried(request: pytest.FixtureRequest) -> Iterator[Counter[tuple[str, str]]]:
    """Count inputs by target and outcome, "read" or "refused"."""
    counts: Counter[tuple[str, str]] = Counter()
    yield counts
    report = request.config.pluginmanager.get_plugin("terminalreporter")
    if report is None:
        return
    report.write_line("")
    for target in sorted({target for target, _ in counts}):
        read, refused = counts[target, "read"], counts[target, "refused"]
        report.write_line(
            f"fuzz {target}: {read + refused} inputs, {read} read, {refused} refused in words"
        )
