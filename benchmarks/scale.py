"""Whether cells are found at every size: each image shrunk and magnified, its cells counted.

``python benchmarks/scale.py`` takes simulated nuclei; ``python benchmarks/scale.py FOLDER...`` the
``val`` images of annotated folders; ``--model cells-fast`` another model than the default. For
each zoom it prints how far the number of cells is off that at the image's own size, AP at IoU 0.5
against the resized truth, and how often the estimated diameter is right to within half an octave;
with the scale estimated, and without.

``--estimate`` looks at the estimate alone: for each folder, and for each shape of simulated cells
at five sizes, how often it is right, how many pixels the network was shown for it and which part
of the time of a run it took, and what AP is with it and with the true diameter.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.core.planes import limits_of, planes_of
from napari_unet_cells.core.predict import Network
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, find_model
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.cell_diameter import diameters_of, estimate_diameter
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.training.synthetic.shapes import SHAPES
from napari_unet_cells.training.synthetic.simulate import simulate

ZOOMS = (0.25, 0.5, 1.0, 2.0, 4.0)

#: Pixels a side of an image before it is magnified; more would take long.
LARGEST = 640

#: Beyond these the cells of a resized image are not asked for.
DIAMETERS = (5.0, 150.0)

#: Diameters of simulated cells, in pixels, images of each, and the side of an image in diameters.
SIMULATED, WORLDS, SIDE = (8, 15, 30, 60, 120), 2, 10


def images(folders: list[str]) -> Iterator[tuple[Any, Any]]:
    """Images and their true labels."""
    if not folders:
        for seed, diameter in enumerate((14, 20, 28, 36)):
            yield simulate_nuclei((512, 512), diameter=diameter, seed=seed)
        return
    for item in read_annotated_images(folders, "val"):
        image, truth = item.read()
        yield image[:LARGEST, :LARGEST], truth[:LARGEST, :LARGEST]


def groups(folders: Sequence[str]) -> Iterator[tuple[str, list[tuple[Any, Any]]]]:
    """Name and images with true labels of each folder, and of each simulated shape."""
    for folder in folders:
        items = read_annotated_images([folder], "val")
        yield f"{items[0].folder} val", [item.read() for item in items]
    for shape in SHAPES:
        pairs = []
        for diameter in SIMULATED:
            for seed in range(WORLDS):
                rng = np.random.default_rng([len(shape), ord(shape[0]), diameter, 100 + seed])
                side = int(np.clip(SIDE * diameter, 256, 1000))
                image, truth, _ = simulate(rng, side, (shape,), (diameter, diameter))
                if truth.max() > 2:
                    pairs.append((image, truth))
        yield f"simulated {shape}", pairs


class Counted:
    """A network that counts the pixels it is shown."""

    def __init__(self, network: Network) -> None:
        self.network, self.pixels = network, 0

    def __getattr__(self, name: str) -> Any:  # noqa: D105
        return getattr(self.network, name)

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Pass batches on, lazily."""

        def counted() -> Iterator[NDArray[np.float32]]:
            for batch in batches:
                self.pixels += batch.shape[0] * batch.shape[1] * batch.shape[2]
                yield batch

        return self.network.predict(counted())


def judge(pairs: Iterable[tuple[Any, Any]], network: Network, card: ModelCard) -> str:
    """Estimate the diameter of each image, segment it, and give a line of a table."""
    wrong, unsure, pixels, shares, scores, ideal = [], [], [], [], [], []
    segmenter = Segmenter.of(card, network)
    for image, truth in pairs:
        planes = planes_of(image, "YXC" if image.ndim == 3 else "YX")
        plane = planes.plane(())
        limits = limits_of(plane)
        assert limits is not None
        counted = Counted(network)
        start = time.perf_counter()
        found = estimate_diameter(plane, counted, limits, card.instances, card.diameter_window)
        middle = time.perf_counter()
        # Where nothing was seen the image is looked at as it is.
        diameter = found.diameter or float(np.mean(card.diameter_window))
        result = segmenter.result(planes, Settings(diameter=diameter))
        shares.append((middle - start) / (time.perf_counter() - start))
        true = float(np.median(diameters_of(truth)))
        wrong.append(abs(np.log2(max(found.diameter, 0.1) / true)))
        unsure.append(found.unsure)
        pixels.append(counted.pixels / 1e6)
        scores.append(compare(truth, result.cells))
        known = segmenter.result(planes, Settings(diameter=true))
        ideal.append(compare(truth, known.cells))
    away = np.array(wrong)
    return (
        f"{len(away):6d} {np.mean(away < 0.5):8.0%} {np.mean(away < np.log2(2.5)):8.0%} "
        f"{np.mean(unsure):8.0%} {np.mean(pixels):8.2f} {np.median(shares):8.0%} "
        f"{summarize(scores).ap50:8.3f} {summarize(ideal).ap50:8.3f}"
    )


def print_estimates(folders: Sequence[str], model: str) -> None:
    """Print a line for each folder and shape."""
    card = find_model(model)
    network = open_network(card)
    names = ("images", "x1.41", "x2.5", "unsure", "MP", "time", "AP50", "true d")
    print(f"{card.name:24s}" + " ".join(f"{name:>8s}" for name in names)[2:])
    for name, pairs in groups(folders):
        print(f"{name:22s}{judge(pairs, network, card)}", flush=True)


def zoomed(image: Any, truth: Any, zoom: float) -> tuple[Any, Any]:
    """Both at another size; the image smoothly, the labels by nearest neighbour."""
    shape = tuple(max(1, round(n * zoom)) for n in truth.shape)
    pixels = resize(image.astype(np.float32), shape + image.shape[2:], 1, anti_aliasing=zoom < 1)
    return pixels, resize(truth, shape, 0, preserve_range=True, anti_aliasing=False).astype(int)


def main() -> None:
    """Print a line for each zoom."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", help="annotated folders")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--estimate", action="store_true", help="judge the estimate alone")
    options = parser.parse_args()
    if options.estimate:
        print_estimates(options.data, options.model)
        return
    card = find_model(options.model)
    segmenter = Segmenter(card, open_network)
    pairs = list(images(options.data))

    def run(image: Any, settings: Settings) -> Result:
        return segmenter.result(planes_of(image), settings)

    as_it_is = Settings(diameter=float(np.mean(card.diameter_window)))  # which asks for no zoom
    for name, settings in (("estimated", Settings()), ("as it is", as_it_is)):
        own = [run(image, settings).n_cells for image, _ in pairs]
        for zoom in ZOOMS:
            counts, scores, right = [], [], []
            for (image, truth), n in zip(pairs, own, strict=True):
                true = float(np.median(diameters_of(truth))) * zoom
                if not DIAMETERS[0] <= true <= DIAMETERS[1] or n == 0:
                    continue
                pixels, labels = zoomed(image, truth, zoom)
                result = run(pixels, settings)
                counts.append((result.n_cells, n))
                scores.append(compare(labels, result.cells))
                right.append(abs(np.log2(max(result.diameter, 0.1) / true)) < 0.5)
            found, expected = np.sum(counts, axis=0)
            median = np.median([abs(a / b - 1) for a, b in counts])
            print(
                f"scale {name:9s}  zoom {zoom:4g}  {len(counts):3d} images  "
                f"cells {found} of {expected} ({found / expected - 1:+.1%}), "
                f"median of images {median:.1%}, AP50 {summarize(scores).ap50:.3f}, "
                f"diameter right {np.mean(right):.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
