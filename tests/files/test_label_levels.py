"""Label images on the disk, as layers read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.label_levels import label_levels, largest_id
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale

LABELS = np.arange(128 * 192, dtype=np.uint16).reshape(128, 192)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelZarr:
    """Write labels whose coarsest level is the fifth, but for the right half."""
    monkeypatch.setattr(label_zarr, "COARSEST", 16)
    labels = LabelZarr(tmp_path / "a.zarr", LABELS.shape, "yx", 64, Scale(None, "pixel", None))
    labels.create("cells", np.uint16)
    for top in (0, 64):
        part = slice(top, top + 64), slice(0, 64)
        labels.write("cells", (), part, LABELS[part], all_levels=True)
    return labels


def test_what_is_written_is_read_at_all_levels_and_the_rest_is_background(
    written: LabelZarr,
) -> None:
    levels = label_levels(written.folder, "cells")
    assert [level.shape for level in levels] == list(written.shapes)
    assert len(levels) == 5
    np.testing.assert_array_equal(levels[0][:, :64], LABELS[:, :64])
    assert not levels[0][:, 64:].any()
    for level in levels[1:]:
        assert level[...][:, : level.shape[1] // 3].any()
    assert levels[0][3, 5] == LABELS[3, 5]


def test_blocks_write_the_coarse_levels_that_are_made_at_the_end(written: LabelZarr) -> None:
    part = slice(0, 64), slice(64, 128)
    written.write("cells", (), part, LABELS[part], all_levels=True)
    before = [np.asarray(level) for level in label_levels(written.folder, "cells")]
    assert before[4].any()
    written.finish("cells", {}, {})
    after = [np.asarray(level) for level in label_levels(written.folder, "cells")]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_plane_of_a_stack_has_the_other_axes_of_its_layer(written: LabelZarr) -> None:
    (level, *_) = label_levels(written.folder, "cells", 2)
    assert (level.shape, level.ndim, level.size) == ((1, 1, 128, 192), 4, 128 * 192)
    assert level[0, 0, 4:6, 7:9].tolist() == LABELS[4:6, 7:9].tolist()
    assert level[:, 0, 4:6, 7].shape == (1, 2)


def test_what_cannot_be_read_while_it_is_written_is_background(written: LabelZarr) -> None:
    (level, *_) = label_levels(written.folder, "cells", is_whole=False)
    (shard,) = (path for path in written.folder.glob("labels/cells/0/c/0/0"))
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    assert not level[:64, :64].any()
    assert level[64:, :64].any()


def test_labels_that_are_not_there_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.zarr"):
        label_levels(tmp_path / "nothing.zarr", "cells")


def test_the_largest_id_is_found_in_any_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet_cells.files.label_levels._ROWS", 64)
    planes = np.zeros((3, 200, 150), np.uint16)
    labels = LabelZarr(tmp_path / "a.zarr", planes.shape, "zyx", 512, Scale(None, "pixel", None))
    labels.create("cells", np.uint16)
    assert largest_id(label_levels(labels.folder, "cells")[0]) == 0
    planes[1, 190:, 140:] = 70
    planes[2, 5, 5] = 69
    for number, plane in enumerate(planes):
        labels.write("cells", (number,), (slice(0, 200), slice(0, 150)), plane)
    assert largest_id(label_levels(labels.folder, "cells")[0]) == 70
