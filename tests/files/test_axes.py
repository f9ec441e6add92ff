"""What files say of their axes and channels, looked up without their pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_unet_cells.files import FileAxes, file_axes

STACK = np.zeros((3, 2, 8, 9), np.uint16)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imagej": True, "metadata": {"axes": "ZCYX"}}, ("ZCYX", ())),
        (
            {"imagej": True, "metadata": {"axes": "ZCYX", "Labels": ["DAPI", "GFP"] * 3}},
            ("ZCYX", ("DAPI", "GFP")),
        ),
        (
            {
                "imagej": True,
                "metadata": {
                    "axes": "ZCYX",
                    "Labels": [f"c:{c}/2 z:{z}/3 - {n}" for z in "123" for c, n in ("1D", "2G")],
                },
            },
            ("ZCYX", ("D", "G")),
        ),
        (
            {"imagej": True, "metadata": {"axes": "ZCYX", "Labels": list("abcdef")}},
            ("ZCYX", ()),
        ),
        (
            {"ome": True, "metadata": {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}}},
            ("ZCYX", ("DAPI", "GFP")),
        ),
        ({"ome": True, "metadata": {"axes": "TZYX"}}, ("TZYX", ())),
    ],
    ids=["imagej", "labels", "labels of Fiji", "labels of pages", "ome", "no channels"],
)
def test_axes_and_channel_names_of_a_tiff(tmp_path: Path, options: Any, expected: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, **options)
    assert file_axes(tmp_path / "a.tif") == FileAxes(expected[0], STACK.shape, expected[1])


def test_of_what_cannot_be_read_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"no image")
    for path in ("a.tif", "missing.tif", "."):
        assert file_axes(tmp_path / path) == FileAxes()
