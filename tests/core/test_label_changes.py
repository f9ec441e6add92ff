"""Changes of labels: in the smallest window, with the old ids and the new."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet_cells.core import label_changes
from napari_unet_cells.core.label_changes import changed_ids, changed_window


@pytest.mark.parametrize("block", [label_changes.BLOCK, 100])
def test_changes_are_found_in_their_smallest_window(monkeypatch, block) -> None:
    monkeypatch.setattr(label_changes, "BLOCK", block)  # all rows at once, or two
    before = np.zeros((40, 50), np.uint16)
    before[10:20, 10:20] = 3
    after = before.copy()
    assert changed_window(before, after) is None
    assert changed_ids(before, after).tolist() == []
    after[12, 15:30] = 9
    after[14, 11] = 0
    assert changed_window(before, after) == (slice(12, 15), slice(11, 30))
    assert changed_ids(before, after).tolist() == [3, 9]  # the old ids and the new, no background
    assert changed_ids(before, after, (slice(14, 15), slice(0, 50))).tolist() == [3]
    with pytest.raises(ValueError, match="arrays of one shape"):
        changed_window(before, after[1:])
