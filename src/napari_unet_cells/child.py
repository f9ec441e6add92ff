"""The child process that owns the network: ``python -m napari_unet_cells.child``.

It answers the requests of `engine` on its standard input, one after another, and ends when
its input does, so none is left when the parent is killed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from napari_unet_cells.engine.frames import HELLO, NO_MEMORY_EXIT, read_frame, write_frame
from napari_unet_cells.errors import LostDevice, OutOfMemory, UserError, reason
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes.library import SecondLibrary, library_here

#: The network takes all cores; the window goes first where both want one.
NICENESS = 5

#: What another niceness is told by, on the command line.
NICE_OPTION = "--nice="


class _Server:
    """The child's side: one network, one request after another."""

    def __init__(self, inbox: BinaryIO, outbox: BinaryIO) -> None:
        self._inbox, self._outbox = inbox, outbox
        # Without a limit, so that the thread that reads always sees the end of the input at
        # once; the parent never has more than a few tiles on the way.
        self._requests: queue.SimpleQueue[tuple[dict[str, Any], bytearray]] = queue.SimpleQueue()
        self._forgotten: set[int] = set()
        self._finishing: set[int] = set()
        self._tuners: Any = None
        self._network: Any = None
        self._loaded: tuple[Any, ...] | None = None  # what was asked for, see `_network_of`
        self._answers: dict[str, Callable[[dict[str, Any], bytearray], None]] = {
            "open": self._open,
            "predict": self._predict,
            "prepare": self._prepare,
            "retrain": self._retrain,
            "sync": self._sync,
        }

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            header, payload = self._requests.get()
            if header["job"] in self._forgotten and header["request"] != "sync":
                continue
            try:
                self._answers[header["request"]](header, payload)
            except LostDevice as error:
                self._reply(header, "lost device", message=str(error))
            except (OutOfMemory, MemoryError) as error:
                full = error if isinstance(error, OutOfMemory) else OutOfMemory()
                self._reply(header, "out of memory", message=str(full))
            except SecondLibrary as error:
                self._reply(header, "second library", message=str(error))
            except UserError as error:
                self._reply(header, "failed", message=str(error))
            except Exception as error:  # whatever a runtime raises becomes a sentence
                what = f"{type(error).__name__}: {reason(error)}"
                self._reply(header, "failed", message=f"The network failed ({what}).")

    def _read(self) -> None:
        code = 0
        try:
            while (frame := read_frame(self._inbox)) is not None:
                if frame[0]["request"] == "forget":
                    self._forgotten.add(frame[0]["job"])
                elif frame[0]["request"] == "finish":
                    self._finishing.add(frame[0]["job"])
                else:
                    self._requests.put(frame)
        except MemoryError:
            code = NO_MEMORY_EXIT
        finally:
            os._exit(code)  # the parent is gone; nothing here is worth keeping

    def _network_of(self, header: dict[str, Any]) -> Any:
        """Give the network a request is for, in place of the one that is loaded."""
        from napari_unet_cells.models.runtimes.table import open_network

        model, device, runtime = (header[name] for name in ("model", "device", "runtime"))
        if (model, device, runtime) != self._loaded:
            self._network = self._loaded = None
            card = find_model(Path(model["path"]))
            if card.sha256 != model["sha256"]:
                raise UserError(
                    f"The model {card.path.name} was replaced while it was opened. Choose it again."
                )
            self._network = open_network(card, runtime, cpu=device == "cpu")
            self._loaded = model, device, runtime
        return self._network

    def _open(self, header: dict[str, Any], payload: bytearray) -> None:
        network = self._network_of(header)
        known = {name: getattr(network, name) for name in ("device", "max_tile", "on_cpu")}
        self._reply(header, "opened", **known)

    def _predict(self, header: dict[str, Any], payload: bytearray) -> None:
        batch = np.frombuffer(payload, np.float32).reshape(header["shape"])
        output = self._network_of(header).forward(batch)
        self._reply(header, "output", output, shape=output.shape)

    def _tuner_cache(self) -> Any:
        from napari_unet_cells.training.tuner_cache import TunerCache

        self._tuners = self._tuners or TunerCache()
        return self._tuners

    def _prepare(self, header: dict[str, Any], payload: bytearray) -> None:
        from napari_unet_cells.training.events import RetrainOptions
        from napari_unet_cells.training.tuner_cache import prepare

        prepare(find_model(header["base"]), RetrainOptions(), self._tuner_cache())
        self._reply(header, "prepared")

    def _retrain(self, header: dict[str, Any], payload: bytearray) -> None:
        from napari_unet_cells.training.events import Retrained, RetrainOptions, event_as_dict
        from napari_unet_cells.training.retrain import retrain

        job, path = header["job"], header["output"]
        events = retrain(
            header["dataset"],
            header["base"],
            path,
            RetrainOptions(**header["options"]),
            stop=lambda: job in self._finishing,
            cache=self._tuner_cache(),
            since=header.get("since"),
        )
        with contextlib.closing(events):
            for event in events:
                if job in self._forgotten:
                    return
                self._reply(header, "event", **event_as_dict(event), library=library_here())
                if isinstance(event, Retrained) and not header.get("derive", True):
                    return  # the model is whole; what follows is its conversion

    def _sync(self, header: dict[str, Any], payload: bytearray) -> None:
        self._reply(header, "synced")

    def _reply(
        self, request: dict[str, Any], reply: str, pixels: Any = None, **values: Any
    ) -> None:
        header = {"reply": reply, "job": request["job"], **values}
        try:
            write_frame(self._outbox, header, pixels)
        except OSError:  # the parent is gone, and this thread saw it first
            os._exit(0)


def _serve() -> None:
    """Run the child until its input ends."""
    inbox = os.fdopen(os.dup(0), "rb", buffering=0)
    outbox = os.fdopen(os.dup(1), "wb", buffering=0)
    # A library that prints would break the frames: give it stderr, and no input.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.dup2(2, 1)
    except OSError:  # a program without a terminal may have no stderr
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(OSError):
        # When the memory is full, this process should go, not napari with its layers.
        Path("/proc/self/oom_score_adj").write_text("800")
    if hasattr(os, "nice"):
        told = (word.removeprefix(NICE_OPTION) for word in sys.argv if word.startswith(NICE_OPTION))
        os.nice(int(next(told, NICENESS)))
    outbox.write(HELLO)
    _Server(inbox, outbox).run()


if __name__ == "__main__":
    _serve()
