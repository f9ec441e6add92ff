"""What makes the tests of windows faster."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="session")
def _freeze_imports() -> None:
    """Keep the collector of garbage away from what the imports made.

    napari collects garbage whenever a viewer closes and its fixture does around each test; most
    of that time went to 200,000 objects of modules, which stay until the end.
    """
    import napari.window  # noqa: F401

    import napari_unet_cells.widgets.dock  # noqa: F401

    gc.collect()
    gc.freeze()
