"""Whatever kills the process or spoils the disk, the labels come back as they were saved."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet_cells.core.regions import PackedLabels, Place, RegionGrid, Review, State
from napari_unet_cells.corrections import autosave, restoring
from napari_unet_cells.corrections.autosave import (
    SAVES_A_BASE,
    NotSaved,
    Session,
    Snapshot,
    session_of,
)
from napari_unet_cells.corrections.description import describe
from napari_unet_cells.corrections.exported import Written
from napari_unet_cells.corrections.restoring import (
    Restored,
    Summary,
    discard_exported,
    restore,
    sessions,
    too_much,
)
from napari_unet_cells.corrections.session_files import (
    FORMAT,
    MADE,
    discard,
    is_free,
    read_file,
    read_header,
    saves_in,
    sessions_folder,
    write_file,
)
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import INPUT, OURS

DESCRIPTION = {
    "name": "nuclei cells",
    "metadata": {},
    "place": {},
    "image": {"path": "/a/nuclei.tif"},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a user's folder of its own."""
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(shape: tuple[int, ...] = (40, 60), dtype: str = "uint16") -> NDArray[Any]:
    """Labels as a run may have made them."""
    labels = np.zeros(shape, dtype)
    labels[..., 5:15, 5:15] = 1
    labels[..., 20:30, 30:55] = 2
    return labels


def reviewed(labels: NDArray[Any], counts: tuple[int, int] = (2, 3)) -> Review:
    return Review(labels, None, RegionGrid((labels.shape[-2], labels.shape[-1]), counts))


def corrected(**kwargs: Any) -> tuple[NDArray[Any], Review, Session]:
    """Labels of which one region was corrected and saved."""
    labels = run(**kwargs)
    review, session = reviewed(labels), Session()
    labels[..., 0, 0] = 7
    assert session.save(labels, review, description=DESCRIPTION)
    return labels, review, session


def restored(session: Session) -> Restored:
    session.release()
    assert session.folder is not None
    return restore(session.folder)


def assert_is(back: Restored, labels: NDArray[Any], review: Review) -> None:
    np.testing.assert_array_equal(back.labels, labels)
    assert back.labels.dtype == labels.dtype
    assert back.review.approved == review.approved
    for place in review:
        np.testing.assert_array_equal(back.review.made(place), review.made(place))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "int64", ">u2"])
@pytest.mark.parametrize("shape", [(40, 60), (3, 40, 60), (2, 3, 40, 60), (2, 3)])
def test_what_is_restored_is_what_was_saved(dtype: str, shape: tuple[int, ...]) -> None:
    labels = run(shape, dtype)
    review, session = reviewed(labels), Session()
    assert not session.save(labels, review)  # nothing to keep...
    assert session.folder is None
    assert not sessions_folder().exists()
    labels[..., -1, -1] = 9
    review.approve(next(iter(review)), "2026-11-03T17:32:00+01:00")

    assert session.save(labels, review, description=DESCRIPTION)
    assert not session.save(labels, review, description=DESCRIPTION)  # ... and nothing new
    back = restored(session)

    labels = labels.astype(labels.dtype.newbyteorder("="))
    np.testing.assert_array_equal(back.labels, labels)
    assert back.labels.dtype == labels.dtype
    assert back.review.approved == review.approved
    assert back.description == DESCRIPTION
    assert back.problem == ""
    windows: dict[Place, tuple[int | slice, ...]]
    windows = {p: (*p[0], *review.grid[p[1]].slices) for p in review}
    assert [back.review.is_edited(p) for p in review] == [
        not np.array_equal(review.made(p), labels[window]) for p, window in windows.items()
    ]


def test_a_save_holds_only_what_changed_since_the_last() -> None:
    labels, review, session = corrected()
    labels[35, 55] = 8
    session.save(labels, review, description=DESCRIPTION)

    newest, first = saves_in(session.folder).values()
    tables = [read_header(path).file.table for path in (first, newest)]

    assert [[row.place[1] for row in table] for table in tables] == [[0], [5]]
    assert_is(restored(session), labels, review)


