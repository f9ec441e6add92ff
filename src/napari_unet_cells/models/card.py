"""The card of a model: what is known of it, read with all its limits checked.

A model is two files of one name: ``NAME.keras``, the network, and ``NAME.json``, its card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from napari_unet_cells.core.instance_options import InstanceOptions
from napari_unet_cells.core.labels import makes_cells
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.models.model_file import check_model_file

#: A class image is 8 bit, and the value 255 stays free.
MAX_CLASSES = 255

MAX_CHANNELS = 16

#: Pixels; no cell is wider.
MAX_DIAMETER = 100_000


@dataclass(frozen=True)
class ModelCard:
    """Model card: description of a model, for the program and for the reader.

    Attributes
    ----------
    name : str
        Under which it is chosen.
    architecture : str
        A name of `architectures.ARCHITECTURES`.
    classes : tuple of str
        Names of the channels of the logits; those with "cell" and "boundary" give cells.
    distance : bool
        Whether one more channel follows: the logit of how deep a pixel lies in its cell
        (`crops.boundary_distance`). Seeds are its peaks; without it, those of "cell".
    colors : tuple of str
        Of the classes, where the user chose them, such as "#ff8800"; else empty.
    channels, stride, halo : int
        Of the network, in pixels (`channels`: 1 grey, 3 RGB, others as they were trained on).
    sha256 : str
        Of the `.keras` file.
    instances : InstanceOptions
        Limits of the watershed, fitted on training images.
    diameters : (float, float)
        How wide a typical cell was, in pixels, in nine of ten images it was trained on.
    diameter_window : (float, float)
        Median cell diameters, in pixels, into which an image is zoomed for the model; (0, 0)
        shows it every image as it is.
    typical_diameter : float
        Median cell diameter, in pixels, of the images of the one kind that the model was made
        for; 0 where it is made for many, and the diameter is to be estimated.
    build : mapping
        Options of the architecture.
    parent : mapping
        Name and sha256 of the model that it was retrained from; empty where it was not.
    description, license, date : str
    works_on, fails_on : tuple of str
        Sentences for the biologist: images that it was made for, and when not to use it. A
        retrained model has those of its parent.
    trained_on : tuple of mappings
        Name, licence, origin and number of images of each data set.
    scores : mapping
        Measured ones, by data set.
    path : Path
        Of the `.keras` file; not written into the card.
    """

    name: str
    architecture: str
    classes: tuple[str, ...]
    channels: int
    stride: int
    halo: int
    sha256: str
    instances: InstanceOptions = field(default_factory=InstanceOptions)
    diameters: tuple[float, float] = (0.0, 0.0)
    diameter_window: tuple[float, float] = (0.0, 0.0)
    typical_diameter: float = 0.0
    colors: tuple[str, ...] = ()
    distance: bool = False
    build: Mapping[str, Any] = field(default_factory=dict)
    parent: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    license: str = ""
    date: str = ""
    works_on: tuple[str, ...] = ()
    fails_on: tuple[str, ...] = ()
    trained_on: tuple[Mapping[str, Any], ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
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
        return card

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
    check_model_file(path)
    card_path = path.with_suffix(".json")
    try:
        values = json.loads(card_path.read_text(encoding="utf-8"))
        card = _card(values, path)
    except FileNotFoundError as error:
        raise UserError(
            f"The model {path.name} has no card: {card_path.name} is missing beside it. Copy "
            "both files, they belong together."
        ) from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"The model card {card_path} cannot be read ({error}). Copy it again from where "
            "the model came from."
        ) from error
    if card.sha256 != file_sha256(path):
        raise UserError(
            f"The model {path.name} is not the file that its card {card_path.name} describes "
            "(another sha256): it is damaged or was exchanged. Copy both files again."
        )
    return card


def _card(values: Mapping[str, Any], path: Path) -> ModelCard:
    """Make a card of its JSON, refusing numbers that would only fail later, in the middle."""
    card = ModelCard(
        **{
            **values,
            "classes": tuple(values["classes"]),
            "diameters": tuple(values["diameters"]),
            "diameter_window": tuple(values.get("diameter_window", (0.0, 0.0))),
            "colors": tuple(values.get("colors", ())),
            "works_on": _sentences(values, "works_on"),
            "fails_on": _sentences(values, "fails_on"),
            "trained_on": tuple(values["trained_on"]),
            "instances": InstanceOptions.from_dict(values["instances"]),
            "path": path,
        }
    )
    numbers = (card.channels, card.stride, card.halo)
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError(f"channels, stride and halo must be integers, not {numbers}")
    limits = ((1, MAX_CHANNELS), (1, 64), (0, 1024))
    if not all(low <= n <= high for n, (low, high) in zip(numbers, limits, strict=True)):
        raise ValueError(f"no network has channels, stride and halo {numbers}")
    if not isinstance(card.distance, bool):
        raise TypeError(f"distance must be true or false, not {card.distance}")
    names = all(isinstance(name, str) for name in card.classes)
    if not names or not 2 <= len(card.classes) <= MAX_CLASSES:
        raise ValueError(f"classes must be 2 to {MAX_CLASSES} names, not {card.classes}")
    _check_what_is_shown(card)
    return card


def _sentences(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Read sentences, which older cards lack; a string alone would become its letters."""
    found = values.get(key, [])
    if not isinstance(found, list) or not all(isinstance(sentence, str) for sentence in found):
        raise TypeError(f"{key} must be a list of sentences")
    return tuple(found)


def _check_what_is_shown(card: ModelCard) -> None:
    """Refuse what would fail only when the user looks at the card (see `models.description`)."""
    for name in ("name", "description", "license", "date"):
        if not isinstance(getattr(card, name), str):
            raise TypeError(f"{name} must be a text")
    for name in ("parent", "scores"):
        if not isinstance(getattr(card, name), Mapping):
            raise TypeError(f"{name} must have names and values")
    if not all(isinstance(value, str) for value in card.parent.values()):
        raise TypeError("name and sha256 of the parent must be texts")
    if not all(isinstance(data_set, Mapping) for data_set in card.trained_on):
        raise TypeError("trained_on must be a list of data sets with names and values")
    low, high = card.diameters
    numbers = (low, high, *card.diameter_window, card.typical_diameter)
    if len(card.diameter_window) != 2 or not all(0 <= n <= MAX_DIAMETER for n in numbers):
        raise ValueError(f"diameters must be two numbers from 0 to {MAX_DIAMETER} each")


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
