"""Malformed files: each is read, or refused in a sentence; nothing else is raised.

``FUZZ_SECONDS`` says for how long each reader is tried, 4 s by default; `make fuzz` takes an hour
for all. What was once not held lies in ``corpus/READER/`` and is tried first.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet_cells.batch.finished import look_back, read_unit_record
from napari_unet_cells.batch.image_list import LIST, read_list, save_list
from napari_unet_cells.batch.marks import MARKS, mark, read_marks
from napari_unet_cells.corrections import exported
from napari_unet_cells.corrections.large_regions import approved_windows, folder_of_approved
from napari_unet_cells.corrections.restoring import restore
from napari_unet_cells.corrections.session_files import Damaged
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.datasets.check import check, summarize
from napari_unet_cells.datasets.split import split
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import file_axes, pixel_size_of, read_image
from napari_unet_cells.layers.reader import open_result
from napari_unet_cells.models.card import file_sha256, read_card
from napari_unet_cells.models.description import about, about_text
from napari_unet_cells.untrusted.approved_windows import document_of, parse_approved_windows
from napari_unet_cells.untrusted.arrays import read_arrays
from napari_unet_cells.untrusted.checkpoint import parse_state
from napari_unet_cells.untrusted.json_text import parse_json
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.table_note import parse_table_note
from napari_unet_cells.untrusted.zarr_plan import parse_plan

SECONDS = float(os.environ.get("FUZZ_SECONDS", "4"))

#: Seconds; no single input may take longer.
LONGEST = 20.0

CORPUS = Path(__file__).parent / "corpus"
OLD = Path(__file__).parents[1] / "data" / "0.1.0"

# --- readers ------------------------------------------------------------------------------


def read_a_card(content: bytes, folder: Path) -> None:
    with zipfile.ZipFile(folder / "m.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(_NETWORK))
        for name in ("metadata.json", "model.weights.h5"):
            archive.writestr(name, "{}")
    sha256 = file_sha256(folder / "m.keras").encode()
    (folder / "m.json").write_bytes(content.replace(b"SHA256", sha256))
    card = read_card(folder / "m.keras")
    about(card)
    about_text(card)


def read_an_index(content: bytes, folder: Path) -> None:
    for part in ("images", "masks", "first"):
        (folder / part).mkdir(exist_ok=True)
        for name in "abcde":
            tifffile.imwrite(folder / part / f"{name}.tif", np.eye(8, dtype=np.uint8))
    (folder / "index.json").write_bytes(content)
    check(folder)
    for item in read_annotated_images([folder]):
        item.read()
    summarize(folder)
    split(folder)
    summarize(folder)
    assert not list(folder.parent.glob("*.json"))


def read_a_result(content: bytes, folder: Path) -> None:
    text = content.decode("latin1").replace("\n", " ").encode("ascii", "replace").decode()
    path = folder / "a_cells.tif"
    tifffile.imwrite(path, np.eye(8, dtype=np.uint8), description=f"napari_unet_cells={text}")
    open_result(path)
    tifffile.imwrite(path, np.eye(8, dtype=np.uint8))
    path.with_suffix(".json").write_bytes(content)
    ((_, attributes, _),) = open_result(path)
    assert np.isfinite(np.asarray(attributes["scale"])).all()


def read_a_unit(content: bytes, folder: Path) -> None:
    (folder / "a.json").write_bytes(content)
    record = read_unit_record(folder / "a.json")
    if record is not None:
        json.dumps(record.document(), allow_nan=False)
        with contextlib.suppress(OSError):
            look_back(folder / "a.tif", [folder / "a.json"], "ab" * 32, {"plane": 1})


def read_a_list(content: bytes, folder: Path) -> None:
    (folder / LIST).write_bytes(content)
    chosen = read_list(folder)
    save_list(folder, chosen)
    assert read_list(folder) == chosen


def read_the_marks(content: bytes, folder: Path) -> None:
    (folder / MARKS).write_bytes(content)
    read_marks(folder)
    assert "b" in mark(folder, "b", approved=True).approved


def read_a_session(content: bytes, folder: Path) -> None:
    session = folder / "20261129-075603-a1b2c3"
    shutil.rmtree(session, ignore_errors=True)
    shutil.copytree(OLD / "session", session)
    packed = zlib.compress(content)
    start = b"UNCELLS\n" + struct.pack("<QI", len(packed), zlib.crc32(packed))
    old = (OLD / "session" / "save-000001.labels").read_bytes()
    (length,) = struct.unpack("<Q", old[8:16])
    (session / "save-000001.labels").write_bytes(start + packed + old[20 + length :])
    (session / "save-000002.labels").unlink()
    try:
        restore(session)
    finally:
        for other in folder.glob("2026*"):
            shutil.rmtree(other)


def read_exports(content: bytes, folder: Path) -> None:
    (folder / exported.EXPORTED).write_bytes(content)
    for written in exported.read(folder):
        assert not written.is_there


def read_a_zarr(content: bytes, folder: Path) -> None:
    path = folder / "a.zarr"
    (path / "0").mkdir(parents=True, exist_ok=True)
    head, _, tail = content.partition(b"\n")
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_bytes(head)
    (path / "0" / ".zarray").write_bytes(tail)
    (path / "0" / "0.0").write_bytes(np.ones((8, 8), np.uint8).tobytes())
    pixel_size_of(path)
    file_axes(path)
    image = read_image(path)
    assert all(0 < length < 2**60 for length in image.data.shape)


def read_a_picture(content: bytes, folder: Path) -> None:
    (folder / "a.tif").write_bytes(content)
    pixel_size_of(folder / "a.tif")
    file_axes(folder / "a.tif")
    image = read_image(folder / "a.tif")
    assert image.pixel_size is None or all(1e-12 < size < 1e12 for size in image.pixel_size)


def read_a_description(content: bytes, folder: Path) -> None:
    tifffile.imwrite(
        folder / "a.tif", np.eye(8, dtype=np.uint8), description=content, metadata=None
    )
    pixel_size_of(folder / "a.tif")
    file_axes(folder / "a.tif")
    image = read_image(folder / "a.tif")
    assert image.pixel_size is None or all(1e-12 < size < 1e12 for size in image.pixel_size)
    assert 0 < np.prod(image.data.shape, dtype=float) < 1000


def read_an_npz(content: bytes, folder: Path) -> None:
    (folder / "a.npz").write_bytes(content)
    read_arrays(folder / "a.npz")


def read_a_state(content: bytes, folder: Path) -> None:
    parse_state(parse_json(content, lenient=True))


def read_the_windows(content: bytes, folder: Path) -> None:
    place = folder_of_approved(folder / "a.zarr")
    place.mkdir(parents=True)
    (place / "000001.json").write_bytes(json.dumps(_WINDOWS).encode())
    (place / "000002.json").write_bytes(content)
    windows = approved_windows(folder / "a.zarr")
    assert all(window.size > 0 for window in windows)
    assert parse_approved_windows(document_of(windows)) == windows


def read_a_note(content: bytes, folder: Path) -> None:
    note = parse_table_note(parse_json(content))
    assert parse_table_note(parse_json(json.dumps(note.document()))) == note


def read_a_plan(content: bytes, folder: Path) -> None:
    plan = parse_plan(parse_json(content))
    assert 0 < plan.shape[-1] < 2**40


# --- what they are given ------------------------------------------------------------------

NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 10**12, 2**63, 10**400, 1e30, 1e308, 1e-308, 0.5),
    *(float("nan"), float("inf"), float("-inf")),
    *("", ".", "./", "..", "../../x", "/etc/passwd", "C:\\x", "a\0b", "\udcff", "x" * 5000),
    *("\x1b[2J", "1", "NaN", "a.tif", "\u202e", "train"),
    *([], {}, [[]], [None], {"a": {}}, [1, 2], [[1, 2], [3]], ["a"], [1e308] * 3),
    json.loads("[" * 60 + "]" * 60),
]


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """Change a document at one to three places."""
    root = [deepcopy(document)]
    for _ in range(draw(st.integers(1, 3))):
        container, key = root, 0
        while isinstance(container[key], dict | list) and container[key]:
            if draw(st.integers(0, 4)) == 0:
                break
            container = container[key]
            keys = list(container) if isinstance(container, dict) else range(len(container))
            key = draw(st.sampled_from(list(keys)))
        if container is not root and draw(st.integers(0, 5)) == 0:
            del container[key]
        else:
            container[key] = deepcopy(draw(st.sampled_from(NASTY)))
    return root[0]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Change bytes, cut the end off, or leave all as it is."""
    kind = draw(st.sampled_from(["bytes", "bytes", "bytes", "cut", "twice", "whole"]))
    changed = bytearray(content)
    if kind == "bytes":
        for _ in range(draw(st.integers(1, 6))):
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    elif kind == "cut":
        del changed[draw(st.integers(0, len(changed))) :]
    elif kind == "twice":
        changed += content[draw(st.integers(0, len(content))) :]
    return bytes(changed)


