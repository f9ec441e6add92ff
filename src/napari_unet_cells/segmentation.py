"""The composition: limits, network, cells; every result knows how it was made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet_cells import __version__
from napari_unet_cells.errors import UserError
from napari_unet_cells.instances import label_cells
from napari_unet_cells.nets import DEFAULT_MODEL, ModelCard, find_model
from napari_unet_cells.normalize import HIGH, LOW, Limits, percentile_limits
from napari_unet_cells.predict import Network, Output, TileDone, predict_plane


@dataclass(frozen=True)
class Separating:
    """All tiles are done; the cells are being separated."""


@dataclass(frozen=True)
class Result:
    """What one run made.

    Attributes
    ----------
    cells : uint16 (uint32 beyond 65,535 cells) array, (y, x), or None
        One label per cell, 1 to n; None where the model has no boundary class.
    classes : uint8 array, (y, x)
        Argmax of the logits; for the shipped models 0 background, 1 cell, 2 boundary.
    provenance : mapping
        Model, parameters, version, source and date; ready for JSON.
    """

    cells: NDArray[np.uint16] | NDArray[np.uint32] | None
    classes: NDArray[np.uint8]
    provenance: Mapping[str, Any]

    @property
    def n_cells(self) -> int:
        """Number of cells, 0 where the model separates none."""
        return 0 if self.cells is None else int(self.cells.max(initial=0))


def segment(image: ArrayLike, model: str | Path = DEFAULT_MODEL) -> Result:
    """Segment one plane.

    Parameters
    ----------
    image : array, (y, x) grey or (y, x, 3) RGB or (y, x, 4) RGBA, any real dtype
    model : str or Path
        Name of an installed model, or a `.keras` file with its card beside it.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        Where the image or the model cannot be used; the sentence says why.

    Examples
    --------
    >>> from napari_unet_cells import segment
    >>> from napari_unet_cells.sample_data import simulate_nuclei
    >>> image, truth = simulate_nuclei((256, 256), seed=1)
    >>> result = segment(image)
    >>> result.cells.shape
    (256, 256)
    """
    from napari_unet_cells.engine import open_network

    plane = check_plane(image)
    card = find_model(model)
    for event in segment_plane(plane, open_network(card), card):
        if isinstance(event, Result):
            return event
    raise AssertionError("segment_plane ends with a Result")


def check_plane(image: ArrayLike) -> NDArray[Any]:
    """Check an image and give it as the plane that `segment_plane` takes.

    Parameters
    ----------
    image : array-like
        (y, x), (y, x, 3) or (y, x, 4); the alpha channel is dropped.

    Returns
    -------
    array, (y, x) or (y, x, 3); a view where possible

    Raises
    ------
    UserError
        Where it is empty, constant, not real numbers, not finite, or not one plane.
    """
    plane = np.asarray(image)
    if plane.dtype.kind not in "buif":
        raise UserError(
            f"The image has the data type {plane.dtype}, not real numbers. Convert it first, "
            "for example to its magnitude or to float32."
        )
    if plane.ndim == 3 and plane.shape[2] in (3, 4):
        plane = plane[..., :3]
    elif plane.ndim != 2:
        raise UserError(
            f"The image has the shape {plane.shape}; one plane is segmented at a time: grey "
            "(y, x) or RGB (y, x, 3). Choose a plane of the stack first."
        )
    if plane.size == 0:
        raise UserError(f"The image is empty: its shape is {plane.shape}.")
    if plane.dtype.kind == "b":
        plane = plane.view(np.uint8)
    if plane.dtype.kind == "f":
        bad = plane.size - int(np.count_nonzero(np.isfinite(plane)))
        if bad:
            raise UserError(
                f"{bad} of the image's {plane.size} values are not finite numbers (NaN or "
                "inf). Replace them first, for example with numpy.nan_to_num."
            )
    if plane.shape[0] * plane.shape[1] > 1 and plane.min() == plane.max():
        raise UserError(
            f"The image is constant: every value is {plane.flat[0]}. Is it the right channel?"
        )
    return plane


def segment_plane(
    plane: NDArray[Any],
    network: Network,
    card: ModelCard,
    out: Output | None = None,
    source: Mapping[str, Any] | None = None,
) -> Iterator[TileDone | Separating | Result]:
    """Segment a checked plane step by step.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, 3)
        As `check_plane` gives it.
    network : Network
        Of `card`.
    card : ModelCard
    out : Output, optional
        Arrays to fill while the tiles are computed.
    source : mapping, optional
        What is known of where the image came from, for the provenance.

    Yields
    ------
    TileDone
        For each tile.
    Separating
        Once, where the model separates cells.
    Result
        Last.
    """
    started = time.perf_counter()
    limits = percentile_limits(plane) or _full_limits(plane)
    if out is None:
        out = Output.empty((plane.shape[0], plane.shape[1]), card.makes_cells)
    yield from predict_plane(plane, network, limits, out)
    cells = None
    if card.makes_cells:
        yield Separating()
        cells = label_cells(out.probabilities, card.instances)
    provenance = make_provenance(card, limits, source or {})
    provenance["device"] = getattr(network, "device", "")
    provenance["seconds"] = round(time.perf_counter() - started, 3)
    yield Result(cells, out.classes, provenance)


def _full_limits(plane: NDArray[Any]) -> Limits:
    """Give limits where the sample of `percentile_limits` has one value only."""
    low, high = float(plane.min()), float(plane.max())
    if low < high:  # a few bright pixels, which the sample missed
        return Limits(low, high)
    # A single pixel has no contrast to stretch, and is segmented all the same.
    return Limits(low, low + max(1.0, abs(low)))


def make_provenance(
    card: ModelCard, limits: Limits | None, source: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe how a result was made, so that it can be made again.

    Parameters
    ----------
    card : ModelCard
    limits : Limits or None
        None where they are not known yet.
    source : mapping

    Returns
    -------
    dict
        Ready for JSON: program, version, model (name, sha256, architecture), classes,
        parameters, source and date (ISO 8601 with the offset to UTC).
    """
    return {
        "program": "napari-unet-cells",
        "version": __version__,
        "model": {
            "name": card.name,
            "sha256": card.sha256,
            "architecture": card.architecture,
        },
        "classes": list(card.classes),
        "parameters": {
            "normalization": {
                "percentiles": [LOW, HIGH],
                "limits": None if limits is None else [limits.low, limits.high],
            },
            "instances": asdict(card.instances) if card.makes_cells else None,
        },
        "source": dict(source),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
