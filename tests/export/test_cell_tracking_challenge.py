"""What is written keeps the rules of the Cell Tracking Challenge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.export import cell_tracking_challenge as challenge
from napari_unet_cells.export.cell_tracking_challenge import write_challenge
from napari_unet_cells.export.exporters import EXPORTERS, Export
from napari_unet_cells.files import FileExists
from napari_unet_cells.layers.pixel_size import PixelSize

SIZE = PixelSize(0.5, 0.5, "micrometer")


def movie(*frames: dict[int, int], dtype: Any = np.uint16) -> NDArray[Any]:
    """Draw frames of cells: id to its column of 4 pixels."""
    labels = np.zeros((len(frames), 8, 40), dtype)
    for number, cells in enumerate(frames):
        for label, column in cells.items():
            labels[number, 2:6, column : column + 4] = label
    return labels


def problems(folder: Path) -> list[str]:
    """Validate as the organisers' and the common readers do: see the rules of the challenge."""
    found = []
    lines = (folder / "res_track.txt").read_text(encoding="ascii").splitlines()
    rows = [tuple(map(int, line.split())) for line in lines]
    masks = sorted(folder.glob("mask*.tif"))
    digits = {len(path.stem) - 4 for path in masks}
    if digits - {3, 4} or len(digits) != 1:
        found.append(f"names of masks have {digits} digits")
    if [int(path.stem[4:]) for path in masks] != list(range(len(masks))):
        found.append("frames are not counted from 0 on")
    planes = [tifffile.imread(path) for path in masks]
    found += [f"{p.dtype} is not 16 bits" for p in planes if p.dtype != np.uint16 or p.ndim != 2]
    labels = [row[0] for row in rows]
    if len(set(labels)) < len(labels) or any(not 0 < label < 2**16 for label in labels):
        found.append("ids are not unique numbers of 16 bits")
    span = {label: (begin, end) for label, begin, end, _ in rows}
    for label, begin, end, parent in rows:
        if not 0 <= begin <= end < len(planes):
            found.append(f"{label} runs from {begin} to {end}")
        if parent and (parent not in span or span[parent][1] >= begin):
            found.append(f"{parent} does not end before its daughter {label} begins")
        if parent == label:
            found.append(f"{label} is its own parent")
    for number, plane in enumerate(planes):
        there = {label for label, (begin, end) in span.items() if begin <= number <= end}
        if there != set(np.unique(plane).tolist()) - {0}:
            found.append(f"frame {number} holds other cells than the tracks say")
    return found


def rows(folder: Path) -> list[str]:
    return (folder / "res_track.txt").read_text(encoding="ascii").splitlines()


def test_divisions_and_gaps_are_written_by_the_rules(tmp_path: Path) -> None:
    labels = movie({1: 4, 7: 30}, {1: 6}, {2: 2, 3: 12}, {2: 2, 3: 12, 7: 28})
    written = write_challenge(tmp_path / "a", labels, {2: 1, 3: 1})
    folder = tmp_path / "a" / "01_RES"
    assert [path.name for path in written] == ["res_track.txt", *(f"mask00{n}.tif" for n in "0123")]
    assert all(path.parent == folder for path in written)
    assert problems(folder) == []
    # 7 was missing in two frames: it goes on as 8, whose parent it is
    assert rows(folder) == ["1 0 1 0", "2 2 3 1", "3 2 3 1", "7 0 0 0", "8 3 3 7"]
    last = tifffile.imread(folder / "mask003.tif")
    assert (last[3, 29], last[3, 3]) == (8, 2)
    np.testing.assert_array_equal(last > 0, labels[3] > 0)


def test_the_daughters_of_a_track_with_a_gap_are_those_of_its_last_part(tmp_path: Path) -> None:
    labels = movie({1: 4}, {}, {1: 6}, {2: 2, 3: 12})
    write_challenge(tmp_path, labels, {2: 1, 3: 1})
    assert problems(tmp_path / "01_RES") == []
    assert rows(tmp_path / "01_RES") == ["1 0 0 0", "2 3 3 4", "3 3 3 4", "4 2 2 1"]


def test_parents_that_do_not_end_before_are_left_out(tmp_path: Path) -> None:
    write_challenge(tmp_path, movie({1: 4}, {1: 4, 2: 12}), {2: 1})
    assert problems(tmp_path / "01_RES") == []
    assert rows(tmp_path / "01_RES") == ["1 0 1 0", "2 1 1 0"]


