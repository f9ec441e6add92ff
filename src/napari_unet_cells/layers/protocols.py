"""Protocols of napari's layers, for the code that does not import napari.

::

    SavedLayer       what File > Save gives a writer: pixels, name, metadata, transform
        Layer        any layer of a viewer
            ImageLayer
            LabelsLayer

The attributes are napari's, and only those that the program uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import ArrayLike, NDArray

from napari_unet_cells.core.arrays import ImageArray


class LayerSource(Protocol):
    """Origin of a layer: the file, and the plugin that read it."""

    @property
    def path(self) -> str | None:
        """The file; None for a layer that was made in memory."""

    @property
    def reader_plugin(self) -> str | None:
        """The plugin that read it."""


class LayerAffine(Protocol):
    """The affine transform that comes after scale, rotation, shear and translation."""

    @property
    def affine_matrix(self) -> NDArray[Any]:
        """Homogeneous matrix, (n + 1, n + 1)."""


@runtime_checkable
class SavedLayer(Protocol):
    """Pixels, name, metadata and transform of a layer."""

    @property
    def data(self) -> ImageArray:
        """Pixels; of a multiscale layer a sequence of levels, the largest first."""

    @property
    def multiscale(self) -> bool:
        """Whether it has several levels of resolution."""

    @property
    def ndim(self) -> int:
        """Number of axes, without that of the colours."""

    @property
    def name(self) -> str:
        """Name in the layer list."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Values that plugins keep with it, by keys of their own."""

    @property
    def scale(self) -> NDArray[Any]:
        """Size of a pixel along each axis, in `units`."""

    @property
    def translate(self) -> NDArray[Any]:
        """Position of the first pixel, in `units`."""

    @property
    def rotate(self) -> NDArray[Any]:
        """Rotation matrix, (n, n)."""

    @property
    def shear(self) -> NDArray[Any]:
        """Upper triangle of the shear matrix, or the matrix."""

    @property
    def affine(self) -> LayerAffine:
        """Transform that comes after the others."""

    @property
    def units(self) -> Sequence[object]:
        """Unit of each axis; its text is the name."""

    @property
    def axis_labels(self) -> Sequence[str]:
        """Name of each axis."""


@runtime_checkable
class Layer(SavedLayer, Protocol):
    """A layer of a viewer."""

    @property
    def unique_id(self) -> object:
        """Identity within the session."""

    @property
    def source(self) -> LayerSource:
        """Origin of the layer."""

    def data_to_world(self, position: ArrayLike, /) -> ArrayLike:
        """Take a position in pixels into the world."""


@runtime_checkable
class ImageLayer(Layer, Protocol):
    """An image layer."""

    @property
    def rgb(self) -> bool:
        """Whether the last axis of the pixels holds colours."""

    @property
    def visible(self) -> bool:
        """Whether it is shown."""


@runtime_checkable
class LabelsLayer(Layer, Protocol):
    """A labels layer."""

    @property
    def editable(self) -> bool:
        """Whether the user can paint in it."""

    @property
    def visible(self) -> bool:
        """Whether it is shown."""
