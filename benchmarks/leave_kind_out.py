"""What a network makes of a kind of image that it was never shown.

For every kind of image in the annotated folders a small network is trained on all the others, and
measured on the ``val`` images of the kind that was left out, beside a network that took as many
steps on everything. WORK keeps every network, so a stopped run goes on where it was::

    python benchmarks/leave_kind_out.py FOLDER ... --work WORK --init IMAGENET.npz --page

With ``--synthetic 0.25`` it is measured beside one that saw as little of the kind, but a quarter of
whose crops were of simulated worlds.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accuracy import PAGE, Measured, measure, replace_section
from tqdm import tqdm

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.metrics import summarize
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.datasets.index import write_index
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.training.backends import BACKENDS
from napari_unet_cells.training.crops import AugmentOptions
from napari_unet_cells.training.events import StepDone
from napari_unet_cells.training.train import train
from napari_unet_cells.training.trainer import TrainOptions

#: Kinds with fewer images to learn from are not left out: little would change.
FEWEST = 30

#: In five to ten minutes on two cores.
STEPS = 1000

#: As for the models that ship, but shorter, and of crops as they are in use from the beginning.
CROPS = AugmentOptions(diameters=(8.0, 90.0), window=(18.0, 36.0), mild=0.5)


def kinds_of(items: Sequence[AnnotatedImage]) -> list[str]:
    """Kinds of image that are worth leaving out."""
    kinds = [item.modality for item in items if item.split == "train"]
    measured = {item.modality for item in items if item.split == "val"}
    return sorted(kind for kind in measured if kinds.count(kind) >= FEWEST)


def write_dataset(folder: Path, items: Sequence[AnnotatedImage]) -> None:
    """Copy images and masks into a data set of their own."""
    records = []
    for item in items:
        name = f"{item.folder}-{item.image.name}"
        for part, source in (("images", item.image), ("masks", item.mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / part / name)
        records.append({"name": name, "kind": item.modality, "split": item.split})
    write_index(folder, records)


def trained(items: Sequence[AnnotatedImage], path: Path, options: TrainOptions) -> ModelCard:
    """Train on these images, or take the network that an earlier run made of them."""
    if path.with_suffix(".json").is_file():
        card = read_card(path)
        if card.instances != InstanceOptions():  # fitted last
            return card
    # Nothing is measured by the training itself: what was left out is no part of its data.
    write_dataset(path.with_suffix(""), [item for item in items if item.split == "train"])
    checkpoint = path.with_suffix(".checkpoint")
    resume = (checkpoint / "state.json").is_file()
    with tqdm(total=options.steps, desc=path.stem, disable=None) as bar:
        for event in train([path.with_suffix("")], path, options, resume=resume, overwrite=True):
            if isinstance(event, StepDone):
                bar.update(event.step - bar.n)
    return read_card(path)


def row_of(kind: str, without: Sequence[Measured], with_it: Sequence[Measured]) -> str:
    """Markdown: how both networks do on the same images."""
    cells = [kind, f"{len(without)}"]
    for measured in (without, with_it):
        found = summarize([one.score for one in measured])
        cells += [f"{found.ap50:.3f}", f"{found.iou:.3f}"]
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Bench:
    """Trains what is missing in its folder, and measures it."""

    items: Sequence[AnnotatedImage]
    work: Path
    backend: str
    steps: int
    init: str | None

    def measured(self, kind: str | None, synthetic: float = 0.0) -> dict[str, list[Measured]]:
        """Measure a network that never saw a kind, or that saw all, by kind."""
        name = f"without-{kind}" if kind else "all"
        name += f"-{synthetic:g}-simulated" if synthetic else ""
        path = self.work / f"{name}-{self.backend}-{self.steps}-steps.keras"
        options = TrainOptions(
            init=self.init,
            steps=self.steps,
            augment=replace(CROPS, synthetic=synthetic),
            backend=self.backend,
        )
        card = trained([item for item in self.items if item.modality != kind], path, options)
        by_kind: dict[str, list[Measured]] = {}
        chosen = [i for i in self.items if i.split == "val" and kind in (None, i.modality)]
        for one in measure(chosen, card):
            by_kind.setdefault(one.item.modality, []).append(one)
        return by_kind


def main() -> None:
    """Train, measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", type=Path, help="annotated folders")
    parser.add_argument("--work", type=Path, default=Path("build/leave-kind-out"))
    parser.add_argument("--init", help="weights of MobileNet v1 of width 0.25 to start from")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--backend", default="tensorflow", choices=BACKENDS)
    parser.add_argument("--synthetic", type=float, default=0.0, help="part of the crops, 0 to 1")
    parser.add_argument("--kinds", nargs="*", help="to leave out; all of them by default")
    parser.add_argument("--page", action="store_true", help="write the table into the page")
    options = parser.parse_args()
    if not options.data:
        print("Name annotated folders: benchmarks/leave_kind_out.py FOLDER ...")
        return
    items = read_annotated_images(options.data)
    if len(kinds_of(items)) < 2:
        raise UserError(f"The folders need two kinds of image, each with {FEWEST} to learn from.")
    section = "kinds-simulated" if options.synthetic else "kinds"
    if options.page and f"<!-- {section}: start -->" not in PAGE.read_text(encoding="utf-8"):
        raise UserError(f"{PAGE} has no section {section}.")  # before the trainings, not after
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(items, options.work, options.backend, options.steps, options.init)
    kinds = [kind for kind in kinds_of(items) if options.kinds is None or kind in options.kinds]
    beside = f"without it, {options.synthetic:.0%} simulated" if options.synthetic else "with it"
    rows = [
        f"| kind left out | images | AP at IoU 0.5 without it | IoU | {beside} | IoU |",
        "|---|---|---|---|---|---|",
    ]
    everything = {} if options.synthetic else bench.measured(None)
    for kind in kinds:
        other = bench.measured(kind, options.synthetic) if options.synthetic else everything
        rows.append(row_of(kind, bench.measured(kind)[kind], other[kind]))
    said = f"Networks of width 0.25, {options.steps} steps each with {options.backend}."
    table = "\n".join([*rows, "", said])
    print(table)
    if options.page:
        replace_section(section, table)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
