"""Whether cells are found at every size: each image shrunk and magnified, its cells counted.

``python benchmarks/scale.py`` takes simulated nuclei; ``python benchmarks/scale.py FOLDER...`` the
``val`` images of annotated folders; ``--model cells-fast`` another model than the default. For
each zoom it prints how far the number of cells is off that at the image's own size, AP at IoU 0.5
against the resized truth, and how often the estimated diameter is right to within half an octave;
with the scale estimated, and without.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from skimage.transform import resize

from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, find_model
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.cell_diameter import diameters_of
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.segment import Segmenter

ZOOMS = (0.25, 0.5, 1.0, 2.0, 4.0)

#: Pixels a side of an image before it is magnified; more would take long.
LARGEST = 640

#: Beyond these the cells of a resized image are not asked for.
DIAMETERS = (5.0, 150.0)


def images(folders: list[str]) -> Iterator[tuple[Any, Any]]:
    """Images and their true labels."""
    if not folders:
        for seed, diameter in enumerate((14, 20, 28, 36)):
            yield simulate_nuclei((512, 512), diameter=diameter, seed=seed)
        return
    for item in read_annotated_images(folders, "val"):
        image, truth = item.read()
        yield image[:LARGEST, :LARGEST], truth[:LARGEST, :LARGEST]


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
    options = parser.parse_args()
    card = find_model(options.model)
    segmenter = Segmenter(card, open_network)
    pairs = list(images(options.data))

    def run(image: Any, settings: Settings) -> Result:
        return segmenter.result(planes_of(image), settings)

    for name, settings in (("estimated", Settings()), ("as it is", Settings(diameter=0.0))):
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
