"""Each kind of document: what it may say, and what is refused in words."""

from __future__ import annotations

import json
import zlib
from copy import deepcopy
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.instance_options import InstanceOptions, MergeRule
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.regions import Region
from napari_unet_cells.layers import metadata
from napari_unet_cells.untrusted import session
from napari_unet_cells.untrusted.card import CardValues, parse_card, parse_instances
from napari_unet_cells.untrusted.checkpoint import parse_state
from napari_unet_cells.untrusted.dataset_record import DatasetRecord, parse_record
from napari_unet_cells.untrusted.ome_xml import parse_ome
from napari_unet_cells.untrusted.result_record import parse_record as parse_result
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.session import parse_exports, parse_save_header, unpack_header
from napari_unet_cells.untrusted.unit_record import (
    Histogram,
    Stamp,
    UnitRecord,
    parse_unit_record,
)
from napari_unet_cells.untrusted.zarr_nodes import read_node
from napari_unet_cells.untrusted.zarr_plan import parse_plan

# --- cards --------------------------------------------------------------------------------

CARD: dict[str, Any] = {
    "name": "m",
    "architecture": "unet_mini",
    "classes": ["background", "cell", "boundary"],
    "channels": 1,
    "stride": 4,
    "halo": 20,
    "sha256": "ab" * 32,
    "instances": {"cell_threshold": 0.6, "smallest": 20, "certainty": 0.4, "seed_threshold": 0.1},
    "diameters": [10, 40.5],
    "trained_on": [{"name": "here", "images": 3}],
}


RULE = {
    "certain": 0.14,
    **dict.fromkeys(("constant", "depth", "boundary", "cell"), -2.5),
    **dict.fromkeys(("contact", "smaller", "larger"), 1),
}


def test_a_card_may_hold_a_rule_to_merge_by() -> None:
    instances = {"split": 0.75, "merge": RULE}
    card = CardValues(**parse_card({**CARD, "instances": instances}))
    rule = card.instances.merge
    assert rule == MergeRule(0.14, -2.5, -2.5, -2.5, -2.5, 1, 1, 1)
    assert card.instances.as_dict()["merge"] == asdict(rule)
    assert parse_instances(card.instances.as_dict()) == card.instances
    assert parse_instances({"merge": None}) == InstanceOptions()
    assert "merge" not in InstanceOptions().as_dict()  # 0.1.0 refuses names that it does not know


def test_a_card_of_an_old_version_is_read() -> None:
    card = CardValues(**parse_card(CARD))
    assert card.instances == InstanceOptions(cell_threshold=0.6, min_size=20, min_probability=0.4)
    assert card.diameters == (10.0, 40.5)
    assert (card.diameter_window, card.distance, card.works_on) == ((0.0, 0.0), False, ())


BAD_CARDS: dict[str, tuple[dict[str, Any], str]] = {
    "stride 3": ({"stride": 3}, "stride must be a power of two, not 3"),
    "stride true": ({"stride": True}, "stride must be a whole number from 1 to 64, not true"),
    "size x": ({"diameters": ["x", 1]}, r"diameters\[0\] must be a number from 0 to 100000"),
    "size null": ({"diameters": [1, None]}, r"diameters\[1\] must be a number .* not null"),
    "sizes null": ({"diameters": None}, "diameters must be a list, not null"),
    "size NaN": ({"diameter_window": [1, float("nan")]}, r"diameter_window\[1\] must be"),
    "size -1": ({"typical_diameter": -1}, "typical_diameter must be a number from 0"),
    "size 10^400": ({"typical_diameter": 10**400}, "typical_diameter must be a number from 0"),
    "no architecture": ({"architecture": ""}, "architecture must be a text of 1 to"),
    "sha256 of a path": ({"sha256": "../x"}, "sha256 must be 64 digits from 0 to f"),
    "min_size": ({"instances": {"min_size": -5}}, r"instances min_size must be a whole number"),
    "threshold": ({"instances": {"cell_threshold": 0}}, "instances make no sense: cell_threshold"),
    "merge rule": ({"instances": {"merge": 3}}, "instances merge"),
    "weight": ({"instances": {"merge": {**RULE, "cell": 1e4}}}, "instances merge cell"),
    "missing weight": ({"instances": {"merge": {"certain": 0.1}}}, "instances merge has no"),
    "unknown weight": ({"instances": {"merge": {**RULE, "x": 1}}}, "merge has an unknown 'x'"),
    "unknown option": ({"instances": {"largest": 3}}, "instances has an unknown 'largest'"),
    "a colour": ({"colors": ["javascript:"]}, r"colors\[0\] must be a colour"),
    "null": ({"description": None}, "description must be a text, not null"),
    "a long name": ({"name": "x" * 300}, "name must be a text of 0 to 200 characters"),
    "unknown": ({"run": "rm"}, "has an unknown 'run'"),
}


