"""Start of the command line, which answers Ctrl+C while it is still being loaded."""

from __future__ import annotations

import sys

#: Exit code after Ctrl+C, as `cli.main` gives it.
_INTERRUPTED = 130


def main() -> int:
    """Load the command line and run it; returns the exit code."""
    try:
        from napari_unet_cells.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("Stopped before anything was done.", file=sys.stderr)
        return _INTERRUPTED
