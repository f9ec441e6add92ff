"""Measured cells: the values of scikit-image, after edits too, whatever the ids are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops_table

from napari_unet_cells.core import measure as module
from napari_unet_cells.core.label_changes import changed_ids, changed_window
from napari_unet_cells.core.measure import Table, as_features, measure, update
from napari_unet_cells.errors import UserError

SIZE = (0.3, 0.7)

#: Our column -> that of scikit-image, and the factor between them.
SAME = {
    "label": ("label", 1),
    "area": ("area", 1),
    "area_pixels": ("num_pixels", 1),
    "centroid_y": ("centroid-0", 1),
    "centroid_x": ("centroid-1", 1),
    "bbox_y_min": ("bbox-0", SIZE[0]),
    "bbox_x_min": ("bbox-1", SIZE[1]),
    "bbox_y_max": ("bbox-2", SIZE[0]),
    "bbox_x_max": ("bbox-3", SIZE[1]),
    "eccentricity": ("eccentricity", 1),
    "solidity": ("solidity", 1),
    "intensity_mean": ("intensity_mean", 1),
    "intensity_min": ("intensity_min", 1),
    "intensity_max": ("intensity_max", 1),
}


def random_labels(seed, shape=None):
    """Blobs, whole patches, or single pixels strewn about, with gaps in the ids."""
    rng = np.random.default_rng(seed)
    shape = shape or tuple(rng.integers(2, 70, 2))
    noise = ndimage.gaussian_filter(rng.random(shape), seed % 3)
    labels = label(noise > np.median(noise)) if seed % 4 else rng.integers(0, 6, shape)
    return labels * 1013, rng.normal(size=shape)


def assert_same(table, other):
    assert table.columns.keys() == other.columns.keys()
    for name, column in table.columns.items():
        np.testing.assert_allclose(column, other.columns[name], rtol=1e-12, err_msg=name)
        assert column.dtype == other.columns[name].dtype, name


@pytest.mark.parametrize("seed", range(40))
def test_values_are_those_of_scikit_image(seed):
    labels, image = random_labels(seed)
    properties = {name.split("-")[0] for name, _ in SAME.values()}
    expected = regionprops_table(labels, image, properties=properties, spacing=SIZE)

    table = measure(labels, image, SIZE, "micrometer")

    assert list(table.columns) == list(SAME)
    assert len(table) == len(np.unique(labels[labels > 0]))
    for name, (theirs, factor) in SAME.items():
        np.testing.assert_allclose(
            table.columns[name], expected[theirs] * factor, rtol=1e-9, atol=1e-9, err_msg=name
        )


def test_a_large_image_is_read_in_blocks_with_the_same_result(monkeypatch):
    labels, image = random_labels(1, (60, 50))
    whole = measure(labels, image)
    monkeypatch.setattr(module, "BLOCK", 170)  # three rows at once, and a few cells at once
    read = []

    class Lazy:
        shape, dtype, ndim = image.shape, image.dtype, 2

        def __getitem__(self, key):
            read.append(image[key].shape)
            return image[key]

    assert_same(measure(labels, Lazy()), whole)
    assert len(read) == 20
    assert set(read) == {(3, 50)}


def test_a_single_pixel_and_a_line_have_a_shape():
    labels = np.zeros((5, 9), np.uint8)
    labels[2, 3], labels[4, 1:8] = 1, 2
    columns = measure(labels).columns
    assert columns["eccentricity"].tolist() == [0, 1]
    assert columns["solidity"].tolist() == [1, 1]
    assert columns["area"].tolist() == [1, 7]


def test_ids_may_be_large_and_negative_ones_are_no_cells():
    labels = np.array([[-3, 0, 70_000], [4_000_000_000, 0, 70_000]])
    table = measure(labels)
    assert table.columns["label"].tolist() == [70_000, 4_000_000_000]
    assert as_features(table) is None
    assert len(as_features(measure(np.where(labels > 70_000, 0, labels)))["index"]) == 70_001


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (4, 6), (0, 4, 6), (2, 0, 6), (3, 4, 6)])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_no_cells_give_the_same_columns_without_rows(shape, dtype):
    some = measure(np.ones((1, 2, 2)[-len(shape) :], dtype), np.ones((1, 2, 2)[-len(shape) :]))
    assert len(some) == 1
    empty = measure(np.zeros(shape, dtype), np.zeros(shape))
    assert len(empty) == 0
    assert list(empty.columns) == list(some.columns)
    assert [c.dtype for c in empty.columns.values()] == [c.dtype for c in some.columns.values()]


def test_nan_stays_in_its_cell():
    labels = np.array([[1, 1, 2, 2, 3]])
    columns = measure(labels, np.array([[np.nan, 1, 4, 6, np.inf]])).columns
    np.testing.assert_array_equal(columns["intensity_mean"], [np.nan, 5, np.inf])
    np.testing.assert_array_equal(columns["intensity_min"], [np.nan, 4, np.inf])
    np.testing.assert_array_equal(columns["intensity_max"], [np.nan, 6, np.inf])


def test_channels_have_their_names():
    labels = np.array([[1, 0], [1, 2]])
    first, second = np.array([[5, 0], [7, 1]], np.uint8), np.array([[0.5, 0], [1, 2]])
    columns = measure(labels, {"DAPI": first, "anti tubulin": second}).columns
    assert columns["intensity_mean_DAPI"].tolist() == [6, 1]
    assert columns["intensity_max_DAPI"].dtype == np.uint8
    assert columns["intensity_max_anti_tubulin"].tolist() == [1, 2]
    assert "intensity_mean" not in columns
    columns = measure(labels, np.stack([first, first * 2], -1)).columns
    assert columns["intensity_mean_2"].tolist() == [12, 2]
    assert "intensity_min" in measure(labels, {"DAPI": first}).columns  # alone it needs no name
    assert not [name for name in measure(labels).columns if "intensity" in name]


def test_means_leave_out_what_is_not_known():
    labels = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 3]])
    values = np.array([[0.25, 0.75, np.nan, np.nan, 9, 0.5, np.nan, np.nan, np.nan]])
    table = measure(labels, np.ones((1, 9)), means={"probability": values})
    np.testing.assert_allclose(table.columns["probability"], [0.5, np.nan, np.nan])
    assert "intensity_mean" in table.columns
    assert not np.isnan(table.columns["intensity_mean"]).any()
    again = update(table, labels, np.ones((1, 9)), [1, 2], means={"probability": values * 2})
    np.testing.assert_allclose(again.columns["probability"], [1, np.nan, np.nan])
    none = measure(labels * 0, means={"probability": values})
    assert none.columns["probability"].shape == (0,)


def test_a_stack_is_measured_plane_by_plane():
    (first, image), (second, _) = (random_labels(seed, (30, 40)) for seed in (1, 2))
    stack, images = np.stack([first, second]), np.stack([image, -image])
    table = measure(stack, images, SIZE)
    assert table.stack == ("plane",)
    for plane in range(2):
        alone = measure(stack[plane], images[plane], SIZE)
        rows = table.columns["plane"] == plane
        for name, column in alone.columns.items():
            np.testing.assert_array_equal(table.columns[name][rows], column)
    assert as_features(table) is None
    four = measure(stack[:, None], images[:, None], SIZE, axes="TZYX")
    assert list(four.columns)[:3] == ["label", "t", "z"]
    np.testing.assert_array_equal(four.columns["t"], table.columns["plane"])


def test_features_have_the_id_as_row_number():
    labels = np.array([[2, 2, 5]], np.uint16)
    features = as_features(measure(labels, np.array([[1, 3, 9]], np.uint8)))
    assert features["index"].tolist() == [0, 1, 2, 3, 4, 5]
    nan = np.nan
    np.testing.assert_array_equal(features["intensity_mean"], [nan, nan, 2, nan, nan, 9])
    assert "label" not in features
    assert as_features(measure(labels * 0))["index"].tolist() == [0]


def edits(labels):
    """One edit of each kind, as (what happened, labels after it)."""
    a, b = np.unique(labels[labels > 0])[[0, -1]]
    new = int(labels.max()) + 7
    ys, xs = np.nonzero(labels == b)
    for what, change in {
        "grown": lambda after: after.__setitem__((slice(0, 9), slice(0, 9)), a),
        "shrunk": lambda after: after.__setitem__((ys[:1], xs[:1]), 0),
        "gone": lambda after: after.__setitem__(after == b, 0),
        "merged": lambda after: after.__setitem__(after == b, a),
        "new": lambda after: after.__setitem__((slice(-4, None), slice(-4, None)), new),
        "nothing": lambda after: None,
    }.items():
        after = labels.copy()
        change(after)
        yield what, after


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 4, 5, 6])
def test_update_equals_measuring_all_again(seed, windowed):
    labels, image = random_labels(seed, (50, 60))
    table = measure(labels, image, SIZE)
    for what, after in edits(labels):
        expected = measure(after, image, SIZE)
        changed = any(
            not np.array_equal(expected.columns[name], table.columns[name]) for name in SAME
        )
        assert changed == (what != "nothing"), what
        window = changed_window(labels, after)
        ids = changed_ids(labels, after, window)
        assert_same(update(table, after, image, ids, window if windowed else None), expected)


def test_update_measures_these_cells_only():
    labels, image = random_labels(1, (50, 60))
    table = measure(labels, image)
    first, second = table.columns["label"][:2]
    other = update(table, labels, image + 1, [first])
    difference = other.columns["intensity_mean"] - table.columns["intensity_mean"]
    np.testing.assert_allclose(difference[0], 1)
    assert (difference[1:] == 0).all()
    with pytest.raises(ValueError, match="the channels it was measured with"):
        update(table, labels, None, [second])


def test_update_of_a_stack():
    labels = np.stack([random_labels(seed, (30, 40))[0] for seed in (1, 2)])
    after = labels.copy()
    after[1, 5:12, 5:12] = labels.max()
    window = changed_window(labels, after)
    assert window is not None
    ids = changed_ids(labels, after, window)
    table = update(measure(labels), after, None, ids, window)
    assert_same(table, measure(after))


@pytest.mark.parametrize(
    ("labels", "image", "size", "sentence"),
    [
        (np.zeros((3, 3)), None, (1, 1), "data type float64.*Convert"),
        (np.zeros(3, int), None, (1, 1), r"shape \(3,\)"),
        (np.zeros((3, 3), int), np.zeros((3, 4)), (1, 1), "image is 3 x 4 pixels .* 3 x 3"),
        (np.zeros((3, 3), int), {"GFP": np.zeros((2, 2))}, (1, 1), "channel GFP is 2 x 2"),
        (np.zeros((3, 3), int), np.zeros((3, 3), complex), (1, 1), "complex128, not real"),
        (np.zeros((3, 3), int), None, (0, 1), "0.0 x 1.0 is not two positive numbers"),
        (np.zeros((3, 3), int), None, (1, np.nan), "not two positive numbers"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(labels, image, size, sentence):
    with pytest.raises(UserError, match=sentence):
        measure(labels, image, size)


def test_a_table_of_hand_has_its_length():
    assert len(Table({"label": np.array([4, 5])})) == 2