def test_only_the_given_places_are_looked_at() -> None:
    labels, review, session = corrected()
    labels[35, 55] = 8
    assert list(session.changed(labels, review, [((), 0), ((), 1)])) == []
    assert list(session.changed(labels, review, review)) == [((), 5)]


def test_approvals_are_saved_without_any_edit() -> None:
    labels = run()
    review, session = reviewed(labels), Session()
    review.approve(((), 3))
    assert session.save(labels, review, description=DESCRIPTION)
    assert restored(session).review.state(((), 3)) is State.APPROVED


def test_a_session_goes_when_nothing_differs_from_the_run() -> None:
    labels, review, session = corrected()
    assert session.folder is not None
    assert session.folder.is_dir()

    labels[0, 0] = 0  # undone
    assert session.save(labels, review, description=DESCRIPTION)

    assert session.folder is None
    assert os.listdir(sessions_folder()) == []
    labels[0, 0] = 3
    assert session.save(labels, review, description=DESCRIPTION)
    assert_is(restored(session), labels, review)


def test_the_data_type_may_change() -> None:
    labels, review, session = corrected()
    wide = labels.astype(np.uint32)
    assert list(session.changed(wide, review, review)) == []  # the numbers are the same
    wide[39, 59] = 70_000
    session.save(wide, review, description=DESCRIPTION)
    back = restored(session)
    assert_is(back, wide, review)
    assert back.review.made(((), 0)).dtype == np.uint16


def test_a_restored_session_goes_on() -> None:
    labels, review, session = corrected()
    back = restored(session)
    back.adopt()
    assert session_of(back.review) is back.session
    labels[39, 59] = 4
    back.labels[39, 59] = 4
    assert list(back.session.changed(back.labels, back.review, back.review)) == [((), 5)]
    back.session.save(back.labels, back.review, description=DESCRIPTION)
    assert_is(restored(back.session), labels, review)


def test_old_files_are_deleted_and_two_bases_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autosave, "SAVES_A_BASE", 3)
    labels, review, session = corrected()
    for n in range(2, 30):
        labels[(n * 7) % 40, (n * 11) % 60] = n
        session.save(labels, review, description=DESCRIPTION)
        assert session.folder is not None
        saves = saves_in(session.folder)
        assert len(saves) <= 8
        whole = [n for n, path in saves.items() if _is_base(path)]
        assert len(whole) == 2 or n < 6
        assert min(whole) == min(saves)
    assert_is(restored(session), labels, review)


def _is_base(path: Path) -> bool:
    header = read_header(path)
    return len(header.file.table) == len(header.state)


# --- random work, and restarts in between ------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("paint"), st.integers(0, 39), st.integers(0, 59), st.integers(0, 300)),
        st.tuples(st.just("approve"), st.integers(0, 5)),
        st.tuples(st.just("withdraw"), st.integers(0, 5)),
        st.tuples(st.sampled_from(["save", "restart", "undo all", "lose the folder", "wide"])),
    ),
    max_size=40,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS, a_base=st.integers(0, 4))
def test_any_work_comes_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], a_base: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autosave, "SAVES_A_BASE", a_base)
        patch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path_factory.mktemp("home")))
        _work(steps)


def _work(steps: list[Any]) -> None:
    made = run()
    labels, review, session = made.copy(), reviewed(made), Session()
    for action, *values in steps:
        if action == "paint":
            labels[values[0], values[1]] = values[2]
        elif action == "undo all":
            labels[:] = made
        elif action == "wide":
            labels = labels.astype(np.uint32)
        elif action == "approve":
            review.approve(((), values[0]))
        elif action == "withdraw":
            review.withdraw(((), values[0]))
        elif action == "lose the folder" and session.folder is not None:
            discard(session.folder)
        else:
            session.save(labels, review, description=DESCRIPTION)
            if action == "restart" and session.folder is not None:
                back = restored(session)
                assert_is(back, labels, review)
                labels, review, session = back.labels, back.review, back.session
    session.save(labels, review, description=DESCRIPTION)
    is_clean = np.array_equal(labels, made) and not review.approved
    assert (session.folder is None) == is_clean
    if not is_clean:
        assert_is(restored(session), labels, review)


