"""A cluster of dask: the same results, whatever happens to a worker; the rest are sentences."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from napari_unet_cells import __version__
from napari_unet_cells.batch import cluster as clusters
from napari_unet_cells.batch.cluster import Cluster, cluster
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.run import BatchRun
from napari_unet_cells.batch.units import Unit, find_units
from napari_unet_cells.batch.work import Job, Model, Note, UnitDone
from napari_unet_cells.cli.main import main
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.catalogue import find_model

distributed = pytest.importorskip("distributed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a scheduler and two workers, as a user does."""
    place = tmp_path_factory.mktemp("dask")
    found = place / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options = ["--scheduler-file", str(found), "--no-dashboard"]
    command = [*dask, "scheduler", *options, "--host", "127.0.0.1", "--port", "0"]
    worker = [*dask, "worker", *options, "--nthreads", "1", "--local-directory", str(place)]
    processes = [subprocess.Popen(command, **quiet)]
    try:
        wait_for(found.exists)
        processes += [subprocess.Popen(worker, **quiet) for _ in range(2)]
        yield str(json.loads(found.read_text())["address"])
    finally:
        for process in reversed(processes):
            end_with_children(process)


def end_with_children(process: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """Write ten images."""
    images = tmp_path / "in"
    images.mkdir()
    for n in range(10):
        write_image(images / f"n{n}.tif", seed=n, shape=(96, 80 + 20 * n))
    return images


def worker_pids(client: Any) -> list[int]:
    return list(client.run(os.getpid).values())


def test_two_workers_of_whom_one_is_killed_give_what_one_process_does(
    folder: Path, tmp_path: Path, address: str
) -> None:
    assert main(["batch", str(folder), "-o", str(tmp_path / "one"), "--model", "cells-fast"]) == 0

    output = tmp_path / "two"
    done = []
    with cluster(address) as execute:
        execute.client.wait_for_workers(2, timeout=200)
        units = find_units([str(folder)], output)
        batch = BatchRun(units, output, "cells-fast", execute=execute)
        for event in batch.events():
            assert isinstance(event, UnitDone)
            done.append(event)
            if len(done) == 2:
                os.kill(worker_pids(execute.client)[0], signal.SIGKILL)
        batch.close()
        execute.client.wait_for_workers(2, timeout=200)
    assert sorted(event.unit.name for event in done) == [f"n{n}" for n in range(10)]
    assert [event.problem for event in done] == [""] * 10
    assert (tmp_path / "one" / "cells.csv").read_text() == (output / "cells.csv").read_text()
    assert not list(output.glob(".*"))


def test_a_run_that_ends_early_leaves_no_tasks(folder: Path, tmp_path: Path, address: str) -> None:
    output = tmp_path / "out"
    with cluster(address) as execute:
        units = find_units([str(folder)], output)
        events = BatchRun(units, output, "cells-fast", execute=execute).events()
        next(events)
        events.close()  # as Ctrl+C does
        with distributed.Client(address, set_as_default=False) as other:
            wait_for(lambda: not any(other.processing().values()))
    assert 1 <= len(list(output.glob("n*.json"))) < 10


def test_the_command_goes_on_where_another_way_left_off(
    folder: Path, tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["batch", "-o", str(tmp_path / "out"), "--model", "cells-fast"]
    assert main([*arguments, str(folder / "n0.tif")]) == 0
    (folder / "n5.tif").write_bytes(b"")
    assert main([*arguments, str(folder), "--scheduler", address]) == 1
    said = capsys.readouterr()
    assert "1 was done by an earlier run." in said.out
    assert "n5: n5.tif is empty (0 bytes)" in said.err
    assert "9 of 10 done" in said.out


# --- what can be wrong, in sentences ------------------------------------------------------


def test_a_scheduler_that_is_not_there(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(clusters, "ANSWER", 1.0)
    arguments = ["batch", str(folder), "-o", str(tmp_path / "out"), "--scheduler"]
    for address in ("tcp://127.0.0.1:1", "nonsense://x:1", "x y", "foo"):
        assert main([*arguments, address]) == 2
        said = capsys.readouterr().err
        assert f"No scheduler of dask answers at {address}." in said
        assert "Traceback" not in said
    assert main([*arguments, "tcp://127.0.0.1:1", "--workers", "2"]) == 2
    assert "Leave one of them out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"napari-unet-cells\[cluster\]"), cluster("tcp://x:1"):
        pass


def test_a_scheduler_of_other_versions() -> None:
    def versions(dask: str) -> dict[str, Any]:
        return {"packages": {"dask": dask, "distributed": "2026.8.0"}}

    found = {"client": versions("2026.8.0"), "scheduler": versions("2026.8.0")}
    client = SimpleNamespace(get_versions=lambda: found)
    clusters._refuse_other_versions(client)
    found["scheduler"] = versions("2020.1.0")
    with pytest.raises(UserError, match=r"other versions .*: dask 2020\.1\.0 instead"):
        clusters._refuse_other_versions(client)


class FakeClient:
    """A cluster of three workers that answer what they are told to."""

    def __init__(self, *answers: object, **resources: float) -> None:
        self.answers = answers
        self.resources = resources

    def run(self, *_: object, on_error: str) -> dict[str, object]:
        return {f"tcp://{n}": answer for n, answer in enumerate(self.answers)}

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        one = {"nthreads": 20, "resources": {}}
        workers = {f"tcp://{n}": dict(one) for n in range(len(self.answers))}
        workers["tcp://0"]["resources"] = self.resources
        return {"workers": workers}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    model = Model.of(find_model("cells-fast"))
    return Job(Unit(tmp_path / "a.tif", "a"), tmp_path, model, Request())


def test_workers_that_cannot_segment_get_no_images(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient("", "it has no model.", ModuleNotFoundError("No module named 'x'"))
    asked: list[dict[str, Any]] = []

    def follow(self: Cluster, waiting: list[Job], choice: Any) -> Iterator[UnitDone]:
        asked.append(choice.options)
        yield UnitDone(waiting.pop().unit)

    monkeypatch.setattr(Cluster, "_do", follow)
    *notes, _ = list(Cluster(client)([job]))
    assert [note.text for note in notes if isinstance(note, Note)] == [
        "The worker tcp://1 gets no images: it has no model.",
        "The worker tcp://2 gets no images: it lacks a module (No module named 'x'). Install the "
        "same packages as here.",
    ]
    assert asked == [{"workers": ["tcp://0"]}]
    list(Cluster(FakeClient("", "", GPU=1.0))([job]))
    assert asked[1] == {"resources": {"GPU": 1}}
    list(Cluster(FakeClient(""))([job]))
    assert asked[2] == {}
    with pytest.raises(UserError, match="No worker of the cluster can segment"):
        list(Cluster(FakeClient("no", "no"))([job]))


def test_a_worker_says_what_it_lacks(job: Job, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch()
    assert clusters._probe(job.model, token, __version__) == ""
    assert "it runs napari-unet-cells" in clusters._probe(job.model, token, "0.0.1")
    gone = clusters._probe(job.model, tmp_path / "x" / "token", __version__)
    assert "does not see the folder of the results" in gone
    lacking = Model(tmp_path / "m.keras", "nobodys", "ab" * 32)
    assert "There is no model 'nobodys'" in clusters._probe(lacking, token, __version__)


def test_tasks_are_few_however_many_units_there_are() -> None:
    assert Cluster(FakeClient("", "", ""))._room() == 180
    assert Cluster(FakeClient(""))._room() == 60


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        ("error", type("KilledWorker", (Exception,), {})(), "4 processes that computed it ended"),
        ("error", ValueError("x"), "The cluster could not do it: ValueError: x"),
    ],
)
def test_a_task_that_failed_is_a_sentence(
    job: Job, status: str, error: Exception, said: str
) -> None:
    future = SimpleNamespace(status=status, exception=lambda: error)
    assert said in clusters._outcome(future, job).problem


@pytest.mark.parametrize("status", ["lost", "cancelled"])
def test_a_scheduler_that_is_lost_is_a_sentence(job: Job, status: str) -> None:
    with pytest.raises(UserError, match="The scheduler was lost"):
        clusters._outcome(SimpleNamespace(status=status), job)


@pytest.mark.parametrize("name", ["CommClosedError", "TimeoutError"])
def test_a_connection_that_breaks_is_a_sentence(
    job: Job, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    error = distributed.comm.CommClosedError if name == "CommClosedError" else TimeoutError

    def broken(self: Cluster, waiting: list[Job], choice: Any) -> Iterator[UnitDone]:
        yield UnitDone(waiting.pop().unit)
        raise error("in <TCP (closed)>")

    monkeypatch.setattr(Cluster, "_do", broken)
    events = Cluster(FakeClient(""))([job])
    next(events)
    with pytest.raises(UserError, match="The scheduler was lost"):
        next(events)


def test_dask_says_nothing_by_itself() -> None:
    logging.getLogger("distributed.client").setLevel(logging.WARNING)  # as dask sets it
    clusters._silence()
    for name in ("distributed", "distributed.client", "distributed.core"):
        assert not logging.getLogger(name).isEnabledFor(logging.CRITICAL)


def test_workers_that_come_back_elsewhere_are_asked_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that its nanny starts again has another port."""
    client = FakeClient("", "it has no model.")
    rounds: list[Any] = []

    def follow(self: Cluster, waiting: list[Job], choice: Any) -> Iterator[UnitDone]:
        rounds.append(choice)
        here = self._workers()
        assert not choice.is_outdated(here)
        assert choice.able(here) == ["tcp://0"]
        if len(rounds) == 1:
            client.answers = ("it has no model.", "it has no model.", "")
            assert choice.is_outdated(self._workers())
            client.answers = ("", "it has no model.")
            return
        yield UnitDone(waiting.pop().unit)

    monkeypatch.setattr(Cluster, "_do", follow)
    events = list(Cluster(client)([job]))
    assert len(rounds) == 2
    assert [type(event) for event in events] == [Note, UnitDone]  # it is said once


def test_that_no_worker_is_left_is_said_and_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(steps: Any) -> tuple[list[str], float]:
        said = []
        while True:
            try:
                said.append(next(steps).text)
            except StopIteration as end:
                return said, end.value

    one = Cluster(FakeClient(""))
    choice = clusters._Choice(frozenset({"tcp://0"}), (), False)
    assert ended(one._check_alone(choice, {"tcp://0": {}}, 5.0)) == ([], 0.0)
    said, since = ended(one._check_alone(choice, {}, 0.0))
    assert said == ["The cluster has no worker any more; waiting for 10 minutes."]
    assert ended(one._check_alone(choice, {}, since)) == ([], since)
    gpus = clusters._Choice(frozenset({"tcp://0"}), (), True)
    assert gpus.able({"tcp://0": {"resources": {}}, "tcp://1": {"resources": {"GPU": 1}}}) == [
        "tcp://1"
    ]
    monkeypatch.setattr(clusters, "FIRST_WORKER", -1.0)
    with pytest.raises(UserError, match="All workers ended"):
        ended(one._check_alone(choice, {}, since))
