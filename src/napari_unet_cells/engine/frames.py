"""Frames on a pipe: a JSON header and raw pixels, no pickle.

::

    | header length: uint32 | pixel bytes: uint64 | header: JSON | pixels: raw |
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PREFIX = struct.Struct("<IQ")

#: Bytes; where a frame claims more, the two sides are out of step.
_LONGEST_HEADER = 1 << 20

#: First bytes of the child. What a site or start-up hook printed before is no frame.
HELLO = b"\0napari-unet-cells\0"

#: Exit code of a child that had no memory to read a frame: the two sides are out of step then.
NO_MEMORY_EXIT = 78


def write_frame(stream: Any, header: dict[str, Any], pixels: NDArray[Any] | None = None) -> None:
    """Write a frame; the stream may be unbuffered."""
    text = json.dumps(header).encode()
    payload = memoryview(b"")
    if pixels is not None:
        payload = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data
    for part in (_PREFIX.pack(len(text), payload.nbytes), text, payload):
        rest = memoryview(part)
        while rest:  # an unbuffered pipe may take less than it was given
            rest = rest[stream.write(rest) :]


def read_frame(stream: Any) -> tuple[dict[str, Any], bytearray] | None:
    """Read a frame; None at the end of the stream, also within a frame, and after nonsense."""
    try:
        prefix = _read_exactly(stream, _PREFIX.size)
        if prefix is None:
            return None
        header_size, payload_size = _PREFIX.unpack(prefix)
        if header_size > _LONGEST_HEADER:
            return None
        header = _read_exactly(stream, header_size)
        payload = _read_exactly(stream, payload_size)
    except (OSError, ValueError):
        return None
    if header is None or payload is None:
        return None
    return json.loads(header), payload


def _read_exactly(stream: Any, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        n = stream.readinto(view)
        if not n:
            return None
        view = view[n:]
    return data


def skip_to_hello(stream: Any) -> None:
    """Read past what was printed before the first frame."""
    seen = b""
    while not seen.endswith(HELLO):
        byte = stream.read(1)
        if not byte:
            return
        seen = (seen + byte)[-len(HELLO) :]
