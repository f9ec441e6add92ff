"""The curve of a training as CSV and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_unet_cells.files import atomic_write

#: Step, minutes, loss, and the validation loss where it was measured.
Row = tuple[int, float, float, float | None]


def write_curve(curve: Sequence[Row], path: str | Path) -> None:
    """Write a training curve as CSV, and as PNG beside it.

    Parameters
    ----------
    curve : sequence of (step, minutes, loss, validation loss or None)
        Losses in nats a pixel.
    path : path ending in ``.csv``
        Columns step, minutes, loss, validation_loss (empty where it was not measured).
        Older files of these names are replaced.

    Raises
    ------
    UserError
        Where they cannot be written.
    """
    path = Path(path)
    with (
        atomic_write(path, overwrite=True) as temporary,
        temporary.open("w", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("step", "minutes", "loss", "validation_loss"))
        writer.writerows(curve)
    with atomic_write(path.with_suffix(".png"), overwrite=True) as temporary:
        _plot_curve(curve, temporary)


def _plot_curve(curve: Sequence[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="minutes", ylabel="loss (nats a pixel)", yscale="log")
    if curve:
        minutes = np.array([row[1] for row in curve])
        losses = np.array([row[2] for row in curve])
        window = max(1, len(losses) // 50)
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(minutes, losses, alpha=0.2, color="C0")
        axes.plot(minutes[window - 1 :], smooth, color="C0", label="training")
        measured = [(row[1], row[3]) for row in curve if row[3] is not None]
        if measured:
            axes.plot(*zip(*measured, strict=True), "o-", color="C1", label="validation")
        axes.legend()
    figure.savefig(path, dpi=120)