@pytest.mark.parametrize("name", BAD_CARDS)
def test_a_bad_card_is_refused_in_words(name: str) -> None:
    changed, words = BAD_CARDS[name]
    with pytest.raises(Malformed, match=words):
        parse_card({**CARD, **changed})


def test_a_card_lacks_nothing() -> None:
    for name in CARD:
        with pytest.raises(Malformed, match=f"has no '{name}'"):
            parse_card({key: value for key, value in CARD.items() if key != name})


# --- records of datasets ------------------------------------------------------------------

RECORD: dict[str, Any] = {
    "name": "a.tif",
    "kind": "nuclei",
    "split": "val",
    "version": 2,
    "replaced_by": None,
    "region": {"top": 0, "bottom": 5, "left": 1, "right": 9},
    "plane": [3],
    "channel": "DAPI",
    "limits": [1, 2.5],
    "colors": ["#ff8800"],
    "source": {"path": None, "layer": "nuclei", "shape": [10, 10]},
    "written by": "a later version",
}


def test_a_record_is_read_and_keeps_what_is_not_known() -> None:
    record = parse_record(RECORD)
    expected = DatasetRecord(
        "a.tif",
        modality="nuclei",
        split="val",
        version=2,
        region=Region(0, 5, 1, 9),
        plane=(3,),
        channel="DAPI",
        limits=Limits(1, 2.5),
        colors=("#ff8800",),
        source=RECORD["source"],
    )
    assert record == expected
    assert record.in_split("train").document == {**RECORD, "split": "train"}
    assert record.replaced("b.tif").document == {**RECORD, "replaced_by": "b.tif"}
    assert (record.in_split("train").split, record.replaced("b.tif").replaced_by) == (
        "train",
        "b.tif",
    )


BAD_NAMES = (".", "./", "a\0b", "\udcff", "x" * 5000, "", "../a.tif", 3, None)
BAD_RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    **{f"name {i}": ({"name": name}, "^name must") for i, name in enumerate(BAD_NAMES)},
    "version Infinity": ({"version": float("inf")}, "its version must be a whole number"),
    "limits 10^400": ({"limits": [0, 10**400]}, r"its limits\[1\] must be a number"),
    "split 3": ({"split": 3}, "its split must be one of '', 'test', 'train', 'val', not 3"),
    "split a list": ({"split": ["train"]}, "its split must be one of"),
    "replaced_by 3": ({"replaced_by": 3}, "its replaced_by must be a text"),
    "replaced_by true": ({"replaced_by": True}, "its replaced_by must be a text"),
    "a mask elsewhere": ({"mask": "/etc/passwd"}, "its mask must name a file inside"),
    "an endless region": ({"region": {"top": 0, "bottom": 1e30, "left": 0, "right": 1}}, "bottom"),
    "a source": ({"source": {"sha256": {"a": 1}}}, "its source sha256 must be a text"),
    "a channel": ({"channel": -1}, "its channel must be a list"),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_is_refused_in_words(name: str) -> None:
    changed, words = BAD_RECORDS[name]
    with pytest.raises(Malformed, match=words):
        parse_record({**RECORD, **changed})


def test_what_people_write_by_hand_is_read() -> None:
    byhand = {
        "name": "./a.tif",
        "kind": 7,
        "split": "Validation",
        "classes": [0, "cell"],
        "colors": ["red"],
        "approved": True,
        "edited": 1,
    }
    record = parse_record(byhand)
    assert (record.name, record.modality, record.split) == ("a.tif", "7", "val")
    assert (record.classes, record.colors) == (("0", "cell"), ())
    assert (record.approved, record.edited) == ("", True)


# --- records of results -------------------------------------------------------------------

