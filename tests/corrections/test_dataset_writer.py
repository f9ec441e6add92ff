"""Approved regions as a dataset: what is written, how it is named, and that nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.core.normalize import percentile_limits
from napari_unet_cells.core.regions import Region, RegionGrid, Review
from napari_unet_cells.corrections import dataset_writer
from napari_unet_cells.corrections.approved_regions import Approved, approved_of
from napari_unet_cells.corrections.dataset_writer import Added, Unchanged, add
from napari_unet_cells.datasets.annotated_images import held_out, read_annotated_images
from napari_unet_cells.datasets.check import check
from napari_unet_cells.datasets.index import LOCK, locked
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image, read_provenance
from napari_unet_cells.layers import metadata
from napari_unet_cells.layers.metadata import CELLS, INPUT, OURS, REVIEW, result_metadata
from napari_unet_cells.layers.transforms import place_of

RNG = np.random.default_rng(0)


@dataclass
class Source:
    path: str | None = None


@dataclass
class Layer:
    """What is asked of a layer of napari."""

    data: Any
    name: str = "nuclei"
    metadata: dict[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=Source)
    rgb: bool = False
    multiscale: bool = False
    scale: tuple[float, ...] = (0.5, 0.25)
    units: tuple[str, ...] = ("um", "um")

    @property
    def unique_id(self) -> int:
        return id(self)


class Image(Layer):
    pass


class Labels(Layer):
    pass


CLASSES = ("background", "cell", "boundary")


def reviewed(
    image: Image,
    shape: tuple[int, ...],
    plane: tuple[int, ...] | None = None,
    role: str = CELLS,
    classes: tuple[str, ...] = CLASSES,
) -> tuple[Labels, Review]:
    """Make a result layer of an image with a review of 2 x 2 regions a plane."""
    labels = np.zeros(shape, np.uint16)
    labels[..., 5:20, 5:20] = 1
    labels[..., 30:45, 40:50] = 2
    review = Review(labels, grid=RegionGrid((shape[-2], shape[-1]), (2, 2)))
    source = {"layer": image.name} | ({} if plane is None else {"plane": list(plane)})
    provenance = {
        "source": source,
        "classes": list(classes),
        "model": {"name": "cells", "sha256": "ab" * 32, "architecture": "mobilenet_unet"},
        "parameters": {"diameter": 24.0},
    }
    metadata = result_metadata(role, str(image.unique_id), provenance)
    metadata[REVIEW] = review
    return Labels(labels, f"{image.name} {role}", metadata), review


def pixels(*shape: int) -> NDArray[np.uint16]:
    return RNG.integers(100, 4000, shape, np.uint16)


def approved_among(labels: Any, *layers: Any) -> Approved:
    """Call `approved_of` with layers that have only what it asks for."""
    return approved_of(labels, layers)


def taken(image: Image, labels: Labels) -> Approved:
    return approved_among(labels, image, labels)


def records(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "index.json").read_text()))


def names(folder: Path) -> list[str]:
    return [record["name"] for record in records(folder)]


@pytest.fixture
def image() -> Image:
    return Image(pixels(100, 120))


# --- what is written --------------------------------------------------------------------


def test_an_approved_region_is_written_with_context_and_all_that_is_known(
    tmp_path: Path, image: Image
) -> None:
    labels, review = reviewed(image, (100, 120))
    labels.data[60:70, 70:90] = 9  # corrected by hand, in region 3
    review.approve(((), 3), "2026-01-02T03:04:05+00:00")
    folder = tmp_path / "mine"

    (event,) = add(folder, taken(image, labels), context=8)

    name = "nuclei_y50-100_x60-120.tif"
    assert event == Added(name, ((), 3), 1, 1, 1)
    (record,) = records(folder)
    assert record["region"] == {"top": 50, "bottom": 100, "left": 60, "right": 120}
    assert record["inside"] == {"top": 8, "bottom": 58, "left": 8, "right": 68}
    assert (record["pixel_size"], record["unit"]) == ([0.5, 0.25], "um")
    assert (record["approved"], record["edited"]) == ("2026-01-02T03:04:05+00:00", True)
    assert (record["split"], record["version"], record["replaced_by"]) == ("", 1, None)
    assert record["model"]["architecture"] == "mobilenet_unet"
    assert record["parameters"] == {"diameter": 24.0}
    assert (record["plane"], record["channel"], record["axes"]) == ([], None, "YX")
    assert record["source"]["shape"] == [100, 120]
    assert record["program"]["name"] == "napari-unet-cells"
    (item,) = read_annotated_images([folder])
    crop = (slice(42, 100), slice(52, 120))
    read, mask = item.read()
    np.testing.assert_array_equal(read, image.data[crop])
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(mask, labels.data[crop])
    assert item.limits == percentile_limits(image.data)
    assert item.inside == Region(8, 58, 8, 68)
    assert item.classes == CLASSES
    first = item.read_first()
    assert first is not None
    assert not (first == 9).any()
    assert (first != mask).sum() == 10 * 20
    for kind in ("images", "masks", "first"):
        written = read_image(folder / kind / name)
        assert written.pixel_size == pytest.approx((0.5, 0.25))
        assert written.unit == "micrometer"
    assert read_provenance(folder / "masks" / name)["model"]["name"] == "cells"
    assert check(folder) == []


@pytest.mark.parametrize(
    ("dtype", "rgb"),
    [
        ("uint8", False),
        ("uint16", False),
        ("float32", False),
        ("int16", False),
        ("uint32", False),
        ("float64", False),
        ("uint8", True),
        ("uint16", True),
        ("float32", True),
    ],
)
def test_pixels_keep_their_type_and_their_size(tmp_path: Path, dtype: str, rgb: bool) -> None:
    data = pixels(100, 120, 3) if rgb else pixels(100, 120)
    image = Image((data >> (4 if dtype == "uint8" else 0)).astype(dtype), rgb=rgb)
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    list(add(tmp_path / "d", taken(image, labels)))
    (item,) = read_annotated_images([tmp_path / "d"])
    read, _ = item.read()
    np.testing.assert_array_equal(read, image.data)
    assert read.dtype == dtype
    written = read_image(item.image)
    assert written.axes == ("YXC" if rgb else "YX")
    assert written.pixel_size == pytest.approx((0.5, 0.25))


def test_one_plane_of_a_stack(tmp_path: Path) -> None:
    image = Image(pixels(3, 4, 100, 120))
    labels, review = reviewed(image, (1, 1, 100, 120), plane=(2, 1))
    review.approve(((0, 0), 0))
    list(add(tmp_path / "d", taken(image, labels), context=0))
    (record,) = records(tmp_path / "d")
    assert record["name"] == "nuclei_plane2-1_y0-50_x0-60.tif"
    assert record["plane"] == [2, 1]
    (item,) = read_annotated_images([tmp_path / "d"])
    np.testing.assert_array_equal(item.read()[0], image.data[2, 1, :50, :60])
    assert item.limits == percentile_limits(image.data[2, 1])


def test_all_planes_of_a_stack_and_a_split_channel(tmp_path: Path) -> None:
    image = Image(pixels(3, 100, 120), metadata={INPUT: {"channel": 1}})
    labels, review = reviewed(image, (3, 100, 120))
    for place in (((2,), 3), ((0,), 1)):
        review.approve(place)
    events = list(add(tmp_path / "d", taken(image, labels)))
    assert [(event.place, event.done, event.total) for event in events] == [
        (((0,), 1), 1, 2),
        (((2,), 3), 2, 2),
    ]
    assert names(tmp_path / "d") == [
        "nuclei_plane0_c1_y0-50_x60-120.tif",
        "nuclei_plane2_c1_y50-100_x60-120.tif",
    ]
    second = read_annotated_images([tmp_path / "d"])[1]
    np.testing.assert_array_equal(second.read()[0], image.data[2])


def test_a_lazy_image_is_read_crop_by_crop(tmp_path: Path) -> None:
    dask = pytest.importorskip("dask.array")
    data = pixels(100, 120)
    image = Image(dask.from_array(data, chunks=(10, 10)))
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 2))
    list(add(tmp_path / "d", taken(image, labels), context=5))
    np.testing.assert_array_equal(
        read_annotated_images([tmp_path / "d"])[0].read()[0], data[45:100, 0:65]
    )


def test_strokes_of_classes_keep_what_nobody_annotated(tmp_path: Path, image: Image) -> None:
    classes = ("background", "nucleus", "vessel")
    labels, review = reviewed(image, (100, 120), role=metadata.CLASSES, classes=classes)
    labels.data[...] = 255
    labels.data[5:9, 5:9] = 0
    review.approve(((), 0))
    list(add(tmp_path / "d", taken(image, labels), context=0))
    (item,) = read_annotated_images([tmp_path / "d"])
    mask = item.read(classes)[1]
    assert np.unique(mask).tolist() == [0, 255]
    assert check(tmp_path / "d") == []


def test_labels_of_other_origin_lie_on_the_image_of_their_size(tmp_path: Path) -> None:
    image, other = Image(pixels(100, 120)), Image(pixels(60, 60), name="other")
    labels, review = reviewed(image, (100, 120))
    del labels.metadata[OURS]
    review.approve(((), 0))
    list(add(tmp_path / "d", approved_among(labels, image, other, labels)))
    assert records(tmp_path / "d")[0]["classes"] == []


# --- what is refused --------------------------------------------------------------------


def test_nothing_approved_says_how_to_approve(image: Image) -> None:
    labels, review = reviewed(image, (100, 120))
    with pytest.raises(UserError, match=r"'nuclei cells' is approved yet\. In Correct"):
        taken(image, labels)
    review.approve(((), 0))
    assert len(taken(image, labels).dates) == 1
    del labels.metadata[REVIEW]
    with pytest.raises(UserError, match="is approved yet"):
        taken(image, labels)


def test_an_image_that_is_gone_or_of_another_size(image: Image) -> None:
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    with pytest.raises(UserError, match="image of 'nuclei cells' is not open any more"):
        approved_among(labels, labels)
    image.data = pixels(90, 120)
    with pytest.raises(UserError, match="differ in size: 100 x 120 and 90 x 120 pixels"):
        taken(image, labels)
    image.data, labels.data = pixels(90, 120), labels.data[:90]
    with pytest.raises(UserError, match="was changed in size since"):
        taken(image, labels)


def test_the_class_layer_of_a_cell_model_is_not_what_is_corrected(image: Image) -> None:
    labels, review = reviewed(image, (100, 120), role=metadata.CLASSES)
    review.approve(((), 0))
    with pytest.raises(UserError, match="Correct and approve the cells themselves"):
        taken(image, labels)


def test_a_dataset_of_other_classes_is_left_alone(tmp_path: Path, image: Image) -> None:
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    list(add(tmp_path / "d", taken(image, labels)))
    others = ("background", "nucleus")
    labels, review = reviewed(image, (100, 120), role=metadata.CLASSES, classes=others)
    review.approve(((), 0))
    with pytest.raises(UserError, match="holds the classes background, cell, boundary, and these"):
        list(add(tmp_path / "d", taken(image, labels)))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, image: Image) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    with pytest.raises(UserError, match="holds other files, and no dataset"):
        list(add(tmp_path, taken(image, labels)))
    assert os.listdir(tmp_path) == ["letter.txt"]


def test_what_was_annotated_by_hand_stays_in_the_dataset(tmp_path: Path, image: Image) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "mine.tif", np.ones((9, 9), np.uint8))
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    list(add(tmp_path, taken(image, labels)))
    assert [item.image.name for item in read_annotated_images([tmp_path])] == [
        "mine.tif",
        "nuclei_y0-50_x0-60.tif",
    ]


# --- versions and names -----------------------------------------------------------------


def test_a_region_is_versioned_only_where_it_changed(tmp_path: Path, image: Image) -> None:
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    review.approve(((), 3))
    list(add(tmp_path / "d", taken(image, labels), context=4))
    before = {path: path.read_bytes() for path in (tmp_path / "d").rglob("*") if path.is_file()}

    again = list(add(tmp_path / "d", taken(image, labels), context=4))

    assert {type(event) for event in again} == {Unchanged}
    after = {path: path.read_bytes() for path in (tmp_path / "d").rglob("*") if path.is_file()}
    assert after == before

    labels.data[7:9, 7:9] = 5
    events = list(add(tmp_path / "d", taken(image, labels), context=4))

    assert [(type(event), event.version) for event in events] == [(Added, 2), (Unchanged, 1)]
    assert events[0].name == "nuclei_y0-50_x0-60-v2.tif"
    first, _, newest = records(tmp_path / "d")
    assert (first["replaced_by"], newest["replaced_by"]) == (newest["name"], None)
    items = read_annotated_images([tmp_path / "d"])
    assert [item.image.name for item in items] == [
        "nuclei_y50-100_x60-120.tif",
        "nuclei_y0-50_x0-60-v2.tif",
    ]
    assert (items[1].read()[1] == 5).any()
    assert (tmp_path / "d" / "masks" / first["name"]).is_file()
    assert items[1].region == "nuclei_y0-50_x0-60"  # that of all its versions


def test_a_version_keeps_the_split_and_replaces_a_damaged_one(tmp_path: Path, image: Image) -> None:
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    folder = tmp_path / "d"
    list(add(folder, taken(image, labels)))
    (record,) = records(folder)
    (folder / "index.json").write_text(json.dumps([{**record, "split": "val"}]))
    (folder / "masks" / record["name"]).write_bytes(b"II*\0")  # nothing but a beginning
    (event,) = add(folder, taken(image, labels))
    assert (type(event), event.version) == (Added, 2)
    assert [r["split"] for r in records(folder)] == ["val", "val"]


def test_sources_of_one_name_get_files_of_different_names(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        (tmp_path / day).mkdir()
        tifffile.imwrite(tmp_path / day / "img 1.tif", pixels(100, 120))
    paths = [str(tmp_path / day / "img 1.tif") for day in ("monday", "tuesday")]
    images = [Image(tifffile.imread(path), "img 1", source=Source(path)) for path in paths]
    # two without a file, one of them written like the first but for capitals
    images += [Image(pixels(100, 120), "IMG 1"), Image(pixels(100, 120), "IMG 1")]
    for image in images:
        labels, review = reviewed(image, (100, 120))
        review.approve(((), 0))
        (event,) = add(tmp_path / "d", taken(image, labels))
        assert isinstance(event, Added)
    found = names(tmp_path / "d")
    assert found[0] == "img_1_y0-50_x0-60.tif"
    assert len({name.casefold() for name in found}) == 4
    assert len({item.source for item in read_annotated_images([tmp_path / "d"])}) == 4
    for image in images:  # each is found again
        labels, review = reviewed(image, (100, 120))
        review.approve(((), 0))
        review.approve(((), 1))
        events = list(add(tmp_path / "d", taken(image, labels)))
        assert [type(event) for event in events] == [Unchanged, Added]
        stems = {event.name.split("_y")[0] for event in events}
        assert len(stems) == 1  # and keeps its name


def test_a_source_that_was_moved_is_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    path = tmp_path / "a" / "img.tif"
    tifffile.imwrite(path, pixels(100, 120))
    for _ in range(2):
        image = Image(tifffile.imread(path), source=Source(str(path)))
        labels, review = reviewed(image, (100, 120))
        review.approve(((), 0))
        (event,) = add(tmp_path / "d", taken(image, labels))
        path = path.rename(tmp_path / "b" / "img.tif")
    assert isinstance(event, Unchanged)


def test_a_cancelled_export_keeps_what_it_told(tmp_path: Path, image: Image) -> None:
    labels, review = reviewed(image, (100, 120))
    for number in range(4):
        review.approve(((), number))
    events = add(tmp_path / "d", taken(image, labels))
    told = [next(events).name, next(events).name]
    events.close()
    assert names(tmp_path / "d") == told
    assert check(tmp_path / "d") == []
    assert len(list(add(tmp_path / "d", taken(image, labels)))) == 4
    assert len(names(tmp_path / "d")) == 4


# --- killed, and two at once ------------------------------------------------------------

_EXPORT = """
import os, signal, sys
import numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_dataset_writer import Image, reviewed, taken
from napari_unet_cells.corrections.dataset_writer import add
folder, name, die = Path(sys.argv[2]), sys.argv[3], sys.argv[4]
real, count = os.replace, 0
def replace(source, target):
    global count
    count += 1
    if die == f"before {count}":
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
    if die == f"after {count}":
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
image = Image(np.random.default_rng(len(name)).integers(0, 999, (100, 120), np.uint16), name)
labels, review = reviewed(image, (100, 120))
for number in range(4):
    review.approve(((), number))