def texts(*documents: Any) -> st.SearchStrategy[bytes]:
    """JSON of changed documents, a line each, and sometimes changed bytes of it."""
    made = st.tuples(*map(mutated, documents)).map(
        lambda found: b"\n".join(json.dumps(one).encode() for one in found)
    )
    return made | made.flatmap(damaged)


def as_ome(document: Any) -> bytes:
    """Write attributes as the OME-XML of one plane; what they are was changed at random."""
    values = document if isinstance(document, dict) else {"Pixels": document}
    channels = "".join(f"<Channel{_attributes(one)}/>" for one in _list(values.get("Channel")))
    planes = "".join(f"<TiffData{_attributes(one)}/>" for one in _list(values.get("TiffData")))
    files = "".join(
        f"<TiffData><UUID{_attributes(one)}>urn:uuid:1</UUID></TiffData>"
        for one in _list(values.get("UUID"))
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f"<Pixels{_attributes(values.get('Pixels'))}>{channels}{planes}{files}</Pixels>"
        "</Image></OME>"
    )
    return text.encode("utf-8", "replace").replace(b"\0", b" ")


def _attributes(values: Any) -> str:
    pairs = values.items() if isinstance(values, dict) else [("Name", values)]
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in pairs)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def as_imagej(document: Any) -> bytes:
    """Write values as the description that ImageJ writes."""
    pairs = document.items() if isinstance(document, dict) else [("images", document)]
    lines = "".join(f"{name}={value}\n" for name, value in pairs)
    return f"ImageJ=1.54f\n{lines}".encode("utf-8", "replace").replace(b"\0", b" ")