TRANSFORM: dict[str, Any] = {
    "scale": [0.5, 0.25],
    "translate": [0, 1],
    "rotate": [[1, 0], [0, 1]],
    "shear": [0],
    "affine": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "units": ["um", "um"],
    "axis_labels": ["y", "x"],
}
RESULT: dict[str, Any] = {
    "role": "classes",
    "classes": ["background", "cell"],
    "parameters": {"scale": {"diameter": 20.0, "estimated": True, "zoom": 1.0}, "instances": None},
    "source": {"path": None, "plane": [1]},
    "transform": TRANSFORM,
    "later": {"a": 1},
}


def test_a_result_keeps_what_is_not_known() -> None:
    record = parse_result(RESULT)
    assert record.document == RESULT
    assert (record.role, record.classes) == ("classes", ("background", "cell"))
    assert record.transform is not None
    assert record.transform.as_lists() == TRANSFORM


BAD_RESULTS: dict[str, tuple[str, Any]] = {
    "scale 10^400": ("transform", {**TRANSFORM, "scale": [10**400, 1]}),
    "scale 0": ("transform", {**TRANSFORM, "scale": [0, 1]}),
    "scale NaN": ("transform", {**TRANSFORM, "scale": [float("nan"), 1]}),
    "affine of another size": ("transform", {**TRANSFORM, "affine": [[1, 0], [0, 1]]}),
    "no transform": ("transform", 5),
    "parameters": ("parameters", 5),
    "parameters null": ("parameters", None),
    "source": ("source", ["a"]),
    "source null": ("source", None),
    "classes": ("classes", "cell"),
    "role": ("role", "rm"),
}


@pytest.mark.parametrize("name", BAD_RESULTS)
def test_what_makes_no_sense_in_a_result_is_left_out(name: str) -> None:
    key, value = BAD_RESULTS[name]
    assert key in parse_result(RESULT).document
    record = parse_result({**RESULT, key: value})
    assert record.document == {k: v for k, v in RESULT.items() if k != key}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["parameters", "scale"], None),
        (["parameters", "scale", "diameter"], "x"),
        (["parameters", "instances"], {"min_size": 30.5}),
        (["source", "plane"], {"a": 1}),
        (["source", "path"], 5),
    ],
)
def test_only_the_value_that_makes_no_sense_is_left_out(path: list[Any], value: object) -> None:
    document = parse_result(changed_at(RESULT, path, value)).document
    expected = deepcopy(RESULT)
    if path[-1] == "instances":
        expected["parameters"]["instances"] = {}
    else:
        inner = expected
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
    assert document == expected


@pytest.mark.parametrize("document", [None, 5, "x", [], True])
def test_a_result_that_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(Malformed, match="must be an object"):
        parse_result(document)


# --- sessions -----------------------------------------------------------------------------

SAVE: dict[str, Any] = {
    "format": 1,
    "number": 2,
    "date": "2026-11-29T07:56:03.160+00:00",
    "shape": [40, 60],
    "dtype": "<u2",
    "facts": {
        "name": "cells",
        "metadata": {"napari_unet_cells": {"role": "cells", "provenance": {"role": "cells"}}},
        "place": TRANSFORM,
        "image": {"path": "/a.tif", "shape": [40, 60], "told": {"pixel_size": [1, 1, "um"]}},
    },
    "review": {
        "counts": [2, 3],
        "approved": [{"plane": [], "region": 1, "date": "2026-11-03T17:32:00+01:00"}],
        "uncertainty": [0.0] * 6,
    },
    "state": [[[], 0, 1, 4025748271]],
    "table": [[[], 0, "<u2", 10, 7]],
}


def test_the_header_of_a_save_is_read() -> None:
    header = parse_save_header(SAVE)
    assert header.file.shape == (40, 60)
    assert header.file.dtype == np.dtype("<u2")
    assert header.date == datetime.fromisoformat(SAVE["date"])
    assert header.facts == SAVE["facts"]
    assert header.review.approved == {((), 1): "2026-11-03T17:32:00+01:00"}
    assert (header.made, header.state[0].save) == ("made.labels", 1)


def test_keys_of_layers_are_those_of_the_layers() -> None:
    assert (session.OURS, session.INPUT) == (metadata.OURS, metadata.INPUT)


def changed_at(document: Any, path: list[Any], value: object) -> Any:
    copy = deepcopy(document)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


