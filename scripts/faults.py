"""Let each write fail, one after the other, and count what is lost: ``faults.py``.

The works are those of ``interrupted_works.py`` (corrections, a dataset, a batch, a checkpoint, a
model), and parts that are put back into an OME-Zarr. Each is begun again and again; the first time
the disk is full at the first change of a file that it makes, then at the second, and so on until it
gets through; and again with a full memory in place of the disk. A change is a file that is opened
for writing, made, renamed, linked or flushed, or a folder that is made. After each time all that
was said to be written must be there, whole, and nothing may be half there; and the work must have
ended in a sentence, or gone on.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from interrupted_works import VICTIMS, Lost, Victim, expect, is_written, write_images

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale

#: What a process can run out of, by the error that says so.
FAULTS: dict[str, Callable[[], BaseException]] = {
    "disk": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "memory": lambda: MemoryError(),
}

#: What Python tells of a change of files, besides of opening one.
_CHANGES = frozenset({"os.rename", "os.link", "os.mkdir", "os.truncate"})

#: Things that are written, after which a work has got through; images of a batch.
_ENOUGH = 3

#: Exit codes of a work: it got through, or ended in a sentence.
_THROUGH, _SAID = 0, 3


# --- parts that are put back into an OME-Zarr ---------------------------------------------

_SIDE = 96


def write_zarr(folder: Path) -> None:
    """Write an OME-Zarr with one cell."""
    zarr = LabelZarr(folder / "a.zarr", (_SIDE, _SIDE), "yx", 64, Scale((1.0, 1.0), "pixel", None))
    zarr.create("cells", np.uint16)
    labels = np.zeros((_SIDE, _SIDE), np.uint16)
    labels[:9, :9] = 1
    zarr.write("cells", (), (slice(0, _SIDE), slice(0, _SIDE)), labels)
    zarr.finish("cells", {"cells": 1}, {})


def put_back(folder: Path, say: Callable[[object], None]) -> None:
    """Draw over all blocks, each time with another number, and put it back."""
    window = slice(20, 80), slice(20, 80)
    versions = LabelVersions(folder / "a.zarr")
    for number in range(2, 99):
        before = label_levels(folder / "a.zarr", "cells")[0].read(window).astype(np.int64)
        after = np.full_like(before, number)
        versions.replace((), window, before, after, number)
        say(number)


def look_at_zarr(folder: Path, said: list[str]) -> None:
    """Expect the last part that was put back, or the next one, whole, and beside it the cell."""
    LabelVersions(folder / "a.zarr").settle()
    for level in label_levels(folder / "a.zarr", "cells"):
        labels = np.asarray(level)
        step = _SIDE // labels.shape[0]
        inside = np.unique(labels[20 // step : 80 // step, 20 // step : 80 // step])
        last = int(said[-1]) if said else 0
        expect(len(inside) == 1 and inside[0] in (last, (last or 1) + 1), f"{inside} after {last}")
        expect(bool((labels[: 8 // step, : 8 // step] == 1).all()), "a cell outside is lost")


WORKS = {**VICTIMS, "parts": Victim(put_back, look_at_zarr, 0.5, endless=True)}

#: What has to be there before a work begins.
_PREPARE: dict[str, Callable[[Path], None]] = {
    "batch": lambda folder: write_images(folder, n=_ENOUGH),
    "model": lambda folder: (folder / "models").mkdir(),
    "parts": write_zarr,
}


class _GotThrough(BaseException):
    """Enough was written."""


@dataclass
class Count:
    """What came of the faults of one kind.

    Attributes
    ----------
    faults : int
        That were met.
    sentences : int
        Works that ended in a sentence; the others went on.
    lost : list of str
        What was lost, or how else a work ended.
    """

    faults: int = 0
    sentences: int = 0
    lost: list[str] = field(default_factory=list)


class Faulty:
    """Lets one change of files in a folder fail.

    Parameters
    ----------
    folder : Path
    number : int
        Of the change, from 1.
    fault : callable
        Makes the error.
    """

    def __init__(self, folder: Path, number: int, fault: Callable[[], BaseException]) -> None:
        self._folder, self._left, self._fault = str(folder), number, fault
        self._flush = os.fsync
        sys.addaudithook(self._heard)
        os.fsync = self._fsync

    @property
    def was_met(self) -> bool:
        """Whether the change came, and failed."""
        return self._left <= 0

    def _change(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._fault()

    def _fsync(self, fd: Any) -> None:
        self._change()
        self._flush(fd)

    def _heard(self, event: str, values: tuple[Any, ...]) -> None:
        if is_written(event, values, _CHANGES, self._folder):
            self._change()


def work_once(
    victim: Victim, folder: Path, number: int, fault: Callable[[], BaseException]
) -> tuple[bool, list[str], int]:
    """Fork a process that works with one fault: if that was met, what it said, how it ended."""
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _work(victim, folder, Faulty(folder, number, fault), write)
    os.close(write)
    with open(read, encoding="utf-8") as lines:
        said = [line.strip() for line in lines]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    was_met = "met" in said
    return was_met, [line for line in said if line != "met"], code


def _work(victim: Victim, folder: Path, faulty: Faulty, pipe: int) -> None:
    """Work until enough is written, or until the fault ends it; this is the process."""
    n_said, code = 0, 1

    def say(what: object) -> None:
        nonlocal n_said
        os.write(pipe, f"{what}\n".encode())
        n_said += 1
        if n_said >= _ENOUGH and victim is not WORKS["batch"]:
            raise _GotThrough

    try:
        victim.work(folder, say)
        code = _THROUGH
    except _GotThrough:
        code = _THROUGH
    except (UserError, MemoryError):  # who calls says of a full memory what it is
        code = _SAID
    finally:
        if faulty.was_met:
            os.write(pipe, b"met\n")
        os._exit(code)


def fault_all(name: str, fault: str) -> Count:
    """Let each change of one work fail."""
    victim, count = WORKS[name], Count()
    number, was_met = 0, True
    while was_met:
        number += 1
        folder = Path(tempfile.mkdtemp(prefix=f"faults-{name}-"))
        if name in _PREPARE:
            _PREPARE[name](folder)
        was_met, said, code = work_once(victim, folder, number, FAULTS[fault])
        count.faults += was_met
        count.sentences += code == _SAID
        try:
            if code not in (_THROUGH, _SAID):
                raise Lost(f"it ended with exit code {code}")
            victim.look(folder, said)
            shutil.rmtree(folder)
        except Exception as lost:
            count.lost.append(f"{fault}, change {number}: {lost} ({folder})")
    return count


def main(arguments: list[str] | None = None) -> int:
    """Let all fail, print the counts, and give the exit code: 1 where anything was lost."""
    parser = argparse.ArgumentParser(description="Let each write fail, and count what is lost.")
    parser.add_argument("works", nargs="*", default=list(WORKS), help="default: all")
    works = parser.parse_args(arguments).works
    n_lost = 0
    for name in works:
        for fault in FAULTS:
            count = fault_all(name, fault)
            print(
                f"{name:12} {fault:6} {count.faults:4} faults, {count.sentences:4} sentences, "
                f"{len(count.lost)} lost",
                flush=True,
            )
            for lost in count.lost:
                print(f"  {lost}", flush=True)
            n_lost += len(count.lost)
    return 1 if n_lost else 0


if __name__ == "__main__":
    sys.exit(main())
