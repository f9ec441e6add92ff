"""Kill programs with ``kill -9`` while they write, and count what is lost: ``kills.py 1000``.

Each kill hits a process of its own, at a random moment of its work, and is followed by a look at
what is there: all that the process said it had written must be, whole, and nothing may be half
there. The next process goes on with it. So no moment is chosen by who wrote the code.

A part of the processes stop between two changes of files of one thing that they write, at random
after how many, and are killed there: these kills fall in the middle, however slow the computer is.

``--training N`` adds N kills of the real command ``train``, each resumed by the next one; each
takes as long as TensorFlow needs to start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import psutil
import tifffile
from interrupted_works import VICTIMS, Lost, Say, Victim, expect, is_written, write_images

from napari_unet_cells.errors import UserError
from napari_unet_cells.sample_data import simulate_nuclei


@dataclass
class Count:
    """What came of the kills of one kind.

    Attributes
    ----------
    kills : int
    midway : int
        Of processes that had not ended by themselves.
    amid : int
        Of processes that stopped between two changes of files, and were killed there.
    writing : int
        That left something half written, hidden, for the next one to remove.
    lost : list of str
        What was lost.
    """

    kills: int = 0
    midway: int = 0
    amid: int = 0
    writing: int = 0
    lost: list[str] = field(default_factory=list)


#: What Python tells of a change of files, besides of opening one.
_CHANGES = frozenset({"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})

#: Most changes in the middle until a process stops: less than the shortest work has.
_MOST_CHANGES = 20

#: What a process says that stopped in the middle.
_AMID = "in the middle"


class Stopper:
    """Stops this process in the middle of what it writes, after some changes of files.

    The first change since something was said is none in the middle: nothing is half written yet.
    """

    def __init__(self, folder: Path, pipe: int, changes: int) -> None:
        self._folder, self._pipe, self._left = str(folder), pipe, changes
        self._begun = False
        sys.addaudithook(self._heard)

    def say(self, what: object) -> None:
        """Say that something is written whole."""
        self._begun = False
        _write_line(self._pipe, what)

    def _heard(self, event: str, values: tuple[Any, ...]) -> None:
        if not is_written(event, values, _CHANGES, self._folder):
            return
        if not self._begun:
            self._begun = True
            return
        self._left -= 1
        if not self._left:
            _write_line(self._pipe, _AMID)
        if self._left <= 0:
            time.sleep(600)


def kill_one(
    victim: Victim, folder: Path, chance: random.Random, amid: bool = False
) -> tuple[list[str], bool]:
    """Fork a process that works, kill it, and give what it had said and if it still worked."""
    changes = chance.randint(1, _MOST_CHANGES)
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        code = 1
        try:
            say: Say = Stopper(folder, write, changes).say if amid else partial(_write_line, write)
            victim.work(folder, say)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, encoding="utf-8") as lines:
        first = _until_amid(lines) if amid else _for_a_while(lines, victim.window, chance)
        os.kill(pid, signal.SIGKILL)
        said = [line.strip() for line in (*first, *lines) if line.endswith("\n")]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    expect(code in (0, -signal.SIGKILL), f"it failed by itself (exit code {code})")
    return said, code != 0


def _until_amid(lines: TextIO) -> list[str]:
    """Hear what a process says until it stops in the middle."""
    said = []
    while (line := lines.readline()) and line.strip() != _AMID:
        said.append(line)
    expect(bool(line), "it ended before it was in the middle of anything")
    return said


def _for_a_while(lines: TextIO, seconds: float, chance: random.Random) -> list[str]:
    """Hear the first thing that a process says, mostly, and wait then."""
    first = [] if chance.random() < 0.1 else [lines.readline()]  # some before it says anything
    time.sleep(chance.uniform(0, seconds))
    return first


def _write_line(pipe: int, what: object) -> None:
    os.write(pipe, f"{what}\n".encode())


def kill_many(name: str, kills: int, seed: int, count: Count) -> Iterator[Count]:
    """Kill processes of one kind; yields the count after each."""
    victim, chance = VICTIMS[name], random.Random(f"{seed} {name}")
    folder = None
    for number in range(kills):
        is_new = folder is None
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix=f"kills-{name}-"))
            if name == "batch":
                write_images(folder)
        is_whole = True
        # What is done in a folder may be all: only a new one surely has a middle.
        amid = number % 2 == 0 and (victim.endless or is_new)
        try:
            said, midway = kill_one(victim, folder, chance, amid)
            count.midway += midway
            count.amid += amid and midway
            count.writing += any(path.name != ".index.lock" for path in folder.rglob(".*"))
            victim.look(folder, said)
        except (Lost, UserError, OSError, ValueError) as error:
            is_whole = False
            count.lost.append(f"{name}, kill {number} of seed {seed}, {folder}: {error!r}")
        count.kills += 1
        if not is_whole or (number + 1) % victim.keeps == 0 or number == kills - 1:
            if is_whole:  # else it is kept to be looked at
                shutil.rmtree(folder)
            folder = None
        yield count


# --- the real command ---------------------------------------------------------------------


def kill_trainings(kills: int, seed: int) -> Count:
    """Kill the command ``train`` while it trains, and resume it each time."""
    count, chance = Count(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills-training-") as name:
        folder = Path(name)
        for part in ("images", "masks"):
            (folder / "data" / part).mkdir(parents=True)
        for number in range(3):
            image, truth = simulate_nuclei((96, 96), diameter=16, seed=number)
            tifffile.imwrite(folder / "data" / "images" / f"{number}.tif", image)
            tifffile.imwrite(folder / "data" / "masks" / f"{number}.tif", truth.astype(np.uint16))
        steps = 0
        for _ in range(kills):
            steps = _kill_training(folder, steps, chance, count)
    return count


def _kill_training(folder: Path, steps: int, chance: random.Random, count: Count) -> int:
    """Kill one training once it has gone on; SIGTERM writes a checkpoint, SIGKILL leaves one."""
    state = folder / "m.checkpoint" / "state.json"
    command = [sys.executable, "-m", "napari_unet_cells.cli", "train", str(folder / "data")]
    command += ["-o", str(folder / "m.keras"), "--arch", "unet_mini", "--batch", "1"]
    command += ["--steps", "1000000", *(["--resume"] if state.exists() else [])]
    hard = steps > 0 and chance.random() < 0.5  # the first one must leave a checkpoint
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        _let_work(process, chance.uniform(0, 40) if hard else chance.uniform(30, 40))
        process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    count.kills += 1
    count.midway += process.returncode in (143, -signal.SIGKILL, -signal.SIGTERM)
    if "Traceback" in said:
        count.lost.append(said[-2000:])
    now = int(json.loads(state.read_text())["step"]) if state.exists() else 0
    if now < steps:
        count.lost.append(f"step {steps} became {now}")
    return now


def _let_work(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait until a process has computed for so long, however busy the computer is, or ended."""
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            used = psutil.Process(process.pid).cpu_times()
            if used.user + used.system >= seconds:
                return
        time.sleep(0.05)


