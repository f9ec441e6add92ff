"""What was found in a part is put into a result, or begins one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.parts import Part, PartCells
from napari_unet_cells.core.regions import PackedLabels, Region, Review
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.results import result_record
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.part_run import FoundPart
from napari_unet_cells.segmentation.replacing import Origin, ResultState
from napari_unet_cells.segmentation.replacing_part import (
    begun_with,
    is_unsegmented,
    replace_part,
)

SHAPE = (40, 60)
PART = Part(np.s_[0:20, 0:30])
CELLS = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="a")
LAYERS = ModelCard("layers", "none", ("background", "tissue"), 1, 1, 0, sha256="b")


def plane(**cells: Any) -> NDArray[np.uint16]:
    labels = np.zeros(SHAPE, np.uint16)
    for name, window in cells.items():
        labels[window] = int(name[1:])
    return labels


def state_of(labels: NDArray[Any], card: ModelCard = CELLS, **details: Any) -> ResultState:
    options = card.instances if card.makes_cells else None
    made = RunDetails(card=card, options=options, **details)
    origin = Origin(made, made.provenance())
    return ResultState.of(origin, PackedLabels.of(labels), digest(labels))


def found_part(new: NDArray[Any] | None = None, card: ModelCard = CELLS) -> FoundPart:
    """Give the end of a run in the upper left quarter; the network saw half of the size."""
    options = card.instances if card.makes_cells else None
    details = RunDetails(card=card, options=options, device="a function", seconds=1.0)
    return FoundPart(
        PART,
        SHAPE,
        details.of_part("visible part", PART.box),
        np.ones(PART.shape, np.uint8),
        None if new is None else PartCells(PART, np.s_[0:30, 0:40], new[:30, :40]),
        np.full((15, 20), 200, np.uint8),
        np.s_[0:15, 0:20],
        (20, 30),
    )


NEW = plane(_1=np.s_[2:6, 2:6], _2=np.s_[10:16, 24:28])


def test_only_the_part_changes_and_the_step_can_be_told_from_the_one_before() -> None:
    labels = plane(_4=np.s_[10:14, 2:6], _6=np.s_[30:35, 40:45])
    old, review = state_of(labels), Review(labels)
    change = replace_part(labels, old, review, found_part(NEW))
    after = change.after.unpacked()
    np.testing.assert_array_equal(np.unique(after), [0, 6, 7, 8])
    np.testing.assert_array_equal(after == 6, labels == 6)
    assert after[3, 3] == 7
    assert change.n_cells == 3
    assert change.checksum == digest(labels)
    np.testing.assert_array_equal(change.before.unpacked(), labels)
    np.testing.assert_array_equal(change.new.made.unpacked(), after)
    assert change.new.checksum == digest(after)
    assert change.new.corrected is None
    assert change.old is old


def test_what_was_corrected_or_approved_stays() -> None:
    labels = plane(_1=np.s_[2:6, 2:8], _2=np.s_[10:16, 24:28], _3=np.s_[16:19, 2:6])
    old, review = state_of(labels), Review(labels, grid=None)
    labels[2:4, 2:8] = 0  # cut
    labels[10:16, 24:28] = 0  # deleted
    change = replace_part(labels, old, review, found_part(NEW))
    after = change.after.unpacked()
    np.testing.assert_array_equal(after == 1, labels == 1)
    assert not after[10:16, 24:28].any()
    assert not after[16:19, 2:6].any()
    assert change.new.corrected is not None
    made = change.new.made.unpacked()
    assert (made[2:6, 2:8] == 1).all()  # as the program had made it

    review.approve(((), 0))
    change = replace_part(labels, old, review, found_part(NEW))
    np.testing.assert_array_equal(change.after.unpacked(), labels)
    assert change.approved == {((), 0)}


def test_an_id_that_the_program_gave_before_is_not_given_again() -> None:
    labels = plane(_1=np.s_[30:35, 2:8], _9=np.s_[30:35, 40:45])
    old = state_of(labels)
    labels[labels == 9] = 0  # deleted by hand: it is still known what it was
    change = replace_part(labels, old, Review(labels), found_part(NEW))
    assert np.unique(change.after.unpacked()).tolist() == [0, 1, 10, 11]


@pytest.mark.parametrize("link", [None, 0])
def test_of_a_stack_only_the_plane_changes(link: int | None) -> None:
    labels = np.stack([plane(_1=np.s_[2:6, 2:6], _5=np.s_[30:35, 2:9])] * 3)
    old = state_of(labels, is_stack=True, link=link)
    change = replace_part(labels, old, Review(labels), found_part(NEW), (1,))
    after = change.after.unpacked()
    np.testing.assert_array_equal(after[[0, 2]], labels[[0, 2]])
    assert after[1, 3, 3] == 1  # it is nearly the cell that was there
    assert after[1, 12, 26] == 6
    assert change.n_cells == (7 if link is None else 3)
    assert change.new.origin.link == link


def test_the_record_names_the_first_run_and_the_parts_since(schema_faults: Any) -> None:
    labels = plane(_6=np.s_[30:35, 40:45])
    change = replace_part(labels, state_of(labels, diameter=12.0), Review(labels), found_part(NEW))
    again = replace_part(
        change.after.unpacked(), change.new, Review(change.after.unpacked()), found_part(NEW)
    )
    provenance = again.new.origin.provenance
    assert provenance["parameters"]["scale"]["diameter"] == 12
    assert [part["rows"] for part in provenance["parts"]] == [[0, 20], [0, 20]]
    record = result_record({**provenance, "source": {}}, None, "pixel", role="cells")
    assert schema_faults(jsonable(record)) == []
    assert not again.new.origin.fragments
    assert again.new.origin.options is None


def test_the_review_knows_how_unsure_the_run_was_in_the_part() -> None:
    labels = plane(_6=np.s_[30:35, 40:45])
    review = Review(labels, np.full((10, 15), 40, np.uint8))
    seen = replace_part(labels, state_of(labels), review, found_part(NEW)).new.origin.seen
    assert seen is not None
    assert seen.uncertainty is not None
    expected = np.full((10, 15), 40)
    expected[:5, :8] = 200
    np.testing.assert_array_equal(seen.uncertainty, expected)
    assert seen.mean_uncertainty(((), 0)) == pytest.approx(expected.mean() / 255)
    assert (review.uncertainty == 40).all()  # which undo brings back
    unknown = replace_part(labels, state_of(labels), Review(labels), found_part(NEW))
    assert unknown.new.origin.seen is None


def test_classes_that_were_painted_stay() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    old = state_of(labels, LAYERS)
    labels[3, 3] = 2
    change = replace_part(labels, old, Review(labels), found_part(card=LAYERS))
    expected = np.zeros(SHAPE)
    expected[:20, :30] = 1
    expected[3, 3] = 2
    np.testing.assert_array_equal(change.after.unpacked(), expected)
    assert change.n_cells == 0


def test_without_a_result_one_begins_that_is_as_large_as_the_image() -> None:
    beside = np.full(SHAPE, 2, np.uint8)
    event = begun_with(found_part(NEW), 1, beside)
    assert event.result.cells is not None
    assert event.result.cells.shape == SHAPE
    assert event.result.n_cells == 2
    assert event.cells_digest == digest(event.result.cells)
    assert (event.result.classes[:20, :30] == 1).all()
    assert (event.result.classes[20:] == 2).all()
    assert (beside == 2).all()
    assert event.review.planes == (1,)
    assert event.result.uncertainty is not None
    assert event.result.uncertainty.shape == (20, 30)
    assert (event.result.uncertainty[:10, :15] == 200).all()
    assert not event.result.uncertainty[10:].any()
    assert len(event.result.provenance["parts"]) == 1
    assert not event.result.fragments


def test_classes_begin_a_result_as_well() -> None:
    event = begun_with(found_part(card=LAYERS), 0)
    assert event.result.cells is None
    assert (event.result.classes[:20, :30] == 1).all()
    assert not event.result.classes[20:].any()


@pytest.mark.parametrize(
    ("parts", "plane", "unsegmented"),
    [
        ([], (), False),  # no part: all of it
        ([([0, 30], [0, 40])], (), False),
        ([([0, 30], [0, 39])], (), True),
        ([([0, 30], [0, 15]), ([5, 30], [15, 90])], (), False),
        ([([40, 60], [0, 40])], (), True),
        ([([0, 30], [0, 40], 2)], (2,), False),
        ([([0, 30], [0, 40], 2)], (1,), True),
        ([([0, 30], [0, 40], 2)], (), False),  # the labels are of this plane alone
    ],
)
def test_it_is_known_what_was_never_segmented(
    parts: list[Any], plane: tuple[int, ...], unsegmented: bool
) -> None:
    made = [
        {"rows": rows, "columns": columns, "plane": list(of), "date": "today"}
        for rows, columns, *of in parts
    ]
    region = Region(5, 30, 10, 40)
    provenance: dict[str, Any] = {"date": "today", "parts": made} if made else {"date": "today"}
    assert is_unsegmented(provenance, region, plane) == unsegmented
    assert not is_unsegmented(provenance | {"date": "before"}, region, plane)
