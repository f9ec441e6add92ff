"""The child that owns TensorFlow: frames, cancelling, and every way to lose it.

The tests without the mark `network` run a child whose network is a plain function, in
place of TensorFlow's: what is tested is everything between the two processes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet_cells import child as child_module
from napari_unet_cells.core.predict import Network
from napari_unet_cells.engine import engine as engine_module
from napari_unet_cells.engine import opening
from napari_unet_cells.engine import process as process_module
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.engine.frames import (
    HELLO,
    NO_MEMORY_EXIT,
    read_frame,
    skip_to_hello,
    write_frame,
)
from napari_unet_cells.engine.network import IN_FLIGHT, ChildNetwork
from napari_unet_cells.engine.opening import _LocalNetwork, _open_here
from napari_unet_cells.engine.process import _MEMORY_FULL_EXITS, Cancelled, _start_process
from napari_unet_cells.errors import LostDevice, OutOfMemory, UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.runtimes import table as runtime_table
from napari_unet_cells.models.runtimes.library import SecondLibrary
from napari_unet_cells.models.runtimes.table import RUNTIMES
from napari_unet_cells.training import retrain as retrain_module
from napari_unet_cells.training.events import Retrained

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

# Frames.


class Drip(io.RawIOBase):
    """A raw stream that takes and gives a few bytes at a time, as a pipe may."""

    def __init__(self, most: int, data: bytes = b"") -> None:
        self.data, self.most, self.turn = bytearray(data), most, 0

    def _few(self, n: int) -> int:
        self.turn += 1
        return min(n, 1 + self.turn * 7 % self.most)

    def write(self, data: Any) -> int:
        n = self._few(len(data))
        self.data += bytes(data[:n])
        return n

    def readinto(self, buffer: Any) -> int:
        n = self._few(min(len(buffer), len(self.data)))
        n = min(n, len(self.data))
        buffer[:n] = self.data[:n]
        del self.data[:n]
        return n


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(
    frames=st.lists(
        st.tuples(
            st.dictionaries(st.text(), json_values, max_size=4),
            st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=4),
            st.sampled_from(["u1", "f4", "i8"]),
        ),
        max_size=4,
    ),
    most=st.integers(1, 50),
)
@pytest.mark.slow
def test_frames_survive_a_pipe_that_takes_few_bytes_at_a_time(
    frames: list[tuple[dict[str, Any], list[int] | None, str]], most: int
) -> None:
    stream = Drip(most)
    sent = []
    for header, shape, dtype in frames:
        pixels = None if shape is None else np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        write_frame(stream, header, pixels)
        sent.append((header, b"" if pixels is None else pixels.tobytes()))
    for header, payload in sent:
        frame = read_frame(stream)
        assert frame is not None
        assert frame[0] == header
        assert bytes(frame[1]) == payload
    assert read_frame(stream) is None


def test_pixels_in_any_order_are_sent_in_theirs() -> None:
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (image[:, ::-1], image.transpose(2, 0, 1), np.asfortranarray(image)):
        stream = Drip(7)
        write_frame(stream, {}, view)
        frame = read_frame(stream)
        assert frame is not None
        assert bytes(frame[1]) == view.tobytes()


def test_a_stream_that_ends_within_a_frame_has_ended() -> None:
    stream = Drip(100)
    write_frame(stream, {"a": 1}, np.ones(9))
    whole = bytes(stream.data)
    for length in range(len(whole)):
        assert read_frame(Drip(100, whole[:length])) is None


def test_what_was_printed_before_the_first_frame_is_skipped() -> None:
    stream = Drip(5)
    stream.data += b"A greeting of sitecustomize\n" + HELLO[:5] + b"!" + HELLO
    write_frame(stream, {"a": 1})
    skip_to_hello(stream)
    assert read_frame(stream) == ({"a": 1}, bytearray())


# A child with a stand-in for all runtimes. Python runs `sitecustomize` when it starts; the one
# below puts a module in the place of `models.runtimes.table`.

_STAND_IN = """
import os, signal, sys, time, types
if "napari_unet_cells.child" in sys.orig_argv:
    import numpy as np
    print("noise", flush=True)
    os.write(1, b"more noise")

    def out_of_memory():
        how = os.environ["STAND_IN_FULL"]
        if how == "report":
            raise errors.OutOfMemory("The memory of the stand-in is full.")
        if how == "lost":
            raise errors.LostDevice
        if how == "MemoryError":
            raise MemoryError
        os.kill(os.getpid(), getattr(signal, how))

    class Network:
        device, max_tile, on_cpu = "stand-in", 512, True

        def __init__(self, name, cpu):
            self.factor = int(name.removeprefix("model"))
            if "STAND_IN_GPU" in os.environ and not cpu:
                self.device, self.on_cpu, self.factor = "stand-in GPU", False, 10 * self.factor

        def forward(self, batch):
            print("noise", flush=True)
            os.write(1, b"more noise")
            time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
            if batch.max() > 1e6:
                raise ValueError("too bright\\nand a long traceback")
            room = os.environ.get("STAND_IN_CPU_ROOM" if self.on_cpu else "STAND_IN_GPU", "9999")
            if batch.shape[1] > int(room):
                out_of_memory()
            return (batch * self.factor).astype(np.uint8)

    held = []

    def open_network(card, runtime, cpu):
        if "STAND_IN_HOLDS_ONE" in os.environ:
            held.append(runtime)
            if held[0] != runtime:
                raise SecondLibrary(f"{runtime} cannot be loaded beside {held[0]}.")
        time.sleep(float(os.environ.get("STAND_IN_OPENING", "0")))
        if "STAND_IN_REFUSED" in os.environ:
            raise errors.OutOfMemory("The memory of the stand-in is full.")
        network = Network(card.name, cpu)
        if runtime != "auto":
            network.device += " of " + runtime
        return network

    table = types.ModuleType("napari_unet_cells.models.runtimes.table")
    table.open_network = open_network
    sys.modules[table.__name__] = table
    import napari_unet_cells.models.catalogue as catalogue
    import napari_unet_cells.errors as errors
    from napari_unet_cells.models.runtimes.library import SecondLibrary

    def find_model(path):
        if "broken" in path.name:
            raise errors.UserError("The model broken.keras is damaged.")
        return types.SimpleNamespace(name=path.stem, sha256=path.stem, path=path)

    catalogue.find_model = find_model