print("ready", flush=True)
sys.stdin.readline()
for event in add(folder, taken(image, labels)):
    print(event.name, flush=True)
"""


def start(folder: Path, name: str, die: str = "never") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _EXPORT, str(Path(__file__).parent), str(folder), name, die]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    """Let a started export begin."""
    assert process.stdin is not None
    process.stdin.write("\n")


def told_by(process: subprocess.Popen[str]) -> list[str]:
    """Wait for an export and return the names that it told."""
    assert process.stdout is not None
    with process:
        return process.stdout.read().split()


def survived(folder: Path, told: list[str]) -> None:
    """Assert that a dataset is valid, holds what was told, and can be gone on with."""
    if folder.is_dir() and (folder / "index.json").is_file():
        found = names(folder)
        assert set(told) <= set(found)
        assert len(found) <= len(told) + 1  # the one that was written but not yet told
        errors = [finding for finding in check(folder) if finding.severity == "error"]
        assert errors == [] if found else len(errors) == 1
        for item in read_annotated_images([folder]) if found else ():
            item.read()
    else:
        assert told == []
    process = start(folder, "cells")
    go(process)
    told_by(process)
    assert process.returncode == 0
    assert len(names(folder)) == 4
    assert not [finding for finding in check(folder) if finding.severity == "error"]


needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX")


@needs_sigkill
@pytest.mark.parametrize(
    "die",
    ["before 1", "after 1", "before 2", "after 3", "before 4", "before 5", "after 5", "after 8"],
)
@pytest.mark.slow
def test_killed_at_any_step_the_dataset_is_valid(tmp_path: Path, die: str) -> None:
    """1 is the empty list; then image, mask, first labels and list, region by region."""
    folder = tmp_path / "d"
    process = start(folder, "cells", die)
    go(process)
    told = told_by(process)
    assert process.returncode == -signal.SIGKILL
    survived(folder, told)


@needs_sigkill
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.slow
def test_killed_at_a_random_time_the_dataset_is_valid(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "d"
    process = start(folder, "cells")
    go(process)
    time.sleep(random.Random(seed).uniform(0, 0.15))
    process.kill()
    told = told_by(process)
    survived(folder, told)


def test_a_leftover_is_noted_and_not_read(tmp_path: Path, image: Image) -> None:
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    folder = tmp_path / "d"
    list(add(folder, taken(image, labels)))
    (folder / "images" / "lost.tif").write_bytes(b"half")
    (folder / "masks" / ".0a1b2c.part.tif").write_bytes(b"")
    notes = check(folder)
    assert [(note.severity, note.file.name) for note in notes] == [
        ("note", "lost.tif"),
        ("note", ".0a1b2c.part.tif"),
    ]
    assert "is not listed in index.json and is not used" in notes[0].sentence
    assert len(read_annotated_images([folder])) == 1


@pytest.mark.slow
def test_two_programs_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [start(tmp_path / "d", name) for name in ("cells", "others", "cells")]
    for process in processes:
        go(process)
    told = {name for process in processes for name in told_by(process)}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert set(names(tmp_path / "d")) == told
    assert len(told) == 8
    assert check(tmp_path / "d") == []


def test_a_lock_that_another_program_keeps_is_said(
    tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet_cells.datasets.index.PATIENCE", 0.1)
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    list(add(tmp_path / "d", taken(image, labels)))
    with locked(tmp_path / "d"), pytest.raises(UserError, match="Another program is writing to"):
        list(add(tmp_path / "d", taken(image, labels)))
    assert (tmp_path / "d" / LOCK).is_file()
    list(add(tmp_path / "d", taken(image, labels)))  # let go of, though the file is there


def test_a_file_is_no_folder(tmp_path: Path, image: Image) -> None:
    labels, review = reviewed(image, (100, 120))
    review.approve(((), 0))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        list(add(tmp_path / "file", taken(image, labels)))


# --- with the rest ----------------------------------------------------------------------


def test_a_plane_without_contrast_has_no_limits_of_its_own(tmp_path: Path) -> None:
    image = Image(np.zeros((2, 100, 120), np.uint8))
    image.data[1] = pixels(100, 120) >> 4
    labels, review = reviewed(image, (2, 100, 120))
    review.approve(((0,), 0))
    list(add(tmp_path / "d", taken(image, labels)))
    (item,) = read_annotated_images([tmp_path / "d"])
    assert item.limits is None
    assert records(tmp_path / "d")[0]["limits"] is None
    item.read()


def test_held_out_are_whole_regions_from_five_on(tmp_path: Path) -> None:
    image = Image(pixels(3, 100, 120))
    labels, review = reviewed(image, (3, 100, 120))
    for place in list(review)[:4]:
        review.approve(place)
    list(add(tmp_path / "d", taken(image, labels)))
    learned, held = held_out(read_annotated_images([tmp_path / "d"]))
    assert (len(learned), len(held)) == (4, 0)
    for place in list(review)[:10]:
        review.approve(place)
    list(add(tmp_path / "d", taken(image, labels)))
    learned, held = held_out(read_annotated_images([tmp_path / "d"]))
    assert (len(learned), len(held)) == (8, 2)


def test_the_checksum_of_a_changed_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    stat = path.stat()
    one = dataset_writer._sha256(str(path), stat.st_size, stat.st_mtime_ns)
    path.write_bytes(b"three")
    stat = path.stat()
    assert dataset_writer._sha256(str(path), stat.st_size, stat.st_mtime_ns) != one


@pytest.mark.gui
def test_on_layers_of_napari(tmp_path: Path) -> None:
    from napari.layers import Image as NapariImage
    from napari.layers import Labels as NapariLabels

    image = NapariImage(pixels(4, 100, 120), name="stack", scale=(2, 0.5, 0.5))
    made, review = reviewed(image, (1, 100, 120), plane=(3,))
    labels = NapariLabels(
        made.data, name="stack cells", metadata=made.metadata, **place_of(image, (3,))
    )
    review.approve(((0,), 3))
    (event,) = add(tmp_path / "d", approved_of(labels, [image, labels]))
    assert event.name == "stack_plane3_y50-100_x60-120.tif"
    (item,) = read_annotated_images([tmp_path / "d"])
    np.testing.assert_array_equal(item.read()[0], image.data[3])  # all of it: 64 pixels around
