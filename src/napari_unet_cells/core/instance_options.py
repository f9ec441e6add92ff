"""Thresholds of the instance separation, as cards and records hold them.

Apart from `instances`, which computes with them: whoever reads a card needs neither SciPy nor
scikit-image.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_unet_cells.core.smoothing import MAX_SMOOTHING

#: Names of options in cards and records of version 0.1.0, with today's.
OLD_NAMES = {"smallest": "min_size", "certainty": "min_probability"}

#: Option of the first cards of version 0.1.0, whose method needed it; it changes nothing.
DROPPED_NAME = "seed_threshold"


@dataclass(frozen=True)
class InstanceOptions:
    """Thresholds of the instance separation; a model's card holds the values fitted for it.

    The first two shape the fragments and belong to `oversegment`; all others are decided by
    `Oversegmentation.cells`, at once.

    Attributes
    ----------
    cell_threshold : float
        Probability of "cell" or "boundary", 0 to 1, above which a pixel belongs to a cell.
    smoothing : float
        Standard deviation in pixels of the smoothing before peaks are looked for.
    min_size : int
        Area in pixels. A smaller fragment joins the neighbour it is least separated from;
        without any neighbour it is dropped.
    fill_holes : bool
        Fill holes inside cells.
    split : float
        Touching fragments stay two cells where the valley between them is deeper than
        ``1 - split``, in units of the height. 0 makes one cell of everything that touches,
        1 keeps every fragment.
    min_probability : float
        Mean probability of "cell" or "boundary" over the pixels of a cell, 0 to 1, below which
        it is dropped: debris and blur that the network doubts. 0 keeps every cell.
    drop_border : bool
        Drop the cells that the border of the plane cuts.
    """

    cell_threshold: float = 0.5
    smoothing: float = 1.0
    min_size: int = 12
    fill_holes: bool = True
    split: float = 0.8
    min_probability: float = 0.0
    drop_border: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.cell_threshold < 1:
            raise ValueError(f"cell_threshold must lie between 0 and 1, not {self.cell_threshold}")
        for name, value in {"split": self.split, "min_probability": self.min_probability}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {value}")
        if not 0 <= self.smoothing <= MAX_SMOOTHING:
            raise ValueError(
                f"smoothing must lie between 0 and {MAX_SMOOTHING} pixels, not {self.smoothing}"
            )
