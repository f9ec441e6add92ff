"""Parse OME-XML: pixel sizes, names of channels and the description, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

from napari_unet_cells.untrusted.rules import Malformed, printable

#: Characters; a plane takes about a hundred.
LONGEST = 2**26

#: Channels of an image, and characters of a size.
_MOST_CHANNELS, _LONGEST_SIZE = 1000, 64

#: Files of an image; there may be one a plane.
_MOST_FILES = 100_000


@dataclass(frozen=True)
class OmeImage:
    """First image of an OME-XML.

    Attributes
    ----------
    sizes : mapping of str to (str, str)
        Size of a pixel as it stands there, and its unit, by "y", "x" and "z"; without those that
        are not stated.
    channels : tuple of str
        Names; empty ones where there is none.
    description : str
    files : tuple of str
        Names of all files that hold its planes, in one folder; empty where none is stated.
    """

    sizes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    description: str = ""
    files: tuple[str, ...] = ()


def parse_ome(text: str) -> OmeImage:
    """Read an OME-XML.

    Raises
    ------
    Malformed
        Where it is no XML, too long, or declares entities, which could grow without end.
    """
    if len(text) > LONGEST:
        raise Malformed(f"the OME-XML is longer than {LONGEST // 2**20} MB")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Malformed("the OME-XML declares entities")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError, MemoryError) as error:
        raise Malformed(f"the OME-XML is damaged ({printable(str(error), 80)})") from error
    description = root.findtext(".//{*}Image/{*}Description") or ""
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return OmeImage(description=description)
    # The schema's default unit is the micrometer.
    stated = {axis: pixels.get(f"PhysicalSize{axis.upper()}") for axis in "yxz"}
    units = {axis: pixels.get(f"PhysicalSize{axis.upper()}Unit", "um") for axis in "yxz"}
    sizes = {
        axis: (size[:_LONGEST_SIZE], units[axis][:_LONGEST_SIZE])
        for axis, size in stated.items()
        if size is not None
    }
    channels = pixels.findall("{*}Channel")[:_MOST_CHANNELS]
    names = tuple(printable(channel.get("Name", "")) for channel in channels)
    stored = (uuid.get("FileName", "") for uuid in pixels.iterfind("{*}TiffData/{*}UUID"))
    # In this folder: a name with a path in it could be that of any file of the computer.
    files = dict.fromkeys(name for name in stored if name and not set(name) & set("/\\:\0"))
    return OmeImage(sizes, names, description, tuple(files)[:_MOST_FILES])