def _saved(write: Callable[[Any], Any]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _session_header() -> Any:
    old = (OLD / "session" / "save-000001.labels").read_bytes()
    (length,) = struct.unpack("<Q", old[8:16])
    return json.loads(zlib.decompress(old[20 : 20 + length]))


_EYE = np.eye(16, dtype=np.uint16)
_OLD_CARD = json.loads((OLD / "model" / "old.json").read_text())
_RECORD = json.loads((OLD / "dataset" / "index.json").read_text())[0]
_RECORD |= {"inside": {"top": 0, "bottom": 8, "left": 0, "right": 8}}
_TRANSFORM = {
    "scale": [0.5, 0.25],
    "translate": [0, 1],
    "rotate": [[1, 0], [0, 1]],
    "shear": [0],
    "affine": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "units": ["um", "um"],
    "axis_labels": ["y", "x"],
}
_RESULT = {
    "role": "cells",
    "layer": "a",
    "classes": ["background", "cell"],
    "colors": ["#ff8800"],
    "parameters": {"scale": {"diameter": 9.0}, "instances": {"min_size": 3}},
    "source": {"path": "/a.tif", "shape": [8, 8], "plane": []},
    "transform": _TRANSFORM,
}
_STAMP = {"size": 3, "mtime_ns": 10**18, "digest": "ab" * 32}
_UNIT = {
    "model": {"name": "m", "sha256": "ab" * 32},
    "cells": 3,
    "device": "CPU",
    "seconds": 0.5,
    "batch": {
        "input": _STAMP,
        "settings": {"plane": 1, "settings": {"diameter": None}},
        "outputs": {"a_cells.tif": _STAMP},
        "summary": "3 cells",
        "shape": [8, 8],
        "area": {"low": 1.0, "high": 2.0, "counts": [1, 2]},
        "unit": "micrometer",
    },
}
_LIST = {
    "program": "napari-unet-cells",
    "images": ["/data/day1"],
    "model": "cells",
    "said": "Model cells.",
    "options": {
        "diameter": 30.0,
        "min_size": 20,
        "split": 0.5,
        "fill_holes": True,
        "channel": [0, "GFP"],
        "projection": "max",
        "plane": "all",
        "link": "Z",
        "pixel_size": 0.5,
        "runtime": "openvino",
    },
}
_MARKS = {"program": "napari-unet-cells", "approved": {"a": "today"}, "corrected": {"a": "now"}}
_OME_ZARR = {
    "multiscales": [
        {
            "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.25]}],
                }
            ],
        }
    ],
    "omero": {"channels": [{"label": "DAPI"}]},
}
_ZARRAY = {
    "zarr_format": 2,
    "shape": [8, 8],
    "chunks": [8, 8],
    "dtype": "|u1",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}
