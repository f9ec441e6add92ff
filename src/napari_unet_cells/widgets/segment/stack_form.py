"""Form that chooses the channel and the planes of a stack."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QSizePolicy, QSpinBox, QWidget

from napari_unet_cells.layers.image_planes import StackAxis, stack_axes
from napari_unet_cells.layers.protocols import ImageLayer
from napari_unet_cells.settings import recall
from napari_unet_cells.widgets.segment.values import StackValues, channel_memory

#: An axis longer than this holds no channels.
MOST_CHANNELS = 64


class StackForm(QWidget):
    """Shown for images with more axes than height and width."""

    def __init__(self) -> None:
        super().__init__()
        self._axes: tuple[StackAxis, ...] = ()
        self.channel_box = QComboBox()
        self.channel_box.setToolTip(
            "The axis that holds channels. It is split into one layer a channel, so that labels "
            "lie on the image. Remembered for images with as many axes."
        )
        self.channel_spin = QSpinBox()
        self.channel_spin.setStyleSheet("min-width: 20px;")  # napari's own is 90
        self.channel_spin.setFixedWidth(69)
        self.channel_spin.setToolTip("The channel to segment, counted from 0.")
        self.planes_box = QComboBox()
        self.planes_box.setObjectName("planes_box")
        self.planes_box.setToolTip("Segment the plane that is shown, or every plane.")
        self.link_box = QComboBox()
        self.link_box.setToolTip(
            "Give cells that overlap from plane to plane the same id along this axis."
        )
        for box in (self.channel_box, self.planes_box, self.link_box):
            # By its longest entry the form would be wider than a narrow dock.
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        channel = QHBoxLayout()
        channel.addWidget(self.channel_box, stretch=1)
        channel.addWidget(self.channel_spin)
        self.form = form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Channels", channel)
        form.addRow("Planes", self.planes_box)
        form.addRow("Link planes", self.link_box)
        self.channel_box.currentIndexChanged.connect(self._fill_planes)
        self.planes_box.currentIndexChanged.connect(self._show_link)
        self.show_layer(None)

    def show_layer(self, layer: ImageLayer | None) -> None:
        """Offer the axes of a layer, and what was chosen for the last one of as many axes."""
        self._axes = () if layer is None else stack_axes(layer)
        self.setVisible(bool(self._axes))
        self.channel_box.blockSignals(True)
        self.channel_box.clear()
        self.channel_box.addItem("no channel axis", None)
        for axis in self._axes:
            if axis.length <= MOST_CHANNELS:
                self.channel_box.addItem(f"axis {axis.label} ({axis.length})", axis.axis)
        self.channel_box.setCurrentIndex(max(0, self.channel_box.findData(self._likely())))
        self.channel_box.blockSignals(False)
        self._fill_planes()

    def suggest(self, letters: str) -> None:
        """Choose the channel axis that the file names, where the user has not chosen one.

        Parameters
        ----------
        letters : str
            One for each axis of the file, such as "ZCYX".
        """
        fits = letters.find("YX") == len(self._axes) > 0
        if fits and "C" in letters[:-2] and self.channel_box.currentData() is None:
            self.channel_box.setCurrentIndex(self.channel_box.findData(letters.index("C")))

    def _likely(self) -> int | None:
        """Axis that probably holds the channels: by its name, else as it was chosen last."""
        named = [axis.axis for axis in self._axes if axis.is_channel]
        if named or not self._axes:
            return named[0] if named else None
        chosen = recall(channel_memory(self._axes))
        return chosen if isinstance(chosen, int) else None

    def _fill_planes(self, *_: object) -> None:
        channel = self.channel_box.currentData()
        self.channel_spin.setVisible(channel is not None)
        if channel is not None:
            self.channel_spin.setMaximum(self._axes[channel].length - 1)
        stack = StackValues(self._axes, channel)
        n = stack.n_planes
        all_planes = self.planes_box.currentIndex() == 1
        self.planes_box.clear()
        self.planes_box.addItems(["the one that is shown", f"all {n} planes"][: 2 if n > 1 else 1])
        self.planes_box.setCurrentIndex(int(all_planes and n > 1))
        self.planes_box.setEnabled(n > 1)
        self.link_box.clear()
        self.link_box.addItem("no", None)
        for position, axis in enumerate(stack.left):
            if axis.length > 1:
                self.link_box.addItem(f"along axis {axis.label} ({axis.length})", position)
        self._show_link()

    def _show_link(self, *_: object) -> None:
        self.link_box.setEnabled(self.planes_box.currentIndex() == 1)

    @property
    def values(self) -> StackValues:
        """Channel and planes chosen now."""
        if not self._axes:
            return StackValues()
        all_planes = self.planes_box.currentIndex() == 1
        return StackValues(
            self._axes,
            self.channel_box.currentData(),
            self.channel_spin.value(),
            all_planes,
            self.link_box.currentData() if all_planes else None,
        )

    def set_planes(self, all_planes: bool, link: int | None) -> None:
        """Choose planes and linking again, after the channels were split."""
        self.planes_box.setCurrentIndex(int(all_planes and self.planes_box.count() > 1))
        self.link_box.setCurrentIndex(max(0, self.link_box.findData(link)))
