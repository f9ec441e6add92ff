"""Make the graph of 8-bit integers of a model that ships, and see what it costs.

``make ship`` calls it. NNCF (the extra `ship`) chooses the ranges on training crops, as the network
sees them; the graph ships where average precision falls by at most 0.005, at IoU 0.5 and at 0.75,
on each of the folders that are measured. Where it falls by more, some convolutions stay floats, and
where that does not help either, a graph of 32-bit floats ships::

    python scripts/quantize_model.py cells --floats 0 1 --train DATA/dsb2018 --val DATA/dsb2018

A small folder says too little for that: with `cells` in 32-bit floats, AP50 on 5 images fell by
0.017 where they were taken to have cells 1 % wider. So every image is measured at five diameters
about the one that was estimated with TensorFlow, the same for both, and the mean counts.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.core.normalize import percentile_limits
from napari_unet_cells.core.resample import NormalizedPlane, scaled_shape
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import SHIPPED, find_model
from napari_unet_cells.models.derived import PRECISIONS, DerivedGraph
from napari_unet_cells.models.runtimes import openvino, tensorflow
from napari_unet_cells.models.runtimes.network import RuntimeNetwork
from napari_unet_cells.segmentation.cell_diameter import diameters_of, zoom_for
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.training.evaluate import segmented

#: Crops that the ranges are chosen on, and their side in pixels.
CROPS, SIDE = 300, 256

#: By how much average precision may fall.
COST = 0.005

#: Convolutions that stay floats where integers everywhere cost too much: the first depthwise one,
#: whose channels differ most in their ranges.
FLOATS = (1,)

#: Diameters at which an image is measured, as parts of the one that was estimated.
FACTORS = (0.97, 0.99, 1.0, 1.01, 1.03)


def crops(card: ModelCard, folders: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """Cut a crop out of each of many training images, at the model's scale; of all sets alike.

    Parameters
    ----------
    card : ModelCard
    folders : sequence of Path
        Annotated; only what may be trained on is read. They take turns: where a set of a few
        images had few crops, integers cost it twice as much.

    Yields
    ------
    float32 array, (1, y, x, channels)
    """
    turns = [_crops_of(card, folder) for folder in folders]
    rounds = (crop for turn in zip_longest(*turns) for crop in turn if crop is not None)
    yield from islice(rounds, CROPS)


def _crops_of(card: ModelCard, folder: Path) -> Iterator[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    items = read_annotated_images([folder], "train")
    for number in rng.permutation(len(items)):
        crop = _crop(items[number], card, rng)
        if crop is not None:
            yield crop


def _crop(
    item: AnnotatedImage, card: ModelCard, rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """Cut one crop; None where the image is constant or too small."""
    image, truth = item.read()
    limits, diameters = percentile_limits(image), diameters_of(truth)
    zoom = zoom_for(float(np.median(diameters)) if len(diameters) else 0.0, card.diameter_window)
    shape = scaled_shape((truth.shape[0], truth.shape[1]), zoom)
    sides = [min(SIDE, side // card.stride * card.stride) for side in shape]
    if limits is None or min(sides) < SIDE // 4:
        return None
    starts = [int(rng.integers(0, n - side + 1)) for n, side in zip(shape, sides, strict=True)]
    rows, columns = (slice(s, s + side) for s, side in zip(starts, sides, strict=True))
    pixels = NormalizedPlane(image, limits, shape).read((rows, columns))
    if pixels.shape[2] < card.channels:
        pixels = pixels.repeat(card.channels, axis=2)
    return pixels[np.newaxis]


def quantized(card: ModelCard, folders: Sequence[Path], floats: Sequence[int]) -> DerivedGraph:
    """Make the graph of integers.

    Parameters
    ----------
    card : ModelCard
    folders : sequence of Path
        To calibrate on.
    floats : sequence of int
        Convolutions that stay floats, by their number in the order of computing.
    """
    os.environ["NNCF_CI"] = "1"  # it reports to its makers otherwise
    body, block = openvino.body_of(card)
    import nncf

    nodes = body.get_ordered_ops()
    convolutions = [node for node in nodes if node.get_type_name().endswith("Convolution")]
    names = [convolutions[number].get_friendly_name() for number in floats]
    looks = list(crops(card, folders))
    made = nncf.quantize(
        body,
        nncf.Dataset(looks),
        subset_size=len(looks),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        ignored_scope=nncf.IgnoredScope(names=names) if names else None,
    )
    return openvino.finished(made, card, block, "mixed" if names else "int8")


def diameters(network: RuntimeNetwork, items: Sequence[AnnotatedImage]) -> list[float]:
    """Estimate the cell diameter of each image."""
    return [segmented(item.read()[0], network, network.card).diameter for item in items]


def precision(
    network: RuntimeNetwork, items: Sequence[AnnotatedImage], widths: Sequence[float]
) -> dict[str, float]:
    """Average precision at IoU 0.5 and 0.75, mean over `FACTORS`.

    Parameters
    ----------
    network : RuntimeNetwork
    items : sequence of AnnotatedImage
    widths : sequence of float
        Diameter of each image.
    """
    found: dict[str, list[float]] = {"ap50": [], "ap75": []}
    for factor in FACTORS:
        scores = []
        for item, width in zip(items, widths, strict=True):
            image, truth = item.read()
            # Where no cell was seen, there is nothing to vary.
            settings = Settings(diameter=width * factor) if width else None
            scores.append(compare(truth, segmented(image, network, network.card, settings).cells))
        summary = summarize(scores)
        found["ap50"].append(summary.ap50)
        found["ap75"].append(summary.ap75)
    return {name: float(np.mean(values)) for name, values in found.items()}


def worst_cost(card: ModelCard, graph: DerivedGraph, folders: Sequence[Path]) -> float:
    """Compare a graph with TensorFlow on each folder; give the largest fall of a precision."""
    reference, candidate = tensorflow.open_network(card, cpu=True), openvino.open_graph(card, graph)
    worst = 0.0
    for folder in folders:
        items = read_annotated_images([folder], "val")
        widths = diameters(reference, items)
        before, after = (precision(network, items, widths) for network in (reference, candidate))
        for name in before:
            print(f"{card.name} {folder.name} {name}: {before[name]:.4f} {after[name]:.4f}")
            worst = max(worst, before[name] - after[name])
    return worst


def main() -> None:
    """Quantise the models that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", metavar="NAME", help="of models that ship")
    parser.add_argument("--train", nargs="+", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--val", nargs="+", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--floats", nargs="*", type=int, default=FLOATS, help="convolutions that may stay floats"
    )
    parser.add_argument("--output", type=Path, default=SHIPPED, metavar="FOLDER")
    options = parser.parse_args()
    for name in options.models:
        card = find_model(SHIPPED / f"{name}.keras")
        print(
            ship(smallest(card, options.train, options.val, options.floats), card, options.output)
        )


def smallest(
    card: ModelCard, train: Sequence[Path], val: Sequence[Path], floats: Sequence[int]
) -> DerivedGraph:
    """Take integers as far as they cost little.

    Parameters
    ----------
    card : ModelCard
    train, val : sequence of Path
        Folders to calibrate on, and to measure on.
    floats : sequence of int
        Convolutions that stay floats in the second attempt; none for no second attempt.
    """
    for kept in ((), floats) if floats else ((),):
        graph = quantized(card, train, kept)
        cost = worst_cost(card, graph, val)
        if cost <= COST:
            return graph
        print(f"{card.name} loses {cost:.4f} with {len(kept)} in floats; {COST} is allowed.")
    print(f"{card.name}: floats ship.")
    return openvino.convert(card)


def ship(graph: DerivedGraph, card: ModelCard, folder: Path) -> Path:
    """Write a graph, and remove those of the same name in other precisions.

    Returns
    -------
    Path
        Of the graph.
    """
    for other in PRECISIONS:
        for ending in ("xml", "bin"):
            (folder / f"{card.name}.{other}.{ending}").unlink(missing_ok=True)
    return graph.write(folder, card.name, card)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
