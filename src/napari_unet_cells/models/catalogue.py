"""Find installed models by name, and load and save their networks.

Models lie beside this file (those that ship), in the user's model folder, or anywhere. Keras is
not loaded until `load_model` is called.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import atomic_write, make_folder, write_together
from napari_unet_cells.files.file_set import finish_all, finish_sets
from napari_unet_cells.models.card import ModelCard, file_sha256, model_files, read_card
from napari_unet_cells.models.loading_problem import loading_problem
from napari_unet_cells.models.model_file import check_model_file, weights_bytes
from napari_unet_cells.models.network_size import check_network_size
from napari_unet_cells.models.runtimes.library import claim_any
from napari_unet_cells.settings import models_folder, preferences, recall, remember
from napari_unet_cells.untrusted.names import file_name
from napari_unet_cells.untrusted.rules import Malformed, printable

if TYPE_CHECKING:
    import keras

#: Models that come with the package.
SHIPPED = Path(__file__).parent / "weights"

DEFAULT_MODEL = "cells"

#: The square of a larger number is beyond 32 bits, so that a network with it computes none.
LARGEST_WEIGHT = 1.8e19

#: Characters of the name of a new model that come from the old one.
_LONGEST_NAME = 60

#: Models of this process alone, by name; see `lend`.
_lent: dict[str, Path] = {}

#: Cards that were read, by their model's path.
_read: dict[Path, _Read] = {}

#: Nanoseconds after which a file that did not change is taken to be what it was when it was read.
_SETTLED = 2_000_000_000

#: Key of `settings` under which the default model is remembered.
_DEFAULT = "default_model"


def model_folders() -> tuple[Path, Path]:
    """Folders that are searched for models by name: the user's own first."""
    return models_folder(), SHIPPED


def installed_models() -> dict[str, ModelCard]:
    """Cards of the installed models by name; a broken one is left out.

    A model of the user's hides a shipped one of the same name.
    """
    found = found_models()
    return {name: card for name, card in found.items() if isinstance(card, ModelCard)}


@dataclass(frozen=True)
class _Read:
    """What a model file and its card held when they were read last."""

    stamp: tuple[tuple[int, ...] | None, ...]
    card: ModelCard | UserError


def _card_of(path: Path) -> ModelCard | UserError:
    """Read a card, or give what was read of the same files before.

    Reading checks the network's file as well, which takes 20 ms a model, and lists are made in the
    window. What was changed a moment ago is read again: it may change once more in the same tick of
    the disk's clock.
    """
    stamp = tuple(map(_state_of, model_files(path)))
    known = _read.get(path)
    if known is not None and known.stamp == stamp:
        return known.card
    card: ModelCard | UserError
    try:
        card = read_card(path)
    except UserError as error:
        card = error
    changed = max((max(state[:2]) for state in stamp if state is not None), default=0)
    if time.time_ns() - changed > _SETTLED:
        _read[path] = _Read(stamp, card)
    return card


def _state_of(path: Path) -> tuple[int, ...] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ctime_ns, state.st_mtime_ns, state.st_size, state.st_ino


def broken_models() -> dict[str, UserError]:
    """Errors of the models in a model folder that cannot be used, by name."""
    found = found_models()
    return {name: error for name, error in found.items() if isinstance(error, UserError)}


def found_models() -> dict[str, ModelCard | UserError]:
    """Cards of the installed models by name, and what is wrong with the broken ones.

    Reads every file once, which `installed_models` and `broken_models` do each.
    """
    found: dict[str, ModelCard | UserError] = {}
    finish_all(models_folder())
    for folder in reversed(model_folders()):
        for path in sorted(folder.glob("*.keras")):
            found[path.stem] = _card_of(path)
    for name, path in _lent.items():
        with contextlib.suppress(UserError):  # its files may be gone
            found[name] = read_card(path)
    return found


def lend(card: ModelCard) -> None:
    """List a model by its name in this process, wherever it lies; nothing is copied.

    One that was lent by this name before is forgotten, and one that is installed is hidden.
    """
    _lent[card.name] = card.path


def take_back(name: str) -> None:
    """List a lent model no more."""
    _lent.pop(name, None)


def install(card: ModelCard, name: str) -> ModelCard:
    """Copy a model into the user's folder under another name.

    Returns
    -------
    ModelCard
        Of the copy.

    Raises
    ------
    UserError
        Where there is a model of this name, the files are gone, or the disk refuses.
    """
    try:
        content = card.path.read_bytes()
    except OSError as error:
        raise UserError(f"{card.path} cannot be read ({error.strerror or error}).") from error
    path = models_folder() / f"{name}.keras"
    copy = replace(card, name=name, path=path)
    make_folder(path.parent)
    with write_together(model_files(path)) as folder:
        with atomic_write(folder / path.name) as temporary:
            temporary.write_bytes(content)
        replace(copy, path=folder / path.name).write()
    return copy


