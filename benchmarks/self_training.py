"""What a network gains from images that nobody has annotated: it learns from its own labels.

For a kind of image that a network has never seen (one of ``leave_kind_out.py``), it labels the
``train`` images of that kind itself, each by four mirrored copies. Then it goes on twice for as
many steps: once on the kinds that it knew, and once on its own labels as well. Both are measured on
``val`` images. WORK keeps every network, so a stopped run goes on where it was::

    python benchmarks/self_training.py FOLDER ... --kind KIND --network MODEL.keras --work WORK
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accuracy import measure
from leave_kind_out import CROPS, trained
from PIL import Image

from napari_unet_cells.core.metrics import summarize
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.datasets.index import write_index
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes.torch import import_torch
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.training.evaluate import segmented
from napari_unet_cells.training.trainer import TrainOptions

#: Steps that a network goes on, and at which rate: half of that of a training.
STEPS, RATE = 600, 1e-3

#: An image in which a network finds fewer cells teaches nothing.
FEWEST = 5


def label(card: ModelCard, items: Sequence[AnnotatedImage], folder: Path) -> list[AnnotatedImage]:
    """Write images with the labels that a network gives them, as a data set."""
    if not (folder / "index.json").is_file():
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        network = open_network(card, "torch")
        records = []
        for item in items:
            image, _ = item.read()
            cells = segmented(image, network, card, Settings(test_time_augmentation=True)).cells
            if cells is None or cells.max() < FEWEST:
                continue
            name = item.image.name
            shutil.copy(item.image, folder / "images" / name)
            mask = (folder / "masks" / name).with_suffix(".png")
            Image.fromarray(cells.astype(np.uint16)).save(mask)
            records.append({"name": name, "kind": item.modality, "split": "train"})
        write_index(folder, records)
    return read_annotated_images([folder])


def row_of(said: str, card: ModelCard, groups: Sequence[Sequence[AnnotatedImage]]) -> str:
    """Markdown: AP at IoU 0.5 and 0.75 and foreground IoU of a network, of each group of images."""
    cells = [said]
    for items in groups:
        found = summarize([one.score for one in measure(list(items), card)])
        cells += [f"{found.ap50:.3f}", f"{found.ap75:.3f}", f"{found.iou:.3f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Label, train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", type=Path, help="annotated folders")
    parser.add_argument("--network", help="one that never saw the kind")
    parser.add_argument("--kind", help="of image that it labels itself")
    parser.add_argument("--work", type=Path, default=Path("build/self-training"))
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    if not (options.data and options.network and options.kind):
        print("Name folders, network and kind: benchmarks/self_training.py FOLDER ... --kind KIND")
        return
    import_torch()  # before the first training, not after
    items = read_annotated_images(options.data)
    train = [item for item in items if item.split == "train"]
    others = [item for item in train if item.modality != options.kind]
    val = [item for item in items if item.split == "val"]
    groups = [
        [item for item in val if item.modality == options.kind],
        [item for item in val if item.modality != options.kind],
    ]
    if not all(groups) or len(others) == len(train):
        raise UserError(f"The folders need images of {options.kind} and of another kind.")
    options.work.mkdir(parents=True, exist_ok=True)
    card = find_model(options.network)
    unseen = [item for item in train if item.modality == options.kind]
    own = label(card, unseen, options.work / "own-labels")
    further = TrainOptions(
        init=str(card.path),
        steps=options.steps,
        learning_rate=RATE,
        augment=CROPS,
        backend="torch",
    )
    more = trained(others, options.work / "more.keras", further)
    taught = trained([*others, *own], options.work / "own.keras", further)
    scores = ("AP 0.5", "AP 0.75", "IoU")
    columns = [f"{name}: {score}" for name in (options.kind, "others") for score in scores]
    print(f"| network | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    print(row_of("as it was", card, groups))
    print(row_of(f"{options.steps} steps more on what it knew", more, groups))
    said = f"{options.steps} steps more, on its labels of {len(own)} images too"
    print(row_of(said, taught, groups))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