BAD_SAVES: dict[str, tuple[list[Any], Any, str]] = {
    "10^12 regions": (["review", "counts"], [10**6, 10**6], "claims 10{12} regions"),
    "more regions than rows": (["review", "counts"], [50, 3], "claims 150 regions"),
    "10^12 rows": (["shape"], [10**12, 60], "shape"),
    "a huge stack": (["shape"], [10**6, 10**6, 40, 60], "shape must have at most"),
    "no shape": (["shape"], [], "shape must be a list of 2 to 10"),
    "floats": (["dtype"], "<f4", "dtype must be a type of whole numbers"),
    "objects": (["dtype"], "|O", "dtype must be a type of whole numbers"),
    "a wide type": (["table", 0, 2], "S1000000000", "table.0. must be a type|table.0. must be a"),
    "10^12 bytes": (["table", 0, 3], 10**12, "table.0. must be a whole number"),
    "a row of two": (["table", 0], [[], 0], "table.0. must be a list of 5"),
    "another region": (["review", "approved", 0, "region"], 6, "approves a region that is not"),
    "another plane": (["review", "approved", 0, "plane"], [0], "approves a region that is not"),
    "uncertainty": (["review", "uncertainty"], [0.0], "uncertainty must be a list of 6"),
    "uncertainty NaN": (["review", "uncertainty", 0], float("nan"), r"uncertainty\[0\]"),
    "counts": (["review", "counts"], [2], "counts must be a list of 2"),
    "no date": (["date"], "x", "date must be a date"),
    "made": (["made"], "../made.labels", "names a wrong file"),
}


@pytest.mark.parametrize("name", BAD_SAVES)
def test_a_bad_save_is_refused_in_words(name: str) -> None:
    path, value, words = BAD_SAVES[name]
    with pytest.raises(Malformed, match=words):
        parse_save_header(changed_at(SAVE, path, value))


def test_what_is_not_known_of_a_layer_is_no_attribute_of_it() -> None:
    facts = {**SAVE["facts"], "place": {**TRANSFORM, "__class__": "x"}, "run": "rm"}
    header = parse_save_header({**SAVE, "facts": facts})
    assert header.facts == SAVE["facts"]


ODD_FACTS: dict[str, tuple[list[Any], Any, Any]] = {
    "name": (["name"], 5, "labels"),
    "place": (["place"], {"scale": ["a", 1]}, {}),
    "place of the image": (["image", "place"], "here", {}),
    "path": (["image", "path"], ["a"], None),
    "shape": (["image", "shape"], [1] * 11, []),
    "told": (["image", "told"], 5, {}),
    "image": (["image"], [], None),
    "metadata": (["metadata"], "x", {}),
}


@pytest.mark.parametrize("name", ODD_FACTS)
def test_corrections_are_read_also_where_a_fact_makes_no_sense(name: str) -> None:
    path, value, instead = ODD_FACTS[name]
    header = parse_save_header(changed_at(SAVE, ["facts", *path], value))
    assert header.facts == changed_at(SAVE["facts"], path, instead)
    assert header.state == parse_save_header(SAVE).state


def test_a_layer_may_lie_far_away() -> None:
    place = {**TRANSFORM, "translate": [1.7e18, 0], "scale": [1e-15, 1e15]}
    header = parse_save_header(changed_at(SAVE, ["facts", "place"], place))
    assert header.facts["place"]["translate"] == [1.7e18, 0]
    assert parse_save_header({**SAVE, "facts": None}).facts == {}


def test_a_header_is_unpacked_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = zlib.compress(json.dumps(SAVE).encode())
    assert unpack_header(packed) == SAVE
    for content in (b"", b"no", packed[:-10]):
        with pytest.raises(Malformed):
            unpack_header(content)
    bomb = zlib.compress(b" " * 10**7)
    monkeypatch.setattr(session, "LONGEST_HEADER", 10**6)
    with pytest.raises(Malformed, match="too long"):
        unpack_header(bomb)


def test_exports_are_read_or_refused() -> None:
    row = {
        "path": "/a.tif",
        "date": "2026-11-29T07:56:03+00:00",
        "regions": [[[], 3, 77]],
        "approved": [[[], 3]],
        "files": [["a.tif", 100, 1793727120_000_000_000]],
    }
    (export,) = parse_exports({"exports": [row]})
    assert export.regions == {((), 3): 77}
    assert export.files == {"a.tif": (100, 1793727120_000_000_000)}
    bad = {"path": 3, "date": "x", "regions": [[3, 77]], "files": [["a", -1, 0]]}
    for key, value in bad.items():
        with pytest.raises(Malformed, match=key):
            parse_exports({"exports": [{**row, key: value}]})


