"""Cells of a movie in an OME-Zarr have the ids of their tracks from the first pixel on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_unet_cells.core.measure import Table
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.core.tracks import Tracks
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.zarr_metadata import zarr_record
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import segment as segmenting
from napari_unet_cells.segmentation import to_zarr, zarr_request, zarr_tracks
from napari_unet_cells.segmentation.block_store import BlockStore
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.segment import segment
from napari_unet_cells.segmentation.to_zarr import ZarrDone, segment_to_zarr
from napari_unet_cells.segmentation.zarr_request import ZarrRequest
from napari_unet_cells.tracking import TrackingOptions
from napari_unet_cells.untrusted.zarr_plan import parse_plan

pytest.importorskip("laptrack")

pytestmark = pytest.mark.slow

CARD = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)


def bright(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    inside = (pixels[..., :1] > 0.4).astype(np.uint8)
    return np.concatenate([inside, inside * 255, inside * 0], axis=-1)


NETWORK = FunctionNetwork(bright, stride=16, halo=32, max_tile=128)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stand-in model see blocks of 64 pixels."""
    card = replace(CARD, diameters=(8.0, 25.0))
    for module in (to_zarr, zarr_request, segmenting):
        monkeypatch.setattr(module, "open_network", lambda card, runtime="": NETWORK)
    for module in (to_zarr, segmenting):
        monkeypatch.setattr(module, "find_model", lambda name: card)
    monkeypatch.setattr(zarr_request, "side_of_blocks", lambda shape, zoom: 64)
    monkeypatch.setattr(to_zarr, "_last", [])


def movie() -> NDArray[np.uint8]:
    """Cells that walk over the faces of blocks, one that divides, one that is missing once."""
    frames = np.zeros((5, 150, 200), np.uint8)
    for number, frame in enumerate(frames):
        x = 30 + 8 * number  # over the face at 64
        frame[20:34, x : x + 14] = 200
        frame[110 - 9 * number : 124 - 9 * number, 100:114] = 200  # upwards, over that at 64
        if number != 2:
            frame[120:134, 20:34] = 200
        if number < 3:
            frame[57:69, 150:170] = 200  # on the face
        else:
            frame[57:69, 146:157] = frame[57:69, 162:173] = 200
    return frames


def saved(path: Path, pixels: NDArray[np.uint8], axes: str = "tyx") -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", data=pixels, chunks=(1, 64, 64))
    kinds = {"t": "time", "z": "space"}
    named = [{"name": name, "type": kinds.get(name, "space")} for name in axes]
    place = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    levels: Any = [{"path": "0", "coordinateTransformations": place}]
    for one in named[1:]:
        one["unit"] = "micrometer"
    group.attrs.put({"multiscales": [{"version": "0.4", "axes": named, "datasets": levels}]})
    return path


def asked(**options: Any) -> ZarrRequest:
    values = {"settings": Settings(diameter=14.0), "plane": "all", "track": TrackingOptions()}
    return ZarrRequest(**{**values, **options})


def run(
    image: Path, output: Path, stop: Callable[[Any], bool] = lambda event: False, **options: Any
) -> tuple[ZarrDone | None, Table, list[Table]]:
    """Segment it, and leave it in the middle where it is told to."""
    tables: list[Table] = []
    tracks: list[Table] = []
    steps = segment_to_zarr(
        image, output, "bright", asked(**options), tables=tables.extend, tracks=tracks.append
    )
    done = None
    for event in steps:
        done = event if isinstance(event, ZarrDone) else None
        if stop(event):
            steps.close()  # type: ignore[attr-defined]
    columns = {
        name: np.concatenate([one.columns[name] for one in tables])
        for name in (tables[0].columns if tables else ())
    }
    return done, Table(columns, (0.5, 0.5), "micrometer", ("t",)), tracks


def labels_of(output: Path) -> NDArray[Any]:
    finest = label_levels(output, "cells")[0]
    return finest.read((slice(None),) * 3)


