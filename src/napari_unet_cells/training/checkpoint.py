"""Checkpoints of a training: written beside the one before, which stays until they are whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_unet_cells.core.labels import CELL_CLASSES
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import atomic_write
from napari_unet_cells.files.array_file import write_numbered
from napari_unet_cells.training.backends import Steps
from napari_unet_cells.training.loop import Weights
from napari_unet_cells.untrusted.arrays import numbered_arrays
from napari_unet_cells.untrusted.checkpoint import SLOTS, CheckpointState, parse_state
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed

#: Weights, their two moments in the optimizer, their average, and as much as a reserve.
_COPIES = 5

#: Options that a training must share with the one that it goes on with.
_MUST_FIT = ("architecture", "build", "classes", "channels", "distance", "backend")


@dataclass
class Progress:
    """Progress of a training, which a checkpoint keeps beside the weights.

    Attributes
    ----------
    step : int
    seconds : float
    curve : list of (step, minutes, loss, validation loss or None)
    """

    step: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float, float | None]] = field(default_factory=list)


class Checkpoint:
    """A folder that holds the last checkpoint of a training.

    ::

        a/average.npz  a/...    the one before; what `Steps.save` writes, and the average
        b/average.npz  b/...    the new one
        state.json              says which counts; replaced last, at once

    Parameters
    ----------
    folder : path
    options : mapping
        Of the training, as JSON holds them.
    """

    def __init__(self, folder: str | Path, options: Mapping[str, Any]) -> None:
        self._folder, self._options = Path(folder), options
        self._slot: str | None = None

    def save(self, steps: Steps, average: Weights, progress: Progress) -> None:
        """Write a checkpoint.

        Raises
        ------
        UserError
            Where the disk refuses; the checkpoint before stays as it was.
        """
        try:
            self._write(steps, average, progress)
        except OSError as error:
            raise self._unwritten(error.strerror or str(error)) from error
        except UserError as error:
            raise self._unwritten(str(error).rstrip(".")) from error

    def _write(self, steps: Steps, average: Weights, progress: Progress) -> None:
        folder = self._folder
        counts = self._slot or self._named_slot()
        slot = SLOTS[1] if counts == SLOTS[0] else SLOTS[0]
        if (folder / slot).exists():  # what was broken off, or is of another training
            shutil.rmtree(folder / slot)
        (folder / slot).mkdir(parents=True, exist_ok=True)
        needed = _COPIES * sum(weights.nbytes for weights in average)
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        steps.save(folder / slot)
        write_numbered(folder / slot / "average.npz", average)
        state = {"slot": slot, "options": self._options, **asdict(progress)}
        with atomic_write(folder / "state.json", overwrite=True) as temporary:
            temporary.write_text(json.dumps(state))
        self._slot = slot
        for other in set(SLOTS) - {slot}:
            shutil.rmtree(folder / other, ignore_errors=True)
        for name in ("model.weights.h5", "average.npz"):  # where version 0.1.0 wrote them
            (folder / name).unlink(missing_ok=True)

    def _named_slot(self) -> str:
        """Name the part that counts until this training has one; empty where nothing does."""
        try:
            return parse_state(read_json(self._folder / "state.json", lenient=True)).slot
        except (OSError, Malformed):
            return ""

    def restore(self, steps: Steps) -> tuple[Progress, list[NDArray[Any]]]:
        """Read the last checkpoint into the network.

        Returns
        -------
        progress : Progress
        average : list of arrays
            The averaged weights.

        Raises
        ------
        UserError
            Where there is none, or it is damaged or of another training.
        """
        state = self._read_state()
        try:
            self._slot = state.slot or None
            files = self._folder / state.slot
            steps.load(files)
            average = numbered_arrays(files / "average.npz")
            return Progress(state.step, state.seconds, list(state.curve)), average
        except Exception as error:  # whatever is raised on a damaged file
            raise self.damaged(error) from error

    def _unwritten(self, why: str) -> UserError:
        return UserError(
            f"The checkpoint cannot be written to {self._folder} ({why}). Free some space; "
            "--resume goes on from the last one."
        )

    def _read_state(self) -> CheckpointState:
        folder = self._folder
        try:
            state = parse_state(read_json(folder / "state.json", lenient=True))
            theirs = _named_as_now(state.options)
        except FileNotFoundError as error:
            raise UserError(f"There is no training to resume in {folder}.") from error
        except (OSError, Malformed) as error:
            raise self.damaged(error) from error
        differ = [key for key in _MUST_FIT if theirs.get(key) != self._options[key]]
        if differ:
            raise UserError(
                f"{folder} holds a training with another {differ[0]} "
                f"({theirs.get(differ[0])}, not {self._options[differ[0]]})."
            )
        return state

    def damaged(self, why: object) -> UserError:
        """Give the error of a checkpoint that cannot be gone on with."""
        return UserError(
            f"The checkpoint in {self._folder} is damaged ({why}). Train again without resuming."
        )


def _named_as_now(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options as this version writes them: 0.1.0 had fewer, and the backend was the engine."""
    missing = {"classes": [*CELL_CLASSES], "distance": False, "engine": "tensorflow"}
    known = {**missing, **options}
    return {"backend": known.pop("engine"), **known}