def main(arguments: list[str] | None = None) -> int:
    """Kill, print the counts, and give the exit code: 1 where anything was lost."""
    parser = argparse.ArgumentParser(description="Kill programs while they write.")
    parser.add_argument("kills", type=int, nargs="?", default=1000, help="in all (default: 1000)")
    parser.add_argument("--only", choices=sorted(VICTIMS), help="kill this kind only")
    parser.add_argument(
        "--training", type=int, default=0, help="kills of the command train as well"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(VICTIMS)
    counts = {name: Count() for name in names}
    started = time.monotonic()
    for number, name in enumerate(names):
        kills = options.kills // len(names) + (number < options.kills % len(names))
        for _ in kill_many(name, kills, options.seed, counts[name]):
            pass
        _print(name, counts[name])
    if options.training:
        counts["training"] = kill_trainings(options.training, options.seed)
        _print("training", counts["training"])
    lost = [what for count in counts.values() for what in count.lost]
    total = sum(count.kills for count in counts.values())
    seconds = time.monotonic() - started
    print(f"{total} kills in {seconds:.0f} s, seed {options.seed}: {len(lost)} lost something.")
    print("\n".join(lost))
    return 1 if lost else 0


def _print(name: str, count: Count) -> None:
    print(
        f"{name:12} {count.kills:5} kills, {count.midway:5} at work, {count.amid:5} amid "
        f"two changes, {count.writing:5} left something half written, "
        f"{len(count.lost):3} lost something",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
