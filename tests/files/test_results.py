"""Records of results: one schema, and what earlier versions wrote is brought up to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.files import FileExists, read_image, read_provenance
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.results import (
    OF_ONE_FILE,
    SCHEMA,
    SCHEMA_VERSION,
    result_record,
    write_result,
)

Faults = Callable[[Any], list[str]]

#: As a run was recorded before there was a schema.
OLD: dict[str, Any] = {
    "program": "napari-unet-cells",
    "version": "0.1.0",
    "model": {"name": "cells", "sha256": "ab" * 32, "architecture": "mobilenet_unet"},
    "classes": ["background", "cell", "boundary"],
    "parameters": {
        "normalization": {"percentiles": [1.0, 99.8], "limits": [3.0, 250.0]},
        "instances": {
            "cell_threshold": 0.5,
            "smoothing": 1.0,
            "smallest": 25,
            "fill_holes": True,
            "split": 0.8,
            "certainty": 0.6,
            "drop_border": False,
            "seed_threshold": 0.7,
        },
        "quality": "high",
        "scale": {"diameter": 21.3, "estimated": True, "zoom": 1.0},
    },
    "source": {"layer": "a", "path": None, "shape": [20, 30]},
    "date": "2026-11-03T17:32:00+01:00",
    "device": "CPU, 2 threads",
    "seconds": 1.9,
}


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return loaded


def test_the_schema_is_one_and_knows_every_key() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert schema()["properties"].keys() > set(OF_ONE_FILE)
    options = {field.name for field in fields(InstanceOptions)}
    assert schema()["$defs"]["instances"]["properties"].keys() == options


def test_a_record_that_is_older_than_the_schema_is_brought_up_to_date(
    schema_faults: Faults,
) -> None:
    assert schema_faults(OLD) != []
    before = json.dumps(OLD)
    record = result_record(OLD, (0.5, 0.25), "micrometer", cells=3)
    assert json.dumps(OLD) == before
    assert schema_faults(jsonable(record)) == []
    parameters = record["parameters"]
    assert parameters["test_time_augmentation"] is True
    assert parameters["instances"]["min_size"] == 25
    assert parameters["instances"]["min_probability"] == 0.6
    assert parameters["normalization"] == OLD["parameters"]["normalization"]
    assert (record["version"], record["cells"]) == ("0.1.0", 3)
    assert result_record(record, (0.5, 0.25), "micrometer") == record


def test_a_record_without_a_scale_is_brought_up_to_date(schema_faults: Faults) -> None:
    old = json.loads(json.dumps(OLD)) | {"unit": "micrometer"}
    del old["parameters"]["scale"]
    record = result_record(old, (0.5, 0.25), "micrometer")
    assert schema_faults(jsonable(record)) == []
    assert record["parameters"]["scale"] == {"diameter": 0.0, "estimated": False, "zoom": 1.0}


def test_labels_of_other_origin_have_a_record_too(schema_faults: Faults) -> None:
    record = result_record({}, None, "pixel", layer="mine", corrected_by_hand=None)
    assert schema_faults(record) == []
    assert record["pixel_size"] is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"pixel_size": [0.5, 0.25]}, "$.pixel_size"),
        ({"colour": "red"}, "'colour' was unexpected"),
        ({"schema_version": 2}, "$.schema_version"),
        ({"date": None}, "$.date"),
        ({"role": "cell"}, "$.role"),
    ],
)
def test_the_schema_finds_faults(schema_faults: Faults, change: Any, fault: str) -> None:
    record = result_record(OLD, None, "pixel")
    assert schema_faults(record) == []
    (found,) = schema_faults(record | change)
    assert fault in found


def test_labels_and_record_are_written_together(tmp_path: Path, schema_faults: Faults) -> None:
    labels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    record = result_record(OLD, (0.5, 0.25), "micrometer", role="cells")
    mask, beside = write_result(
        tmp_path / "a.tif", labels, record, axes="YX", scale=Scale((0.5, 0.25), "micrometer", None)
    )
    assert (mask.name, beside.name) == ("a.tif", "a.json")
    image = read_image(mask)
    np.testing.assert_array_equal(image.data, labels)
    assert (image.pixel_size, image.unit) == ((0.5, 0.25), "micrometer")
    assert json.loads(beside.read_text()) == read_provenance(mask) == record
    mask.unlink()
    with pytest.raises(FileExists, match=r"a\.json exists already"):
        write_result(mask, labels, record, axes="YX", scale=Scale(None, "pixel", None))
    assert not mask.exists()
