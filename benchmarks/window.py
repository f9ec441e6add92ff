"""How long the window stands still during a run, and what the run costs: medians of several.

``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/window.py``, without a screen of its
own it starts itself there.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time

REPEATS = 5
SIDES = (512, 2048)


def main() -> None:
    """Measure both kinds of gap: with napari's own drawing, and without any layer of ours."""
    import napari
    import numpy as np
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    from napari_unet_cells.sample_data import simulate_nuclei

    viewer = napari.Viewer()
    dock = viewer.window.add_plugin_dock_widget("napari-unet-cells")[1]
    ticks: list[float] = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start(2)

    def wait(ready: object, timeout: float = 300.0) -> None:
        end = time.monotonic() + timeout
        while not ready() and time.monotonic() < end:  # type: ignore[operator]
            QApplication.processEvents()
            time.sleep(0.001)

    tile = simulate_nuclei((512, 512), seed=1)[0]
    wait(lambda: dock.segment.device_label.text()[:3] in ("CPU", "GPU"))
    for side in SIDES:
        gaps, seconds = [], []
        image = np.tile(tile, (side // 512, side // 512))
        for _ in range(REPEATS):
            viewer.layers.clear()
            wait(lambda: False, 0.3)  # napari 0.9 crashes if layers come before it has drawn
            viewer.add_image(image, name="image")
            wait(lambda: False, 0.5)
            ticks.clear()
            start = time.perf_counter()
            dock.segment.button.click()
            wait(lambda: not dock.segment.worker.running)
            wait(lambda: False, 0.3)
            seconds.append(time.perf_counter() - start - 0.3)
            gaps.append(max(np.diff(ticks)))
        print(
            f"{side} x {side}: run {statistics.median(seconds):.2f} s, longest gap of the window "
            f"median {1000 * statistics.median(gaps):.0f} ms, worst {1000 * max(gaps):.0f} ms"
        )
    viewer.close()


if __name__ == "__main__":
    if not os.environ.get("DISPLAY") and shutil.which("xvfb-run"):
        screen = ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24"]
        sys.exit(subprocess.call([*screen, sys.executable, __file__]))
    main()
