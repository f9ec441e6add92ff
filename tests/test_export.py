"""Exporters: every row of the table, and the name that is proposed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet_cells.export import EXPORTERS, Export, proposed_path
from napari_unet_cells.files import FileExists, read_image
from napari_unet_cells.layers import PixelSize


def make_export(labels, size=None):
    return Export(labels, size or PixelSize(0.5, 0.25, "micrometer"), {"model": {"name": "m"}})


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_every_exporter_writes_and_protects_what_is_there(tmp_path, name, dtype):
    labels = np.zeros((20, 30), dtype)
    labels[3:9, 4:8] = np.iinfo(dtype).max
    exporter = EXPORTERS[name]
    written = exporter.write(tmp_path / "mask", make_export(labels), False)
    assert written
    assert all(path.is_file() for path in written)
    before = {path: path.read_bytes() for path in written}
    with pytest.raises(FileExists):
        exporter.write(tmp_path / "mask", make_export(labels * 0), False)
    assert {path: path.read_bytes() for path in written} == before
    exporter.write(tmp_path / "mask", make_export(labels * 0), True)
    assert any(path.read_bytes() != before[path] for path in written)


def test_mask_keeps_ids_pixel_size_and_record(tmp_path):
    labels = np.array([[0, 70_000], [65_536, 3]], np.uint32)
    mask, record = EXPORTERS["mask"].write(tmp_path / "mask", make_export(labels), False)
    np.testing.assert_array_equal(tifffile.imread(mask), labels)
    image = read_image(mask)
    assert image.pixel_size == pytest.approx((0.5, 0.25))
    assert image.unit == "micrometer"
    assert json.loads(record.read_text())["model"] == {"name": "m"}


def test_an_existing_record_alone_is_protected_too(tmp_path):
    (tmp_path / "mask.json").write_text("mine")
    with pytest.raises(FileExists):
        EXPORTERS["mask"].write(tmp_path / "mask", make_export(np.ones((2, 2), np.uint8)), False)
    assert not (tmp_path / "mask.tif").exists()


def test_proposed_name_lies_beside_the_image_and_is_a_legal_name():
    path = proposed_path("/data/day 1/a.tif", "a: well/3 cells", ".tif")
    assert path == Path("/data/day 1/a__well_3_cells.tif")
    assert proposed_path(None, "  ", ".tif") == Path.home() / "labels.tif"


def test_mask_of_a_stack_names_its_axes(tmp_path):
    labels = np.zeros((3, 8, 9), np.uint16)
    export = Export(labels, PixelSize(0.5, 0.5, "micrometer"), {}, "ZYX")
    mask, _ = EXPORTERS["mask"].write(tmp_path / "mask", export, False)
    with tifffile.TiffFile(mask) as tif:
        assert tif.series[0].axes == "ZYX"


def test_table_has_the_size_the_unit_and_the_intensities(tmp_path):
    labels = np.zeros((20, 30), np.uint16)
    labels[3:9, 4:8] = 7
    image = np.full((20, 30), 5, np.uint8)
    size = PixelSize(0.5, 0.25, "micrometer")
    exporter = EXPORTERS["table"]
    assert exporter.measures
    (path,) = exporter.write(tmp_path / "a", Export(labels, size, {}, "YX", {"x": image}), False)
    assert path.name == "a.csv"
    header, row = (line.split(",") for line in path.read_text().splitlines())
    values = dict(zip(header, row, strict=True))
    assert (values["label"], values["area"], values["area_pixels"]) == ("7", "3", "24")
    assert (values["intensity_mean"], values["unit"]) == ("5", "micrometer")
    (path,) = exporter.write(tmp_path / "b", Export(labels, size, {}), False)
    assert "intensity" not in path.read_text()
