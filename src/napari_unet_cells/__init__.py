"""Segment cells with MobileNet U-Nets, correct the labels, retrain the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet_cells.errors import UserError
    from napari_unet_cells.segmentation.result import Result
    from napari_unet_cells.segmentation.segment import segment
    from napari_unet_cells.segmentation.segment_at import segment_at

    __version__: str

__all__ = ["Result", "UserError", "__version__", "segment", "segment_at"]

_HOMES = {
    "Result": "segmentation.result",
    "UserError": "errors",
    "segment": "segmentation.segment",
    "segment_at": "segmentation.segment_at",
}


def __getattr__(name: str) -> Any:
    """Load public names when they are first used: importing the package stays cheap."""
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("napari-unet-cells")
    except PackageNotFoundError:  # a source tree that was not installed
        return "0+unknown"