# --- kill -9 -----------------------------------------------------------------------------

#: Paints and saves for ever, and says after every save what it saved. At a point that it is
#: told it stands still, to be killed there.
CHILD = """
import os, sys, time
import numpy as np
from napari_unet_cells.corrections import autosave
from napari_unet_cells.core.regions import RegionGrid, Review

autosave.SAVES_A_BASE = 4
step, number = sys.argv[1], int(sys.argv[2])

def stop_at(name, before):
    real, calls = getattr(os, name), [0]
    def call(*args, **kwargs):
        result = None if before else real(*args, **kwargs)
        calls[0] += 1
        if calls[0] == number:
            print("here", flush=True)
            time.sleep(60)
        return real(*args, **kwargs) if before else result
    setattr(os, name, call)

if step != "anywhere":
    name, _, when = step.partition(" ")
    stop_at(name, when != "after")

labels = np.zeros((128, 192), np.uint16)
review = Review(labels, None, RegionGrid(labels.shape, (4, 4)))
session = autosave.Session()
for n in range(1, 10_000):
    rng = np.random.default_rng(n)
    labels[rng.integers(0, 128, 9), rng.integers(0, 192, 9)] = n
    session.save(labels, review, description={"name": "cells"})
    print(n, flush=True)
"""


def state(n: int) -> NDArray[np.uint16]:
    """Labels of the child after its save number n."""
    labels = np.zeros((128, 192), np.uint16)
    for i in range(1, n + 1):
        rng = np.random.default_rng(i)
        labels[rng.integers(0, 128, 9), rng.integers(0, 192, 9)] = i
    return labels


def child(step: str, number: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, step, str(number)], stdout=subprocess.PIPE, text=True
    )


def assert_last_state_comes_back(reported: list[str]) -> None:
    last = int(([line for line in reported if line.strip().isdigit()] or ["0"])[-1])
    found = sessions()
    if not found:
        assert last == 0
        return
    back = restore(found[0].folder)
    assert len(found) == 1
    assert back.problem == ""
    is_one = [np.array_equal(back.labels, state(n)) for n in (last, last + 1)]
    assert sum(is_one) == 1
    assert not list(back.session.folder.glob(".*"))


STOPS = [
    (step, number)
    for step in ("fsync", "fsync after", "link", "link after", "listdir", "mkdir after")
    for number in ((1,) if "mkdir" in step else (1, 2, 3, 12, 25))
] + [("unlink", n) for n in (1, 12, 14, 15, 30)]


@pytest.mark.parametrize(("step", "number"), STOPS)
@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_killed_inside_a_save_the_last_state_comes_back(step: str, number: int) -> None:
    process = child(step, number)
    assert process.stdout is not None
    reported: list[str] = []
    for line in process.stdout:
        if line == "here\n":
            break
        reported.append(line)
    assert process.poll() is None  # it stands where it was told, and its session is not offered
    assert sessions() == []
    process.kill()
    process.wait(timeout=10)
    process.stdout.close()
    assert_last_state_comes_back(reported)


@pytest.mark.parametrize("moment", range(10))
@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_killed_at_any_moment_the_last_state_comes_back(moment: int) -> None:
    process = child("anywhere")
    assert process.stdout is not None
    reported = [process.stdout.readline()]
    timer = threading.Timer(np.random.default_rng().uniform(0.0, 0.6), process.kill)
    timer.start()
    reported += list(process.stdout)
    assert process.wait(timeout=10) == -signal.SIGKILL
    process.stdout.close()
    if not reported[-1].endswith("\n"):
        reported.pop()
    assert_last_state_comes_back(reported)


# --- spoilt files ------------------------------------------------------------------------


