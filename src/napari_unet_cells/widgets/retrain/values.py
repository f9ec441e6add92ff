"""Values of the Retrain section's form and what is wrong with them; its outcome as a table.

No Qt here: the form fills these in, `problem` gives the sentence that the user reads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.catalogue import default_model, find_model, next_name
from napari_unet_cells.settings import models_folder
from napari_unet_cells.training.events import Retrained, describe_held_out, describe_score

#: Starting points of a network in the words of the user; see `training.events.RetrainOptions`.
STARTS = {
    "model": "this model",
    "encoder": "this model, for other classes",
    "imagenet": "ImageNet weights",
}


@dataclass(frozen=True)
class RetrainValues:
    """One retraining: dataset, base model and time.

    Attributes
    ----------
    dataset : str
        Folder with images and masks; ``~`` is the user's own.
    base : str
        Name of the model to start from; empty where none is installed.
    start : str
        A key of `STARTS`.
    minutes : float
        Of tuning.
    """

    dataset: str = field(
        default="",
        metadata={
            "label": "Dataset",
            "tooltip": "A folder of approved regions, or any folder with images/ and masks/ of the "
            "same file names.",
        },
    )
    base: str = field(
        default="",
        metadata={"label": "Model", "tooltip": "The model to start from; it is not changed."},
    )
    start: str = field(
        default="model",
        metadata={
            "label": "Start from",
            "choices": [(title, start) for start, title in STARTS.items()],
            "tooltip": "For classes of your own, painted by brush: keep the weights of the model "
            "but for the last layer, and learn the classes of the dataset.",
        },
    )
    minutes: float = field(
        default=1.0,
        metadata={
            "label": "Time",
            "min": 0.1,
            "max": 600.0,
            "step": 0.5,
            "tooltip": "Minutes of tuning; measuring the models comes on top.",
        },
    )

    @property
    def folder(self) -> Path:
        """Folder of the dataset."""
        return Path(os.path.expanduser(self.dataset.strip()))

    def problem(self) -> str | None:
        """Say why nothing can be retrained."""
        if not self.dataset.strip():
            return (
                "There is no dataset to learn from. Approve regions on the page Correct and "
                "export them, or choose a folder with images and masks."
            )
        if not self.base:
            return "No model is installed. Install the package again."
        if self.start not in STARTS:
            return f"A network starts from {', '.join(STARTS)}, not from '{self.start}'."
        if not isfinite(self.minutes) or self.minutes <= 0:
            return f"A retraining takes longer than 0 minutes, not {self.minutes}."
        try:
            find_model(self.base)  # it may have been deleted since the list was filled
        except UserError as error:
            return str(error)
        return None

    def request(self) -> dict[str, Any]:
        """Request to the child that trains; see `Engine.retrain`.

        Raises
        ------
        UserError
            Where the base model is gone.
        """
        # By their paths: the child does not know the user's preferences.
        return {
            "dataset": str(self.folder),
            "base": str(find_model(self.base).path),
            "output": str(models_folder() / f"{next_name(self.base)}.keras"),
            "options": {"minutes": self.minutes, "start": self.start},
        }


def decision_table(done: Retrained, old: str, counts: tuple[int, int] | None) -> str:
    """Put scores and counts of two models side by side, as HTML; empty where there are none.

    Parameters
    ----------
    done : Retrained
    old : str
        Name of the model in use.
    counts : (int, int), optional
        Cells of the image with the model in use, and with the new one.
    """
    rows: list[tuple[str, ...]] = []
    # Only the base was measured; the model in use may be another one.
    if done.before is not None and done.after is not None and old == done.base:
        before, after = (
            describe_score(score, interval, done.held_out)
            for score, interval in (
                (done.before, done.before_interval),
                (done.after, done.after_interval),
            )
        )
        rows.append((f"{done.score_name}, {describe_held_out(done.held_out)}", before, after))
    if counts is not None:
        rows.append(("cells in this image", *map(str, counts)))
    if not rows:
        return ""
    titled = [("", f"<b>{escape(old)}</b>", f"<b>{escape(done.card.name)}</b>"), *rows]
    lines = ("".join(f"<td>{value}&nbsp;</td>" for value in row) for row in titled)
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def describe_use(name: str) -> str:
    """Say from when on a model is used that the user has just made the default."""
    default = default_model()
    if default == name:
        return f"{name} is used from now on."
    return (
        f"{name} is chosen for the next run. The preferences name {default} as the default model; "
        "change it under File > Preferences."
    )
