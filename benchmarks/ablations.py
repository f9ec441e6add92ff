"""What each choice of the training is worth: small networks that differ in one choice only.

Every row of a table of `TABLES` takes as many steps as the others and is measured on the ``val``
images, which nothing is trained on; with --without KIND once more by a network that never saw this
kind of image. WORK keeps every network, so a stopped run goes on where it was::

    python benchmarks/ablations.py FOLDER ... --work WORK --init IMAGENET.npz --page
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accuracy import PAGE, Measured, groups_of, measure, replace_section
from leave_kind_out import CROPS, STEPS, trained

from napari_unet_cells.core.metrics import summarize
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.architectures import ARCHITECTURES, build, encoder_unet
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import load_model
from napari_unet_cells.models.encoders import ENCODERS
from napari_unet_cells.models.runtimes.torch import import_torch
from napari_unet_cells.models.runtimes.torch_network import TorchNetwork
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

#: Side of the tile that networks are timed on, and how often.
TILE, TURNS = 512, 9

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


class SlopeSteps(TorchSteps):
    """Steps whose loss asks for the slope of the distance to the boundary as well.

    ::

        4 * (|dy(p) - dy(t)| + |dx(p) - dx(t)|)          p, t: distance, predicted and true

    The slope points to the middle of a cell, as the flows of Cutler et al. do ("Omnipose", Nature
    Methods 2022); where two cells touch it turns around.
    """

    def batch_loss(self, targets: Any, logits: Any, weights: Any) -> Any:
        """Give the loss of a batch."""
        found, true = logits[..., -1].sigmoid(), targets[..., -1].float() / 255
        slopes = sum((found.diff(dim=d) - true.diff(dim=d)).abs().mean() for d in (1, 2))
        return super().batch_loss(targets, logits, weights) + 4 * slopes


def _slope_steps(model: keras.Model, form: LossForm) -> Steps:
    return SlopeSteps(model, WEIGHT_DECAY, CLIPNORM, form.distance, form.soft)


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


def _dilated_backbone(
    channels: int, options: Mapping[str, Any], weights: str | None
) -> keras.Model:
    """Keep the last two blocks of a MobileNet at stride 16, the last one with gaps instead.

    So its kernels see as far as they learned to (Chen et al., "Rethinking atrous convolution",
    2017), and their weights serve.
    """
    import keras
    from keras import layers

    usual = ENCODERS["mobilenet"].build(channels, options, weights)
    x = usual.get_layer("conv_pw_11_relu").output
    for block, dilation in ((12, 1), (13, 2)):
        filters = usual.get_layer(f"conv_pw_{block}").filters
        x = layers.DepthwiseConv2D(
            3, padding="same", use_bias=False, dilation_rate=dilation, name=f"conv_dw_{block}"
        )(x)
        for part in ("dw", "pw"):
            if part == "pw":
                x = layers.Conv2D(filters, 1, use_bias=False, name=f"conv_pw_{block}")(x)
            x = layers.BatchNormalization(name=f"conv_{part}_{block}_bn")(x)
            x = layers.ReLU(6.0, name=f"conv_{part}_{block}_relu")(x)
    return keras.Model(usual.inputs, x)


@dataclass(frozen=True)
class Variant:
    """One choice made otherwise: what is said of it, and how the options change."""

    said: str
    change: Callable[[TrainOptions], TrainOptions] = lambda options: options


def _crops(**changes: Any) -> Callable[[TrainOptions], TrainOptions]:
    return lambda options: replace(options, augment=replace(options.augment, **changes))


def _options(**changes: Any) -> Callable[[TrainOptions], TrainOptions]:
    return lambda options: replace(options, **changes)


#: How the training goes.
CHOICES: dict[str, Variant] = {
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

#: How far and how wide the network is, and what it learns.
NETWORKS: dict[str, Variant] = {
    "usual": Variant("nothing else"),
    "again": Variant("nothing but the draw of the crops", _options(seed=1)),
    "deeper": Variant("all of MobileNet, one level more", _options(architecture="deeper")),
    "dilated": Variant(
        "all of MobileNet, with gaps at stride 16", _options(architecture="dilated")
    ),
    "wide-decoder": Variant(
        "decoder of twice the width", _options(build={"alpha": 0.25, "decoder": (96, 64, 48)})
    ),
    "slope": Variant("slope of the distance learned", _options(backend="torch with slope")),
    "simulated": Variant("15 % of the crops simulated", _crops(synthetic=0.15)),
}

#: Rows by the section of the page that holds them.
TABLES = {"ablations": CHOICES, "ablations-networks": NETWORKS}


def register() -> None:
    """Add the rows that only this benchmark has to the tables of the package."""
    usual = ARCHITECTURES[USUAL]
    ARCHITECTURES["separable"] = replace(usual, build=_separable)
    ARCHITECTURES["full_resolution"] = replace(usual, build=_full_resolution)
    deeper = replace(ENCODERS["mobilenet"], skips=(*ENCODERS["mobilenet"].skips, "conv_pw_13_relu"))
    ENCODERS["deeper"] = deeper
    ARCHITECTURES["deeper"] = replace(
        usual,
        build=partial(encoder_unet, "deeper", (64, 48, 32, 24)),
        stride=deeper.stride,
        encoder="deeper",
    )
    ENCODERS["dilated"] = replace(
        ENCODERS["mobilenet"],
        construct=_dilated_backbone,
        skips=(*ENCODERS["mobilenet"].skips[:-1], "conv_pw_13_relu"),
    )
    ARCHITECTURES["dilated"] = replace(
        usual, build=partial(encoder_unet, "dilated", (48, 32, 24)), encoder="dilated"
    )
    BACKENDS["torch with dice"] = replace(BACKENDS["torch"], steps=_dice_steps)
    BACKENDS["torch with slope"] = replace(BACKENDS["torch"], steps=_slope_steps)


def found_by(card: ModelCard, items: Sequence[AnnotatedImage]) -> list[str]:
    """Measure a network: AP at IoU 0.5 and 0.75 and foreground IoU, of each folder."""
    groups = groups_of(list(measure([i for i in items if i.split == "val"], card)))
    return [score for name in groups if "," not in name for score in _scores(groups[name])]


def _scores(measured: Sequence[Measured]) -> list[str]:
    found = summarize([one.score for one in measured])
    return [f"{found.ap50:.3f}", f"{found.ap75:.3f}", f"{found.iou:.3f}"]


def how_long(cards: Sequence[ModelCard]) -> list[float]:
    """Time what each network takes for a tile, as a part of what the first one takes.

    In 32-bit floats by PyTorch; the networks take turns.
    """
    networks = [TorchNetwork(load_model(card), "cpu") for card in cards]
    for network in networks:
        network.half = False
    tile = np.random.default_rng(0).random((1, TILE, TILE, 3), dtype=np.float32)
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(TURNS + 1):
        for network, mine in zip(networks, times, strict=True):
            start = time.perf_counter()
            network.logits(tile)
            mine.append(time.perf_counter() - start)
    medians = [statistics.median(mine[1:]) for mine in times]  # the first turn warms up
    return [median / medians[0] for median in medians]


@dataclass(frozen=True)
class Bench:
    """Trains what is missing in its folder, and measures it.

    Attributes
    ----------
    items : sequence of AnnotatedImage
    work : Path
    training : TrainOptions
    without : str or None
        Kind of image that is left out, the second time.
    """

    items: Sequence[AnnotatedImage]
    work: Path
    training: TrainOptions
    without: str | None = None

    def columns(self) -> list[str]:
        """Name what is measured."""
        sets = sorted({item.folder for item in self.items if item.split == "val"})
        sets += [f"{self.without}, never seen"] if self.without else []
        scores = ("AP 0.5", "AP 0.75", "IoU")
        return [f"{name}: {score}" for name in sets for score in scores]

    def row(self, name: str, variant: Variant) -> tuple[ModelCard, list[str]]:
        """Train a variant and measure it."""
        card = self._trained(name, variant, self.items)
        cells = found_by(card, self.items)
        if self.without:
            others = [item for item in self.items if item.modality != self.without]
            blind = self._trained(f"{name}-without-{self.without}", variant, others)
            of_kind = [i for i in self.items if i.modality == self.without and i.split == "val"]
            cells += _scores(list(measure(of_kind, blind)))
        return card, cells

    def _trained(self, name: str, variant: Variant, items: Sequence[AnnotatedImage]) -> ModelCard:
        path = self.work / f"{name}-{self.training.steps}-steps.keras"
        learned = [item for item in items if item.split == "train"]
        return trained(learned, path, variant.change(self.training))


def main() -> None:
    """Train, measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", type=Path, help="annotated folders")
    parser.add_argument("--work", type=Path, default=Path("build/ablations"))
    parser.add_argument("--init", help="weights of MobileNet v1 of width 0.25 to start from")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--table", choices=TABLES, default="ablations")
    parser.add_argument("--only", nargs="*", choices=sorted({*CHOICES, *NETWORKS}))
    parser.add_argument("--without", metavar="KIND", help="kind of image to leave out as well")
    parser.add_argument("--page", action="store_true", help="write the table into the page")
    options = parser.parse_args()
    if not options.data:
        print("Name annotated folders: benchmarks/ablations.py FOLDER ...")
        return
    variants = TABLES[options.table]
    if unknown := set(options.only or ()) - set(variants):
        raise UserError(f"The table {options.table} has no row {', '.join(sorted(unknown))}.")
    items = read_annotated_images(options.data)
    if options.without and options.without not in {i.modality for i in items if i.split == "val"}:
        raise UserError(f"No image to measure on is of the kind {options.without}.")
    import_torch()  # before the first training, not after
    section = options.table
    if options.page and f"<!-- {section}: start -->" not in PAGE.read_text(encoding="utf-8"):
        raise UserError(f"{PAGE} has no section {section}.")
    register()
    options.work.mkdir(parents=True, exist_ok=True)
    training = TrainOptions(init=options.init, steps=options.steps, augment=CROPS, backend="torch")
    bench = Bench(items, options.work, training, options.without)
    cards: list[ModelCard] = []
    found: list[tuple[str, str, list[str]]] = []
    for name in options.only or variants:
        card, cells = bench.row(name, variants[name])
        print(f"{name}: {' '.join(cells)}", flush=True)
        cards.append(card)
        found.append((variants[name].said, f"{card.path.stat().st_size / 1e6:.1f}", cells))
    columns = ["what is different", "MB", "time", *bench.columns()]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for (said, size, cells), ratio in zip(found, how_long(cards), strict=True):
        rows.append(f"| {' | '.join([said, size, f'{ratio:.2f}', *cells])} |")
    said = f"Networks of width 0.25, {options.steps} steps each with torch."
    table = "\n".join([*rows, "", said])
    print(table)
    if options.page:
        replace_section(section, table)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
