"""``python -m napari_unet_cells``: napari with a sample image and the dock.

Without a display the sample is segmented headlessly.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> int:
    """Open napari where there is a display, else segment the sample into a folder."""
    if _has_display():
        return _open_napari()
    return _segment_sample(Path("results"))


def _has_display() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_napari() -> int:
    try:
        import napari
    except ImportError:
        print(
            "napari is not installed. Install it with this package: pip install "
            "'napari-unet-cells[all]', or use the command napari-unet-cells.",
            file=sys.stderr,
        )
        return 2
    viewer = napari.Viewer()
    viewer.open_sample("napari-unet-cells", "simulated_nuclei")
    viewer.window.add_plugin_dock_widget("napari-unet-cells")
    napari.run()
    return 0


def _segment_sample(folder: Path) -> int:
    import tifffile

    from napari_unet_cells.cli.main import main as command_line
    from napari_unet_cells.sample_data import simulate_nuclei

    folder.mkdir(exist_ok=True)
    image = folder / "sample.tif"
    tifffile.imwrite(image, simulate_nuclei()[0], imagej=True)
    print("There is no display, so the sample image is segmented without a window.")
    code = command_line(["segment", str(image), "-o", str(folder), "--overwrite"])
    if code == 0:
        print(f"The image, its cells, its classes and their record lie in {folder.resolve()}.")
    return code


if __name__ == "__main__":
    sys.exit(main())