# --- zarr ---------------------------------------------------------------------------------


def array_of(folder: Path, **changed: Any) -> Path:
    document = {"zarr_format": 2, "shape": [40, 30], "chunks": [32, 32], **changed}
    (folder / ".zarray").write_text(json.dumps(document))
    return folder


def test_an_array_of_zarr_says_its_files(tmp_path: Path) -> None:
    node = read_node(array_of(tmp_path, fill_value=float("nan")))
    assert node is not None
    assert (node.shape, node.chunks, node.key_form) == ((40, 30), (32, 32), ("", "."))
    node = read_node(array_of(tmp_path, dimension_separator="/"))
    assert node is not None
    assert node.key_form == ("", "/")


@pytest.mark.parametrize(
    "shape", [[1e30, 5], [float("inf"), 5], [-1, 5], ["x", 5], None, 5, [2**40, 2**40], [True, 5]]
)
def test_a_shape_that_cannot_be_is_refused(tmp_path: Path, shape: object) -> None:
    with pytest.raises(Malformed, match="shape"):
        read_node(array_of(tmp_path, shape=shape))


BAD_OME: dict[str, tuple[dict[str, Any], str]] = {
    "a path elsewhere": ({"datasets": [{"path": "../../secret"}]}, "inside the folder"),
    "no path": ({"datasets": [{}]}, "has no 'path'"),
    "no levels": ({"datasets": []}, "datasets must be a list of 1 to"),
    "axes": ({"datasets": [{"path": "0"}], "axes": 5}, "axes must be a list"),
    "an axis": ({"datasets": [{"path": "0"}], "axes": [{"name": 5}]}, "name must be a text"),
    "scale": (
        {
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [{"type": "scale", "scale": ["x"]}],
                }
            ]
        },
        r"scale\[0\] must be a number",
    ),
}


@pytest.mark.parametrize("name", BAD_OME)
def test_bad_attributes_are_refused_in_words(tmp_path: Path, name: str) -> None:
    image, words = BAD_OME[name]
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    good = {"datasets": [{"path": "0"}], "axes": ["y", "x"]}
    (tmp_path / ".zattrs").write_text(json.dumps({"multiscales": [good], "anything": [[[]]]}))
    assert read_node(tmp_path) is not None
    (tmp_path / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    with pytest.raises(Malformed, match=words):
        read_node(tmp_path)


# --- OME-XML, checkpoints -----------------------------------------------------------------

OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image>'
    '<Description>d</Description><Pixels PhysicalSizeX="0.5" PhysicalSizeY="0.25" '
    'PhysicalSizeYUnit="nm"><Channel Name="DA&#10;PI"/></Pixels></Image></OME>'
)