def test_the_tracks_are_those_of_the_image_in_memory(tmp_path: Path) -> None:
    pixels, output = movie(), tmp_path / "a.ome.zarr"
    done, _, _ = run(saved(tmp_path / "a.zarr", pixels), output)
    assert done is not None
    labels = labels_of(output)
    np.testing.assert_array_equal(labels > 0, pixels > 0)
    # over the faces, through the gap, and into both daughters
    assert len({int(labels[n, 25, 35 + 8 * n]) for n in range(5)}) == 1
    assert len({int(labels[n, 115 - 9 * n, 105]) for n in range(5)}) == 1
    assert len({int(labels[n, 125, 25]) for n in (0, 1, 3, 4)}) == 1
    parent = int(labels[0, 60, 160])
    daughters = {int(labels[4, 60, 150]), int(labels[4, 60, 168])}
    assert done.tracks is not None
    assert dict(done.tracks.parents) == dict.fromkeys(daughters, parent)
    assert done.n_cells == 6
    # all as an image in memory has it, but for the numbers of its tracks
    result = segment(pixels, axes="TYX", diameter=14, track=True)
    assert result.tracks is not None
    assert result.cells is not None
    pairs = np.unique(np.stack([labels.ravel(), result.cells.ravel()]).astype(int), axis=1)
    assert pairs.shape == (2, 7)
    theirs = dict(pairs.T.tolist())
    assert sorted(theirs.values()) == list(range(7))
    assert {theirs[a]: theirs[b] for a, b in done.tracks.parents.items()} == dict(
        result.tracks.parents
    )


def test_labels_tables_and_records_name_the_same_tracks(tmp_path: Path) -> None:
    output = tmp_path / "a.ome.zarr"
    done, cells, (tracks,) = run(saved(tmp_path / "a.zarr", movie()), output)
    assert done is not None
    labels = labels_of(output)
    there = {(n, label) for n in range(5) for label in np.unique(labels[n]).tolist() if label}
    assert set(zip(cells.columns["t"].tolist(), cells.columns["label"].tolist(), strict=True)) == (
        there
    )
    assert len(cells) == len(there)
    assert tracks.unit == "micrometer"
    assert tracks.columns["label"].tolist() == sorted({label for _, label in there})
    gap = int(labels[0, 125, 25])
    row = tracks.columns["label"].tolist().index(gap)
    assert tracks.columns["missing"][row] == 1
    assert tracks.columns["x_first"][row] == pytest.approx(26.5 * 0.5)
    record: Any = zarr_record(output / "labels" / "cells")
    assert done.tracks is not None
    pairs = [[child, parent] for child, parent in sorted(done.tracks.parents.items())]
    assert record["tracks"] == {"parents": pairs}
    assert record["cells"] == 6
    assert record["parameters"]["linked_along_axis"] == 0
    # a cell that is drawn has a number that no track has
    assert LabelVersions(output).n_given() == 6 == labels.max()


def events_of(image: Path, output: Path) -> int:
    return len([*segment_to_zarr(image, output, "bright", asked())])


@pytest.mark.parametrize("part", [0.3, 0.55, 0.95])
def test_a_run_that_was_left_goes_on_to_the_same_tracks(tmp_path: Path, part: float) -> None:
    image = saved(tmp_path / "a.zarr", movie())
    _, cells, (tracks,) = run(image, tmp_path / "whole.ome.zarr")
    n = int(part * events_of(image, tmp_path / "counted.ome.zarr"))
    output, seen = tmp_path / "left.ome.zarr", iter(range(1000))
    assert run(image, output, lambda event: next(seen) == n)[0] is None
    assert not output.exists()
    done, again, (tracks_again,) = run(image, output)
    assert done is not None
    np.testing.assert_array_equal(labels_of(output), labels_of(tmp_path / "whole.ome.zarr"))
    for one, other in ((cells, again), (tracks, tracks_again)):
        for name, column in one.columns.items():
            np.testing.assert_array_equal(column, other.columns[name])


def test_cells_are_linked_once_and_before_any_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, output = saved(tmp_path / "a.zarr", movie()), tmp_path / "a.ome.zarr"
    run(image, output, lambda event: isinstance(event, to_zarr.Numbered))
    grown = tmp_path / ".a.ome.zarr.part" / "result.zarr"
    assert not labels_of(grown).any()
    monkeypatch.setattr(zarr_tracks, "track_frames", None)
    done, _, _ = run(image, output)
    assert done is not None
    assert done.n_cells == 6