_WINDOW = {"plane": [0], "rows": [0, 256], "columns": [256, 512], "date": "2026-11-29T07:56:03"}
_WINDOWS = {"approved": [_WINDOW, _WINDOW | {"plane": [], "rows": [7, 9]}]}
_NOTE = {"version": 3, "size": 1000, "mtime_ns": 1_700_000_000_000_000_000}
_EXPORTS = {
    "exports": [
        {
            "path": "/nowhere/a.tif",
            "date": "2026-11-29T07:56:03+00:00",
            "regions": [[[], 3, 77]],
            "approved": [[[], 3]],
            "files": [["a.tif", 100, 1793727120]],
        }
    ]
}


_NETWORK = {"module": "keras.src.models.functional", "class_name": "Functional", "config": {}}
_CARD = _OLD_CARD | {"sha256": "SHA256"}
_INDEX = [_RECORD | {"name": f"{name}.tif"} for name in "abcde"]
_HEADER = _session_header()
_STATE = {"slot": "a", "options": {}, "step": 1, "seconds": 1.0, "curve": [[1, 1, 1, 1]]}
_TIFFS = (
    _saved(lambda file: tifffile.imwrite(file, _EYE, compression="zlib")),
    _saved(lambda file: tifffile.imwrite(file, _EYE, imagej=True, resolution=(2, 4))),
    _saved(lambda file: tifffile.imwrite(file, _EYE, ome=True, tile=(16, 16))),
    _saved(lambda file: tifffile.imwrite(file, _EYE, bigtiff=True, byteorder=">")),
)
_PLAN = {
    "key": "ab" * 32,
    "stamp": "cd" * 32,
    "axes": "zyx",
    "shape": [2, 30, 40],
    "scaled": [60, 80],
    "limits": [[0, 1.5], None],
    "options": {"min_size": 3},
    "version": "0.5",
    "pixel_size": [0.5, 0.5],
    "channel": ["DAPI", 1],
    **dict.fromkeys(("image", "model", "unit"), "a"),
    **dict.fromkeys(("side", "margin", "stride"), 16),
    "source": {},
    "details": {
        **dict.fromkeys(("diameter", "other_diameter", "confirmed_diameter", "zoom"), 1.0),
        **dict.fromkeys(("diameter_given", "diameter_unsure"), False),
    },
    **dict.fromkeys(("allow_missing_chunks", "test_time_augmentation", "overwrite"), False),
    "runtime": "",
}
_OME = {
    "Pixels": {
        "ID": "Pixels:0",
        "DimensionOrder": "XYZCT",
        "Type": "uint8",
        **dict.fromkeys(("SizeX", "SizeY"), 8),
        **dict.fromkeys(("SizeZ", "SizeC", "SizeT"), 1),
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "\N{MICRO SIGN}m",
        "PhysicalSizeY": 0.25,
    },
    "Channel": [{"ID": "Channel:0:0", "Name": "DAPI", "SamplesPerPixel": 1}],
    "TiffData": [{"IFD": 0, "FirstZ": 0, "PlaneCount": 1}],
    "UUID": [],
}
_IMAGEJ = {
    **{"images": 1, "slices": 1, "frames": 1, "channels": 1, "hyperstack": "true"},
    **{"unit": "\\u00B5m", "spacing": 0.5, "finterval": 1.5, "min": 0, "max": 255, "loop": "false"},
}
_NPZ = _saved(lambda file: np.savez(file, _EYE, np.ones(3)))