def test_ids_beyond_16_bits_are_numbered_anew(tmp_path: Path) -> None:
    labels = movie({70_000: 4, 5: 20}, {70_000: 4, 90_000: 12}, dtype=np.uint32)
    write_challenge(tmp_path, labels, {90_000: 5})
    assert problems(tmp_path / "01_RES") == []
    assert rows(tmp_path / "01_RES") == ["1 0 0 0", "2 0 1 0", "3 1 1 1"]
    full = movie({65_535: 4}, {}, {65_535: 4})  # no id is left for the part after the gap
    write_challenge(tmp_path / "b", full, {})
    assert problems(tmp_path / "b" / "01_RES") == []
    assert rows(tmp_path / "b" / "01_RES") == ["1 0 0 0", "2 2 2 1"]


def test_more_tracks_than_16_bits_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "_MOST", 2)
    with pytest.raises(UserError, match=r"There are 3 tracks .* hold 2\. Export a part"):
        write_challenge(tmp_path, movie({1: 0, 2: 10}, {2: 10}, {1: 0, 2: 10}), {})
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_thousand_frames_have_four_digits(tmp_path: Path) -> None:
    labels = np.zeros((1001, 2, 2), np.uint8)
    labels[1000] = 1
    written = write_challenge(tmp_path, labels, {})
    assert written[-1].name == "mask1000.tif"
    assert problems(tmp_path / "01_RES") == []


def test_masks_of_a_longer_movie_are_not_mixed_with_these(tmp_path: Path) -> None:
    write_challenge(tmp_path, movie({1: 4}, {1: 5}, {1: 6}), {})
    with pytest.raises(FileExists):
        write_challenge(tmp_path, movie({1: 4}, {1: 5}, {1: 6}), {})
    write_challenge(tmp_path, movie({2: 4}, {2: 5}, {2: 6}), {}, overwrite=True)
    assert rows(tmp_path / "01_RES") == ["2 0 2 0"]
    with pytest.raises(UserError, match=r"masks of another movie, such as mask002\.tif"):
        write_challenge(tmp_path, movie({1: 4}, {1: 5}), {}, overwrite=True)
    assert rows(tmp_path / "01_RES") == ["2 0 2 0"]


def test_a_movie_without_cells_is_written(tmp_path: Path) -> None:
    write_challenge(tmp_path, movie({}, {}), {})
    assert problems(tmp_path / "01_RES") == []
    assert rows(tmp_path / "01_RES") == []


def tracked(labels: NDArray[Any], axes: str = "TYX", **record: Any) -> Export:
    return Export(labels, SIZE, record, axes)


def test_the_exporter_takes_parents_from_the_record(tmp_path: Path) -> None:
    labels = movie({1: 4}, {2: 2, 3: 12})
    export = tracked(labels, tracks={"parents": [[2, 1], [3, 1]]})
    path = tmp_path / "cells_ctc"
    assert EXPORTERS["challenge"].existing(path) == ()
    EXPORTERS["challenge"].write(path, export, False)
    assert problems(path / "01_RES") == []
    assert rows(path / "01_RES") == ["1 0 0 0", "2 1 1 1", "3 1 1 1"]
    assert EXPORTERS["challenge"].existing(path) == (path / "01_RES" / "res_track.txt",)
    (table,) = EXPORTERS["tracks"].write(tmp_path / "cells_tracks.csv", export, False)
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("label,parent,daughters,t_first,t_last,frames,missing,")
    assert lines[2].startswith("2,1,0,1,1,1,0,")
    assert lines[2].endswith(",micrometer")


@pytest.mark.parametrize("name", ["challenge", "tracks"])
def test_what_has_no_tracks_is_refused(tmp_path: Path, name: str) -> None:
    labels = movie({1: 4}, {1: 5})
    write = EXPORTERS[name].write
    with pytest.raises(UserError, match="labels have the axes ZYX"):
        write(tmp_path / "a", tracked(labels, "ZYX"), False)
    alone = {"linked_along_axis": None}
    with pytest.raises(UserError, match="not tracked: each frame is numbered on its own"):
        write(tmp_path / "a", tracked(labels, parameters=alone), False)
    assert list(tmp_path.iterdir()) == []
    assert write(tmp_path / "a", tracked(labels, parameters={"linked_along_axis": 0}), False)
