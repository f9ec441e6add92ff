"""The catalogue of models: cards and names. It loads no Keras until `load_model` is called.

A model is two files of one name: ``NAME.keras``, the network, and ``NAME.json``, its card.
They lie beside this file (those that ship), in the user's model folder, or anywhere.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import atomic_write, write_json
from napari_unet_cells.instances import InstanceOptions
from napari_unet_cells.settings import user_folder

if TYPE_CHECKING:
    import keras

#: Models that come with the package.
SHIPPED = Path(__file__).parent / "weights"

DEFAULT_MODEL = "cells-fast"

#: All that our architectures are made of. A model file that names anything else is refused
#: before Keras sees it: a `.keras` file may hold Python code (a Lambda layer) or make Keras
#: import any module.
ALLOWED_CLASSES = frozenset(
    {
        "Activation",
        "BatchNormalization",
        "Concatenate",
        "Conv2D",
        "Conv2DTranspose",
        "DTypePolicy",
        "DepthToSpace",
        "DepthwiseConv2D",
        "Dropout",
        "Functional",
        "GlorotUniform",
        "InputLayer",
        "MaxPooling2D",
        "Ones",
        "ReLU",
        "Rescaling",
        "UpSampling2D",
        "ZeroPadding2D",
        "Zeros",
        "__keras_tensor__",
    }
)


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model, for the program and for the reader.

    Attributes
    ----------
    name : str
        Under which it is chosen.
    architecture : str
        A name of `architectures.ARCHITECTURES`.
    classes : tuple of str
        Names of the channels of the logits; those with "cell" and "boundary" give cells.
    channels, stride, halo : int
        Of the network, in pixels (`channels`: 1 grey, 3 RGB).
    sha256 : str
        Of the `.keras` file.
    instances : InstanceOptions
        Limits of the watershed, fitted on training images.
    diameters : (float, float)
        Cell diameters, in pixels, that the model was trained on.
    description, license, date : str
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
    description: str = ""
    license: str = ""
    date: str = ""
    trained_on: tuple[Mapping[str, Any], ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
    path: Path = Path()

    @property
    def makes_cells(self) -> bool:
        """Whether the classes allow to separate one cell from another."""
        return "cell" in self.classes and "boundary" in self.classes

    def as_dict(self) -> dict[str, Any]:
        """Give the card as JSON holds it."""
        card = asdict(self)
        del card["path"]
        return card

    def write(self) -> None:
        """Write the card beside its model, replacing an older one."""
        write_json(self.path.with_suffix(".json"), self.as_dict(), overwrite=True)


def model_folders() -> tuple[Path, Path]:
    """Folders that are searched for models by name: the user's own first."""
    return user_folder() / "models", SHIPPED


def installed_models() -> dict[str, ModelCard]:
    """Cards of the installed models by name; a broken one is left out.

    A model of the user's hides a shipped one of the same name.
    """
    cards: dict[str, ModelCard] = {}
    for folder in reversed(model_folders()):
        for path in sorted(folder.glob("*.keras")):
            try:
                cards[path.stem] = read_card(path)
            except UserError:
                continue
    return cards


def find_model(name_or_path: str | Path) -> ModelCard:
    """Card of an installed model, or of a model file.

    Raises
    ------
    UserError
        Where there is no such model, or its files are not what they should be.
    """
    text = str(name_or_path)
    for folder in model_folders():
        if "/" not in text and "\\" not in text and (folder / f"{text}.keras").is_file():
            return read_card(folder / f"{text}.keras")
    path = Path(text).expanduser()
    if path.exists():
        return read_card(path)
    names = ", ".join(installed_models()) or "none"
    raise UserError(
        f"There is no model '{text}': neither an installed one (installed: {names}) nor a file "
        "of this name. 'napari-unet-cells models' lists what is installed."
    )


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
        card = ModelCard(
            **{
                **values,
                "classes": tuple(values["classes"]),
                "diameters": tuple(values["diameters"]),
                "trained_on": tuple(values["trained_on"]),
                "instances": InstanceOptions(**values["instances"]),
                "path": path,
            }
        )
    except FileNotFoundError as error:
        raise UserError(
            f"The model {path.name} has no card: {card_path.name} is missing beside it. Copy "
            "both files, they belong together."
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
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


def check_model_file(path: Path) -> None:
    """Refuse everything but a `.keras` file made of the layers our architectures use.

    Raises
    ------
    UserError
        With the reason.
    """
    if path.suffix != ".keras" or not path.is_file():
        raise UserError(
            f"{path.name} is not a model file of this program: models are .keras files. HDF5 "
            "and SavedModel files can hold code and are not opened."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            damaged = archive.testzip()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(
            f"The model {path.name} is damaged and cannot be opened. Copy it again from where "
            "it came from."
        ) from error
    if damaged is not None:
        raise UserError(f"The model {path.name} is damaged ({damaged}). Copy it again.")
    foreign = sorted(set(_foreign_classes(config)))
    if foreign:
        raise UserError(
            f"The model {path.name} was not opened: it contains {', '.join(foreign)}, which our "
            "networks do not use and which could run code on this computer. Use models made by "
            "this program only."
        )


def _foreign_classes(config: object) -> Iterator[str]:
    """Yield the class names in a Keras configuration that are not allowed."""
    if isinstance(config, Mapping):
        name = config.get("class_name")
        module = config.get("module")
        allowed = name in ALLOWED_CLASSES and config.get("registered_name") in (None, name)
        if name is not None and not allowed:
            yield str(name)
        if module is not None and module.split(".")[0] not in ("keras", "builtins"):
            yield str(module)
        for value in config.values():
            yield from _foreign_classes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _foreign_classes(value)


def load_model(card: ModelCard) -> keras.Model:
    """Load the network of a card: the one door through which a model file comes in.

    Raises
    ------
    UserError
        Where the file was damaged or exchanged since its card was read, or Keras cannot
        make a network of it.
    """
    read_card(card.path)
    import keras

    try:
        return keras.saving.load_model(card.path, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras, h5py or zipfile raise on a damaged file
        raise UserError(
            f"The model {card.path.name} cannot be loaded: {error}. Copy it again from where it "
            "came from."
        ) from error


def save_model(model: keras.Model, card: ModelCard) -> ModelCard:
    """Save a network without optimizer to `card.path` and the card beside it.

    Older files of these names are replaced.

    Returns
    -------
    ModelCard
        The card with the sha256 of the written file.

    Raises
    ------
    UserError
        Where the files cannot be written.
    """
    with atomic_write(card.path, overwrite=True) as temporary:
        model.save(temporary)
    written = replace(card, sha256=file_sha256(card.path))
    written.write()
    return written


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