def three_saves() -> tuple[list[NDArray[Any]], Review, Session]:
    labels, review, session = corrected()
    states = [labels.copy()]
    for row, column in ((39, 59), (0, 1)):
        labels[row, column] = 8
        session.save(labels, review, description=DESCRIPTION)
        states.append(labels.copy())
    session.release()
    return states, review, session


@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5, 0.99])
def test_a_truncated_save_gives_the_one_before(keep: float) -> None:
    states, review, session = three_saves()
    newest = session.folder / "save-000003.labels"
    newest.write_bytes(newest.read_bytes()[: int(keep * newest.stat().st_size)])

    back = restore(session.folder)

    assert_is(back, states[1], review)
    assert "newest file of these corrections is damaged" in back.problem
    back.labels[20, 20] = 5
    back.session.save(back.labels, back.review, description=DESCRIPTION)
    again = restored(back.session)
    assert_is(again, back.labels, review)
    assert again.problem == ""


@pytest.mark.parametrize("position", range(0, 500, 7))
def test_a_flipped_byte_never_gives_a_mixture(position: int) -> None:
    states, _, session = three_saves()
    newest = session.folder / "save-000003.labels"
    content = bytearray(newest.read_bytes())
    content[position % len(content)] ^= 0x55
    newest.write_bytes(content)
    np.testing.assert_array_equal(restore(session.folder).labels, states[1])


def test_a_damaged_older_save_does_no_harm_to_what_does_not_need_it() -> None:
    labels, review, session = corrected()
    labels[0, 1] = 9  # the same region again
    session.save(labels, review, description=DESCRIPTION)
    session.release()
    (session.folder / "save-000001.labels").write_bytes(b"")
    assert_is(restore(session.folder), labels, review)


def test_a_file_of_another_session_is_not_mixed_in() -> None:
    labels, review, session = corrected()
    labels[39, 59] = 8
    session.save(labels, review, description=DESCRIPTION)
    session.release()
    other = Session()
    labels[0, 0] = 99
    other.save(labels, review, description=DESCRIPTION)
    first = "save-000001.labels"
    (other.folder / first).replace(session.folder / first)

    back = restore(session.folder)

    assert "newest file of these corrections is damaged" in back.problem
    assert_is(back, labels, review)  # as that session was, and nothing of the other


def test_of_a_single_damaged_save_what_is_whole_comes_back() -> None:
    labels, review, session = corrected()
    labels[39, 59] = 9
    session.save(labels, review, description=DESCRIPTION)
    session.release()
    (session.folder / "save-000001.labels").unlink()

    back = restore(session.folder)

    expected = run()
    expected[39, 59] = 9
    np.testing.assert_array_equal(back.labels, expected)
    assert "shown as the run made them: 1 region that you had corrected" in back.problem


def test_corrections_survive_the_loss_of_what_the_run_made() -> None:
    labels, _, session = corrected()
    session.release()
    (session.folder / MADE).write_bytes(b"gone")
    back = restore(session.folder)
    assert back.labels[0, 0] == 7
    assert not back.labels[:, 20:].any()
    np.testing.assert_array_equal(back.labels[:20, :20], labels[:20, :20])
    assert "Not readable, and empty: 5 regions that you had not corrected" in back.problem


def test_nothing_readable_is_said_and_left_as_it_is() -> None:
    _, _, session = corrected()
    session.release()
    folder = session.folder
    assert folder is not None
    (folder / "save-000001.labels").write_bytes(b"no")
    (summary,) = sessions()
    assert "cannot be restored: it is no file of a session" in summary.sentence()
    with pytest.raises(UserError, match=r"cannot be read .* left as it is"):
        restore(folder)
    assert sessions() == [summary]


def test_a_newer_format_is_said() -> None:
    session = corrected()[2]
    assert session.folder is not None
    (path,) = session.folder.glob("save-*.labels")
    file = read_file(path)
    path.unlink()
    write_file(path, {**file.header.document, "format": FORMAT + 1}, file.regions)
    session.release()
    (summary,) = sessions()
    assert "a newer version of the program made it" in summary.problem


