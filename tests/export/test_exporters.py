"""Exporters: every row of the table, and the name that is proposed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from roifile import ImagejRoi, roiread

from napari_unet_cells.core.outlines import fill
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.errors import UserError
from napari_unet_cells.export.exporters import EXPORTERS, Export, proposed_path
from napari_unet_cells.files import FileExists, read_image
from napari_unet_cells.layers.metadata import CLASSES
from napari_unet_cells.layers.pixel_size import PixelSize


def make_export(labels, size=None):
    size = size or PixelSize(0.5, 0.25, "micrometer")
    image = np.arange(labels.size, dtype=np.uint16).reshape(labels.shape)
    return Export(labels, size, {"model": {"name": "m"}}, channels={"nuclei": image})


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


# --- image and mask ---------------------------------------------------------------------


def test_a_pair_is_read_as_a_dataset(tmp_path):
    labels = np.zeros((20, 30), np.uint16)
    labels[3:9, 4:8] = 7
    export = make_export(labels)
    image, mask = EXPORTERS["pair"].write(tmp_path / "a", export, False)
    assert (image.name, mask.name) == ("a.tif", "a_mask.tif")
    (item,) = read_annotated_images([tmp_path])
    read, truth = item.read()
    np.testing.assert_array_equal(read, export.channels["nuclei"])
    np.testing.assert_array_equal(truth, labels)
    for path in (image, mask):
        assert read_image(path).pixel_size == pytest.approx((0.5, 0.25))
        assert read_image(path).unit == "micrometer"


@pytest.mark.parametrize(
    ("names", "axes", "read_axes"),
    [
        (("x",), "ZYX", "ZYX"),
        (("a", "b"), "YX", "CYX"),
        (("a", "b"), "ZYX", "ZCYX"),
        (("red", "green", "blue"), "YX", "YXC"),
        (("he red", "he green", "he blue"), "ZYX", "ZYXC"),
    ],
)
def test_channels_of_a_pair(tmp_path, names, axes, read_axes):
    shape = (4, 20, 30)[-len(axes) :]
    rng = np.random.default_rng(0)
    channels = {name: rng.integers(0, 255, shape, np.uint8) for name in names}
    size = PixelSize(0.5, 0.5, "micrometer")
    export = Export(np.ones(shape, np.uint8), size, {}, axes, channels, z_step=2.0)
    image, _ = EXPORTERS["pair"].write(tmp_path / "a.tif", export, False)
    found = read_image(image)
    assert found.axes == read_axes
    for index, channel in enumerate(channels.values()):
        if len(names) == 1:
            plane = found.data
        elif read_axes.endswith("YXC"):
            plane = found.data[..., index]
        else:
            plane = found.data[..., index, :, :]
        np.testing.assert_array_equal(plane, channel)
    if axes == "ZYX":
        assert found.z_step == 2.0


def test_a_pair_needs_its_image_and_leaves_no_half(tmp_path):
    labels = np.ones((20, 30), np.uint16)
    size = PixelSize(1.0, 1.0, "pixel")
    with pytest.raises(UserError, match="image of these labels is not open"):
        EXPORTERS["pair"].write(tmp_path / "a", Export(labels, size, {}), False)
    export = Export(labels - np.int64(2), size, {}, channels={"x": labels})
    with pytest.raises(UserError, match="its labels run from -1"):
        EXPORTERS["pair"].write(tmp_path / "a", export, False)
    assert list(tmp_path.iterdir()) == []


# --- outlines ---------------------------------------------------------------------------


def difficult_labels(shape=(24, 30)):
    """Two touching cells, one of two pieces, one with two holes, one at the border."""
    labels = np.zeros(shape, np.uint16)
    labels[..., 2:6, 2:6], labels[..., 2:6, 6:9] = 3, 12
    labels[..., 10:12, 2:4], labels[..., 12:14, 4:6] = 7, 7  # at a corner they touch
    labels[..., 8:20, 12:25] = 300
    labels[..., 10:12, 14:16], labels[..., 12:14, 16:20] = 0, 0
    labels[..., 22:, 26:] = 5
    return labels


def filled(rois, shape):
    """Draw ROIs, as Fiji does, into label images by their place."""
    planes = {}
    for roi in rois:
        place = (roi.position, roi.z_position, roi.t_position)
        rings = roi.coordinates(multi=True)
        rings = rings if isinstance(rings, list) else [rings]
        rings = [np.asarray(r).astype(int) for r in rings]
        rings = [r[:-1] if (r[0] == r[-1]).all() else r for r in rings]
        labels = planes.setdefault(place, np.zeros(shape, int))
        labels[fill([rings], shape)] = int(roi.name)
    return planes


def test_rois_are_the_labels_again(tmp_path):
    labels = difficult_labels()
    (path,) = EXPORTERS["rois"].write(tmp_path / "a", make_export(labels), False)
    assert path.name == "a.zip"
    rois = roiread(path)
    assert isinstance(rois, list)
    assert sorted(roi.name for roi in rois) == ["12", "3", "300", "5", "7", "7"]
    ((place, drawn),) = filled(rois, labels.shape).items()
    assert place == (0, 0, 0)
    np.testing.assert_array_equal(drawn, labels)
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    assert sorted(names) == ["12.roi", "3.roi", "300.roi", "5.roi", "7_1.roi", "7_2.roi"]
    three = next(roi for roi in rois if roi.name == "3")
    assert (three.left, three.top, three.right, three.bottom) == (2, 2, 6, 6)


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "TZYX"])
def test_rois_of_a_stack_stand_on_their_slices(tmp_path, axes):
    shape = (2, 3, 24, 30)[-len(axes) :]
    labels = np.zeros(shape, np.uint16)
    labels[-1, ...] = difficult_labels(shape[1:])
    export = Export(labels, PixelSize(1, 1, "pixel"), {}, axes)
    (path,) = EXPORTERS["rois"].write(tmp_path / "a.zip", export, False)
    planes = filled(roiread(path), shape[-2:])
    if axes == "TZYX":
        assert set(planes) == {(0, z, 2) for z in (1, 2, 3)}
    else:
        assert set(planes) == {(3, 0, 0)}
    for plane in planes.values():
        np.testing.assert_array_equal(plane, difficult_labels())


def test_rois_beyond_16_bits(tmp_path):
    """Coordinates of large images do not wrap."""
    labels = np.zeros((3, 70_000), np.uint16)
    labels[1, 69_990:69_995] = 1
    (path,) = EXPORTERS["rois"].write(tmp_path / "a", make_export(labels), False)
    roi = roiread(path)
    roi = roi[0] if isinstance(roi, list) else roi
    assert isinstance(roi, ImagejRoi)
    np.testing.assert_array_equal(np.max(roi.coordinates(), axis=0), [69_995, 2])


def polygons_of(geometry):
    coordinates = geometry["coordinates"]
    return [coordinates] if geometry["type"] == "Polygon" else coordinates


def test_geojson_is_the_labels_again(tmp_path):
    labels = difficult_labels()
    (path,) = EXPORTERS["geojson"].write(tmp_path / "a", make_export(labels), False)
    assert path.name == "a.geojson"
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection"
    drawn = np.zeros(labels.shape, int)
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        assert feature["properties"]["objectType"] == "cell"
        assert "plane" not in feature["geometry"]
        polygons = polygons_of(feature["geometry"])
        assert all(ring[0] == ring[-1] for polygon in polygons for ring in polygon)
        rings = [[np.array(ring[:-1]) for ring in polygon] for polygon in polygons]
        drawn[fill(rings, labels.shape)] = int(feature["properties"]["name"])
    np.testing.assert_array_equal(drawn, labels)
    kinds = {f["properties"]["name"]: f["geometry"]["type"] for f in collection["features"]}
    assert kinds["7"] == "MultiPolygon"
    assert kinds["300"] == "Polygon"


def test_geojson_of_planes_and_classes(tmp_path):
    labels = np.zeros((2, 3, 24, 30), np.uint8)
    labels[1, 2, 3:5, 3:5], labels[0, 0, 3:5, 3:5], labels[0, 0, 9:12, 3:5] = 1, 2, 255
    record = {"role": CLASSES, "classes": ["background", "nucleus", "vessel"]}
    export = Export(labels, PixelSize(1, 1, "pixel"), record, "TZYX")
    (path,) = EXPORTERS["geojson"].write(tmp_path / "a", export, False)
    found = [
        (f["properties"], f["geometry"].get("plane"))
        for f in json.loads(path.read_text())["features"]
    ]
    assert found == [
        ({"objectType": "annotation", "classification": {"name": "vessel"}}, None),
        (
            {"objectType": "annotation", "classification": {"name": "nucleus"}},
            {"c": -1, "z": 2, "t": 1},
        ),
    ]


def decoded(segmentation, shape):
    if isinstance(segmentation, dict):
        assert tuple(segmentation["size"]) == shape
        counts = segmentation["counts"]
        assert sum(counts) == shape[0] * shape[1]
        values = np.arange(len(counts)) % 2 == 1
        return np.repeat(values, counts).reshape(shape[::-1]).T
    return fill([[np.array(flat).reshape(-1, 2)] for flat in segmentation], shape)


def test_coco_is_the_labels_again(tmp_path):
    labels = difficult_labels((3, 24, 30))
    labels[1] = 0
    record = {"source": {"path": "/data/img.tif"}, "model": {"name": "m"}}
    export = Export(labels, PixelSize(1, 1, "pixel"), record, "ZYX")
    (path,) = EXPORTERS["coco"].write(tmp_path / "a", export, False)
    assert path.name == "a_coco.json"
    data = json.loads(path.read_text())
    assert [(i["id"], i["width"], i["height"], i["plane"]) for i in data["images"]] == [
        (1, 30, 24, {"z": 0}),
        (2, 30, 24, {"z": 1}),
        (3, 30, 24, {"z": 2}),
    ]
    assert {image["file_name"] for image in data["images"]} == {"img.tif"}
    assert data["categories"] == [{"id": 1, "name": "cell"}]
    assert data["info"]["provenance"]["model"] == {"name": "m"}
    assert len({a["id"] for a in data["annotations"]}) == len(data["annotations"]) == 10
    drawn = np.zeros(labels.shape, int)
    for annotation in data["annotations"]:
        inside = decoded(annotation["segmentation"], (24, 30))
        y, x = np.nonzero(inside)
        box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert annotation["bbox"] == box
        assert annotation["area"] == inside.sum()
        assert (annotation["category_id"], annotation["iscrowd"]) == (1, 0)
        drawn[annotation["image_id"] - 1][inside] = annotation["label"]
    np.testing.assert_array_equal(drawn, labels)


def test_coco_categories_are_the_classes(tmp_path):
    labels = np.zeros((24, 30), np.uint8)
    labels[3:5, 3:5] = 2
    record = {"role": CLASSES, "classes": ["background", "nucleus", "vessel"]}
    export = Export(labels, PixelSize(1, 1, "pixel"), record)
    (path,) = EXPORTERS["coco"].write(tmp_path / "a.json", export, False)
    assert path.name == "a.json"  # as it was typed
    data = json.loads(path.read_text())
    assert data["categories"] == [{"id": 1, "name": "nucleus"}, {"id": 2, "name": "vessel"}]
    assert [a["category_id"] for a in data["annotations"]] == [2]


def test_proposed_names_of_one_layer_differ():
    names = {proposed_path("/d/a.tif", "cells", e.suffix).name for e in EXPORTERS.values()}
    assert len(names) == len(EXPORTERS)
    targets = [
        path
        for exporter in EXPORTERS.values()
        for path in exporter.targets(proposed_path("/d/a.tif", "cells", exporter.suffix))
    ]
    assert len(set(targets)) == len(targets)