"""


@pytest.fixture(scope="module")
def stand_in_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stand_in")
    (folder / "sitecustomize.py").write_text(_STAND_IN)
    return folder


@pytest.fixture
def stand_in(stand_in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(stand_in_folder))


@pytest.fixture(scope="module")
def one_engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close(5.0)


@pytest.fixture
def shared(stand_in: None, one_engine: Engine) -> Engine:
    """Give an engine to tests that leave its child as it was."""
    return one_engine


@pytest.fixture
def engine(stand_in: None) -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close(5.0)


def card(name: str = "model2") -> ModelCard:
    path = Path(f"{name}.keras")
    classes = ("background", "cell", "boundary")
    return ModelCard(name, "mobilenet_unet", classes, 1, 1, 0, sha256=name, path=path)


def batch(value: float, side: int = 4) -> NDArray[np.float32]:
    return np.full((1, side, side, 1), value, np.float32)


def values(network: Network, *batches: NDArray[np.float32]) -> list[int]:
    return [int(output.flat[0]) for output in network.predict(iter(batches))]


def gone(pid: int, seconds: float = 3.0) -> bool:
    """Whether a process ends within some time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def running(engine: Engine) -> int:
    pid = engine.pid
    assert pid is not None
    assert psutil.pid_exists(pid)
    return pid


@pytest.mark.skipif(not hasattr(os, "nice"), reason="the system knows no niceness")
@pytest.mark.parametrize(("asked", "expected"), [(None, 5), (12, 12)])
def test_a_child_stands_back_as_far_as_it_is_told(
    stand_in: None, asked: int | None, expected: int
) -> None:
    engine = Engine(asked)
    try:
        engine.open(card())
        assert psutil.Process(engine.pid).nice() == min(os.nice(0) + expected, 19)
    finally:
        engine.close(5.0)


@pytest.mark.parametrize(("more", "converted"), [({}, True), ({"derive": False}, False)])
def test_a_model_for_a_while_is_not_converted(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], converted: bool
) -> None:
    asked: list[Any] = []

    def retrain(*_: Any, since: Any, **__: Any) -> Iterator[Any]:
        asked.append(since)
        yield Retrained(card(), None, None, 1.0, 2.0)
        asked.append("converted")

    monkeypatch.setattr(retrain_module, "retrain", retrain)
    outbox = Drip(100)
    header = {"job": 3, "dataset": "", "base": "", "output": "", "options": {}, **more}
    child_module._Server(io.BytesIO(), outbox)._retrain(header | {"since": "before.keras"}, b"")  # type: ignore[arg-type]
    assert asked == ["before.keras", *(["converted"] if converted else [])]
    frame = read_frame(outbox)
    assert frame is not None
    assert (frame[0]["job"], frame[0]["event"]) == (3, "Retrained")


