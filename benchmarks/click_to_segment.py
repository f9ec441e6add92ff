"""How well a click finds a cell that a run missed, on the `val` images of annotated folders.

Every image is segmented as a user would. Each true cell without a partner of IoU 0.5 is clicked
at its deepest point; then background is clicked, where nothing should be found. Last, a simulated
user mends image after image until AP at IoU 0.5 reaches 0.95, with the tool and without::

    python benchmarks/click_to_segment.py FOLDER ... --model NAME --images 50
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from napari_unet_cells.core.metrics import compare, found_cells, summarize
from napari_unet_cells.core.planes import Plane, planes_of
from napari_unet_cells.core.predict import Network
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, find_model
from napari_unet_cells.segmentation.click import FoundCell, dropped_cell, edit_of, find_cell
from napari_unet_cells.segmentation.result import Fragments, Result
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.segmentation.segment_at import typical_diameter

#: Words in the modality of an image that make it one of these; all others are nuclei.
WHOLE_CELLS, BACTERIA = ("phase", "whole", "cytoplasm", "membrane"), ("bacteria", "rods")

#: AP at IoU 0.5 with which the simulated user is content.
ENOUGH = 0.95

#: Seconds that the simulated user takes, without the computing: to click, to press a key (Undo),
#: and to draw an outline.
CLICK_SECONDS, KEY_SECONDS, STROKE_SECONDS = 1.5, 1.0, 8.0

#: Background is clicked so many times an image, at least so many diameters from any true cell.
BACKGROUND_CLICKS, BACKGROUND_DISTANCE = 2, 0.55


@dataclass(frozen=True, eq=False)
class Missed:
    """A true cell without a partner, and its deepest point."""

    number: int
    point: tuple[int, int]


@dataclass(eq=False)
class Clicks:
    """What clicks on the missed cells of one modality gave."""

    hits_background: list[bool] = field(default_factory=list)
    hits_kept: list[bool] = field(default_factory=list)
    hits_label: list[bool] = field(default_factory=list)
    hits_resized: list[bool] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    false_alarms: list[bool] = field(default_factory=list)

    def add(self, other: Clicks) -> None:
        """Count those of another image, too."""
        for name, values in vars(other).items():
            getattr(self, name).extend(values)

    @property
    def hits(self) -> list[bool]:
        """All of them, on background and on wrong cells."""
        return self.hits_background + self.hits_label


@dataclass(frozen=True, eq=False)
class Clicker:
    """A model with its open network, and how it is asked for a cell."""

    network: Network
    card: ModelCard

    def click(
        self, image: Plane, point: tuple[int, int], cells: NDArray[Any], diameter: float
    ) -> FoundCell:
        """Click on one point of an image with these cells."""
        return find_cell(image, point, self.network, self.card, diameter, labels=cells)


def modality_of(item: AnnotatedImage) -> str:
    """Nuclei, whole cells or bacteria, by the words of the image's modality."""
    words = f"{item.modality} {item.folder}".lower()
    if any(word in words for word in BACTERIA):
        return "bacteria"
    return "whole cells" if any(word in words for word in WHOLE_CELLS) else "nuclei"


