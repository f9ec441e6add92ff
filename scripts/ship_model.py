"""Take a trained model into the package: its weights and what was fitted, in the words of its card.

``make ship`` calls it. What a biologist is told (`WORDS`) and the description stay those of the
card that is there, until somebody edits it; the scores are new ones, which `make accuracy`
measures; the sets it learned from, with their licences, are those of its training::

    python scripts/ship_model.py build/models/cells.keras [--description TEXT]
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.models.catalogue import SHIPPED

#: What a training does not know of its model.
WORDS = ("description", "license", "works_on", "fails_on")


def ship(path: Path, shipped: Path = SHIPPED, description: str = "") -> ModelCard:
    """Copy the weights and write the card.

    Parameters
    ----------
    path : Path
        The trained model; it replaces the one of the same name.
    shipped : Path
        Folder of the models that ship.
    description : str
        By default that of before.

    Returns
    -------
    ModelCard
        Without scores: those of before are of other weights.

    Raises
    ------
    UserError
        Where one of the two is no model.
    """
    target = shipped / path.name
    before, trained = read_card(target), read_card(path)
    words = {name: getattr(before, name) for name in WORDS}
    if description:
        words["description"] = description
    shutil.copyfile(path, target)
    card = replace(trained, **words, scores={}, path=target)
    card.write()
    return card


def main() -> None:
    """Ship the models that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.keras")
    parser.add_argument("--description", default="", help="for the card, where it changes")
    options = parser.parse_args()
    for path in options.models:
        card = ship(path, description=options.description)
        print(f"{card.path}: {card.description}\nNow measure it: make accuracy")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
