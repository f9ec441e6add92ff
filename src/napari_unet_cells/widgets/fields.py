"""Widgets of magicgui for the fields of a frozen dataclass.

A form is a dataclass and a few lines: the metadata of a field are options of magicgui, such as
its label, tooltip and bounds; a field without metadata is none of the form::

    @dataclass(frozen=True)
    class RetrainValues:
        minutes: float = field(default=1.0, metadata={"label": "Time", "max": 600.0})

    fields = Fields(RetrainValues())
    fields.add_to(form_layout)
    fields.changed.connect(self.look)
    fields.values.minutes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

from magicgui.widgets import create_widget
from magicgui.widgets.bases import ValueWidget
from psygnal import Signal
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QFormLayout, QSizePolicy, QWidget

Values = TypeVar("Values")


class Fields(Generic[Values]):
    """A widget for each field of a dataclass that has metadata, and their values.

    Parameters
    ----------
    values : frozen dataclass
        Shown at the start. The type of a field's value chooses its widget, where the metadata
        do not name a `widget_type`.
    **options : mapping
        By name of a field: options that are known only now, such as `choices`; they stand
        above the metadata.

    Attributes
    ----------
    widgets : dict of str to magicgui.widgets.bases.ValueWidget
    """

    #: A value was changed by the user, or by a widget of Qt.
    changed = Signal()

    def __init__(self, values: Values, **options: Mapping[str, Any]) -> None:
        self._values = values
        self.widgets: dict[str, ValueWidget[Any]] = {}
        for field in fields(values):  # type: ignore[arg-type]  # no type says "a dataclass"
            if field.metadata:
                told = {**field.metadata, **options.get(field.name, {})}
                self.widgets[field.name] = self._make(field.name, told)

    def _make(self, name: str, told: dict[str, Any]) -> ValueWidget[Any]:
        value, label = getattr(self._values, name), told.pop("label", name)
        widget = create_widget(
            value=value, annotation=type(value), name=name, label=label, options=told
        )
        assert isinstance(widget, ValueWidget)
        widget.changed.connect(self._tell)
        native = widget.native
        native.setToolTip(told.get("tooltip", ""))
        if isinstance(native, QComboBox):
            # By its longest entry the form would be wider than a narrow dock.
            native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        return widget

    def _tell(self, *_: object) -> None:
        self.changed.emit()

    @property
    def values(self) -> Values:
        """Values of the widgets; fields without one keep what was shown last."""
        told = {name: widget.value for name, widget in self.widgets.items()}
        return replace(self._values, **told)  # type: ignore[type-var]

    def show(self, values: Values) -> None:
        """Show values, without `changed`."""
        self._values = values
        with self.quiet():
            for name, widget in self.widgets.items():
                widget.value = getattr(values, name)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Change widgets without `changed`, and without taking the keyboard.

        A number of superqt takes it whenever its text changes, and the next Ctrl+Z would be its.
        """
        focused = QApplication.focusWidget()
        with self.changed.blocked():
            yield
        if focused is not None and QApplication.focusWidget() is not focused:
            focused.setFocus()

    def native(self, name: str) -> QWidget:
        """Widget of Qt for a field."""
        return self.widgets[name].native

    def add_to(self, form: QFormLayout, *names: str) -> None:
        """Add rows to a form, of all fields or of some; a checkbox is its own label."""
        for name in names or self.widgets:
            native = self.native(name)
            if isinstance(native, QCheckBox):
                form.addRow(native)  # beside a label it would widen a narrow dock
            else:
                form.addRow(self.widgets[name].label, native)

    def enable(self, enabled: bool) -> None:
        """Let the user change the values, or not."""
        for widget in self.widgets.values():
            widget.native.setEnabled(enabled)
