"""Classes of the user's own: from strokes in a layer to masks that a network learns from."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet_cells.core.labels import UNKNOWN
from napari_unet_cells.corrections.scribbles import OwnClass, OwnClasses, as_masks, layer_arguments
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import is_ours
from napari_unet_cells.layers.selection import image_layers

TWO = OwnClasses((OwnClass("background", "#808080"), OwnClass("nucleus", "#ff8800")))


def test_what_is_not_painted_is_unknown_and_the_first_class_is_0():
    labels = np.array([[0, 1, 2]], np.uint8)
    assert as_masks(labels).tolist() == [[UNKNOWN, 0, 1]]
    assert labels.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "each with a name of its own"),
        (["one"], "each with a name of its own"),
        (["a", "a"], "each with a name of its own"),
        (["a", " "], "each with a name of its own"),
        ([str(n) for n in range(256)], "2 to 255 classes"),
        (["background", "cell", "boundary"], "Choose other names"),
    ],
)
def test_classes_no_network_can_learn_are_refused(names, said):
    classes = OwnClasses(tuple(OwnClass(name, "#ffffff") for name in names))
    assert said in (classes.problem() or "")
    assert TWO.problem() is None
    with pytest.raises(UserError, match=said):
        layer_arguments(SimpleNamespace(), classes)


def test_classes_are_saved_and_read_again():
    assert OwnClasses.from_saved(json.loads(json.dumps(TWO.to_saved()))) == TWO
    for damaged in (None, 3, [["a"]], "ab"):
        fresh = OwnClasses.from_saved(damaged)
        assert fresh.names == ("background", "")
        assert fresh.problem()


@pytest.mark.gui
def test_strokes_become_a_dataset(make_napari_viewer, tmp_path):
    from napari_unet_cells.corrections.approved_regions import approved_of
    from napari_unet_cells.corrections.dataset_writer import add
    from napari_unet_cells.datasets.annotated_images import read_annotated_images
    from napari_unet_cells.widgets.correct.class_dialog import add_strokes_layer

    viewer = make_napari_viewer()
    pixels = np.random.default_rng(0).integers(0, 255, (600, 700), dtype=np.uint8)
    image = viewer.add_image(pixels, name="tissue", scale=(0.5, 0.5))
    assert add_strokes_layer(viewer, None, TWO, None) is None

    layer = add_strokes_layer(viewer, image, TWO, None)

    assert layer.mode == "paint"
    assert viewer.layers.selection.active is layer
    np.testing.assert_allclose(layer.scale, image.scale)
    assert is_ours(layer)
    assert layer not in image_layers(viewer.layers)
    with pytest.raises(UserError, match="Nothing is painted"):
        approved_of(layer, viewer.layers)
    layer.brush_size = 9
    layer.paint((50, 60), 1)
    layer.paint((50, 90), 2)

    added = list(add(tmp_path / "set", approved_of(layer, viewer.layers)))

    assert len(added) == 1  # of four regions, the one that holds strokes
    (item,) = read_annotated_images([tmp_path / "set"])
    assert item.classes == ("background", "nucleus")
    assert item.colors == ("#808080", "#ff8800")
    _, mask = item.read(item.classes)
    assert (mask[50, 60], mask[50, 90], mask[200, 200]) == (0, 1, UNKNOWN)


@pytest.mark.gui
def test_the_dialog_remembers_names_and_colours(qtbot, tmp_path, monkeypatch):
    from napari_unet_cells.widgets.correct.class_dialog import ClassesDialog

    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    dialog = ClassesDialog()
    qtbot.addWidget(dialog)
    assert [own.name for own in dialog.values.classes] == ["background"]
    dialog._accept()
    assert "2 to 255 classes" in dialog.problem.text()
    dialog.add("vessel", "#112233")
    dialog._accept()
    assert dialog.result() == dialog.DialogCode.Accepted
    again = ClassesDialog()
    qtbot.addWidget(again)
    assert [own.name for own in again.values.classes] == ["background", "vessel"]
    assert again.values.classes[1].color == "#112233"


def test_colours_that_were_chosen_are_those_of_the_result():
    from napari_unet_cells.layers.reader import class_colors

    colors = class_colors(3, ("#808080", "#ff8800"))
    assert colors[0] == class_colors(3)[0]
    assert colors[1] == "#ff8800"
    assert colors[2] == class_colors(3)[2]


def test_a_plane_of_a_stack_gets_strokes_in_its_own_place():
    image = SimpleNamespace(
        data=np.zeros((3, 40, 50)), name="stack", unique_id="1", metadata={}, ndim=3,
        scale=(1, 1, 1), translate=(0, 0, 0), rotate=0, shear=0, units=("pixel",) * 3,
        affine=SimpleNamespace(affine_matrix=np.eye(4)), axis_labels=("z", "y", "x"),
        source=SimpleNamespace(path=None), multiscale=False,
        data_to_world=lambda point: np.asarray(point),
    )  # fmt: skip
    arguments = layer_arguments(image, TWO, (2,))
    assert arguments["data"].shape == (1, 40, 50)
    assert arguments["data"].dtype == np.uint8
    assert arguments["translate"].tolist() == [2, 0, 0]
