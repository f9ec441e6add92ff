"""Form that chooses the channel and the planes of a stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QSizePolicy, QSpinBox, QWidget

from napari_unet_cells.layers.image_planes import StackAxis, stack_axes
from napari_unet_cells.layers.metadata import file_of, tell
from napari_unet_cells.layers.transforms import place_without
from napari_unet_cells.settings import recall

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: An axis longer than this holds no channels.
MOST_CHANNELS = 64


@dataclass(frozen=True)
class StackChoice:
    """Channel and planes that the user chose.

    Attributes
    ----------
    channel_axis : int or None
        Axis of the layer that holds channels.
    channel : int
        The one to segment.
    all_planes : bool
        Else the plane that is shown.
    link : int or None
        Axis, among those that are left without the channels, along which cells keep their id.
    """

    channel_axis: int | None = None
    channel: int = 0
    all_planes: bool = False
    link: int | None = None


class StackForm(QWidget):
    """Shown for images with more axes than height and width.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._axes: tuple[StackAxis, ...] = ()
        self.channel_box = QComboBox()
        self.channel_box.setToolTip(
            "Which axis holds channels. It is split into one layer a channel, so that labels "
            "lie on the image; the choice is remembered."
        )
        self.channel_spin = QSpinBox()
        self.channel_spin.setStyleSheet("min-width: 20px;")  # napari's own is 90
        self.channel_spin.setFixedWidth(69)
        self.channel_spin.setToolTip("The channel to segment, counted from 0")
        self.planes_box = QComboBox()
        self.planes_box.setObjectName("planes_box")
        self.planes_box.setToolTip("Segment the plane that is shown, or every plane")
        self.link_box = QComboBox()
        self.link_box.setToolTip(
            "Give cells that overlap from plane to plane the same id, along this axis"
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
        form.addRow("Link ids", self.link_box)
        self.channel_box.currentIndexChanged.connect(self._fill_planes)
        self.planes_box.currentIndexChanged.connect(self._show_link)
        self.show_layer(None)

    def show_layer(self, layer: Any) -> None:
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
        chosen = recall(_memory(self._axes))
        return chosen if isinstance(chosen, int) else None

    def _fill_planes(self, *_: object) -> None:
        channel = self.channel_box.currentData()
        self.channel_spin.setVisible(channel is not None)
        if channel is not None:
            self.channel_spin.setMaximum(self._axes[channel].length - 1)
        left = [axis for axis in self._axes if axis.axis != channel]
        n = 1
        for axis in left:
            n *= axis.length
        all_planes = self.planes_box.currentIndex() == 1
        self.planes_box.clear()
        self.planes_box.addItems(["the one that is shown", f"all {n} planes"][: 2 if n > 1 else 1])
        self.planes_box.setCurrentIndex(int(all_planes and n > 1))
        self.planes_box.setEnabled(n > 1)
        self.link_box.clear()
        self.link_box.addItem("no", None)
        for position, axis in enumerate(left):
            if axis.length > 1:
                self.link_box.addItem(f"along axis {axis.label} ({axis.length})", position)
        self._show_link()

    def _show_link(self, *_: object) -> None:
        self.link_box.setEnabled(self.planes_box.currentIndex() == 1)

    @property
    def choice(self) -> StackChoice:
        """Channel and planes chosen now."""
        if not self._axes:
            return StackChoice()
        all_planes = self.planes_box.currentIndex() == 1
        return StackChoice(
            self.channel_box.currentData(),
            self.channel_spin.value(),
            all_planes,
            self.link_box.currentData() if all_planes else None,
        )

    def set_planes(self, all_planes: bool, link: int | None) -> None:
        """Choose planes and linking again, after the channels were split."""
        self.planes_box.setCurrentIndex(int(all_planes and self.planes_box.count() > 1))
        self.link_box.setCurrentIndex(max(0, self.link_box.findData(link)))

    @property
    def memory(self) -> str:
        """Key under which the channel axis is remembered; empty for a plane."""
        return _memory(self._axes) if self._axes else ""

    def shown(self, layer: Any) -> tuple[int, ...] | None:
        """Index of the shown plane along the axes of a layer; None for all planes."""
        axes = stack_axes(layer)
        if not axes:
            return ()
        if self.planes_box.currentIndex() == 1:
            return None
        point = layer.world_to_data(self._viewer.dims.point[-layer.ndim :])
        return tuple(int(min(max(0, round(float(point[a.axis]))), a.length - 1)) for a in axes)


def _memory(axes: tuple[StackAxis, ...]) -> str:
    return f"channel axis of {len(axes) + 2} axes"


def split_channels(viewer: Viewer, layer: Any, choice: StackChoice) -> Any:
    """Replace a layer by one for each channel, in its place; give the chosen one."""
    axis = choice.channel_axis
    assert axis is not None
    levels = list(layer.data) if layer.multiscale else [layer.data]
    position = viewer.layers.index(layer)
    path = file_of(layer)
    place = place_without(layer, axis)
    n = int(levels[0].shape[axis])
    colors = ["gray"] if n == 1 else ["magenta", "green", "cyan", "yellow", "red", "blue", "gray"]
    chosen: Any = None
    for channel in range(n):
        key = (slice(None),) * axis + (channel,)
        data = [_sliceable(level)[key] for level in levels]
        made = viewer.add_image(
            data if layer.multiscale else data[0],
            name=f"{layer.name} channel {channel}",
            multiscale=bool(layer.multiscale),
            colormap=colors[channel % len(colors)],
            blending="additive" if channel else "translucent_no_depth",
            **place,
        )
        tell(made, path=None if path is None else str(path), channel=channel)
        viewer.layers.move(len(viewer.layers) - 1, position + 1 + channel)
        if channel == choice.channel:
            chosen = made
    viewer.layers.remove(layer)
    viewer.layers.selection.active = chosen
    return chosen


def _sliceable(level: Any) -> Any:
    """Give a zarr array as dask does, since slicing it would read all of it."""
    if type(level).__module__.startswith("zarr"):
        import dask.array

        return dask.array.from_zarr(level)  # type: ignore[no-untyped-call]
    return level
