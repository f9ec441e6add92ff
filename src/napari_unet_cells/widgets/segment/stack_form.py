"""Form that chooses the channel and the planes of a stack."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QWidget

from napari_unet_cells.core.channels import PROJECTIONS
from napari_unet_cells.files import FileAxes
from napari_unet_cells.layers.image_planes import StackAxis, name_axes, stack_axes
from napari_unet_cells.layers.metadata import INPUT
from napari_unet_cells.layers.protocols import ImageLayer
from napari_unet_cells.settings import recall
from napari_unet_cells.widgets.segment.channel_choice import ChannelChoice
from napari_unet_cells.widgets.segment.channels import Split, split_of
from napari_unet_cells.widgets.segment.values import (
    UNSAID,
    StackValues,
    channel_memory,
    likely_channel_axis,
)

#: An axis longer than this holds no channels.
MOST_CHANNELS = 64


class StackForm(QWidget):
    """Shown for images with more axes than height and width.

    The channel follows the slider, and the slider the channel that the user chooses: what is shown
    is what is segmented.
    """

    #: The user chose another channel; the viewer should show this plane, see `show_plane`.
    plane_wanted = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._layer: ImageLayer | None = None
        self._axes: tuple[StackAxis, ...] = ()
        self._names: tuple[str, ...] = ()
        self._said = False  # whether the user has chosen the channel axis
        self._shown: Sequence[int] = ()
        self._channel_axis: int | None = None
        self._split: Split | None = None
        self.axis_box = _box(
            "The axis that holds channels. It is split into one layer a channel, so that labels "
            "lie on the image. Where neither the image nor its file says it, you are asked once."
        )
        self.channel_box = _box(
            "The channel to segment; or one that is made of several, such as nuclei and "
            "cytoplasm, each of them stretched on its own first."
        )
        self.together = ChannelChoice()
        self.planes_box = _box("Segment the plane that is shown, or every plane.")
        self.planes_box.setObjectName("planes_box")
        self.link_box = _box(
            "Give cells that overlap from plane to plane the same id along this axis."
        )
        self.form = form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Channels", self.axis_box)
        form.addRow("Channel", self.channel_box)
        form.addRow("Together", self.together)
        form.addRow("Planes", self.planes_box)
        form.addRow("Link planes", self.link_box)
        self.axis_box.currentIndexChanged.connect(self._choose_axis)
        self.channel_box.currentIndexChanged.connect(self._show_together)
        self.channel_box.activated.connect(self._channel_chosen)
        self.planes_box.currentIndexChanged.connect(self._show_link)
        self.show_layer(None)

    def show_layer(self, layer: ImageLayer | None) -> None:
        """Offer the axes of a layer, and the channel axis that it, or memory, names."""
        self._layer, self._said = layer, False
        self._split = None if layer is None else split_of(layer)
        self._names = () if self._split is None else self._split.names
        self._axes = () if layer is None else stack_axes(layer)
        self._shown = ()  # until `show_plane` says it
        self._channel_axis = None
        self.link_box.clear()  # linking is chosen for each image
        self.setVisible(bool(self._axes) or self._split is not None)
        self._fill_axes()
        self._show_own_channel()

    def show_file(self, file: FileAxes) -> None:
        """Take over what the file of the layer says, where the user has not said otherwise."""
        self._axes = name_axes(self._axes, file, self._is_split)
        self._names = file.channel_names if self._split is None else self._split.names
        chosen = self.axis_box.currentData() if self._said else None
        self._fill_axes()
        if self._said:
            self.axis_box.setCurrentIndex(self.axis_box.findData(chosen))

    def _show_own_channel(self) -> None:
        """Show which channel, or channels, a layer holds that was split off."""
        if self._layer is None or self._split is None:
            return
        known = self._layer.metadata.get(INPUT, {})
        own = known.get("projection", known.get("channel", 0))
        if (checked := known.get("channels")) is not None:
            self.together.show_channels(self._titles, checked)
        self.channel_box.setCurrentIndex(max(0, self.channel_box.findData(own)))

    @property
    def _n_channels(self) -> int:
        """Number of channels to choose from; 0 where there are none, or nobody has said it."""
        if self._split is not None:
            return self._split.n
        axis = self.axis_box.currentData()
        return 0 if axis is None or axis == UNSAID else self._axes[axis].length

    @property
    def _titles(self) -> list[str]:
        """Names of the channels as the user reads them."""
        n = self._n_channels
        names = self._names if len(self._names) == n else ("",) * n
        endings = (f" ({name})" if name else "" for name in names)
        return [f"Channel {number + 1} of {n}{ending}" for number, ending in enumerate(endings)]

    @property
    def _is_split(self) -> bool:
        known = {} if self._layer is None else self._layer.metadata.get(INPUT, {})
        return "channel" in known or "projection" in known

    def _fill_axes(self) -> None:
        likely = likely_channel_axis(self._axes, recall(channel_memory(self._axes)), self._is_split)
        self.axis_box.blockSignals(True)
        self.axis_box.clear()
        if likely == UNSAID:
            self.axis_box.addItem("choose...", UNSAID)
        self.axis_box.addItem("none", None)
        for axis in self._axes:
            if axis.length <= MOST_CHANNELS:
                self.axis_box.addItem(axis.title(len(self._axes)), axis.axis)
        self.axis_box.setCurrentIndex(max(0, self.axis_box.findData(likely)))
        self.axis_box.blockSignals(False)
        self._fill_channels()

    def _choose_axis(self, *_: object) -> None:
        self._said = True
        self.link_box.clear()  # its axes are others now
        self._fill_channels()

    def _fill_channels(self) -> None:
        n, titles = self._n_channels, self._titles
        axis, before = self._axis_of_channels, self.channel_box.currentData()
        if axis is not None and axis != self._channel_axis and not isinstance(before, str):
            before = self._shown[axis] if self._shown else 0
        self._channel_axis = axis
        checked = self.together.channels if len(self.together.boxes) == n else range(n)
        self.channel_box.clear()
        for channel, title in enumerate(titles):
            self.channel_box.addItem(title, channel)
        for projection in PROJECTIONS if n > 1 else ():
            self.channel_box.addItem(f"{projection} of channels", projection)
        # By what it is, not by its row: another image may have more channels, or fewer.
        self.channel_box.setCurrentIndex(max(0, self.channel_box.findData(before)))
        self.together.show_channels(titles, checked)
        self._show_row(self.axis_box, self._split is None)
        self._show_row(self.channel_box, n > 0)
        self._show_together()
        self._fill_planes()

    def _show_together(self, *_: object) -> None:
        """Show the channels to check where one is made of several."""
        self._show_row(self.together, isinstance(self.channel_box.currentData(), str))

    def _show_row(self, field: QWidget, shown: bool) -> None:
        for widget in (field, self.form.labelForField(field)):
            widget.setVisible(shown)

    def _fill_planes(self) -> None:
        stack = StackValues(self._axes, self.axis_box.currentData())
        n = stack.n_planes
        all_planes = self.planes_box.currentIndex() == 1
        self.planes_box.clear()
        self.planes_box.addItems(["the plane shown", f"all {n} planes"][: 2 if n > 1 else 1])
        self.planes_box.setCurrentIndex(int(all_planes and n > 1))
        self.planes_box.setEnabled(n > 1)
        self._show_row(self.planes_box, bool(self._axes))
        self._show_row(self.link_box, bool(self._axes))
        self._name_plane()
        linked = self.link_box.currentData()
        self.link_box.clear()
        self.link_box.addItem("no", None)
        for position, axis in enumerate(stack.left):
            if axis.length > 1:
                self.link_box.addItem(f"along {axis.title(len(self._axes))}", position)
        self._set_link(linked)
        self._show_link()

    def show_plane(self, index: Sequence[int]) -> None:
        """Name the plane that the viewer shows.

        Parameters
        ----------
        index : sequence of int
            Along the axes of the layer before (y, x).
        """
        if len(index) == len(self._axes):
            before, self._shown = self._shown, index
            self._name_plane()
            axis = self._axis_of_channels
            is_one = isinstance(self.channel_box.currentData(), int)
            if axis is not None and is_one and (not before or index[axis] != before[axis]):
                self.channel_box.setCurrentIndex(index[axis])

    @property
    def _axis_of_channels(self) -> int | None:
        """Axis of the layer that holds channels; None where none does, or nobody has said it."""
        axis = self.axis_box.currentData()
        return None if axis is None or axis == UNSAID or self._split is not None else axis

    def _channel_chosen(self, *_: object) -> None:
        """Ask for the channel that the user chose to be shown."""
        axis, channel = self._axis_of_channels, self.channel_box.currentData()
        if axis is not None and isinstance(channel, int) and self._shown:
            self._shown = (*self._shown[:axis], channel, *self._shown[axis + 1 :])
            self.plane_wanted.emit(self._shown)

    def _name_plane(self) -> None:
        shown = self._shown or (0,) * len(self._axes)
        words = StackValues(self._axes, self.axis_box.currentData()).shown(shown)
        # The number first: a narrow dock cuts the end off.
        text = f"{words} (shown)" if words else "the plane shown"
        self.planes_box.setItemText(0, text)

    def _show_link(self, *_: object) -> None:
        self.link_box.setEnabled(self.planes_box.currentIndex() == 1)

    @property
    def values(self) -> StackValues:
        """Channel and planes chosen now."""
        if not self._axes and self._split is None:
            return StackValues()
        all_planes = self.planes_box.currentIndex() == 1
        channel = self.channel_box.currentData()
        projection = channel if isinstance(channel, str) else ""
        return StackValues(
            self._axes,
            self.axis_box.currentData() if self._split is None else None,
            channel if isinstance(channel, int) else 0,
            all_planes,
            self.link_box.currentData() if all_planes else None,
            self._names,
            projection,
            self.together.channels if projection else (),
            0 if self._split is None else self._split.n,
        )

    def set_planes(self, all_planes: bool, link: int | None) -> None:
        """Choose planes and linking again, after the channels were split."""
        self.planes_box.setCurrentIndex(int(all_planes and self.planes_box.count() > 1))
        self._set_link(link)

    def _set_link(self, link: int | None) -> None:
        choices = [self.link_box.itemData(row) for row in range(self.link_box.count())]
        self.link_box.setCurrentIndex(choices.index(link) if link in choices else 0)


def _box(tooltip: str) -> QComboBox:
    box = QComboBox()
    box.setToolTip(tooltip)
    # By its longest entry the form would be wider than a narrow dock.
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return box
