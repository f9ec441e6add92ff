"""Widgets for the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from qtpy.QtWidgets import QFormLayout, QLineEdit, QWidget

from napari_unet_cells.widgets.fields import Fields

pytestmark = pytest.mark.gui


@dataclass(frozen=True)
class Recipe:
    """What a form is made of here."""

    spoons: int = field(default=2, metadata={"label": "Spoons", "max": 9, "tooltip": "Of sugar."})
    heat: float = field(
        default=0.5, metadata={"label": "Heat", "widget_type": "FloatSlider", "max": 1.0}
    )
    stirred: bool = field(default=True, metadata={"label": "Stirred", "tooltip": "Slowly."})
    pot: str = field(default="", metadata={"label": "Pot"})
    cook: str = "nobody"


@pytest.fixture
def fields(qtbot: object) -> Fields[Recipe]:
    return Fields(Recipe(pot="red"), pot={"choices": ["red", "blue"]})


def test_the_values_are_those_of_the_widgets(fields: Fields[Recipe]) -> None:
    assert fields.values == Recipe(pot="red")
    fields.widgets["spoons"].value = 5
    fields.widgets["pot"].value = "blue"
    assert fields.values == Recipe(spoons=5, pot="blue")


def test_a_field_without_metadata_keeps_what_was_shown(fields: Fields[Recipe]) -> None:
    assert "cook" not in fields.widgets
    fields.show(Recipe(cook="Ada", pot="red"))
    assert fields.values.cook == "Ada"


def test_a_change_is_told_and_what_is_shown_is_not(fields: Fields[Recipe]) -> None:
    told = []
    fields.changed.connect(lambda: told.append(fields.values.heat))
    fields.show(Recipe(heat=0.25, pot="red"))
    assert told == []
    fields.widgets["heat"].value = 0.75
    assert told == [0.75]


def test_what_is_shown_does_not_take_the_keyboard(qtbot: Any, fields: Fields[Recipe]) -> None:
    form, canvas = QWidget(), QLineEdit()
    layout = QFormLayout(form)
    layout.addRow(canvas)
    fields.add_to(layout)
    qtbot.addWidget(form)
    form.show()
    form.activateWindow()
    canvas.setFocus()
    qtbot.waitUntil(canvas.hasFocus, timeout=5_000)
    fields.show(Recipe(spoons=7, heat=0.25, pot="blue"))
    assert canvas.hasFocus()
    with fields.quiet():
        fields.widgets["spoons"].max = 3
    assert canvas.hasFocus()


def test_values_beyond_the_bounds_are_not_taken(fields: Fields[Recipe]) -> None:
    with pytest.raises(ValueError, match="10"):
        fields.show(Recipe(spoons=10, pot="red"))


def test_rows_have_labels_and_tooltips(fields: Fields[Recipe]) -> None:
    form = QFormLayout(window := QWidget())
    fields.add_to(form)
    assert form.rowCount() == 4
    assert form.labelForField(fields.native("spoons")).text() == "Spoons"
    assert fields.native("spoons").toolTip() == "Of sugar."
    assert fields.native("stirred").text() == "Stirred"
    fields.enable(False)
    assert not fields.native("heat").isEnabled()
    window.deleteLater()
