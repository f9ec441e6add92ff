"""Parse what a batch notes of a finished unit in the record of its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from napari_unet_cells.untrusted.rules import (
    PATH,
    SENTENCE,
    Fields,
    Malformed,
    fields,
    flag,
    items,
    mapping,
    matching,
    number,
    plain_mapping,
    text,
    whole,
)

#: Key of these values in the record, see `result_record`.
BATCH = "batch"

_MOST_BYTES, _LATEST = 2**60, 2**63 - 1


@dataclass(frozen=True)
class Stamp:
    """State of a file or a folder, by which a change of it is noticed.

    Attributes
    ----------
    size : int
        Bytes.
    mtime_ns : int
        Time of its last change, in nanoseconds.
    digest : str
        Of its content, 64 hexadecimal digits; empty where it was too long to be read twice.
    """

    size: int
    mtime_ns: int
    digest: str = ""


@dataclass(frozen=True)
class Histogram:
    """Counts of cells in bins of equal width between two limits.

    Attributes
    ----------
    low, high : float
        Limits of all bins together.
    counts : tuple of int
    """

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class UnitRecord:
    """Record of a unit that a batch finished.

    Attributes
    ----------
    model : str
        Sha256 of the model.
    input : Stamp
        Of the image before it was read.
    settings : mapping
        Options that decide on the result, as JSON.
    outputs : mapping of str to Stamp
        Of the files, without the one that holds this, by what follows the name of the image.
    summary : str
        Such as "214 cells in 1.9 s".
    cells : int or None
        None where the model makes classes only.
    shape : tuple of int
        Of the labels.
    area, intensity : Histogram or None
        Of the cells; None where there are none.
    unit : str
        Of length, for `area`.
    begun : bool
        It is not done: `outputs` are the files that were there before, and may be replaced.
    """

    model: str
    input: Stamp
    settings: Mapping[str, Any]
    outputs: Mapping[str, Stamp]
    summary: str = ""
    cells: int | None = None
    shape: tuple[int, ...] = ()
    area: Histogram | None = None
    intensity: Histogram | None = None
    unit: str = "pixel"
    begun: bool = False
    #: Path of the image.
    source: str = field(default="", compare=False)
    #: Device and time, for the report.
    device: str = field(default="", compare=False)
    seconds: float = field(default=0.0, compare=False)

    def document(self) -> dict[str, Any]:
        """Give what stands under `BATCH`; the rest is in the record already."""
        values = asdict(self)
        own = {key: values[key] for key in _OWN if values[key] is not None}
        return own | ({"begun": True} if self.begun else {})


_OWN = ("input", "settings", "outputs", "summary", "shape", "area", "intensity", "unit")


def parse_unit_record(document: object) -> UnitRecord | None:
    """Read what a batch noted in the record of a result; None where no batch made it.

    Raises
    ------
    Malformed
        Where it is no record, or was damaged.
    """
    record = Fields(document)
    if BATCH not in record:
        return None
    noted = record.take(BATCH, fields(_same))
    return UnitRecord(
        model=record.take("model", fields(lambda model: model.take("sha256", _DIGEST))),
        input=noted.take("input", fields(_stamp)),
        settings=noted.take("settings", plain_mapping),
        outputs=noted.take("outputs", mapping(fields(_stamp), most=100)),
        summary=noted.take_or("summary", text(SENTENCE), ""),
        cells=record.optional("cells", whole(0, 2**40)),
        shape=noted.take_or("shape", items(whole(0, 2**40), most=10), ()),
        area=noted.optional("area", fields(_histogram)),
        intensity=noted.optional("intensity", fields(_histogram)),
        unit=noted.take_or("unit", text(PATH), "pixel"),
        begun=noted.take_or("begun", flag, False),
        source=record.take_or("source", fields(_path), ""),
        device=record.take_or("device", text(PATH), ""),
        seconds=record.take_or("seconds", number(0, 1e12), 0.0),
    )


def _same(values: Fields) -> Fields:
    return values


def _path(source: Fields) -> str:
    path: str = source.take_or("path", text(PATH), "")
    return path


_DIGEST = matching("[0-9a-f]{64}", "64 hexadecimal digits")


def _stamp(stamp: Fields) -> Stamp:
    return Stamp(
        stamp.take("size", whole(0, _MOST_BYTES)),
        stamp.take("mtime_ns", whole(-_LATEST, _LATEST)),
        stamp.take_or("digest", matching("([0-9a-f]{64})?", "64 hexadecimal digits"), ""),
    )


def _histogram(values: Fields) -> Histogram:
    low, high = (values.take(key, number()) for key in ("low", "high"))
    if not low < high:
        raise Malformed(f"must rise, and goes from {low:g} to {high:g}")
    return Histogram(low, high, values.take("counts", items(whole(0, 2**40), 1, 1000)))
