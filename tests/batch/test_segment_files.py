"""Many files: each one done or reported, nothing lost. The network is a threshold here."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from napari_unet_cells.batch import one_image
from napari_unet_cells.batch import segment_files as batch
from napari_unet_cells.batch.one_image import PixelsDone
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.segment_files import FileDone, segment_files
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import file_set, read_image, read_provenance
from napari_unet_cells.files.atomic import replace_or_claim
from napari_unet_cells.layers.metadata import OURS
from napari_unet_cells.layers.reader import open_result
from napari_unet_cells.layers.writer import write_layer
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation import pipeline
from napari_unet_cells.segmentation.cell_diameter import Estimate
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.tracking import TrackingOptions

CARD = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)
CLASSES_ONLY = ModelCard("bright", "none", ("background", "cell"), 1, 16, 32, "ab" * 32)


def bright(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    inside = (pixels[..., :1] > 0.4).astype(np.uint8)
    return np.concatenate([inside, inside * 255, inside * 0], axis=-1)


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[ModelCard]:
    """Put a threshold in the network's place; count how often one was opened."""
    cards: list[ModelCard] = []

    def open_network(card: ModelCard, runtime: str) -> FunctionNetwork:
        cards.append(card)
        return FunctionNetwork(bright, stride=16, halo=32, max_tile=128)

    models = {"bright": CARD, "classes": CLASSES_ONLY}
    monkeypatch.setattr(batch, "find_model", models.__getitem__)
    monkeypatch.setattr(batch, "open_network", open_network)
    return cards


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    image, _ = simulate_nuclei((200, 300), seed=1)
    path = tmp_path / "in" / "nuclei.tif"
    path.parent.mkdir()
    options: dict[str, Any] = {"resolution": (4, 2), "metadata": {"unit": "um"}}
    tifffile.imwrite(path, image, imagej=True, **options)
    return path


def run(
    paths: Sequence[Path], output: Path, model: str = "bright", **request: Any
) -> list[FileDone]:
    events = list(segment_files(paths, output, model, Request(**request)))
    return [event for event in events if isinstance(event, FileDone)]