def missed_cells(truth: NDArray[np.int32], cells: NDArray[Any]) -> list[Missed]:
    """Find the true cells without a partner of IoU 0.5, and their deepest points."""
    numbers = np.unique(truth)
    numbers = numbers[numbers > 0]
    missed = []
    boxes = ndimage.find_objects(truth)
    for number in numbers[~found_cells(truth, cells)].tolist():
        y, x = boxes[number - 1]
        depth = ndimage.distance_transform_edt(np.pad(truth[y, x] == number, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        missed.append(Missed(number, (int(row) + y.start, int(column) + x.start)))
    return missed


def iou(found: FoundCell, true: NDArray[np.bool_]) -> float:
    """Overlap of a found cell with the true one in its plane."""
    both = np.count_nonzero(true[found.box.slices] & found.mask)
    return both / (np.count_nonzero(true) + np.count_nonzero(found.mask) - both)


def click_missed(
    clicker: Clicker,
    image: Plane,
    truth: NDArray[np.int32],
    cells: NDArray[Any],
    diameter: float,
    fragments: Fragments,
    clicks: Clicks,
) -> None:
    """Click on every missed cell of an image as the run left it."""
    for missed in missed_cells(truth, cells):
        true = truth == missed.number
        started = time.perf_counter()
        found = clicker.click(image, missed.point, cells, diameter)
        clicks.milliseconds.append(1000 * (time.perf_counter() - started))
        hit = bool(found) and iou(found, true) >= 0.5
        if cells[missed.point]:
            clicks.hits_label.append(hit)
        else:
            clicks.hits_background.append(hit)
            kept = dropped_cell(fragments, missed.point, diameter, clicker.card.instances, cells)
            clicks.hits_kept.append(hit if kept is None else iou(kept, true) >= 0.5)
        near = [found.resized(steps) for steps in (-2, -1, 0, 1, 2)]
        clicks.hits_resized.append(bool(found) and max(iou(one, true) for one in near) >= 0.5)


def click_background(
    clicker: Clicker,
    image: Plane,
    truth: NDArray[np.int32],
    cells: NDArray[Any],
    diameter: float,
    clicks: Clicks,
) -> None:
    """Click where there is neither a true cell nor one that the run found."""
    far = ndimage.distance_transform_edt(truth == 0) >= BACKGROUND_DISTANCE * diameter
    places = np.argwhere(far & (cells == 0))
    chosen = np.random.default_rng(0).permutation(len(places))[:BACKGROUND_CLICKS]
    for y, x in places[chosen].tolist():
        clicks.false_alarms.append(bool(clicker.click(image, (y, x), cells, diameter)))


# --- the simulated user ------------------------------------------------------------------


@dataclass
class Work:
    """What a user did until an image was good enough."""

    clicks: int = 0
    keys: int = 0
    strokes: int = 0
    computing: float = 0.0

    @property
    def seconds(self) -> float:
        """How long that takes."""
        by_hand = self.clicks * CLICK_SECONDS + self.keys * KEY_SECONDS
        return by_hand + self.strokes * STROKE_SECONDS + self.computing


def mend(
    image: Plane,
    truth: NDArray[np.int32],
    cells: NDArray[Any],
    diameter: float,
    clicker: Clicker | None,
) -> Work:
    """Simulate a user who mends an image until it is good enough.

    One missed cell after another is clicked, and drawn where what comes is not the cell; without
    a clicker every cell is drawn. What is left of a wrong cell stays where that is more than half
    of it. At the end cells that are none are deleted, a click each.
    """
    work, now = Work(), cells.astype(np.int32)
    for missed in missed_cells(truth, cells):
        if _ap50(truth, now) >= ENOUGH:
            return work
        true, under = truth == missed.number, int(now[missed.point])
        pixels = true & ((now == 0) | (now == under))
        if clicker is not None:
            started = time.perf_counter()
            found = clicker.click(image, missed.point, now, diameter)
            work.computing += time.perf_counter() - started
            work.clicks += 1
            if found and iou(found, true) >= 0.5:
                edit = edit_of(found, now, int(now.max()) + 1)
                now[edit.rows, edit.columns] = edit.values
                continue
            work.keys += bool(found)
        work.strokes += 1
        _place(now, pixels, under)
    for number in np.unique(now[now > 0]).tolist():
        if _ap50(truth, now) >= ENOUGH:
            return work
        if not found_cells(now * (now == number), truth).any():
            work.clicks += 1
            now[now == number] = 0
    return work


def _place(now: NDArray[np.int32], mask: NDArray[np.bool_], under: int) -> None:
    """Add a cell; of the one that was under it what is more than half stays."""
    area = np.count_nonzero(now == under) if under else 0
    now[mask] = now.max() + 1
    if under and np.count_nonzero(now == under) <= area / 2:
        now[now == under] = 0


def _ap50(truth: NDArray[np.int32], cells: NDArray[Any]) -> float:
    return summarize([compare(truth, cells)]).ap50


# --- all of it ---------------------------------------------------------------------------


def segmented(
    items: Sequence[AnnotatedImage], card: ModelCard, network: Network
) -> Iterator[tuple[AnnotatedImage, Plane, NDArray[np.int32], Result]]:
    """Segment the images; those that cannot be are passed over."""
    segmenter = Segmenter.of(card, network)
    for item in tqdm(items, desc=card.name, disable=None):
        image, truth = item.read()
        planes = planes_of(image, "YXC" if image.ndim == 3 else "YX")
        try:
            result = segmenter.result(planes)
        except UserError as error:
            print(f"{item.name}: {error}")
            continue
        yield item, planes.plane(()), truth, result


def report(clicks: dict[str, Clicks], work: dict[str, list[tuple[Work, Work]]]) -> None:
    """Print what was found, and what mending took."""
    for modality, one in sorted(clicks.items()):
        if one.hits:
            print(
                f"{modality}: {_share(one.hits)} missed cells found (IoU 0.5) - "
                f"{_share(one.hits_background)} on background "
                f"({_share(one.hits_kept)} with what the run kept), "
                f"{_share(one.hits_label)} under a wrong cell, "
                f"{_share(one.hits_resized)} with up to two steps of the size; "
                f"{statistics.median(one.milliseconds):.0f} ms a click (median); something found "
                f"at {_share(one.false_alarms)} clicks on background"
            )
    if work:
        print(
            f"To AP50 {ENOUGH}, at {CLICK_SECONDS} s a click, {KEY_SECONDS} s a key and "
            f"{STROKE_SECONDS} s a drawn outline; means an image:"
        )
    for modality, pairs in sorted(work.items()):
        for name, done in zip(("with", "without"), zip(*pairs, strict=True), strict=True):
            print(
                f"{modality}, {name} the tool ({len(done)} images): "
                f"{statistics.fmean(one.clicks for one in done):.1f} clicks, "
                f"{statistics.fmean(one.strokes for one in done):.1f} strokes, "
                f"{statistics.fmean(one.seconds for one in done):.0f} s, of which the computer "
                f"takes {statistics.fmean(one.computing for one in done):.1f} s"
            )


def _share(hits: Sequence[bool]) -> str:
    return f"{100 * sum(hits) / max(1, len(hits)):.0f} % of {len(hits)}"


def measure(
    items: Sequence[AnnotatedImage], clicker: Clicker, mending: bool
) -> tuple[dict[str, Clicks], dict[str, list[tuple[Work, Work]]]]:
    """Click and mend; both by modality, the clicks by data set as well."""
    clicks: dict[str, Clicks] = {}
    work: dict[str, list[tuple[Work, Work]]] = {}
    for item, image, truth, result in segmented(items, clicker.card, clicker.network):
        cells = result.cells
        assert cells is not None
        diameter = typical_diameter(image, clicker.network, clicker.card, cells)
        one = Clicks()
        click_missed(clicker, image, truth, cells, diameter, result.fragments[0], one)
        click_background(clicker, image, truth, cells, diameter, one)
        print(f"{item.name}: {_share(one.hits)} missed cells found", flush=True)
        modality = modality_of(item)
        for name in (modality, f"{modality}, {item.name.partition('/')[0]}"):
            clicks.setdefault(name, Clicks()).add(one)
        if mending:
            sides = [mend(image, truth, cells, diameter, tool) for tool in (clicker, None)]
            work.setdefault(modality, []).append((sides[0], sides[1]))
    return clicks, work


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="*", help="annotated folders")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, help="at most so many, spread over all")
    parser.add_argument("--no-mending", action="store_true", help="do not simulate the user")
    options = parser.parse_args()
    if not options.folders:  # `make bench` runs all benchmarks, with or without data
        print("Name annotated folders to click on the cells of.")
        return
    card = find_model(options.model)
    items = read_annotated_images(options.folders, options.split)
    step = -(-len(items) // options.images) if options.images else 1
    clicker = Clicker(open_network(card), card)
    report(*measure(items[::step], clicker, not options.no_mending))


if __name__ == "__main__":
    main()