@dataclass(frozen=True)
class Target:
    """A reader, what it can read, and what it is given."""

    read: Callable[[bytes, Path], None]
    right: tuple[bytes, ...]
    inputs: st.SearchStrategy[bytes]

    @classmethod
    def of_json(cls, read: Callable[[bytes, Path], None], *documents: Any) -> Target:
        right = b"\n".join(json.dumps(one).encode() for one in documents)
        return cls(read, (right,), texts(*documents))

    @classmethod
    def of_bytes(cls, read: Callable[[bytes, Path], None], *right: bytes) -> Target:
        return cls(read, right, st.one_of(*map(damaged, right)))


TARGETS: dict[str, Target] = {
    "card": Target.of_json(read_a_card, _CARD),
    "index": Target.of_json(read_an_index, _INDEX),
    "result": Target.of_json(read_a_result, _RESULT),
    "unit": Target.of_json(read_a_unit, _UNIT),
    "list": Target.of_json(read_a_list, _LIST),
    "marks": Target.of_json(read_the_marks, _MARKS),
    "session": Target.of_json(read_a_session, _HEADER),
    "exports": Target.of_json(read_exports, _EXPORTS),
    "zarr": Target.of_json(read_a_zarr, _OME_ZARR, _ZARRAY),
    "tiff": Target.of_bytes(read_a_picture, *_TIFFS),
    "description": Target(
        read_a_description,
        (as_ome(_OME), as_imagej(_IMAGEJ)),
        st.one_of(mutated(_OME).map(as_ome), mutated(_IMAGEJ).map(as_imagej)).flatmap(
            lambda text: st.just(text) | damaged(text)
        ),
    ),
    "npz": Target.of_bytes(read_an_npz, _NPZ),
    "checkpoint": Target.of_json(read_a_state, _STATE),
    "plan": Target.of_json(read_a_plan, _PLAN),
    "windows": Target.of_json(read_the_windows, _WINDOWS),
    "note": Target.of_json(read_a_note, _NOTE),
}

# --- the tests ----------------------------------------------------------------------------


def is_held(target: Target, content: bytes, folder: Path) -> bool:
    """Read a file; whether that went well. Anything else than a refusal is an error of ours."""
    folder.mkdir(exist_ok=True)
    start = time.monotonic()
    try:
        target.read(content, folder)
    except (UserError, Malformed, Damaged) as error:
        said = str(error)
        assert said
        assert said.isprintable() or "\n" in said
        return False
    finally:
        shutil.rmtree(folder)
        assert time.monotonic() - start < LONGEST
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(max(300, 3 * SECONDS))
def test_whatever_comes_in_is_read_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Counter[tuple[str, str]]
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    target, end = TARGETS[name], time.monotonic() + SECONDS

    @settings(
        max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(target.inputs)
    def round_of_inputs(content: bytes) -> None:
        held = is_held(target, content, tmp_path / "in")
        tried[name, "read" if held else "refused"] += 1

    while time.monotonic() < end:
        round_of_inputs()
    assert tried[name, "read"] + tried[name, "refused"] >= 50


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_right_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    for content in TARGETS[name].right:
        assert is_held(TARGETS[name], content, tmp_path / "in")


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_was_once_not_held_is_held(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    held = is_held(TARGETS[path.parent.name], path.read_bytes(), tmp_path / "in")
    # Of a record beside labels, what makes no sense is left out; all else is refused.
    assert held == (path.parent.name in ("result", "exports"))
