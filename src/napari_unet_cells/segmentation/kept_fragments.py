"""Fragments of a run, compressed while another result of the image is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.segmentation.result import Fragments

#: Rows of a plane that are compressed together.
_ROWS = 512


@dataclass(frozen=True, eq=False)
class BlockNumbers:
    """Pixels of a part of a plane, as numbers that a table turns into those of fragments.

    Attributes
    ----------
    part : (slice, slice)
        Of the plane.
    pixels : integer array, (y, x), or bytes
        Mostly 0. Compressed where they are bytes.
    dtype : numpy data type
        Of the pixels.
    lut : int32 array or None
        Number of the fragment, or the hole, of each number; None where they are these.
    """

    part: tuple[slice, slice]
    pixels: NDArray[Any] | bytes
    dtype: np.dtype[Any]
    lut: NDArray[np.int32] | None = None

    @classmethod
    def of(
        cls,
        part: tuple[slice, slice],
        pixels: NDArray[Any],
        lut: NDArray[np.int32] | None = None,
    ) -> BlockNumbers:
        """Keep the pixels as they are."""
        return cls(part, pixels, pixels.dtype, lut)

    @property
    def n_bytes(self) -> int:
        """Memory that the pixels take."""
        return self.pixels.nbytes if isinstance(self.pixels, np.ndarray) else len(self.pixels)

    def packed(self) -> BlockNumbers:
        """Compress the pixels."""
        if not isinstance(self.pixels, np.ndarray):
            return self
        pixels: Any = np.ascontiguousarray(self.pixels)
        return replace(self, pixels=bytes(imagecodecs.zstd_encode(pixels, level=1)))

    def opened(self) -> NDArray[Any]:
        """Give the numbers of the fragments and holes, (y, x)."""
        pixels = self._pixels()
        return pixels if self.lut is None else self.lut[pixels]

    def _pixels(self) -> NDArray[Any]:
        if isinstance(self.pixels, np.ndarray):
            return self.pixels
        y, x = self.part
        pixels = np.frombuffer(imagecodecs.zstd_decode(self.pixels), self.dtype)
        return pixels.reshape(y.stop - y.start, x.stop - x.start)

    def mark(self, is_present: NDArray[np.bool_]) -> None:
        """Mark the fragments and holes that have a pixel, in place."""
        pixels = self._pixels()
        inside = pixels[pixels != 0]
        # 0 stands for what `lut` says.
        seen = is_present if self.lut is None else np.zeros(len(self.lut), bool)
        seen[inside] = True
        if inside.size < pixels.size:
            seen[0] = True
        if self.lut is not None:
            is_present[self.lut[seen]] = True

    def write(self, plane: NDArray[Any], of_fragment: NDArray[Any] | None = None) -> None:
        """Write the block into its part of a plane.

        Parameters
        ----------
        plane : integer array, (y, x)
        of_fragment : integer array, optional
            What to write for each fragment, by default its number.
        """
        lut = of_fragment
        if self.lut is not None:
            lut = self.lut if of_fragment is None else of_fragment[self.lut]
        there, pixels = plane[self.part], self._pixels()
        if lut is None:
            there[...] = pixels
            return
        values = np.full(there.shape, lut[0], plane.dtype)
        inside = np.flatnonzero(pixels != 0)
        values.ravel()[inside] = lut[pixels.ravel()[inside]]
        there[...] = values


@dataclass(frozen=True, eq=False)
class PackedFragments:
    """Fragments of a plane without their pixels, and what these are made of when asked for.

    Attributes
    ----------
    small : Fragments
        All but the pixels.
    shape : tuple of int
        Of the plane.
    blocks : tuple of BlockNumbers
        They cover the plane.
    """

    small: Fragments
    shape: tuple[int, ...]
    blocks: tuple[BlockNumbers, ...]

    @classmethod
    def of(cls, plane: Fragments) -> PackedFragments:
        """Compress the pixels."""
        height, width = plane.base.shape
        rows = [slice(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]
        blocks = (BlockNumbers.of((y, slice(0, width)), plane.base[y]).packed() for y in rows)
        nothing = np.zeros((0, 0), np.int32)
        return cls(replace(plane, base=nothing), plane.base.shape, tuple(blocks))

    def packed(self) -> PackedFragments:
        """Compress the pixels of all blocks."""
        return replace(self, blocks=tuple(block.packed() for block in self.blocks))

    def unpacked(self) -> Fragments:
        """Give them with their pixels."""
        base = np.zeros(self.shape, np.int32)
        for block in self.blocks:
            block.write(base)
        return replace(self.small, base=base)


class KeptFragments(Sequence[Fragments]):
    """Fragments of the planes of a run; a plane that is asked for is unpacked, and stays so.

    Parameters
    ----------
    planes : iterable of Fragments and PackedFragments
    """

    def __init__(self, planes: Iterable[Fragments | PackedFragments] = ()) -> None:
        # As they are kept: to iterate would unpack them.
        kept = planes._planes if isinstance(planes, KeptFragments) else planes
        self._planes: list[Fragments | PackedFragments] = list(kept)

    def __len__(self) -> int:
        """Count the planes; 0 where nothing is kept."""
        return len(self._planes)

    @overload
    def __getitem__(self, index: int) -> Fragments: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Fragments]: ...

    def __getitem__(self, index: int | slice) -> Fragments | Sequence[Fragments]:
        """Give the fragments of a plane."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        planes = self._planes  # another thread may pack them
        plane = planes[index]
        if isinstance(plane, PackedFragments):
            plane = planes[index] = plane.unpacked()
        return plane

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape (y, x) of a plane, which is not unpacked for it."""
        plane = self._planes[index]
        return plane.shape if isinstance(plane, PackedFragments) else plane.base.shape

    @property
    def zoom(self) -> float:
        """See `Fragments`; the same for all planes."""
        plane = self._planes[0]
        return (plane.small if isinstance(plane, PackedFragments) else plane).zoom

    @property
    def n_bytes(self) -> int:
        """Memory that the pixels take."""
        return sum(
            sum(block.n_bytes for block in plane.blocks)
            if isinstance(plane, PackedFragments)
            else plane.base.nbytes
            for plane in self._planes
        )

    def pack(self) -> None:
        """Compress all planes: cells of an image to about a fiftieth."""
        self._planes = [
            p.packed() if isinstance(p, PackedFragments) else PackedFragments.of(p)
            for p in self._planes
        ]

    def forget(self) -> None:
        """Free the memory; the cells cannot be separated again."""
        self._planes = []


@dataclass(frozen=True, eq=False)
class KeptPlane:
    """Fragments of one plane, unpacked when they are asked for: in a thread, not in the window.

    Attributes
    ----------
    kept : KeptFragments
    index : int
        Of the plane.
    """

    kept: KeptFragments
    index: int

    def fragments(self) -> Fragments | None:
        """Unpack them; None where their memory was freed meanwhile."""
        try:
            return self.kept[self.index]
        except IndexError:
            return None