def test_outputs_come_in_order_whatever_is_printed(engine: Engine) -> None:
    assert engine.pid is None
    network = engine.open(card())
    assert network.device == "stand-in"
    assert network.max_tile == 512
    assert values(network, *(batch(i) for i in range(20))) == [2 * i for i in range(20)]
    large = batch(3, side=1500)
    (output,) = network.predict([large])
    assert output.shape == large.shape
    assert (output == 6).all()
    assert values(network) == []


def test_the_child_is_one_and_stays(shared: Engine) -> None:
    first = shared.open(card())
    pid = running(shared)
    assert shared.open(card()).device == first.device
    assert shared.pid == pid


def test_batches_are_drawn_lazily(shared: Engine) -> None:
    drawn = []

    def batches() -> Iterator[NDArray[np.float32]]:
        for i in range(10):
            drawn.append(i)
            yield batch(i)

    outputs = shared.open(card()).predict(batches())
    next(outputs)
    assert len(drawn) == IN_FLIGHT


def test_two_threads_share_the_child_and_never_each_others_answers(shared: Engine) -> None:
    results: dict[int, list[list[int]]] = {}

    def work(number: int) -> None:
        network = shared.open(card(f"model{number}"))
        results[number] = [values(network, *(batch(i) for i in range(8))) for _ in range(4)]

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number in (1, 2, 3):
        assert results[number] == [[number * i for i in range(8)]] * 4
    running(shared)


def test_a_network_stays_itself_when_another_one_was_opened(shared: Engine) -> None:
    two, three = shared.open(card("model2")), shared.open(card("model3"))
    assert values(two, batch(5)) == [10]
    assert values(three, batch(5)) == [15]


def test_a_model_replaced_meanwhile_is_a_sentence(shared: Engine) -> None:
    exchanged = ModelCard("model2", "", (), 1, 1, 0, sha256="other", path=Path("model2.keras"))
    with pytest.raises(UserError, match=r"model2\.keras was replaced while it was opened"):
        shared.open(exchanged)


def test_a_broken_model_is_a_sentence_and_the_child_stays(shared: Engine) -> None:
    with pytest.raises(UserError, match=r"broken\.keras is damaged"):
        shared.open(card("broken"))
    pid = running(shared)
    assert values(shared.open(card()), batch(1)) == [2]
    assert shared.pid == pid


def test_an_error_of_the_network_is_one_line_and_the_child_stays(shared: Engine) -> None:
    network = shared.open(card())
    with pytest.raises(UserError, match=r"failed \(ValueError: too bright\)\.$"):
        values(network, batch(1), batch(1e7), batch(1))
    assert values(network, batch(1)) == [2]


def test_an_error_of_the_image_leaves_the_child_in_order(shared: Engine) -> None:
    def batches() -> Iterator[NDArray[np.float32]]:
        yield batch(1)
        raise OSError("the disk went away")

    network = shared.open(card())
    with pytest.raises(OSError, match="went away"):
        list(network.predict(batches()))
    assert values(network, batch(4)) == [8]


def endless(value: float) -> Iterator[NDArray[np.float32]]:
    while True:
        yield batch(value)