def test_with_and_without_tracks_are_two_runs(tmp_path: Path) -> None:
    image = saved(tmp_path / "a.zarr", movie())
    run(image, tmp_path / "a.ome.zarr", lambda event: isinstance(event, to_zarr.Numbered))
    done, cells, tracks = run(image, tmp_path / "a.ome.zarr", track=None)
    assert done is not None
    assert done.tracks is None
    assert tracks == []
    assert done.n_cells == len(cells) > 6
    assert "tracks" not in zarr_record(tmp_path / "a.ome.zarr" / "labels" / "cells")  # type: ignore[operator]


def test_a_frame_with_too_many_cells_ends_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, output = saved(tmp_path / "a.zarr", movie()), tmp_path / "a.ome.zarr"
    monkeypatch.setattr(zarr_tracks, "MOST_CELLS", 3)
    done: list[Any] = []
    with pytest.raises(UserError, match=r"Frame 0 has more than 3 cells.*Leave the tracking out"):
        done.extend(segment_to_zarr(image, output, "bright", asked()))
    assert 0 < len([one for one in done if isinstance(one, to_zarr.UnitDone)]) <= 12  # of a frame
    done.clear()
    with pytest.raises(UserError, match="Frame 0 has more than 3 cells"):  # who goes on
        done.extend(segment_to_zarr(image, output, "bright", asked()))
    assert done == []


def test_a_worker_that_segments_one_block_refuses_a_frame_with_too_many_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, output = saved(tmp_path / "a.zarr", movie()), tmp_path / "a.ome.zarr"
    monkeypatch.setattr(zarr_tracks, "MOST_CELLS", 3)
    work = to_zarr.prepare(image, output, "bright", asked())
    done = (to_zarr.segment_unit(work.folder, number) for number in range(12))  # of a frame
    with pytest.raises(UserError, match="Frame 0 has more than 3 cells"):
        list(done)


@pytest.mark.parametrize(
    ("axes", "said"), [("zyx", "follow z, not time"), ("yx", "It is a single frame")]
)
def test_what_is_no_movie_is_refused_before_the_work(tmp_path: Path, axes: str, said: str) -> None:
    pixels = movie() if axes == "zyx" else movie()[0]
    path = tmp_path / "a.zarr"
    if axes == "zyx":
        saved(path, pixels, axes)
    else:
        zarr.create_array(path, data=pixels, chunks=(64, 64))
    with pytest.raises(UserError, match=said):
        run(path, tmp_path / "a.ome.zarr")
    assert not (tmp_path / ".a.ome.zarr.part").exists()


def test_a_plan_with_tracks_is_checked(tmp_path: Path) -> None:
    image = saved(tmp_path / "a.zarr", movie())
    run(image, tmp_path / "a.ome.zarr", lambda event: isinstance(event, to_zarr.Work))
    store = BlockStore.open(tmp_path / ".a.ome.zarr.part")
    known: dict[str, Any] = asdict(store.plan)
    assert parse_plan(known).track == {"distance": 1.0, "missing": 2, "division_distance": 0.8}
    for wrong in ({"distance": 1.0}, {**known["track"], "missing": -1}, [1], {"a": 1}):
        with pytest.raises(ValueError, match="track"):
            parse_plan({**known, "track": wrong})
    with pytest.raises(ValueError, match="no movie of cells"):
        parse_plan({**known, "axes": "zyx"})


def test_tracks_come_back_as_they_were_kept(tmp_path: Path) -> None:
    image, output = saved(tmp_path / "a.zarr", movie()), tmp_path / "a.ome.zarr"
    run(image, output, lambda event: isinstance(event, to_zarr.Numbered))
    store = BlockStore.open(tmp_path / ".a.ome.zarr.part")
    kept = zarr_tracks.tracks_of(store)
    done, _, _ = run(image, output)
    assert done is not None
    assert isinstance(kept, Tracks)
    assert isinstance(done.tracks, Tracks)
    for name in ("track", "frame", "y", "x", "area"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(done.tracks, name))
    assert kept.parents == done.tracks.parents
