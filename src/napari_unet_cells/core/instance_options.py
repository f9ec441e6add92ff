"""Thresholds of the instance separation, as cards and records hold them.

Apart from `instances`, which computes with them: whoever reads a card needs neither SciPy nor
scikit-image.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from napari_unet_cells.core.smoothing import MAX_SMOOTHING

#: Names of options in cards and records of version 0.1.0, with today's.
OLD_NAMES = {"smallest": "min_size", "certainty": "min_probability"}

#: Option of the first cards of version 0.1.0, whose method needed it; it changes nothing.
DROPPED_NAME = "seed_threshold"


#: Largest weight, or constant, of a `MergeRule`.
MAX_WEIGHT = 1000.0


@dataclass(frozen=True)
class MergeRule:
    """Weights of a logistic model that says whether two touching parts are one cell.

    Parts are what is left when valleys up to `certain` are ignored. The score of a pair is
    `constant` plus each weight times what it is named after; above 0 they are more likely one
    cell. See `merging`, which computes it, and `training.merge_fitting`, which learns it.

    Attributes
    ----------
    certain : float
        Depth of a valley, in units of the height, up to which fragments are one part in any case.
    constant : float
    depth : float
        For the lower of the two peaks less the highest point of their common border.
    boundary, cell : float
        For the mean of the probability of "boundary", or of "cell", along the border: of each
        two pixels that touch there the higher, or the lower.
    contact : float
        For the length of the border by the square root of the smaller area.
    smaller, larger : float
        For the logarithm of the areas, in pixels.
    """

    certain: float
    constant: float
    depth: float
    boundary: float
    cell: float
    contact: float
    smaller: float
    larger: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.certain <= 1:
            raise ValueError(f"certain must lie between 0 and 1, not {self.certain}")
        for name in WEIGHTS:
            value = getattr(self, name)
            if not abs(value) <= MAX_WEIGHT:
                raise ValueError(f"{name} must lie within {MAX_WEIGHT:g} of 0, not {value}")

    def zoomed(self, zoom: float) -> MergeRule:
        """Give the rule that judges parts alike where they are seen so many times as large.

        Parameters
        ----------
        zoom : float
            Above 0.
        """
        more = 2 * math.log(zoom) * (self.smaller + self.larger)  # of the logarithms of the areas
        constant = min(max(self.constant - more, -MAX_WEIGHT), MAX_WEIGHT)
        return replace(self, constant=constant)


#: Names of what a `MergeRule` weighs, the constant first.
WEIGHTS = tuple(field.name for field in fields(MergeRule))[1:]


@dataclass(frozen=True)
class InstanceOptions:
    """Thresholds of the instance separation; a model's card holds the values fitted for it.

    The first two shape the fragments, and `merge` says how their links are measured: they belong
    to `oversegment`. All others are decided by `Oversegmentation.cells`, at once.

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
        1 keeps every fragment. With a `merge`, parts stay two cells where the odds against
        their being one are larger than it asks for.
    min_probability : float
        Mean probability of "cell" or "boundary" over the pixels of a cell, 0 to 1, below which
        it is dropped: debris and blur that the network doubts. 0 keeps every cell.
    drop_border : bool
        Drop the cells that the border of the plane cuts.
    merge : MergeRule, optional
        What it was learned to join; without, the depth of the valley alone decides.
    """

    cell_threshold: float = 0.5
    smoothing: float = 1.0
    min_size: int = 12
    fill_holes: bool = True
    split: float = 0.8
    min_probability: float = 0.0
    drop_border: bool = False
    merge: MergeRule | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give the values as cards and records hold them."""
        values = asdict(self)
        if self.merge is None:  # which version 0.1.0 does not know
            del values["merge"]
        return values

    def zoomed(self, zoom: float) -> InstanceOptions:
        """Give the options that find the same cells where they are seen so many times as large.

        Parameters
        ----------
        zoom : float
            Above 0.
        """
        return replace(
            self,
            min_size=round(self.min_size * zoom**2),
            merge=self.merge and self.merge.zoomed(zoom),
        )

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