@pytest.mark.slow
def test_cancel_comes_at_once_and_no_late_answer_mixes_in(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_SECONDS", "0.5")
    stop = threading.Event()
    network = engine.open(card(), stop)
    pid = running(engine)
    outputs = network.predict(endless(1))
    assert next(outputs).flat[0] == 2
    stop.set()
    begun = time.perf_counter()
    with pytest.raises(Cancelled):
        next(outputs)
    assert time.perf_counter() - begun < 0.2
    assert values(engine.open(card()), batch(7), batch(8), batch(9)) == [14, 16, 18]
    assert engine.pid == pid


def test_a_generator_that_is_closed_frees_the_child(shared: Engine) -> None:
    network = shared.open(card())
    for _ in range(20):
        outputs = network.predict(endless(1))
        next(outputs)
        outputs.close()  # type: ignore[attr-defined]
    assert values(network, batch(7)) == [14]


@pytest.mark.slow
def test_cancel_while_the_network_opens(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_OPENING", "1.5")
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    begun = time.perf_counter()
    with pytest.raises(Cancelled):
        engine.open(card("model3"), stop)
    assert time.perf_counter() - begun < 1.0
    pid = running(engine)  # it goes on opening, which the next press needs anyway
    assert values(engine.open(card("model2")), batch(1)) == [2]
    assert engine.pid == pid


def test_a_stop_that_was_set_before_starts_nothing(engine: Engine) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        engine.open(card(), stop)
    assert engine.pid is None


@posix
def test_a_child_killed_during_a_run_is_a_sentence_and_the_next_open_works(engine: Engine) -> None:
    network = engine.open(card())
    pid = running(engine)
    outputs = network.predict(endless(1))
    next(outputs)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"was ended by the system \(SIGKILL\).*labels made so far"):
        list(outputs)
    assert engine.pid is None
    assert values(network, batch(1)) == [2]  # for the next image, in a fresh child
    assert running(engine) != pid
    assert values(engine.open(card()), batch(1)) == [2]


@posix
def test_a_child_killed_while_idle_is_replaced_without_a_word(engine: Engine) -> None:
    engine.open(card())
    pid = running(engine)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert values(engine.open(card()), batch(1)) == [2]


@posix
def test_a_child_killed_while_it_opens_is_a_sentence(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_OPENING", "20")

    def kill() -> None:
        while engine.pid is None:
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(running(engine), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(UserError, match="SIGKILL"):
        engine.open(card())


@posix
@pytest.mark.slow
def test_a_stopped_child_does_not_hold_up_cancel_and_is_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 0.6)
    stop = threading.Event()
    network = engine.open(card(), stop)
    pid = running(engine)
    os.kill(pid, signal.SIGSTOP)
    # More than a pipe holds, so that the write itself would block.
    threading.Timer(0.3, stop.set).start()
    begun = time.perf_counter()
    with pytest.raises(Cancelled):
        values(network, *[batch(1, side=1000)] * 5)
    assert time.perf_counter() - begun < 0.6
    # Pressed again at once: it waits for the child's end, and starts a fresh one.
    assert values(engine.open(card()), batch(1)) == [2]
    assert engine.pid != pid
    assert gone(pid)


@pytest.mark.slow
def test_a_slow_tile_within_the_grace_does_not_cost_the_child(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 1.5)
    monkeypatch.setenv("STAND_IN_SECONDS", "0.4")
    network = engine.open(card())
    pid = running(engine)
    outputs = network.predict(endless(1))
    next(outputs)
    outputs.close()  # type: ignore[attr-defined]
    time.sleep(1.7)
    assert engine.pid == pid


@pytest.mark.slow
def test_opening_is_given_longer_than_a_tile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 0.2)
    monkeypatch.setenv("STAND_IN_OPENING", "1.0")
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Cancelled):
        engine.open(card(), stop)
    pid = running(engine)
    assert engine.open(card()).device == "stand-in"
    assert engine.pid == pid


def test_close_does_not_block_and_leaves_no_process(engine: Engine) -> None:
    network = engine.open(card())
    pid = running(engine)
    outputs = network.predict(endless(1))
    next(outputs)
    begun = time.perf_counter()
    engine.close()
    assert time.perf_counter() - begun < 0.05
    assert engine.pid is None
    with pytest.raises(Cancelled):  # nothing is wrong: the window was closed
        list(outputs)
    assert gone(pid)
    engine.close()
    assert values(engine.open(card()), batch(1)) == [2]


@posix
def test_close_does_not_wait_for_a_stopped_child(engine: Engine) -> None:
    network = engine.open(card())
    pid = running(engine)
    os.kill(pid, signal.SIGSTOP)
    outputs = network.predict([batch(1, side=1500)] * 3)
    ends: list[str] = []

    def work() -> None:
        with contextlib.suppress(Cancelled):
            ends.extend("output" for _ in outputs)
        ends.append("cancelled")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(0.2)
    begun = time.perf_counter()
    engine.close()
    assert time.perf_counter() - begun < 0.05
    assert gone(pid)
    thread.join(5)
    assert ends == ["cancelled"]


@pytest.mark.parametrize("after", [0.0, 0.005, 0.02, 0.3])
def test_close_while_a_thread_opens_cancels_it_and_leaves_no_process(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, after: float
) -> None:
    monkeypatch.setenv("STAND_IN_OPENING", "20")
    started: list[Any] = []
    start = _start_process

    def record(more: Any) -> Any:
        process = start(more)
        started.append(process)
        return process

    monkeypatch.setattr(process_module, "_start_process", record)
    ends: list[BaseException] = []
    inside = threading.Event()
    living = Engine._living_child

    def announced(self: Engine, closings: int) -> Any:
        inside.set()
        return living(self, closings)

    monkeypatch.setattr(Engine, "_living_child", announced)

    def work() -> None:
        try:
            engine.open(card())
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    inside.wait(5)
    time.sleep(after)
    begun = time.perf_counter()
    engine.close()
    assert time.perf_counter() - begun < 0.05
    thread.join(5)
    assert not thread.is_alive()
    assert [type(error) for error in ends] == [Cancelled]
    assert all(gone(process.pid) for process in started)


