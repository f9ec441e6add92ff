"""A plane of an image in the pixels of labels that lie over it, wherever both are placed.

::

    labels  pixel (row, column) -> world -> image  axes before (y, x): one index each
                                                   (y, x) = linear @ (row, column) + offset
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.planes import Plane
from napari_unet_cells.layers.image_planes import planes_for
from napari_unet_cells.layers.protocols import ImageLayer, Layer
from napari_unet_cells.layers.transforms import world_matrix

#: Pixels; what differs by less lies at the same place.
SAME_PLACE = 1e-3


@dataclass(frozen=True, eq=False)
class LabelsGrid:
    """Pixels of a plane of labels in the world.

    Attributes
    ----------
    origin : float array, (n,)
        Of the pixel (0, 0), along all axes of the viewer.
    row, column : float array, (n,)
        From a pixel to the next.
    shape : (int, int)
        Rows and columns.
    """

    origin: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, layer: Layer, index: tuple[int | None, ...], rows: int, columns: int, world: ArrayLike
    ) -> LabelsGrid:
        """Take the grid of the plane of a labels layer.

        Parameters
        ----------
        layer : napari labels layer
        index : tuple of int or None
            One for each axis, None for those that are displayed.
        rows, columns : int
            The axes that are displayed.
        world : array_like, (n,)
            A place in the plane, along all axes of the viewer.
        """
        origin = np.array(world, float)
        pixel = np.array([i or 0 for i in index], float)
        origin[-layer.ndim :] = np.asarray(layer.data_to_world(pixel))
        steps = np.zeros((2, len(origin)))
        matrix = world_matrix(layer)
        steps[:, -layer.ndim :] = matrix[:-1, [rows, columns]].T
        shape = tuple(int(layer.data.shape[axis]) for axis in (rows, columns))
        return cls(origin, steps[0], steps[1], (shape[0], shape[1]))


@dataclass(frozen=True, eq=False)
class AlignedPlane:
    """Plane of an image as labels of another pixel grid see it: interpolated, NaN beside it.

    Attributes
    ----------
    plane : Plane
    linear : float array, (2, 2)
        Takes (row, column) of the labels to (y, x) of the image, with the offset.
    offset : float array, (2,)
    size : (int, int)
        Height and width of the labels.
    """

    plane: Plane
    linear: NDArray[np.float64]
    offset: NDArray[np.float64]
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths, (y, x) or (y, x, c)."""
        return self.size + self.plane.shape[2:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        return np.dtype(np.float64)

    @property
    def zoom(self) -> float:
        """Pixels of the image for one of the labels."""
        return float(np.sqrt(abs(np.linalg.det(self.linear))))

    @property
    def image(self) -> ImageArray:
        """The plane as it is where both grids are the same, else this one."""
        same = (
            np.allclose(self.linear, np.eye(2), atol=SAME_PLACE / max(self.size))
            and np.allclose(self.offset, 0, atol=SAME_PLACE)
            and self.size == self.plane.shape[:2]
        )
        return self.plane if same else self

    def covers(self, point: tuple[float, float]) -> bool:
        """Whether the image lies under a pixel (row, column) of the labels."""
        place = self.linear @ point + self.offset
        return bool(((place >= -0.5) & (place <= np.array(self.plane.shape[:2]) - 0.5)).all())

    def __getitem__(self, key: Any) -> NDArray[np.float64]:
        """Read a part, given as two slices; only what lies under it is read of the image."""
        rows, columns = (np.arange(n)[part] for n, part in zip(self.size, key, strict=True))
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij")).astype(float)
        shape = grid.shape[1:] + self.plane.shape[2:]
        if not grid.size:
            return np.zeros(shape)
        places = np.tensordot(self.linear, grid, 1) + self.offset[:, np.newaxis, np.newaxis]
        height, width = self.plane.shape[:2]
        first = np.clip(np.floor(places.min(axis=(1, 2))), 0, (height - 1, width - 1)).astype(int)
        last = np.clip(np.ceil(places.max(axis=(1, 2))), first, (height - 1, width - 1)).astype(int)
        window = self.plane[first[0] : last[0] + 1, first[1] : last[1] + 1].astype(float)
        channels = window.reshape(*window.shape[:2], -1)
        local = places - first[:, np.newaxis, np.newaxis]
        seen = [
            ndimage.map_coordinates(channels[..., c], local, order=1, mode="nearest")
            for c in range(channels.shape[-1])
        ]
        pixels = np.stack(seen, axis=-1)
        end = np.array([height, width])[:, np.newaxis, np.newaxis]
        pixels[((places < -0.5) | (places > end - 0.5)).any(axis=0)] = np.nan
        return pixels.reshape(shape)


def aligned_plane(image: ImageLayer, grid: LabelsGrid) -> AlignedPlane | None:
    """Find the plane of an image that lies under a plane of labels.

    Parameters
    ----------
    image : napari image layer
    grid : LabelsGrid

    Returns
    -------
    AlignedPlane or None
        None where the image has no plane there, or the labels cut through its planes.

    Raises
    ------
    UserError
        Where the image holds no real numbers.
    """
    n = image.ndim
    if n > len(grid.origin):
        return None
    matrix = world_matrix(image)
    linear = np.linalg.inv(matrix[:-1, :-1])
    origin = linear @ (grid.origin[-n:] - matrix[:-1, -1])
    steps = linear @ np.stack([grid.row[-n:], grid.column[-n:]], axis=1)
    index = np.rint(origin[:-2]).astype(int)
    lengths = (image.data[0] if image.multiscale else image.data).shape
    inside = all(0 <= i < length for i, length in zip(index, lengths, strict=False))
    if not inside or np.abs(steps[:-2]).max(initial=0) * max(grid.shape) > SAME_PLACE:
        return None
    if abs(np.linalg.det(steps[-2:])) < SAME_PLACE**2:
        return None
    planes = planes_for(image, [int(i) for i in index])
    return AlignedPlane(planes.plane(()), steps[-2:].astype(np.float64), origin[-2:], grid.shape)
