"""What each choice of the training is worth: small networks that differ in one choice only.

Every row of `VARIANTS` takes as many steps as the others and is measured on the ``val`` images,
which nothing is trained on. WORK keeps every network, so a stopped run goes on where it was::

    python benchmarks/ablations.py FOLDER ... --work WORK --init IMAGENET.npz --page
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accuracy import PAGE, groups_of, measure, replace_section
from leave_kind_out import CROPS, STEPS, trained

from napari_unet_cells.core.metrics import summarize
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.architectures import ARCHITECTURES, build
from napari_unet_cells.models.runtimes.torch import import_torch
from napari_unet_cells.training.backends import (
    BACKENDS,
    CLIPNORM,
    WEIGHT_DECAY,
    LossForm,
    Steps,
)
from napari_unet_cells.training.torch_steps import TorchSteps
from napari_unet_cells.training.trainer import TrainOptions

if TYPE_CHECKING:
    import keras

#: The network that all others are variants of.
USUAL = "mobilenet_unet"

#: Filters at full resolution: more would take most of the network's time.
FULL_RESOLUTION_FILTERS = 16


class DiceSteps(TorchSteps):
    """Steps whose loss is the cross-entropy plus the Dice loss of all that is cell.

    ::

        1 - (2 * sum(p * t) + 1) / (sum(p) + sum(t) + 1)       p: probability of cell or boundary

    over all pixels of a batch (Milletari, Navab and Ahmadi, "V-Net", 3DV 2016).
    """

    def batch_loss(self, targets: Any, logits: Any, weights: Any) -> Any:
        """Give the loss of a batch."""
        cell = 1 - logits[..., :3].softmax(dim=-1)[..., 0]
        true = (targets[..., 0] > 0).float()
        dice = (2 * (cell * true).sum() + 1) / (cell.sum() + true.sum() + 1)
        return super().batch_loss(targets, logits, weights) + 1 - dice


def _dice_steps(model: keras.Model, form: LossForm) -> Steps:
    return DiceSteps(model, WEIGHT_DECAY, CLIPNORM, form.distance, form.soft)


def _separable(n_classes: int, channels: int, options: Mapping[str, Any]) -> keras.Model:
    """Replace each 3x3 convolution of the decoder by a depthwise and a 1x1 one."""
    import keras
    from keras import layers

    def call(layer: Any, *inputs: Any, **named: Any) -> Any:
        if not layer.name.startswith("decoder_") or not isinstance(layer, layers.Conv2D):
            return layer(*inputs, **named)
        depthwise = layers.DepthwiseConv2D(
            3, padding="same", use_bias=False, name=f"{layer.name}_depthwise"
        )
        pointwise = layers.Conv2D(layer.filters, 1, use_bias=False, name=f"{layer.name}_pointwise")
        return pointwise(depthwise(*inputs))

    usual = build(USUAL, n_classes, channels, **options)
    return keras.models.clone_model(usual, call_function=call)


def _full_resolution(n_classes: int, channels: int, options: Mapping[str, Any]) -> keras.Model:
    """Replace the sub-pixel head by a level that sees the pixels of the image again."""
    import keras
    from keras import layers

    usual = build(USUAL, n_classes, channels, **options)
    (image,) = usual.inputs
    width = FULL_RESOLUTION_FILTERS
    fine = layers.Conv2D(width, 3, padding="same", name="fine_skip")(image)
    x = layers.Conv2DTranspose(width, 2, strides=2, name="fine_up")(
        usual.get_layer("decoder_2b_relu").output
    )
    x = layers.Concatenate(name="fine_join")([x, layers.ReLU(name="fine_skip_relu")(fine)])
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="fine")(x)
    x = layers.ReLU(name="fine_relu")(layers.BatchNormalization(name="fine_bn")(x))
    return keras.Model(image, layers.Conv2D(n_classes, 1, name="head")(x))


@dataclass(frozen=True)
class Variant:
    """One choice made otherwise: what is said of it, and how the options change."""

    said: str
    change: Callable[[TrainOptions], TrainOptions] = lambda options: options


def _crops(**changes: Any) -> Callable[[TrainOptions], TrainOptions]:
    return lambda options: replace(options, augment=replace(options.augment, **changes))


def _options(**changes: Any) -> Callable[[TrainOptions], TrainOptions]:
    return lambda options: replace(options, **changes)


VARIANTS: dict[str, Variant] = {
    "usual": Variant("nothing else"),
    "no-imagenet": Variant("untrained weights to start from", _options(init=None)),
    "never-mild": Variant("no mild crops", _crops(mild=0.0)),
    "always-mild": Variant("mild crops only", _crops(mild=1.0)),
    "one-scale": Variant("no other scales than that of use", _crops(diameters=(18.0, 36.0))),
    "even-weights": Variant(
        "between touching cells no more weight", _crops(weights=(1.0, 1.0, 1.0, 1.0))
    ),
    "heavy-boundary": Variant("boundaries weigh twice", _crops(weights=(1.0, 1.0, 2.0, 4.0))),
    "dice": Variant("Dice loss added", _options(backend="torch with dice")),
    "separable": Variant("separable decoder", _options(architecture="separable")),
    "full-resolution": Variant(
        "a level at full resolution", _options(architecture="full_resolution")
    ),
}


def register() -> None:
    """Add the rows that only this benchmark has to the tables of the package."""
    usual = ARCHITECTURES[USUAL]
    ARCHITECTURES["separable"] = replace(usual, build=_separable)
    ARCHITECTURES["full_resolution"] = replace(usual, build=_full_resolution)
    BACKENDS["torch with dice"] = replace(BACKENDS["torch"], steps=_dice_steps)


def row_of(
    variant: Variant, path: Path, items: Sequence[AnnotatedImage], options: TrainOptions
) -> str:
    """Markdown: train a variant and measure it."""
    card = trained([i for i in items if i.split == "train"], path, variant.change(options))
    groups = groups_of(list(measure([i for i in items if i.split == "val"], card)))
    cells = [variant.said, f"{path.stat().st_size / 1e6:.1f}"]
    for name in (name for name in groups if "," not in name):
        found = summarize([one.score for one in groups[name]])
        cells += [f"{found.ap50:.3f}", f"{found.ap75:.3f}", f"{found.iou:.3f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train, measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", type=Path, help="annotated folders")
    parser.add_argument("--work", type=Path, default=Path("build/ablations"))
    parser.add_argument("--init", help="weights of MobileNet v1 of width 0.25 to start from")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--page", action="store_true", help="write the table into the page")
    options = parser.parse_args()
    if not options.data:
        print("Name annotated folders: benchmarks/ablations.py FOLDER ...")
        return
    import_torch()  # before the first training, not after
    if options.page and "<!-- ablations: start -->" not in PAGE.read_text(encoding="utf-8"):
        raise UserError(f"{PAGE} has no section ablations.")
    register()
    items = read_annotated_images(options.data)
    options.work.mkdir(parents=True, exist_ok=True)
    training = TrainOptions(init=options.init, steps=options.steps, augment=CROPS, backend="torch")
    sets = sorted({item.folder for item in items if item.split == "val"})
    columns = ["what is different", "MB"]
    columns += [f"{name}: {score}" for name in sets for score in ("AP 0.5", "AP 0.75", "IoU")]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in options.only:
        path = options.work / f"{name}-{options.steps}-steps.keras"
        rows.append(row_of(VARIANTS[name], path, items, training))
        print(rows[-1], flush=True)
    said = f"Networks of width 0.25, {options.steps} steps each with torch."
    table = "\n".join([*rows, "", said])
    print(table)
    if options.page:
        replace_section("ablations", table)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
