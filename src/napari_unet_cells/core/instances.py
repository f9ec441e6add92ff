"""Instance segmentation: from class probabilities to one label per cell, in two steps.

`oversegment` floods once per run: it cuts the foreground into fragments, one for every peak of the
smoothed height: how deep the network says that a pixel lies in its cell, or, where it does not
say so, the probability of "cell". `Oversegmentation.cells` decides which fragments make one cell
(`fragment_table`). A large plane is cut into blocks for the first step (`fragment_blocks`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.fragment_blocks import cut_blocks, foreground, separate_block
from napari_unet_cells.core.fragment_table import MAX_UINT16 as MAX_UINT16
from napari_unet_cells.core.fragment_table import FragmentTable, Labels
from napari_unet_cells.core.instance_options import InstanceOptions as InstanceOptions
from napari_unet_cells.core.joined_fragments import joined


def label_cells(probabilities: NDArray[np.uint8], options: InstanceOptions | None = None) -> Labels:
    """Separate the cells: `oversegment` and `Oversegmentation.cells` with the same options.

    Parameters
    ----------
    probabilities : uint8 array, (2 or 3, y, x)
        Of cell and of boundary, and the distance where there is one, in units of 1/255.
    options : InstanceOptions, optional

    Returns
    -------
    uint16 array, (y, x); uint32 where there are more than 65,535 cells
        As `Oversegmentation.cells` gives it.
    """
    options = options or InstanceOptions()
    return oversegment(probabilities, options).cells(options)


def oversegment(probabilities: NDArray[np.uint8], options: InstanceOptions) -> Oversegmentation:
    """Cut the foreground into fragments, one for each peak.

    Parameters
    ----------
    probabilities : uint8 array, (2 or 3, y, x)
        Of cell and of boundary, and the distance where there is one, in units of 1/255.
    options : InstanceOptions
        `cell_threshold` and `smoothing` are used, the others are not looked at.

    Returns
    -------
    Oversegmentation
    """
    (block,) = cut_blocks(probabilities.shape[1:])
    found = separate_block(probabilities, block, options)
    assert found is not None  # a plane has no open side
    numbers, piece = found
    # The numbers of a block that is the whole plane are those of the plane.
    table, _ = joined([piece], options)
    return Oversegmentation(base=np.ascontiguousarray(numbers), **_known(table))


@dataclass(frozen=True, eq=False, kw_only=True)
class Oversegmentation(FragmentTable):
    """Fragments of one plane, and the table from which cells are made of them.

    ::

        base   0 0 0 0 0 0 0      0 outside; 1, 2 fragments; 3 a hole in fragment 1
               0 1 1 1 2 2 0
               0 1 3 1 2 2 0      links (1, 2), rims (3, 1)
               0 1 1 1 2 2 0

    Attributes
    ----------
    base : int32 array, (y, x)
        0 is background that reaches the border of the plane; then come the fragments, 1 to n,
        each one 4-connected region; then the holes, n + 1 to n + n_holes.
    """

    base: NDArray[np.int32]

    def table(self) -> FragmentTable:
        """Give the table without the pixels."""
        return FragmentTable(**_known(self))

    def cells(self, options: InstanceOptions) -> Labels:
        """Make cells of the fragments: `lut` looked up in `base`.

        Parameters
        ----------
        options : InstanceOptions

        Returns
        -------
        uint16 array, (y, x); uint32 where there are more than 65,535 cells
            0 is background; the cells are numbered 1 to n from top to bottom, by the first
            pixel of each (in a row, from left to right).

        Raises
        ------
        ValueError
            As `lut`.
        """
        labels: Labels = self.lut(options)[self.base]
        return labels


def _known(table: FragmentTable) -> dict[str, Any]:
    return {field.name: getattr(table, field.name) for field in fields(FragmentTable)}


def inside(probabilities: NDArray[np.uint8], options: InstanceOptions) -> NDArray[np.int16]:
    """Probability of "cell" or "boundary" less `InstanceOptions.cell_threshold`.

    0 or more in the fragments of an `Oversegmentation` and below 0 elsewhere, also in its holes.

    Parameters
    ----------
    probabilities : uint8 array, (2 or 3, y, x)
        As `oversegment` takes them.
    options : InstanceOptions

    Returns
    -------
    int16 array, (y, x)
        In units of 1/255.
    """
    level = round(options.cell_threshold * 255)
    margin: NDArray[np.int16] = foreground(probabilities).astype(np.int16) - np.int16(level)
    return margin
