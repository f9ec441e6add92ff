"""Values of a run, and the record that files keep of them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime

from napari_unet_cells import __version__
from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.details import RunDetails

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 4, 4, sha256="ab" * 32)

DETAILS = RunDetails(
    card=CARD,
    options=InstanceOptions(split=0.6),
    diameter=21.26,
    zoom=1.23456,
    limits=Limits(0.5, 100.0),
    source={"path": "a.tif"},
)


def test_the_record_names_the_maker() -> None:
    record = DETAILS.ended("CPU, 2 threads", 1.23456).provenance()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["version"] == __version__
    assert record["model"] == {"name": "cells", "sha256": "ab" * 32, "architecture": "none"}
    assert record["classes"] == ["background", "cell", "boundary"]
    assert record["parameters"] == {
        "normalization": {"percentiles": [1.0, 99.8], "limits": [0.5, 100.0]},
        "instances": asdict(InstanceOptions(split=0.6)),
        "scale": {"diameter": 21.3, "estimated": True, "zoom": 1.2346},
        "test_time_augmentation": False,
    }
    assert record["source"] == {"path": "a.tif"}
    assert datetime.fromisoformat(record["date"]).tzinfo is not None
    assert (record["device"], record["seconds"]) == ("CPU, 2 threads", 1.235)
    assert "complete" not in record


def test_an_estimate_that_began_with_another_images_says_so() -> None:
    record = replace(DETAILS, confirmed_diameter=19.96).provenance()
    assert record["parameters"]["scale"]["begun_with"] == 20.0
    assert "begun_with" not in DETAILS.provenance()["parameters"]["scale"]


def test_a_run_that_is_not_over_says_so() -> None:
    record = DETAILS.provenance()
    assert record["complete"] is False
    assert not {"device", "seconds"} & record.keys()


def test_what_a_run_did_not_do_is_not_recorded() -> None:
    record = replace(DETAILS, options=None, limits=None, is_stack=True, link=1).provenance()
    parameters = record["parameters"]
    assert parameters["instances"] is None
    assert parameters["normalization"]["limits"] is None
    assert parameters["linked_along_axis"] == 1
    assert "test_time_augmentation" not in parameters
    assert "colors" not in record
    colored = replace(CARD, colors=("#000000", "#ff0000", "#00ff00"))
    assert replace(DETAILS, card=colored).provenance()["colors"] == list(colored.colors)
