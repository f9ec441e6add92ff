"""Fragments of a run, compressed while another result of the image is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import overload

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.segmentation.result import Fragments


@dataclass(frozen=True, eq=False)
class _Packed:
    """Fragments of a plane, their arrays of pixels compressed."""

    small: Fragments  # all but the pixels
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    pixels: tuple[bytes, bytes]

    @classmethod
    def of(cls, plane: Fragments) -> _Packed:
        arrays = plane.oversegmentation.base, plane.base
        nothing = np.zeros((0, 0), np.int32)
        small = replace(plane.oversegmentation, base=nothing)
        packed = tuple(bytes(imagecodecs.zstd_encode(a.tobytes(), level=1)) for a in arrays)
        return cls(
            replace(plane, oversegmentation=small, base=nothing),
            (arrays[0].shape, arrays[1].shape),
            (packed[0], packed[1]),
        )

    def unpacked(self) -> Fragments:
        fine, base = (
            _unpacked(pixels, shape) for pixels, shape in zip(self.pixels, self.shapes, strict=True)
        )
        small = self.small
        return replace(
            small, oversegmentation=replace(small.oversegmentation, base=fine), base=base
        )


def _unpacked(pixels: bytes, shape: tuple[int, ...]) -> NDArray[np.int32]:
    array: NDArray[np.int32] = np.frombuffer(imagecodecs.zstd_decode(pixels), np.int32)
    return array.reshape(shape)


class KeptFragments(Sequence[Fragments]):
    """Fragments of the planes of a run; a plane that is asked for is unpacked, and stays so.

    Parameters
    ----------
    planes : iterable of Fragments
    """

    def __init__(self, planes: Iterable[Fragments] = ()) -> None:
        self._planes: list[Fragments | _Packed] = list(planes)

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
        if isinstance(plane, _Packed):
            plane = planes[index] = plane.unpacked()
        return plane

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape (y, x) of a plane, which is not unpacked for it."""
        plane = self._planes[index]
        return plane.shapes[1] if isinstance(plane, _Packed) else plane.base.shape

    @property
    def zoom(self) -> float:
        """See `Fragments`; the same for all planes."""
        plane = self._planes[0]
        return (plane.small if isinstance(plane, _Packed) else plane).zoom

    @property
    def n_bytes(self) -> int:
        """Memory that the pixels take."""
        return sum(
            sum(map(len, plane.pixels))
            if isinstance(plane, _Packed)
            else plane.base.nbytes + plane.oversegmentation.base.nbytes
            for plane in self._planes
        )

    def pack(self) -> None:
        """Compress all planes: cells of an image to about a fiftieth."""
        self._planes = [p if isinstance(p, _Packed) else _Packed.of(p) for p in self._planes]

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
