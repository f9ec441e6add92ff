"""Files that a runtime derives from a model, found and kept by the sha256 of the model.

A derived graph is two files of one name, as OpenVINO reads them::

    NAME.int8.xml   a line of JSON in a comment, then the graph
    NAME.int8.bin   its numbers

The comment names the sha256 of the `.keras` file, of the graph and of the numbers, and what of the
card is part of the graph, so that what belongs to another model or card, or is damaged, is never
used. Graphs ship beside the models that ship; those of the user's models are made when they are
first needed and kept in `cache_folder`. Files that came with a model from elsewhere are not looked
at: no one has made sure of what they hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import atomic_write
from napari_unet_cells.models import catalogue
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.settings import user_folder
from napari_unet_cells.untrusted.json_text import parse_json
from napari_unet_cells.untrusted.rules import Malformed, plain_mapping

#: Raised where a graph of before would give something else.
FORMAT = 1

#: Graphs in `cache_folder`, of about 10 MB each.
MOST_KEPT = 20

#: Precisions by the ending of a file's name, the best choice first.
PRECISIONS = ("int8", "mixed", "float32")

_OPENING, _CLOSING = b"<!-- napari-unet-cells ", b" -->\n"


class DamagedGraph(UserError):
    """A derived file that belongs to the model and is not what it says."""


@dataclass(frozen=True)
class DerivedGraph:
    """A graph that was made of a model.

    Attributes
    ----------
    precision : str
        One of `PRECISIONS`: "int8" of integers, "mixed" of integers and floats.
    graph : bytes
        XML.
    weights : bytes
    """

    precision: str
    graph: bytes
    weights: bytes

    def write(self, folder: Path, name: str, card: ModelCard) -> Path:
        """Write the two files, in place of older ones of their names.

        Parameters
        ----------
        folder : Path
            Made where it is missing.
        name : str
            Without an ending.
        card : ModelCard
            Of the model that it was made of.

        Returns
        -------
        Path
            Of the graph.

        Raises
        ------
        UserError
            Where the disk refuses.
        """
        said = {
            **_belonging(card),
            "precision": self.precision,
            "graph": _sha256(self.graph),
            "weights": _sha256(self.weights),
        }
        declaration, _, rest = self.graph.partition(b"\n")
        comment = _OPENING + json.dumps(said).encode() + _CLOSING
        path = folder / f"{name}.{self.precision}.xml"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"The folder {folder} cannot be made ({error}).") from error
        # Two processes may do this at once; what either wrote of the numbers is the same.
        with atomic_write(path.with_suffix(".bin"), overwrite=True) as temporary:
            temporary.write_bytes(self.weights)
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_bytes(declaration + b"\n" + comment + rest)
        return path


def cache_folder() -> Path:
    """Folder of what was derived from the user's models."""
    return user_folder() / "derived"


def find_graph(card: ModelCard) -> DerivedGraph | None:
    """Give the best graph that was derived from a model; None where there is none.

    Raises
    ------
    DamagedGraph
        Where the one that would be taken is damaged.
    """
    shipped = [catalogue.SHIPPED / f"{card.path.stem}.{name}.xml" for name in PRECISIONS]
    kept = [cache_folder() / f"{card.sha256}.{name}.xml" for name in PRECISIONS]
    for path in (*shipped, *kept):
        graph = read_graph(path, card)
        if graph is not None:
            return graph
    return None


def read_graph(path: Path, card: ModelCard) -> DerivedGraph | None:
    """Read a graph; None where there is none of this model, this card and this version.

    Raises
    ------
    DamagedGraph
    """
    try:
        text = path.read_bytes()
    except OSError:  # most often there is none
        return None
    try:
        declaration, said, rest = _parts(text)
        if any(said.get(name) != value for name, value in _belonging(card).items()):
            return None
        graph, weights = declaration + rest, path.with_suffix(".bin").read_bytes()
        if (said["graph"], said["weights"]) == (_sha256(graph), _sha256(weights)):
            return DerivedGraph(str(said["precision"]), graph, weights)
    except FileNotFoundError as error:
        raise DamagedGraph(f"{path.with_suffix('.bin')} is missing; delete {path.name}") from error
    except (OSError, ValueError, KeyError) as error:
        raise DamagedGraph(f"{path} cannot be read ({error}); delete it") from error
    raise DamagedGraph(f"{path} is damaged; delete it")


def keep_graph(card: ModelCard, graph: DerivedGraph) -> None:
    """Keep a graph for the next time; where the disk refuses, it is made again then."""
    with contextlib.suppress(UserError, OSError):
        kept = graph.write(cache_folder(), card.sha256, card)
        _drop_oldest(kept.parent)


def _drop_oldest(folder: Path) -> None:
    """Remove what was kept first where more is kept than `MOST_KEPT`: it can be made again."""
    by_age = sorted(folder.glob("*.xml"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[MOST_KEPT:]:
        with contextlib.suppress(OSError):  # another process uses it, or removed it
            path.unlink()
            path.with_suffix(".bin").unlink()


def _belonging(card: ModelCard) -> dict[str, Any]:
    """Say what a graph was made of: the model, and what of its card is part of the graph."""
    return {
        "format": FORMAT,
        "model": card.sha256,
        "classes": list(card.classes),
        "distance": card.distance,
        "channels": card.channels,
    }


def _parts(text: bytes) -> tuple[bytes, dict[str, Any], bytes]:
    """Divide a file: what stands before the comment, what that says, and what follows."""
    before, opening, rest = text.partition(_OPENING)
    said, closing, after = rest.partition(_CLOSING)
    if not (opening and closing):
        raise Malformed("it does not say of which model it was made")
    values = plain_mapping(parse_json(said))
    return before, values, after


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