# --- a disk that refuses -----------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("step", ["fsync", "link", "mkdir"])
@pytest.mark.parametrize("first", [True, False])
def test_a_refused_save_is_made_up_for(
    monkeypatch: pytest.MonkeyPatch, number: int, step: str, first: bool
) -> None:
    labels, review, session = corrected()
    if first:
        session = Session()
    elif step == "mkdir":
        return
    labels[39, 59] = 5

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        if step == "link":
            patch.setattr(os, "replace", refuse)
        with pytest.raises(NotSaved, match=os.strerror(number)) as raised:
            session.save(labels, review, description=DESCRIPTION)
    for words in ("'nuclei cells'", "File > Save Selected Layers", str(sessions_folder())):
        assert words in str(raised.value)
    assert not list(sessions_folder().rglob("*.part*"))

    assert session.save(labels, review, [], DESCRIPTION)  # nobody painted meanwhile
    assert_is(restored(session), labels, review)


@pytest.mark.skipif(sys.platform == "win32", reason="every folder can be written to")
def test_a_read_only_folder_is_named(unprivileged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = unprivileged / "home"
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(home))
    home.mkdir()
    home.chmod(0o500)
    with pytest.raises(NotSaved, match=r"Permission denied"):
        corrected()
    home.chmod(0o700)


def test_a_folder_that_was_taken_away_is_made_again() -> None:
    labels, review, session = corrected()
    discard(session.folder)
    assert session.save(labels, review, [], DESCRIPTION)
    assert_is(restored(session), labels, review)


def test_a_file_that_was_taken_away_is_made_up_for() -> None:
    labels, review, session = corrected()
    (session.folder / "save-000001.labels").unlink()
    (session.folder / MADE).unlink()
    labels[39, 59] = 5
    session.save(labels, review, description=DESCRIPTION)
    assert_is(restored(session), labels, review)


def test_nothing_is_written_once_somebody_else_saves_a_newer_state() -> None:
    labels, review, session = corrected()
    stop = threading.Event()
    stop.set()
    labels[39, 59] = 5
    old = Snapshot.take(labels, review, review, DESCRIPTION)
    assert not session.write(old, stop)
    session.discard()
    assert not session.write(old)
    assert sessions() == []


# --- what is offered ---------------------------------------------------------------------


def test_the_session_of_a_running_process_is_not_offered() -> None:
    _, _, session = corrected()
    assert not is_free(session.folder)
    assert sessions() == []
    session.release()
    (summary,) = sessions()
    assert (summary.name, summary.n_edited, summary.n_approved) == ("nuclei.tif", 1, 0)
    assert summary.size > 0
    assert summary.problem == ""


def test_another_process_with_the_same_number_does_not_count() -> None:
    _, _, session = corrected()
    assert session.folder is not None
    name = session.folder.name.partition(".")[0]
    started = int(psutil.Process().create_time())
    earlier = session.folder.rename(
        session.folder.with_name(f"{name}.{os.getpid()}-{started - 99}")
    )
    assert is_free(earlier)
    assert len(sessions()) == 1


def test_only_one_process_can_restore_a_session() -> None:
    _, _, session = corrected()
    session.release()
    folder = session.folder
    assert folder is not None
    restore(folder)
    with pytest.raises(UserError, match="another napari restored or discarded them"):
        restore(folder)
    assert sessions() == []


def test_who_lost_a_session_to_another_goes_on_in_a_new_one() -> None:
    labels, review, session = corrected()
    session.release()
    other = restore(session.folder)
    session.claim()
    session.save(labels, review, [], DESCRIPTION)
    assert session.folder != other.session.folder
    assert_is(restored(session), labels, review)


def test_sessions_are_listed_by_date_and_leftovers_deleted() -> None:
    for _ in range(3):
        _, _, session = corrected()
        session.release()
    empty = sessions_folder() / "20200101-000000-000000"
    half = sessions_folder() / ".deleted-20200101-000000-000001"
    foreign = sessions_folder() / "my own things"
    for folder in (empty, half, foreign):
        folder.mkdir()
    found = sessions()
    assert len(found) == 3
    assert sorted(found, key=lambda s: s.date, reverse=True) == found
    assert [empty.exists(), half.exists(), foreign.exists()] == [False, False, True]
    discard(found[0].folder)
    assert sessions() == found[1:]


