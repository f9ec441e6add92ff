"""Segment cells with MobileNet U-Nets, correct the labels, retrain the network."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet_cells.errors import UserError
    from napari_unet_cells.segmentation.result import Result
    from napari_unet_cells.segmentation.segment import segment
    from napari_unet_cells.segmentation.segment_at import segment_at

try:
    __version__ = version("napari-unet-cells")
except PackageNotFoundError:  # a source tree that was not installed
    __version__ = "0+unknown"

__all__ = ["Result", "UserError", "__version__", "segment", "segment_at"]

_HOMES = {
    "Result": "segmentation.result",
    "UserError": "errors",
    "segment": "segmentation.segment",
    "segment_at": "segmentation.segment_at",
}


def __getattr__(name: str) -> Any:
    """Load public names when they are first used: importing the package stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