def test_ome_gives_sizes_channels_and_the_description() -> None:
    image = parse_ome(OME)
    assert image.sizes == {"y": ("0.25", "nm"), "x": ("0.5", "um")}
    assert (image.channels, image.description) == (("DA PI",), "d")
    assert parse_ome("<OME/>").sizes == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "damaged"), ("<OME", "damaged"), ("<!DOCTYPE x [<!ENTITY a 'b'>]><OME/>", "entities")],
)
def test_bad_ome_is_refused(text: str, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        parse_ome(text)


def test_the_state_of_a_checkpoint() -> None:
    state = {"options": {}, "step": 3, "seconds": 1.5, "curve": [[1, 0.1, None, None]]}
    parsed = parse_state({**state, "slot": "b"})
    assert (parsed.slot, parsed.step, parsed.seconds) == ("b", 3, 1.5)
    assert np.isnan(parsed.curve[0][2])
    assert parse_state(state).slot == ""
    bad = {"slot": "../x", "step": -1, "seconds": None, "curve": [[1]], "options": []}
    for name, value in bad.items():
        with pytest.raises(Malformed, match=name):
            parse_state({**state, name: value})


# --- plans of runs that write an OME-Zarr ---------------------------------------------------

PLAN: dict[str, Any] = {
    "key": "ab" * 32,
    "stamp": "cd" * 32,
    "image": "/a.zarr",
    "model": "/m.keras",
    "runtime": "",
    "channel": None,
    "projection": None,
    "plane": None,
    "allow_missing_chunks": False,
    "axes": "zyx",
    "shape": [2, 30, 40],
    "scaled": [60, 80],
    "side": 1024,
    "margin": 160,
    "stride": 16,
    "limits": [[0, 1.5], None],
    "options": {"min_size": 3},
    "test_time_augmentation": False,
    "overwrite": False,
    "version": "0.5",
    "pixel_size": [0.5, 0.5],
    "unit": "micrometer",
    "z_step": None,
    "details": {
        "diameter": 20.0,
        "diameter_given": False,
        "diameter_unsure": False,
        "other_diameter": 0,
        "confirmed_diameter": 0,
        "zoom": 2.0,
    },
    "source": {},
}


def test_a_plan_is_read() -> None:
    plan = parse_plan(PLAN)
    assert (plan.shape, plan.scaled, plan.limits) == ((2, 30, 40), (60, 80), ((0.0, 1.5), None))
    assert parse_plan(PLAN | {"channel": ["DAPI", 1]}).channel == ("DAPI", 1)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"key": "ab"}, "key must be a sha256"),
        ({"axes": "xy"}, "axes must be the axes of labels"),
        ({"axes": "yx"}, "has axes that do not fit its shape"),
        ({"shape": [2, 10**6, 10**6]}, "has too many pixels"),
        ({"limits": [None]}, "has no limits for each plane"),
        ({"limits": [[1, 1], None]}, r"limits\[0\] must rise"),
        ({"side": 0}, "side must be a whole number from 1"),
        ({"version": "0.3"}, "version must be one of '0.4', '0.5'"),
        ({"options": {"split": 2}}, "options split must be a number from 0 to 1"),
        ({"details": {"zoom": 2.0}}, "details has no 'diameter'"),
        ({"plane": "some"}, "plane must be one of 'all'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Malformed, match=sentence):
        parse_plan(PLAN | changed)


# --- units of a batch ---------------------------------------------------------------------

STAMP = Stamp(3, 10**18, "ab" * 32)
UNIT = UnitRecord(
    model="cd" * 32,
    input=STAMP,
    settings={"plane": 1},
    outputs={"a_cells.tif": STAMP},
    summary="3 cells",
    cells=3,
    shape=(8, 9),
    area=Histogram(0.5, 2.0, (1, 2)),
    unit="micrometer",
)


def unit_document(**changed: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(UNIT.document())) | changed
    return {"model": {"sha256": "cd" * 32}, "cells": 3, "batch": document}


def test_the_record_of_a_unit_comes_back() -> None:
    assert parse_unit_record(unit_document()) == UNIT
    assert parse_unit_record({"model": {"sha256": "cd" * 32}}) is None


BAD_UNITS: dict[str, tuple[dict[str, Any], str]] = {
    "no input": ({"input": None}, "input must be an object with names"),
    "a digest": ({"input": {"size": 1, "mtime_ns": 1, "digest": "../x"}}, "digest must be 64"),
    "a size": ({"outputs": {"a": {"size": -1, "mtime_ns": 1}}}, r"outputs\.a size must be"),
    "a histogram": ({"area": {"low": 2, "high": 1, "counts": [1]}}, "area must rise, and goes"),
    "counts": ({"area": {"low": 0, "high": 1, "counts": [0.5]}}, r"counts\[0\] must be a whole"),
    "settings": ({"settings": 5}, "settings must be an object"),
}


@pytest.mark.parametrize("name", BAD_UNITS)
def test_a_bad_record_of_a_unit_is_refused_in_words(name: str) -> None:
    changed, words = BAD_UNITS[name]
    with pytest.raises(Malformed, match=words):
        parse_unit_record(unit_document(**changed))


@pytest.mark.parametrize(
    "parts",
    [5, [1], [{}], [{"rows": [0, 5]}], [{"rows": [0, 5], "columns": [0, -1]}], [None]],
)
def test_parts_that_make_no_sense_are_left_out_of_a_result(parts: object) -> None:
    good = [{"where": "visible part", "rows": [0, 5], "columns": [2, 9], "date": "today"}]
    assert parse_result({"parts": good}).document["parts"] == good
    assert "parts" not in parse_result({"parts": parts}).document
