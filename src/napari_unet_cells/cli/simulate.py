"""``napari-unet-cells simulate``: images with known cells, to train and to measure on."""

from __future__ import annotations

import argparse

from napari_unet_cells.cli import values

DONE = 0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser("simulate", help="simulate images of cells with their masks")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        type=values.path,
        help="new folder for images/, masks/, index.json and sheet.png, which shows them",
    )
    parser.add_argument("-n", "--number", type=int, default=100, help="images (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="the same gives the same (default: 0)")
    parser.add_argument(
        "--kinds",
        type=_names,
        default=(),
        metavar="NAME,NAME,...",
        help="shapes and appearances to choose from, such as colonies,phase-contrast (default: "
        "all; a name that there is not lists them)",
    )
    parser.add_argument(
        "--size", type=int, default=256, metavar="PIXELS", help="side of an image (default: 256)"
    )
    parser.set_defaults(command=_simulate)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _simulate(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from napari_unet_cells.training.synthetic.dataset import write_dataset

    events = write_dataset(
        options.output, options.number, options.seed, options.kinds, options.size
    )
    cells = [one.cells for one in tqdm(events, total=max(options.number, 0), disable=None)]
    print(f"{len(cells)} images with {sum(cells)} cells: {options.output}")
    return DONE
