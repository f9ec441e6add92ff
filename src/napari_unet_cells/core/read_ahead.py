"""Array that keeps the parts of planes that were read, and reads those of the next planes ahead.

For what is computed while somebody looks at it, such as a projection of channels::

    a part of plane 4 is asked for --> kept, or read now
                       some quiet  --> the same part of planes 5 and 3 is read in a thread
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray, spelt_out

#: Bytes of the parts that are kept; those that were asked for longest ago go first.
MOST_BYTES = 2**29

#: Seconds without a question before something is read ahead.
QUIET = 0.1

#: Parts that wait to be read ahead; of more the oldest are forgotten.
MOST_WAITING = 256


class ReadAhead:
    """Array that keeps what was read of another one, which never changes.

    Parameters
    ----------
    data : array, (..., y, x)
        Is sliced by whoever asks, and by a thread.
    most_bytes : int
        Kept at most. Where so little is no plane with its neighbours, nothing is read ahead.
    """

    def __init__(self, data: ImageArray, most_bytes: int = MOST_BYTES) -> None:
        self._data, self._most = data, most_bytes
        self.shape, self.dtype = tuple(map(int, data.shape)), np.dtype(data.dtype)
        self._axes = [axis for axis, n in enumerate(self.shape[:-2]) if n > 1]
        plane = math.prod(self.shape[-2:]) * self.dtype.itemsize
        self._looks_ahead = plane * (1 + 2 * len(self._axes)) <= most_bytes
        self._kept: OrderedDict[tuple[Any, ...], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._waiting: deque[list[Any]] = deque(maxlen=MOST_WAITING)
        self._asked = 0.0
        self._reader: threading.Thread | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def busy(self) -> bool:
        """Whether something is being read ahead."""
        return self._reader is not None

    @property
    def n_bytes(self) -> int:
        """Bytes of what is kept."""
        with self._lock:
            return sum(part.nbytes for part in self._kept.values())

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Give a part, which must not be written into."""
        parts = spelt_out(key, self.ndim)
        part = self._part(parts)
        self._asked = time.monotonic()
        if self._looks_ahead:
            self._want(list(self._beside(parts)))
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all."""
        return np.asarray(self._data[(slice(None),) * self.ndim], dtype)

    def _part(self, parts: Sequence[Any]) -> NDArray[Any]:
        name = tuple((p.start, p.stop, p.step) if isinstance(p, slice) else p for p in parts)
        if not all(isinstance(one, int | np.integer | tuple) for one in name):
            return np.asarray(self._data[tuple(parts)])
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        part = np.asarray(self._data[tuple(parts)]).view()
        part.flags.writeable = False
        with self._lock:
            self._kept[name] = part
            taken = sum(one.nbytes for one in self._kept.values())
            while taken > self._most:
                taken -= self._kept.popitem(last=False)[1].nbytes
        return part

    def _beside(self, parts: Sequence[Any]) -> Iterator[list[Any]]:
        """Give the same part of the planes before and behind, as long as there are any."""
        for axis in self._axes:
            for step in (1, -1):
                moved = _moved(parts[axis], step, self.shape[axis])
                if moved is not None:
                    yield [*parts[:axis], moved, *parts[axis + 1 :]]

    def _want(self, parts: list[list[Any]]) -> None:
        with self._lock:
            self._waiting.extend(parts)
            if self._waiting and self._reader is None:
                self._reader = threading.Thread(target=self._read, daemon=True)
                self._reader.start()

    def _read(self) -> None:
        """Read what waits, the last first, until nothing does; this is the thread."""
        while True:
            while time.monotonic() - self._asked < QUIET:
                time.sleep(QUIET / 4)
            with self._lock:
                if not self._waiting:
                    self._reader = None
                    return
                parts = self._waiting.pop()
            try:
                self._part(parts)
            except Exception:  # whoever asks for it is told
                with self._lock:
                    self._waiting.clear()


def _moved(part: Any, step: int, length: int) -> Any:
    """Move the index of one plane, a number or a slice of one; None beyond the end."""
    if isinstance(part, slice):
        first = part.start or 0
        single = part.step in (None, 1) and part.stop is not None and part.stop - first == 1
        at = first + step if single and first >= 0 else -1
        return slice(at, at + 1) if 0 <= at < length else None
    if isinstance(part, int | np.integer) and part >= 0 and 0 <= part + step < length:
        return int(part) + step
    return None