def test_an_open_from_before_a_close_leaves_the_next_child_alone(shared: Engine) -> None:
    before = shared._closings
    shared.open(card())
    shared.close()
    shared.open(card())
    pid = running(shared)
    with pytest.raises(Cancelled):
        shared._living_child(before)
    assert shared.pid == pid
    assert values(shared.open(card()), batch(1)) == [2]


def test_a_child_that_cannot_start_is_a_sentence(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UserError, match="could not be started"):
        engine.open(card())


def starting_with(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    return Engine()


def test_a_child_that_ends_at_once_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = starting_with("import os; os._exit(3)", tmp_path, monkeypatch)
    with pytest.raises(UserError, match="stopped with the error code 3"):
        engine.open(card())


@pytest.mark.slow
def test_a_child_that_talks_nonsense_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonsense = (HELLO + b"\xff" * 40).hex()
    code = f"import os, time; os.write(1, bytes.fromhex({nonsense!r})); time.sleep(60)"
    engine = starting_with(code, tmp_path, monkeypatch)
    with pytest.raises(UserError, match="The process that runs the network"):
        engine.open(card())
    assert engine.pid is None


def test_the_current_folder_is_not_on_the_childs_path(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert values(engine.open(card()), batch(1)) == [2]


# Out of memory.


def predict_strip(network: ChildNetwork, length: int, smallest: int = 64) -> list[tuple[int, str]]:
    """Predict squares along a strip as `predict.predict_plane` does its tiles.

    Gives the side of the tiles and the device, as they were after each time that the memory
    was full. All that is predicted is checked.
    """
    tile, done, log = network.max_tile, 0, [(network.max_tile, network.device)]
    while done < length:
        starts = range(done, length, tile)
        try:
            for start, output in zip(
                starts, network.predict(batch(1, tile) for _ in starts), strict=True
            ):
                assert start == done
                assert output.shape == (1, tile, tile, 1)
                assert (output == (2 if network.on_cpu else 20)).all()
                done += tile
        except OutOfMemory:
            tile //= 2
            if tile >= smallest:
                network = network.recover(cpu=False)
            else:
                network = network.recover(cpu=True)
                tile = network.max_tile
            log.append((tile, network.device))
    return log


@pytest.mark.parametrize("how", ["report", "MemoryError"])
@pytest.mark.slow
def test_memory_that_is_full_is_told_and_a_fresh_child_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", how)
    monkeypatch.setenv("STAND_IN_CPU_ROOM", "100")
    network = engine.open(card())
    pid = running(engine)
    assert values(network, batch(1, 100)) == [2]
    with pytest.raises(OutOfMemory, match=r"The memory of the (stand-in|computer) is full\."):
        values(network, *[batch(1, 101)] * 3)
    recovered = network.recover(cpu=False)
    assert recovered.device == "stand-in"
    assert values(recovered, batch(3, 100)) == [6]
    assert running(engine) != pid  # what was refused memory is not to be trusted
    assert gone(pid)
    assert predict_strip(recovered, 2000) == [(n, "stand-in") for n in (512, 256, 128, 64)]


def test_a_gpu_that_was_full_goes_on_in_the_same_child(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", "report")
    monkeypatch.setenv("STAND_IN_GPU", "100")
    network = engine.open(card())
    pid = running(engine)
    with pytest.raises(OutOfMemory, match=r"The memory of the stand-in is full\."):
        values(network, batch(1, 101))
    assert values(network.recover(cpu=False), batch(1, 100)) == [20]
    assert engine.pid == pid


def test_a_gpu_that_failed_is_not_trusted_in_the_same_child(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", "lost")
    monkeypatch.setenv("STAND_IN_GPU", "60")
    network = engine.open(card())
    pid = running(engine)
    with pytest.raises(LostDevice, match=r"The GPU failed while it computed\."):
        values(network, batch(1, 101))
    assert values(network.recover(cpu=False), batch(1, 60)) == [20]
    assert running(engine) != pid
    assert predict_strip(network.recover(cpu=False), 2000)[-1] == (512, "stand-in")


def test_a_child_that_holds_another_library_is_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_HOLDS_ONE", "1")
    assert engine.open(card()).device == "stand-in"
    pid = running(engine)
    other = engine.open(card(), runtime="tensorflow")
    assert (other.device, values(other, batch(1))) == ("stand-in of tensorflow", [2])
    assert running(engine) != pid


def test_a_library_that_this_process_cannot_hold_computes_in_the_child(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SecondLibrary("TensorFlow cannot be loaded.")

    monkeypatch.setattr(engine_module, "_shared", engine)
    monkeypatch.setattr(opening, "_opened_here", {})
    monkeypatch.setattr(runtime_table, "open_network", refuse)
    for name in ("napari", "qtpy", "PyQt6", "PySide6", "PyQt5"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    network = opening.open_network(card(), "tensorflow")
    assert (network.device, values(network, batch(1))) == ("stand-in of tensorflow", [2])


def test_others_that_the_child_works_for_recover_too(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", "report")
    monkeypatch.setenv("STAND_IN_CPU_ROOM", "100")
    one, other = engine.open(card()), engine.open(card())
    outputs = other.predict([batch(1, 50)] * 6)
    assert (next(outputs) == 2).all()
    with pytest.raises(OutOfMemory, match=r"is full\."):
        values(one, batch(1, 101))
    with pytest.raises(OutOfMemory, match="perhaps because the memory was full"):
        list(outputs)
    assert values(other.recover(cpu=False), batch(1, 50)) == [2]


def test_a_network_for_many_images_outlives_the_child_that_one_of_them_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", "report")
    monkeypatch.setenv("STAND_IN_CPU_ROOM", "100")
    network = engine.open(card())
    with pytest.raises(OutOfMemory, match=r"is full\."):
        values(network, batch(1, 101))
    assert values(network, batch(1), batch(2)) == [2, 4]
    engine.close()
    with pytest.raises(Cancelled):
        values(network, batch(1))


def test_a_child_that_was_refused_memory_while_it_opened_is_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_REFUSED", "1")
    with pytest.raises(OutOfMemory, match=r"is full\."):
        engine.open(card())
    monkeypatch.delenv("STAND_IN_REFUSED")  # which the old child would not hear of
    assert values(engine.open(card()), batch(1)) == [2]


def test_this_process_leaves_the_rest_to_a_child_where_it_was_refused_memory(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Here:
        device, max_tile, on_cpu = "here", 512, True

        def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
            for one in batches:
                if one.shape[1] > 100:
                    raise OutOfMemory
                yield (one * 100).astype(np.uint8)

    monkeypatch.setattr(engine_module, "_shared", engine)
    monkeypatch.setattr(opening, "_refused", threading.Event())
    here: Any = Here()
    network = _LocalNetwork(card(), here)
    assert (network.device, network.max_tile) == ("here", 512)
    assert values(network, batch(1)) == [100]
    assert engine.pid is None
    with pytest.raises(OutOfMemory):
        values(network, batch(1), batch(1, 101))

    recovered = network.recover(cpu=False)
    assert (recovered.device, values(recovered, batch(1))) == ("stand-in", [2])
    assert values(network, batch(1)) == [2]  # and so does who holds it for many images
    assert _open_here(card()).device == "stand-in"


def test_a_second_card_over_the_same_weights_gets_a_network_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[ModelCard] = []

    def open_network(card: ModelCard, runtime: str) -> Any:
        opened.append(card)
        return object()

    monkeypatch.setattr(opening, "_refused", threading.Event())
    monkeypatch.setattr(opening, "_opened_here", [])
    monkeypatch.setattr("napari_unet_cells.models.runtimes.table.open_network", open_network)
    first, second = card(), replace(card(), halo=card().halo + 16)
    assert first.sha256 == second.sha256
    assert _open_here(first) is _open_here(card())
    assert opened == [first]
    assert _open_here(second).halo == second.halo != first.halo
    assert opened == [first, second]


@posix
@pytest.mark.parametrize("how", ["SIGKILL", "SIGABRT", "SIGSEGV"])
@pytest.mark.slow
def test_a_child_that_ends_as_one_without_memory_is_followed_by_a_fresh_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", how)
    monkeypatch.setenv("STAND_IN_CPU_ROOM", "128")
    network = engine.open(card())
    pid = running(engine)
    with pytest.raises(OutOfMemory, match=rf"was ended by the system \({how}\)"):
        values(network, batch(1, 129))
    assert engine.pid is None
    recovered = network.recover(cpu=False)
    assert values(recovered, batch(3, 128)) == [6]
    assert running(engine) != pid
    assert predict_strip(recovered, 700) == [(n, "stand-in") for n in (512, 256, 128)]


@posix
def test_a_child_that_crashes_in_another_way_is_not_one_without_memory(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", "SIGILL")
    monkeypatch.setenv("STAND_IN_CPU_ROOM", "100")
    with pytest.raises(UserError, match="SIGILL") as caught:
        values(engine.open(card()), batch(1, 101))
    assert not isinstance(caught.value, OutOfMemory)


@pytest.mark.parametrize("how", ["report", pytest.param("SIGKILL", marks=posix)])
@pytest.mark.slow
def test_a_full_gpu_leaves_the_rest_to_the_cpu(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", how)
    monkeypatch.setenv("STAND_IN_GPU", "10")
    monkeypatch.setenv("STAND_IN_CPU_ROOM", "256")
    network = engine.open(card())
    assert not network.on_cpu
    assert values(network, batch(3, 10)) == [60]
    gpu = [(n, "stand-in GPU") for n in (512, 256, 128, 64)]
    assert predict_strip(network, 2000) == [*gpu, (512, "stand-in"), (256, "stand-in")]


def test_one_child_tells_its_gpu_from_its_cpu(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_GPU", "9999")
    gpu = engine.open(card())
    pid = running(engine)
    cpu = gpu.recover(cpu=True)
    assert (gpu.device, cpu.device) == ("stand-in GPU", "stand-in")
    assert (gpu.on_cpu, cpu.on_cpu) == (False, True)
    for _ in range(2):
        assert values(gpu, batch(1)) == [20]
        assert values(cpu, batch(1)) == [2]
    assert values(cpu.recover(cpu=False), batch(1)) == [2]
    assert engine.pid == pid


@pytest.mark.slow
def test_where_the_cpu_has_no_memory_either_the_end_is_a_sentence(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FULL", "report")
    monkeypatch.setenv("STAND_IN_GPU", "10")
    monkeypatch.setenv("STAND_IN_CPU_ROOM", "10")
    network = engine.open(card())
    with pytest.raises(OutOfMemory, match=r"The memory of the computer is full\. Close other"):
        predict_strip(network, 2000)
    assert values(engine.open(card()), batch(1)) == [20]


def test_recovering_obeys_the_stop_event(engine: Engine) -> None:
    stop = threading.Event()
    network = engine.open(card(), stop)
    assert values(network.recover(cpu=False), batch(1)) == [2]
    stop.set()
    with pytest.raises(Cancelled):
        network.recover(cpu=False)


@posix
def test_cancel_while_a_fresh_child_opens(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    network = engine.open(card(), stop)
    pid = running(engine)
    monkeypatch.setenv("STAND_IN_OPENING", "20")
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    threading.Timer(0.5, stop.set).start()
    begun = time.perf_counter()
    with pytest.raises(Cancelled):
        network.recover(cpu=False)
    assert 0.4 < time.perf_counter() - begun < 5.0


def test_recovering_after_a_close_starts_nothing(engine: Engine) -> None:
    network = engine.open(card())
    running(engine)
    engine.close()
    with pytest.raises(Cancelled):
        network.recover(cpu=False)
    assert engine.pid is None


def test_a_child_without_memory_for_a_frame_says_so_by_its_exit_code(stand_in: None) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "napari_unet_cells.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(struct.pack("<IQ", 2, 1 << 62) + b"{}")
        process.stdin.flush()
        assert process.wait(20) == NO_MEMORY_EXIT
    assert NO_MEMORY_EXIT in _MEMORY_FULL_EXITS


_PARENT = """
import sys, threading
from pathlib import Path
import numpy as np
from napari_unet_cells.engine.engine import shared_engine
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.runtimes.table import RUNTIMES
card = ModelCard("model2", "", (), 1, 1, 0, sha256="model2", path=Path("model2.keras"))
network = shared_engine().open(card)
print(shared_engine().pid, flush=True)
if sys.argv[1] == "run":
    for _ in network.predict(np.ones((1, 300, 300, 1), np.float32) for _ in range(10**9)):
        pass
elif sys.argv[1] == "wait":
    threading.Event().wait()
"""


def parent(how: str) -> tuple[subprocess.Popen[str], int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, how], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit():
            return process, int(line)
    raise AssertionError("the parent ended early")


@pytest.mark.parametrize("how", ["wait", "run"])
def test_a_killed_parent_leaves_no_child(stand_in: None, how: str) -> None:
    process, pid = parent(how)
    with process:
        assert psutil.pid_exists(pid)
        process.kill()
        assert gone(pid, 2.0)


def test_a_parent_that_ends_leaves_no_child(stand_in: None) -> None:
    process, pid = parent("end")
    with process:
        assert process.wait(10) == 0
        assert gone(pid, 0.1)  # it waited for the child


def test_a_killed_parent_leaves_no_child_that_still_opens(
    stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = _PARENT.replace("network = ", "print(0, flush=True)\nnetwork = ")
    monkeypatch.setenv("STAND_IN_OPENING", "30")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", code, "end"], stdout=subprocess.DEVNULL, env=environment
    ) as process:
        children: list[psutil.Process] = []
        while not children:
            children = psutil.Process(process.pid).children()
            time.sleep(0.02)
        time.sleep(0.5)
        process.kill()
        assert gone(children[0].pid, 2.0)


_FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
from napari_unet_cells import segment
from napari_unet_cells.engine.engine import shared_engine
from napari_unet_cells.sample_data import simulate_nuclei
image = simulate_nuclei((96, 96), seed=1)[0]
if sys.argv[1] == "here":
    segment(image, "cells-fast")
else:
    import napari  # the child computes
    segment(image, "cells-fast")
    mine = shared_engine().pid
known = segment(image, "cells-fast").cells
pid = os.fork()
if pid == 0:
    same = bool((segment(image, "cells-fast").cells == known).all())
    sys.exit(0 if same else 3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert sys.argv[1] == "here" or shared_engine().pid == mine, "the forked process took the child"
assert (segment(image, "cells-fast").cells == known).all()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
@pytest.mark.slow
@pytest.mark.parametrize("where", ["here", "child"])
def test_a_process_that_is_forked_after_the_network_ran_computes_in_its_own_child(
    where: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKED, where], capture_output=True, text=True, timeout=250
    )
    assert (done.returncode, done.stderr) == (0, "")


# With the real network.


@pytest.fixture(scope="module")
def real_engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close(5.0)


@pytest.mark.network
def test_the_child_gives_what_the_network_gives_here(tiny_model: Path, real_engine: Engine) -> None:
    from napari_unet_cells.models.catalogue import find_model
    from napari_unet_cells.models.runtimes.tensorflow import open_network

    tiny = find_model(tiny_model)
    here, there = open_network(tiny), real_engine.open(tiny, runtime="tensorflow")
    assert there.device == here.device
    rng = np.random.default_rng(0)
    batches = [rng.random((1, 64, 32 * i, c), dtype=np.float32) for i in (1, 3) for c in (1, 3)]
    for a, b in zip(here.predict(batches), there.predict(batches), strict=True):
        assert a.shape[-1] == 3
        np.testing.assert_array_equal(a, b)
        assert len(np.unique(a[..., 1])) > 5


@pytest.mark.network
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
@pytest.mark.parametrize("side", [1024, 2048])
@pytest.mark.parametrize("runtime", ["tensorflow", "openvino"])
def test_an_allocation_that_is_refused_is_survived(
    tiny_model: Path, side: int, runtime: str
) -> None:
    import resource

    from napari_unet_cells.models.catalogue import find_model

    engine = Engine()
    try:
        if not RUNTIMES[runtime].installed:
            pytest.skip(f"{runtime} is not installed")
        network = engine.open(find_model(tiny_model), runtime=runtime)
        small, large = (np.ones((1, n, n, 1), np.float32) for n in (256, side))
        (before,) = network.predict([small])
        pid = running(engine)
        limit = psutil.Process(pid).memory_info().vms + (20 << 20)
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        # They report it or are aborted, which depends on the tensor that is refused.
        with pytest.raises(OutOfMemory, match="memory"):
            list(network.predict([large, large]))
        if engine.pid is not None:
            resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        recovered = network.recover(cpu=False)
        (after,) = recovered.predict([small])
        np.testing.assert_array_equal(before, after)
        assert next(recovered.predict([large])).shape == (1, side, side, 3)
    finally:
        engine.close(5.0)


_WITHOUT_TENSORFLOW = """
import json, sys
import numpy as np
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.pipeline import segment_planes
card = find_model(sys.argv[1])
engine = Engine()
image = np.random.default_rng(0).integers(0, 255, (90, 70), np.uint8)
*_, result = segment_planes(planes_of(image), engine.open(card), card)
engine.close(5.0)
print(json.dumps([result.classes.shape, [m for m in sys.modules if m.partition(".")[0] in
    ("tensorflow", "keras", "jax", "torch")]]))
"""


@pytest.mark.network
def test_the_parent_never_loads_tensorflow(tiny_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TENSORFLOW, str(tiny_model)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [[90, 70], []]


@pytest.mark.network
def test_a_damaged_model_is_a_sentence(
    tiny_model: Path, tmp_path: Path, real_engine: Engine
) -> None:
    from napari_unet_cells.models.catalogue import find_model

    path = tmp_path / "copy.keras"
    path.write_bytes(tiny_model.read_bytes())
    path.with_suffix(".json").write_bytes(tiny_model.with_suffix(".json").read_bytes())
    copy = find_model(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"copy\.keras is damaged"):
        real_engine.open(copy)
    assert real_engine.open(find_model(tiny_model)).device
