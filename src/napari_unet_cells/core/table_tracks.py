"""Tracks read off the table of the cells of a movie: some numbers a cell in memory, no label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from napari_unet_cells.core.measure import Table
from napari_unet_cells.core.tracks import FrameCells, Tracks


class FramesOfTables:
    """Cells of the frames of a movie, read off its table: some numbers a cell in memory."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Any]] = []

    def watch(self, tables: Iterable[Table]) -> Iterator[Table]:
        """Pass tables (t, label) on, and note what is in them."""
        for table in tables:
            height, width = table.pixel_size
            columns = table.columns
            self._parts.append(
                {
                    "t": columns["t"].astype(np.int64),
                    "label": columns["label"].astype(np.int64),
                    "y": columns["centroid_y"] / height,
                    "x": columns["centroid_x"] / width,
                    "area": np.rint(columns["area"] / (height * width)).astype(np.int64),
                }
            )
            yield table

    def tracks(self, parents: Mapping[int, int], n_frames: int) -> Tracks:
        """Give the tracks, with the parents that the cells do not contradict."""
        joined = {
            name: np.concatenate([one[name] for one in self._parts])
            for name in ("t", "label", "y", "x", "area")
        }
        order = np.lexsort((joined["label"], joined["t"]))
        sorted_ = {name: column[order] for name, column in joined.items()}
        ends = np.searchsorted(sorted_["t"], np.arange(n_frames + 1))
        frames = [
            FrameCells(*(sorted_[name][start:stop] for name in ("label", "y", "x", "area")))
            for start, stop in pairwise(ends.tolist())
        ]
        return Tracks.of(frames, parents)