def test_results_keep_size_and_provenance(nuclei: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    events = list(segment_files([nuclei], output, "bright"))

    fractions = [event.fraction for event in events if isinstance(event, PixelsDone)]
    assert len(fractions) > 2
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    done = events[-1]
    assert isinstance(done, FileDone)
    assert done.problem == ""
    names = [path.name for path in done.written]
    assert names == ["nuclei_cells.tif", "nuclei_classes.tif", "nuclei_cells.csv", "nuclei.json"]
    assert sorted(os.listdir(output)) == sorted(names)

    cells, classes = (read_image(path) for path in done.written[:2])
    assert cells.data.dtype == np.uint16
    assert classes.data.dtype == np.uint8
    for image in (cells, classes):
        assert image.data.shape == (200, 300)
        assert (image.pixel_size, image.unit) == ((0.5, 0.25), "micrometer")
        provenance = read_provenance(image.path)
        assert provenance["model"] == {
            "name": "bright",
            "sha256": "ab" * 32,
            "architecture": "none",
        }
        assert provenance["source"]["path"] == str(nuclei)
    record = json.loads(done.written[3].read_text())
    n = int(np.asarray(cells.data).max())
    assert n > 5
    assert record["cells"] == n
    assert done.summary.startswith(f"{n} cells in ")
    assert record["files"] == names[:3]

    header, *rows = done.written[2].read_text().splitlines()
    assert header.startswith("label,area,")
    assert "intensity_mean" in header
    assert len(rows) == n
    assert rows[0].endswith(",micrometer")


def test_every_record_keeps_to_the_schema(
    nuclei: Path, stack: Path, tmp_path: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    """Also where the result is opened in a viewer and saved anew."""
    plain = nuclei.with_name("plain.tif")
    tifffile.imwrite(plain, np.asarray(read_image(nuclei).data))
    runs = [
        *run([nuclei, plain], tmp_path / "a"),
        *run([nuclei], tmp_path / "b", "classes"),
        *run([stack], tmp_path / "c", channel=1, plane="all", link="z"),
        *run([stack], tmp_path / "d", channel=1, plane=2),
    ]
    n_records = 0
    for done in runs:
        assert done.problem == ""
        assert schema_faults(json.loads(done.written[-1].read_text())) == []
        for mask in (path for path in done.written if path.suffix == ".tif"):
            assert schema_faults(read_provenance(mask)) == []
            ((labels, attributes, _),) = open_result(mask)
            again, beside = write_layer(str(tmp_path / "again.tif"), labels, attributes)
            record = json.loads(Path(beside).read_text())
            assert schema_faults(record) == []
            assert record["model"]["name"] == "bright"
            assert not {"cells", "files"} & record.keys()
            assert read_provenance(again) == record
            n_records += 1
    assert n_records == 9


def test_a_model_without_boundaries_makes_classes_only(nuclei: Path, tmp_path: Path) -> None:
    (done,) = run([nuclei], tmp_path, "classes")
    assert [path.name for path in done.written] == ["nuclei_classes.tif", "nuclei.json"]
    assert done.summary.startswith("classes in ")


@pytest.mark.parametrize("existing", ["nuclei_cells.tif", "nuclei_cells.csv", "nuclei.json"])
def test_existing_results_are_kept_unless_asked(
    nuclei: Path, tmp_path: Path, existing: str
) -> None:
    precious = tmp_path / existing
    precious.write_bytes(b"a day of corrections")
    before = sorted(os.listdir(tmp_path))

    (done,) = run([nuclei], tmp_path)
    assert f"{existing} exists and was kept; --overwrite replaces it" in done.problem
    assert precious.read_bytes() == b"a day of corrections"
    assert sorted(os.listdir(tmp_path)) == before

    (done,) = run([nuclei], tmp_path, overwrite=True)
    assert done.problem == ""
    assert precious.read_bytes() != b"a day of corrections"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_image_is_never_replaced_by_the_result_of_another(
    nuclei: Path, opened: list[ModelCard], overwrite: bool
) -> None:
    other = nuclei.with_name("nuclei_cells.tif")
    other.write_bytes(nuclei.read_bytes())
    before = other.read_bytes()
    with pytest.raises(UserError, match=r"nuclei_cells\.tif is one of the images"):
        run([nuclei, other], nuclei.parent, overwrite=overwrite)
    assert other.read_bytes() == before
    assert not opened


@pytest.mark.parametrize("second", ["nuclei.png", "nuclei.ome.tif", "Nuclei.OME.TIF"])
def test_two_images_of_one_name_are_refused(
    nuclei: Path, opened: list[ModelCard], second: str
) -> None:
    other = nuclei.with_name(second)
    other.write_bytes(b"")
    with pytest.raises(UserError, match=r"would both be written as .*different folders"):
        run([nuclei, other], nuclei.parent)
    assert not opened


def plane(value: float = 0.0, dtype: str = "uint16") -> NDArray[Any]:
    return np.full((30, 40), value, dtype)


def with_value(value: float) -> NDArray[Any]:
    image = np.arange(1200, dtype=np.float32).reshape(30, 40)
    image[3, 4] = value
    return image


BAD_IMAGES: dict[str, tuple[NDArray[Any] | bytes, str]] = {
    "black": (plane(0), "constant: every value is 0"),
    "constant": (plane(700), "constant: every value is 700"),
    "inf": (with_value(np.inf), r"1 of the image's 1200 values are infinite"),
    "all nan": (plane(np.nan, "float32"), "all are NaN"),
    "complex": (plane(1, "complex64"), "complex64, not real numbers"),
    "stack": (np.arange(36000, dtype=np.uint16).reshape(30, 30, 40), "stack of 30 planes"),
    "text": (b"Hello, I am a text.", "is not a TIFF, although its name says so: it is a text"),
    "empty": (b"", r"is empty \(0 bytes\)"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_reported_and_the_rest_is_done(
    nuclei: Path, tmp_path: Path, name: str
) -> None:
    content, sentence = BAD_IMAGES[name]
    bad = tmp_path / "bad.tif"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    else:
        tifffile.imwrite(bad, content)
    output = tmp_path / "out"

    first, second = run([bad, nuclei], output)

    assert first.path == bad
    with pytest.raises(UserError, match=sentence):
        raise UserError(first.problem)
    assert first.written == ()
    assert second.problem == ""
    assert {path.split(".")[0].split("_")[0] for path in os.listdir(output)} == {"nuclei"}


def test_a_truncated_tiff_is_reported(nuclei: Path, tmp_path: Path) -> None:
    nuclei.write_bytes(nuclei.read_bytes()[:50_000])
    (done,) = run([nuclei], tmp_path / "out")
    assert "nuclei.tif cannot be read as a TIFF: the file ends too early" in done.problem
    assert os.listdir(tmp_path / "out") == []


def test_the_other_images_of_a_file_are_mentioned(nuclei: Path, tmp_path: Path) -> None:
    with tifffile.TiffWriter(nuclei) as writer:
        writer.write(simulate_nuclei((100, 100))[0])
        writer.write(np.zeros((10, 10), np.uint8))
    (done,) = run([nuclei], tmp_path)
    assert "only the first of 2 images" in done.summary


def test_one_file_too_large_for_the_memory_does_not_stop_the_others(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = nuclei.with_name("other.tif")
    other.write_bytes(nuclei.read_bytes())
    original = Segmenter.events

    def events(self: Segmenter, planes: Any, settings: Any, source: Any) -> Any:
        if source["path"] == str(nuclei):
            raise MemoryError
        return original(self, planes, settings, source)

    monkeypatch.setattr(Segmenter, "events", events)
    first, second = run([nuclei, other], tmp_path)
    assert "too large for this computer's memory" in first.problem
    assert second.problem == ""


def test_results_open_upon_the_image_as_a_viewer_opens_it(nuclei: Path, tmp_path: Path) -> None:
    (done,) = run([nuclei], tmp_path / "out")
    ((labels, attributes, kind),) = open_result(done.written[0])
    assert kind == "labels"
    assert labels.shape == (200, 300)
    assert attributes["scale"] == [1, 1]  # napari drops the size of a TIFF
    assert attributes["metadata"]["napari_unet_cells_input"] == {
        "pixel_size": (0.5, 0.25, "micrometer")
    }


# --- stacks, channels, choices -----------------------------------------------------------


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Write t, z, c, y, x of 2 x 3 x 2 planes: the cells are in channel 1, and drift along z."""
    image, _ = simulate_nuclei((100, 120), n=4, seed=1)
    data = np.zeros((2, 3, 2, 100, 120), np.uint16)
    for t in range(2):
        for z in range(3):
            data[t, z, 1] = np.roll(image, z, axis=1)
    path = tmp_path / "stack.tif"
    metadata = {"axes": "TZCYX", "unit": "um", "spacing": 2.0}
    tifffile.imwrite(path, data, imagej=True, resolution=(2, 2), metadata=metadata)
    return path


def test_channels_that_only_the_user_knows_are_taken(tmp_path: Path) -> None:
    pixels = np.stack([np.zeros((96, 128), np.uint8), simulate_nuclei((96, 128), seed=1)[0]])
    path, named = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack")
    assert "C" not in read_image(path).axes
    tifffile.imwrite(named, pixels, imagej=True, metadata={"axes": "ZYX"})
    (done,) = run([path], tmp_path / "before", channel=1)
    assert "channel" in done.problem
    (done, other) = run([path, named], tmp_path / "out", channel=1, axes="CYX")
    assert done.problem == ""
    cells = read_image(tmp_path / "out" / "a_cells.tif").data
    assert cells.shape == (96, 128)
    assert cells[...].max() > 0
    assert "channel" in other.problem  # its planes follow z: it says so
    record = read_provenance(tmp_path / "out" / "a_cells.tif")
    assert (record["source"]["axes"], record["source"]["fixed"]) == ("CYX", {"C": 1})


def test_masks_of_an_ome_zarr_lie_where_it_says(tmp_path: Path) -> None:
    stack = np.stack([simulate_nuclei((96, 128), seed=seed)[0] for seed in (1, 2)])
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=stack, chunks=(1, 96, 128))
    place = [
        {"type": "scale", "scale": [3.0, 0.5, 0.5]},
        {"type": "translation", "translation": [7.0, 100.0, -20.0]},
    ]
    units = {"z": "furlong", "y": "micrometer", "x": "micrometer"}  # one that no program knows
    axes = [{"name": name, "type": "space", "unit": unit} for name, unit in units.items()]
    datasets = [{"path": "0", "coordinateTransformations": place}]
    image: Any = {"name": "s", "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    run([tmp_path / "a.ome.zarr"], tmp_path / "out", plane="all")
    ((labels, attributes, _),) = open_result(tmp_path / "out" / "a_cells.tif")
    assert labels.shape == stack.shape
    assert attributes["scale"] == [3.0, 0.5, 0.5]
    assert attributes["translate"] == [7.0, 100.0, -20.0]
    assert attributes["units"] == ["pixel", "micrometer", "micrometer"]
    assert attributes["axis_labels"] == ["z", "y", "x"]


def test_a_stack_is_never_run_unasked(stack: Path, tmp_path: Path) -> None:
    (done,) = run([stack], tmp_path / "out")
    assert "has 2 channels (axes TZCYX)" in done.problem
    (done,) = run([stack], tmp_path / "out", channel=1)
    assert "stack of 6 planes" in done.problem
    assert "--plane all segments every plane" in done.problem
    (done,) = run([stack], tmp_path / "out", channel=1, plane=6)
    assert "no plane 6: the stack has the planes 0 to 5" in done.problem
    assert os.listdir(tmp_path / "out") == []


def test_all_planes_of_a_stack(stack: Path, tmp_path: Path) -> None:
    (done,) = run([stack], tmp_path / "out", channel=1, plane="all", link="z")
    assert done.problem == ""
    cells = read_image(done.written[0])
    assert cells.axes == "TZYX"
    assert cells.data.shape == (2, 3, 100, 120)
    assert (cells.pixel_size, cells.z_step) == ((0.5, 0.5), 2.0)
    assert cells.data[0].max() == cells.data[1].max() == cells.data[0, 2].max() > 1
    assert " cells in 6 planes in " in done.summary
    rows = done.written[2].read_text().splitlines()
    assert rows[0].startswith("label,t,z,")
    planes = np.asarray(cells.data).reshape(-1, 100, 120)
    assert len(rows) == 1 + sum(len(np.unique(plane)) - 1 for plane in planes)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """Write a movie of two cells that move, of which one is missing in a frame."""
    frames = np.zeros((4, 96, 96), np.uint8)
    for t in range(4):
        frames[t, 20 + 2 * t : 34 + 2 * t, 20:34] = 200
        frames[t, 60:74, 60:74] = 200 * (t != 2)
    path = tmp_path / "movies" / "movie.tif"
    path.parent.mkdir()
    options: dict[str, Any] = {"resolution": (2, 2), "metadata": {"axes": "TYX", "unit": "um"}}
    tifffile.imwrite(path, frames, imagej=True, **options)
    return path


def test_a_movie_is_tracked(
    movie: Path, tmp_path: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    pytest.importorskip("laptrack")
    request: dict[str, Any] = {"plane": "all", "settings": Settings(diameter=14)}
    (done,) = run([movie], tmp_path / "out", track=TrackingOptions(), **request)
    assert done.problem == ""
    assert done.summary.startswith("2 tracks in 4 frames in ")
    names = [path.name for path in done.written]
    endings = ("_cells.tif", "_classes.tif", "_cells.csv", "_tracks.csv", ".json")
    assert names == [f"movie{ending}" for ending in endings]
    cells = np.asarray(read_image(done.written[0]).data)
    assert cells[:, 30, 30].tolist() == [1, 1, 1, 1]
    assert cells[:, 66, 66].tolist() == [2, 2, 0, 2]
    rows = done.written[3].read_text().splitlines()
    assert rows[0].startswith("label,parent,daughters,t_first,t_last,frames,missing,y_first")
    assert [row.split(",")[:7] for row in rows[1:]] == [
        ["1", "0", "0", "0", "3", "4", "0"],
        ["2", "0", "0", "0", "3", "3", "1"],
    ]
    assert rows[1].split(",")[7:10] == ["13.25", "13.25", "16.25"]  # micrometers
    record = json.loads(done.written[-1].read_text())
    assert record["tracks"] == {"parents": []}
    assert record["cells"] == 2
    assert schema_faults(record) == []
    opened = open_result(done.written[0])
    assert opened[0][1]["metadata"][OURS]["provenance"]["tracks"] == {"parents": []}
    (again,) = run([movie], tmp_path / "out", track=TrackingOptions(), **request)
    assert "exists and was kept" in again.problem


def test_what_has_no_tracks_is_a_sentence_and_the_rest_is_done(
    movie: Path, stack: Path, tmp_path: Path
) -> None:
    pytest.importorskip("laptrack")
    asked: dict[str, Any] = {"plane": "all", "track": TrackingOptions()}
    frame = movie.with_name("frame.tif")
    tifffile.imwrite(frame, tifffile.imread(movie)[0])
    single, good = run([frame, movie], tmp_path / "out", **asked)
    assert "It is a single frame" in single.problem
    assert good.problem == ""
    (many,) = run([stack], tmp_path / "out", channel=1, **asked)
    assert "has the axes TZYX" in many.problem
    (classes,) = run([movie], tmp_path / "out2", model="classes", **asked)
    assert "makes classes only" in classes.problem
    assert os.listdir(tmp_path / "out2") == []


def test_one_plane_of_a_stack(stack: Path, tmp_path: Path) -> None:
    (done,) = run([stack], tmp_path / "out", channel=1, plane=5)
    assert read_image(done.written[0]).data.shape == (100, 120)
    record = json.loads(done.written[-1].read_text())
    assert record["source"]["fixed"] == {"T": 1, "Z": 2, "C": 1}


def test_several_channels_are_projected(
    tmp_path: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    """Two bright squares in one channel, three dim ones in another: five cells in both."""
    data = np.random.default_rng(0).integers(100, 104, (3, 3, 60, 90), np.uint16)
    for x in (5, 25):
        data[:, 0, 5:15, x : x + 10] += 9000
    for x in (5, 25, 45):
        data[:, 2, 35:45, x : x + 10] += 60
    metadata = {"axes": "ZCYX", "Labels": ["DAPI", "empty", "GFP"] * 3}
    path = tmp_path / "two.tif"
    tifffile.imwrite(path, data, imagej=True, metadata=metadata)
    counts = {}
    for channel in (0, "gfp", ("DAPI", 2)):
        projection = "max" if isinstance(channel, tuple) else None
        (done,) = run(
            [path], tmp_path / str(channel), channel=channel, projection=projection, plane=1
        )
        assert done.problem == ""
        counts[channel] = int(np.max(np.asarray(read_image(done.written[0]).data)))
    assert counts == {0: 2, "gfp": 3, ("DAPI", 2): 5}

    record = json.loads(done.written[-1].read_text())
    assert schema_faults(record) == []
    assert record["source"]["channels"] == [0, 2]
    assert record["source"]["projection"] == "max"
    assert record["source"]["fixed"] == {"Z": 1}
    header, *rows = done.written[2].read_text().splitlines()
    assert len(rows) == 5
    assert "mean_DAPI" in header
    assert "mean_GFP" in header
    assert "empty" not in header


def test_channels_have_their_names_in_sentences(stack: Path, tmp_path: Path) -> None:
    (done,) = run([stack], tmp_path / "out", channel=(0, 1), plane=0)
    assert "trained on images of 1 channels, and this one has 2" in done.problem
    assert "a projection of the channels (max or mean)" in done.problem
    (done,) = run([stack], tmp_path / "out", channel="GFP", plane=0)
    assert "no channel GFP: the image has 0 to 1" in done.problem


def test_a_pixel_size_is_taken_from_the_user_where_the_file_has_none(
    nuclei: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, np.asarray(read_image(nuclei).data))
    first, second = run([plain, nuclei], tmp_path / "out", pixel_size=0.7)
    assert read_image(first.written[0]).pixel_size == (0.7, 0.7)
    assert read_image(second.written[0]).pixel_size == (0.5, 0.25)  # the file knows better


def test_choices_of_the_user_reach_the_cells(nuclei: Path, tmp_path: Path) -> None:
    (plain,) = run([nuclei], tmp_path / "a")
    (chosen,) = run([nuclei], tmp_path / "b", settings=Settings(min_size=10**5))
    assert np.any(read_image(plain.written[0]).data[...])
    assert not np.any(read_image(chosen.written[0]).data[...])


# --- disks ------------------------------------------------------------------------------


def test_an_output_that_is_a_file(nuclei: Path, opened: list[ModelCard]) -> None:
    with pytest.raises(UserError, match=r"nuclei\.tif is a file, not a folder"):
        run([nuclei], nuclei)
    with pytest.raises(UserError, match="Nothing can be written to the folder"):
        run([nuclei], nuclei / "deeper")
    assert not opened


def refuse(number: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_read_only_folder_is_noticed_before_anything_is_computed(
    nuclei: Path, tmp_path: Path, opened: list[ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse(errno.EROFS))
    with pytest.raises(UserError, match=r"written to the folder .*Read-only .*another one"):
        run([nuclei], tmp_path)
    assert not opened


def test_a_disk_that_gets_full_leaves_old_results_whole(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    (done,) = run([nuclei], output)
    before = {path: path.read_bytes() for path in done.written}
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))

    (done,) = run([nuclei], output, overwrite=True)

    assert "nuclei_cells.tif was not written: the disk of" in done.problem
    assert "is full. Free some space" in done.problem
    assert {path: path.read_bytes() for path in output.iterdir()} == before


def test_a_disk_that_gets_full_leaves_no_half_of_the_results(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_image, "write_json", refuse_with_sentence)
    (done,) = run([nuclei], tmp_path / "out")
    assert done.problem == "The disk is full."
    assert os.listdir(tmp_path / "out") == []


def refuse_with_sentence(*_: object, **__: object) -> None:
    raise UserError("The disk is full.")


def test_a_file_begins_with_the_cell_size_of_the_one_before(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likely: list[float] = []
    estimates = [Estimate(31.0), Estimate(7.0, unsure=True, other=40.0), Estimate(29.0)]

    def estimate(*arguments: Any) -> Estimate:
        likely.append(arguments[-1])
        return estimates[len(likely) - 1]

    monkeypatch.setattr(pipeline, "estimate_diameter", estimate)
    sized = replace(CARD, diameter_window=(18.0, 36.0))
    monkeypatch.setattr(batch, "find_model", lambda name: sized)
    paths = [nuclei]
    for name in ("second.tif", "third.tif"):
        paths.append(nuclei.with_name(name))
        shutil.copy(nuclei, paths[-1])
    first, second, third = run(paths, tmp_path / "out")
    # What is a guess is not handed on, and is said.
    assert likely == [0.0, 31.0, 0.0]
    assert "guess" not in first.summary + third.summary
    assert "7 px is a guess; it may be 40 px, --diameter sets it" in second.summary


@pytest.mark.parametrize(
    "error", [RuntimeError("x\x1b[2J"), KeyError("k"), RecursionError(), SystemError()]
)
def test_an_error_that_nobody_foresaw_ends_one_file_only(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    other = nuclei.with_name("other.tif")
    other.write_bytes(nuclei.read_bytes())
    output = tmp_path / "out"

    def read(path: Path, allow_missing_chunks: bool) -> Any:
        if path == nuclei:
            raise error
        return read_image(path, allow_missing_chunks)

    monkeypatch.setattr(one_image, "read_image", read)
    bad, good = run([nuclei, other], output)
    assert good.problem == ""
    assert bad.problem.startswith(f"It failed in a way that nobody foresaw ({type(error).__name__}")
    assert bad.problem.isprintable()
    log = output / "napari-unet-cells-errors.log"
    assert bad.problem.endswith(f"Please report it with the file {log}.")
    assert "Traceback (most recent call last)" in log.read_text()
    names = ("other.json", "other_cells.csv", "other_cells.tif", "other_classes.tif")
    assert sorted(os.listdir(output)) == sorted([log.name, *names])


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no such names")
@pytest.mark.parametrize("stem", [b"n" * 245, "\u00e9".encode() * 123, b"caf\xe9", b"a\nb\x1b[2J"])
def test_a_name_that_is_hard_to_write_does_not_stop_the_others(
    nuclei: Path, tmp_path: Path, stem: bytes
) -> None:
    hard = Path(os.fsdecode(os.fsencode(nuclei.parent) + b"/" + stem + b".tif"))
    hard.write_bytes(nuclei.read_bytes())
    output = tmp_path / "out"
    first, second = run([hard, nuclei], output)
    assert second.problem == ""
    if len(stem) > 200:
        assert "its name is longer than 255 bytes" in first.problem
        assert len(os.listdir(output)) == 4
    else:
        assert first.problem == ""
        assert len(os.listdir(output)) == 8
        record = json.loads(first.written[-1].read_text(encoding="utf-8"))
        assert record["source"]["path"].encode()
        assert read_provenance(first.written[0])["source"] == record["source"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.timeout(60)
def test_a_pipe_is_not_waited_for(nuclei: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.tif"
    make_pipe: Any = os.mkfifo  # type: ignore[attr-defined,unused-ignore]
    make_pipe(pipe)
    bad, good = run([pipe, nuclei], tmp_path / "out")
    assert "is a pipe or a device, not a file" in bad.problem
    assert good.problem == ""


def test_a_set_that_was_killed_while_it_was_moved_out_is_finished(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    moved: list[Path] = []

    class Killed(BaseException):
        pass

    def move(path: Path, target: Path, overwrite: bool) -> None:
        if moved:
            raise Killed
        moved.append(target)
        replace_or_claim(path, target, overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(file_set, "replace_or_claim", move)
        with pytest.raises(Killed):
            run([nuclei], output)
    assert len([name for name in os.listdir(output) if not name.startswith(".")]) == 1
    monkeypatch.setattr(file_set, "_is_left", lambda path, found: True)  # this process is gone
    (done,) = run([nuclei], output)
    assert "exists and was kept" in done.problem
    names = ("nuclei.json", "nuclei_cells.csv", "nuclei_cells.tif", "nuclei_classes.tif")
    assert sorted(os.listdir(output)) == sorted(names)


def test_missing_chunks_are_said(tmp_path: Path) -> None:
    import zarr

    data = simulate_nuclei((64, 128), seed=1)[0]
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(64, 64), zarr_format=2)
    (whole,) = run([tmp_path / "a.zarr"], tmp_path / "out")
    assert "missing" not in whole.summary
    (tmp_path / "a.zarr" / "0.1").unlink()
    (done,) = run([tmp_path / "a.zarr"], tmp_path / "out2")
    assert "(1 of 2 chunks are missing (0.1) and count as empty" in done.summary