def test_sentences() -> None:
    now = datetime(2026, 11, 4, 9, 0)
    date = datetime(2026, 11, 3, 17, 32)
    summary = Summary(Path("x"), date, "nuclei.tif", 23, 4, 3 * 1024**3)
    assert summary.sentence(now) == (
        "You have corrections from yesterday 17:32 of 'nuclei.tif' (23 regions edited, 4 approved)."
    )
    approved = Summary(Path("x"), date, "nuclei.tif", 0, 1, 0)
    assert approved.sentence(now).endswith("of 'nuclei.tif' (1 region approved).")
    assert "3.0 GB" in too_much([summary])
    assert too_much([]) == ""


# --- what was exported -------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Make a folder with a file and a dataset, as an export leaves them."""
    (tmp_path / "cells.tif").write_bytes(b"cells")
    (tmp_path / "set" / "masks").mkdir(parents=True)
    (tmp_path / "set" / "masks" / "one.tif").write_bytes(b"mask")
    return tmp_path


def offered(session: Session) -> Summary:
    session.release()
    (summary,) = sessions()
    session.claim()
    return summary


def test_what_was_saved_whole_is_known_until_it_is_changed_again(files: Path) -> None:
    labels, review, session = corrected()
    assert offered(session).exported.date is None
    saved = Written.of(files / "cells.tif", labels, review)
    labels[39, 59] = 8  # after the file was written
    session.note_written(saved.done())
    assert offered(session).exported.complete
    session.save(labels, review, description=DESCRIPTION)
    exported = offered(session).exported
    assert not exported.complete
    assert exported.sentence().startswith("Written to cells.tif just now; 1 changed region only")
    labels[39, 59] = 0
    session.save(labels, review, description=DESCRIPTION)
    assert offered(session).exported.complete


def test_an_export_before_the_first_save_is_remembered_with_it(files: Path) -> None:
    labels = run()
    review, session = reviewed(labels), Session()
    labels[0, 0] = 7
    session.note_written(Written.of(files / "cells.tif", labels, review).done())
    assert session.folder is None
    session.save(labels, review, description=DESCRIPTION)
    assert offered(session).exported.complete
    back = restored(session)
    back.session.release()
    (summary,) = sessions()
    assert summary.exported.complete


def test_approvals_lie_in_a_dataset_only_and_only_those_that_were_exported(files: Path) -> None:
    labels, review, session = corrected()
    first, _, _, second, *_ = review
    review.approve(first)
    review.approve(second)
    session.note_written(Written.of(files / "cells.tif", labels, review).done())
    session.save(labels, review, description=DESCRIPTION)
    assert offered(session).exported.sentence() == (
        "Written to cells.tif just now; 2 approvals only here."
    )
    mask = files / "set" / "masks" / "one.tif"
    session.note_written(Written.of(files / "set", labels, review, [first]).done(mask))
    assert offered(session).exported.sentence() == (
        "Written to set just now; 1 approval only here."
    )
    labels[0, 1] = 7
    session.save(labels, review, description=DESCRIPTION)
    assert offered(session).exported.sentence() == (
        "Written to set just now; 1 changed region and 2 approvals only here."
    )
    session.note_written(Written.of(files / "set", labels, review, [first, second]).done(mask))
    assert offered(session).exported.complete


def test_a_file_that_was_deleted_does_not_count(files: Path) -> None:
    labels, review, session = corrected()
    session.note_written(Written.of(files / "cells.tif", labels, review).done())
    assert offered(session).exported.complete
    (files / "cells.tif").unlink()
    assert offered(session).exported.date is None
    assert not offered(session).exported.complete


