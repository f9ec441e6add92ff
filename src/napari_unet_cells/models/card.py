"""The card of a model: what is known of it, read with all its limits checked.

A model is two files of one name: ``NAME.keras``, the network, and ``NAME.json``, its card.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_unet_cells.core.labels import makes_cells
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.models.model_file import check_model_file
from napari_unet_cells.models.network_stride import network_stride
from napari_unet_cells.untrusted.card import MAX_CHANNELS as MAX_CHANNELS
from napari_unet_cells.untrusted.card import MAX_CLASSES as MAX_CLASSES
from napari_unet_cells.untrusted.card import MAX_DIAMETER as MAX_DIAMETER
from napari_unet_cells.untrusted.card import CardValues, parse_card
from napari_unet_cells.untrusted.json_text import parse_json, read_json
from napari_unet_cells.untrusted.rules import Malformed


@dataclass(frozen=True)
class ModelCard(CardValues):
    """Model card: description of a model, for the program and for the reader.

    Attributes
    ----------
    path : Path
        Of the `.keras` file; not written into the card. All others are those of `CardValues`.
    """

    path: Path = Path()

    @property
    def makes_cells(self) -> bool:
        """Whether the classes allow to separate one cell from another."""
        return makes_cells(self.classes)

    @property
    def columns(self) -> tuple[int, int, int]:
        """Number of the class cell, of boundary, and before them of what is neither."""
        cell, boundary = self.classes.index("cell"), self.classes.index("boundary")
        neither = next(i for i in range(len(self.classes)) if i not in (cell, boundary))
        return neither, cell, boundary

    @property
    def probabilities(self) -> int:
        """Number of them that `predict.Network.predict` gives: 0 for networks of classes."""
        return 2 + self.distance if self.makes_cells else 0

    def as_dict(self) -> dict[str, Any]:
        """Give the card as JSON holds it."""
        card = asdict(self)
        del card["path"]
        card["instances"] = self.instances.as_dict()
        return card

    def digest(self) -> str:
        """Tell cards that say different things of one file from each other."""
        said = json.dumps(self.as_dict(), sort_keys=True, default=str)
        return hashlib.sha256(said.encode(errors="replace")).hexdigest()

    def write(self) -> None:
        """Write the card beside its model, replacing an older one."""
        write_json(self.path.with_suffix(".json"), self.as_dict(), overwrite=True)


@dataclass(frozen=True)
class CardNetwork:
    """Properties of a network that its card holds; see `predict.Network`.

    Attributes
    ----------
    card : ModelCard
    """

    card: ModelCard

    @property
    def stride(self) -> int:
        """Pixels; the sides of every batch are multiples of it."""
        return self.card.stride

    @property
    def halo(self) -> int:
        """Pixels around a tile that are read and not written."""
        return self.card.halo

    @property
    def channels(self) -> int:
        """Channels the network was trained on."""
        return self.card.channels

    @property
    def probabilities(self) -> int:
        """Number of probabilities (and distances) predicted."""
        return self.card.probabilities


def model_files(path: Path) -> tuple[Path, Path]:
    """Give the files of a model, which belong together: the network and its card."""
    return path, path.with_suffix(".json")


def read_card(path: Path) -> ModelCard:
    """Check a model file and read the card beside it.

    Parameters
    ----------
    path : Path
        Of the `.keras` file.

    Raises
    ------
    UserError
        Where the file is not a `.keras` file, is damaged or wants to run code, or where
        its card is missing, damaged, or of another file.
    """
    stride = network_stride(check_model_file(path))
    card_path = path.with_suffix(".json")
    try:
        card = ModelCard(**parse_card(read_json(card_path)), path=path)
    except FileNotFoundError as error:
        raise UserError(
            f"The model {path.name} has no card: {card_path.name} is missing beside it. Copy "
            "both files, they belong together."
        ) from error
    except (OSError, Malformed) as error:
        why = getattr(error, "strerror", None) or error  # without number and path
        raise UserError(
            f"The model card {card_path} cannot be read ({why}). Copy it again from where "
            "the model came from."
        ) from error
    if card.stride % stride:
        raise UserError(
            f"The model card {card_path} cannot be read (its stride is {card.stride}, and the "
            f"network needs multiples of {stride}). Copy it again from where the model came from."
        )
    if card.sha256 != file_sha256(path):
        raise UserError(
            f"The model {path.name} is not the file that its card {card_path.name} describes "
            "(another sha256): it is damaged or was exchanged. Copy both files again."
        )
    return card


def check_card(card: ModelCard) -> None:
    """Refuse a card that could not be read again, before its model is made.

    Parameters
    ----------
    card : ModelCard
        Its `sha256` is not known yet.

    Raises
    ------
    UserError
    """
    document = jsonable({**card.as_dict(), "sha256": "0" * 64})
    try:
        parse_card(parse_json(json.dumps(document)))
    except Malformed as error:
        raise UserError(
            f"A model cannot be described like this: its {error}. Choose another one of these."
        ) from error


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