def default_model() -> str:
    """Name of the model that is chosen where the user chooses none.

    The one chosen in napari's preferences; else the one that was chosen after a retraining
    (see `make_default`); else the one that ships.
    """
    folders = model_folders()
    for name in (preferences().default_model, recall(_DEFAULT)):
        if name and any((folder / f"{name}.keras").is_file() for folder in folders):
            return str(name)
    return DEFAULT_MODEL


def make_default(name: str) -> None:
    """Choose a model from now on, where the user's preferences name none.

    Only to be called where the user asked for it: a retrained model may be worse.
    """
    remember(_DEFAULT, name)


def next_name(name: str) -> str:
    """Name with the next free number: cells-2 after cells, cells-3 after cells-2.

    A card says its name, and may come from anywhere; what no file can be called becomes "_".
    """
    stem, _, number = _bare(name).rpartition("-")
    is_numbered = bool(stem) and re.fullmatch("[0-9]{1,6}", number) is not None
    first = int(number) + 1 if is_numbered else 2
    stem = stem if is_numbered else _bare(name)
    folder = models_folder()
    while os.path.lexists(folder / f"{stem}-{first}.keras"):
        first += 1
    return f"{stem}-{first}"


def _bare(name: str) -> str:
    """Make a name fit for a file of every system, without its ending."""
    plain = re.sub(r"[^\w. +-]+", "_", name).strip("._ ")[:_LONGEST_NAME]
    try:
        return file_name(plain)
    except Malformed:
        return "model"


def find_model(name_or_path: str | Path) -> ModelCard:
    """Card of an installed model, or of a model file.

    Raises
    ------
    UserError
        Where there is no such model, or its files are not what they should be.
    """
    text = str(name_or_path)
    if text in _lent:
        return read_card(_lent[text])
    if "/" not in text and "\\" not in text:
        finish_all(models_folder())
        for folder in model_folders():
            if os.path.isfile(folder / f"{text}.keras"):
                return read_card(folder / f"{text}.keras")
    path = Path(os.path.expanduser(text))
    if path.suffix == ".keras":
        finish_sets(model_files(path))
    if os.path.exists(path):
        return read_card(path)
    names = ", ".join(installed_models()) or "none"
    raise UserError(
        f"There is no model '{text}': neither an installed one (installed: {names}) nor a file "
        "of this name. 'napari-unet-cells models' lists what is installed."
    )


def load_model(card: ModelCard) -> keras.Model:
    """Load the network of a card: the one door through which a model file comes in.

    Raises
    ------
    UserError
        Where the file was damaged or exchanged since its card was read, or Keras cannot
        make a network of it.
    """
    if read_card(card.path).sha256 != card.sha256:
        raise UserError(
            f"The model {card.path.name} was replaced while it was opened. Choose it again."
        )
    _check_size(card.path)
    claim_any()
    import keras

    try:
        with warnings.catch_warnings():  # of Keras, about what is refused below
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(card.path, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras, h5py or zipfile raise on a damaged file
        raise UserError(
            f"The model {card.path.name} cannot be loaded: {loading_problem(error)}. Copy it again "
            "from where it came from."
        ) from error
    _check_numbers(model, card)
    inside = (model.input_shape, model.output_shape)
    stated = (
        (None, None, None, card.channels),
        (None, None, None, len(card.classes) + card.distance),
    )
    if inside != stated:
        raise UserError(
            f"The model {card.path.name} does not fit its card: it turns {inside[0]} into "
            f"{inside[1]}, and the card says {stated[0]} into {stated[1]}. Copy both files again."
        )
    return model


def _check_size(path: Path) -> None:
    """Refuse a network that would ask for more memory than its file has numbers for."""
    try:
        check_network_size(check_model_file(path), weights_bytes(path))
    except Malformed as error:
        raise UserError(
            f"The model {path.name} cannot be loaded: {error}. Copy it again from where it came "
            "from."
        ) from error


def _check_numbers(model: keras.Model, card: ModelCard) -> None:
    """Refuse weights that are no numbers: such a network finds nothing, and does not say why."""
    for layer in model.layers:
        # NaN is not below anything
        if not all((abs(weights) <= LARGEST_WEIGHT).all() for weights in layer.get_weights()):
            raise UserError(
                f"The model {card.path.name} holds numbers that are none (NaN or infinite), or too "
                f"large to compute with, in its layer {printable(layer.name, 60)}: its training "
                "failed. Train it again, or choose another model."
            )


def save_model(model: keras.Model, card: ModelCard) -> ModelCard:
    """Save a network without optimizer to `card.path` and the card beside it.

    Older files of these names are replaced, both or none, also where the program is killed.

    Returns
    -------
    ModelCard
        The card with the sha256 of the written file.

    Raises
    ------
    UserError
        Where the files cannot be written.
    """
    with write_together(model_files(card.path), overwrite=True) as folder:
        path = folder / card.path.name
        with atomic_write(path) as temporary:
            model.save(temporary)
        written = replace(card, sha256=file_sha256(path))
        replace(written, path=path).write()
    return written