def test_a_file_that_was_replaced_does_not_count_and_its_session_is_kept(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, review, session = corrected()
    session.note_written(Written.of(files / "cells.tif", labels, review).done())
    others, other_review, other = corrected()
    (files / "cells.tif").write_bytes(b"other")  # as long, and a moment later
    os.utime(files / "cells.tif", ns=(0, (files / "cells.tif").stat().st_mtime_ns + 1))
    other.note_written(Written.of(files / "cells.tif", others, other_review).done())
    session.release()
    other.release()
    found = {summary.folder: summary.exported.complete for summary in sessions()}
    assert found == {session.folder: False, other.folder: True}
    monkeypatch.setattr(restoring, "MUCH", 0)
    discard_exported(sessions())
    assert [summary.folder for summary in sessions()] == [session.folder]


def test_a_dataset_counts_while_all_files_of_the_regions_are_in_it(files: Path) -> None:
    labels, review, session = corrected()
    first = next(iter(review))
    review.approve(first)
    session.save(labels, review, description=DESCRIPTION)
    added, mask = files / "set" / "masks" / "two.tif", files / "set" / "masks" / "one.tif"
    added.write_bytes(b"mask")
    approved = Written.of(files / "set", labels, review, [first])
    session.note_written(Written.of(files / "cells.tif", labels, review).done())
    session.note_written(approved.done(mask, added))
    assert offered(session).exported.complete
    (files / "set" / "masks" / "three.tif").write_bytes(b"of another image")
    assert offered(session).exported.complete
    added.unlink()
    assert offered(session).exported.missing_approvals == 1
    session.note_written(approved.done(mask, added))
    assert offered(session).exported.missing_approvals == 1
    session.note_written(approved.done())  # of a folder nobody knows what is in it
    assert offered(session).exported.missing_approvals == 1


def test_a_damaged_list_of_exports_offers_the_corrections(files: Path) -> None:
    labels, review, session = corrected()
    session.note_written(Written.of(files / "cells.tif", labels, review).done())
    assert session.folder is not None
    assert offered(session).exported.complete
    for text in ("", "{}", '{"exports": [{"path": 3}]}', "[]"):
        (session.folder / "exported.json").write_text(text)
        assert offered(session).exported.date is None


def test_where_the_space_is_short_exported_ones_go_the_oldest_first(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [corrected() for _ in range(3)]
    for labels, review, session in made[:2]:
        session.note_written(Written.of(files / "cells.tif", labels, review).done())
    for _, _, session in made:
        session.release()
    found = sessions()
    discard_exported(found)
    assert len(sessions()) == 3
    monkeypatch.setattr(restoring, "MUCH", sum(s.size for s in found) - 1)
    discard_exported(found)
    exported = [s for s in found if s.exported.complete]
    assert [s.folder.exists() for s in exported] == [True, False]
    monkeypatch.setattr(restoring, "MUCH", 0)
    discard_exported(sessions())
    assert [s.exported.complete for s in sessions()] == [False]


def test_an_old_session_is_kept() -> None:
    _, _, session = corrected()
    session.release()
    for path in (session.folder, *session.folder.iterdir()):
        os.utime(path, (0, 0))
    assert len(sessions()) == 1


# --- what is known of the layer ----------------------------------------------------------


class Image(SimpleNamespace):
    """Stands for a napari image layer."""


class Labels(SimpleNamespace):
    """Stands for a napari labels layer."""


def layer(kind: type[Any], **kwargs: Any) -> Any:
    place = {
        "scale": np.array([0.5, 0.5]),
        "translate": np.zeros(2),
        "rotate": np.eye(2),
        "shear": np.zeros(1),
        "affine": SimpleNamespace(affine_matrix=np.eye(3)),
        "units": ("micrometer", "micrometer"),
        "axis_labels": ("y", "x"),
    }
    return kind(**(place | {"metadata": {}, "data": run(), "multiscale": False} | kwargs))


def test_a_description_survives_json_and_the_loss_of_the_image(tmp_path: Path) -> None:
    source = SimpleNamespace(path=str(tmp_path / "a.tif"), reader_plugin="napari")
    image = layer(Image, name="a", source=source, unique_id="1", metadata={INPUT: {"channel": 1}})
    made = {"role": "cells", "image": "1", "provenance": {"when": datetime(2026, 1, 2), "x": 1.5}}
    labels = layer(Labels, name="a cells", metadata={OURS: made, "others": object()})

    described = describe(labels, [image, labels])

    assert json.loads(json.dumps(described)) == described
    assert described["place"]["scale"] == [0.5, 0.5]
    assert set(described["metadata"]) == {OURS}
    assert described["image"]["path"] == str(tmp_path / "a.tif")
    assert described["image"]["told"] == {"channel": 1}
    assert describe(labels, [labels], described)["image"] == described["image"]
    assert describe(labels, [labels])["image"] is None


def test_what_the_window_waits_for_is_short() -> None:
    labels = np.kron(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), np.ones((64, 64), "u2"))
    review, session = Review(labels), Session()
    labels[600, 600] = 9
    places = list(session.changed(labels, review, review))
    start = time.perf_counter()
    snapshot = Snapshot.take(labels, review, places, DESCRIPTION)
    assert time.perf_counter() - start < 0.02
    assert len(snapshot.regions) == 1
    session.write(snapshot)
    assert_is(restored(session), labels, review)


def adjusted(labels: NDArray[Any], review: Review) -> None:
    """Let the program move cell 2, which nobody corrected, in labels and review."""
    made = review.baseline.unpacked()
    for array in (labels, made):
        array[array == 2] = 0
        array[..., 22:35, 20:45] = 2
    review.rebase(PackedLabels.of(made, review.grid), labels)


def test_corrections_outlive_labels_that_the_program_replaced_around_them() -> None:
    labels, review, session = corrected()
    review.approve(((), 0), "2026-11-03T17:32:00+01:00")
    adjusted(labels, review)
    assert not session.is_current(review)
    assert session.save(labels, review, description=DESCRIPTION)
    assert session.is_current(review)
    assert not session.save(labels, review, description=DESCRIPTION)

    back = restored(session)

    assert_is(back, labels, review)
    assert [place for place in back.review if back.review.is_edited(place)] == [((), 0)]
    back.labels[39, 59] = 5
    assert back.session.save(back.labels, back.review, description=DESCRIPTION)
    again = restored(back.session)
    assert_is(again, back.labels, back.review)


def test_what_was_made_before_is_deleted_with_the_saves_that_name_it() -> None:
    labels, review, session = corrected()
    assert session.folder is not None
    for number in range(3 * SAVES_A_BASE):
        labels[..., 0, 0] += 1
        if number % 7 == 0:
            adjusted(labels, review)
            labels[0, 1] = number + 10
            review.rebase(PackedLabels.of(review.baseline.unpacked(), review.grid), labels)
        assert session.save(labels, review, description=DESCRIPTION)
    kept = list(session.folder.glob("made*.labels"))
    assert len(kept) < 9  # so often it was made anew
    assert_is(restored(session), labels, review)


def test_of_a_save_that_was_killed_the_one_before_is_whole() -> None:
    labels, review, session = corrected()
    before = labels.copy()
    made = review.baseline.unpacked()
    adjusted(labels, review)
    session.save(labels, review, description=DESCRIPTION)
    assert session.folder is not None
    (session.folder / "save-000002.labels").unlink()  # killed after what was made was written

    back = restored(session)

    np.testing.assert_array_equal(back.labels, before)
    np.testing.assert_array_equal(back.review.baseline.unpacked(), made)
    adjusted(back.labels, back.review)
    assert back.session.save(back.labels, back.review, description=DESCRIPTION)
    assert_is(restored(back.session), back.labels, back.review)


def test_a_file_name_that_leads_elsewhere_is_not_followed() -> None:
    session = corrected()[2]
    assert session.folder is not None
    (path,) = session.folder.glob("save-*.labels")
    file = read_file(path)
    path.unlink()
    write_file(path, {**file.header.document, "made": "../made.labels"}, file.regions)
    session.release()
    with pytest.raises(UserError, match="names a wrong file"):
        restore(session.folder)
