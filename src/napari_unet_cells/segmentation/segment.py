"""Segment images with a model: shared by the dock, `segment`, batches and `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from napari_unet_cells.core.channels import ManyChannels
from napari_unet_cells.core.planes import Channels, Planes, many_channels, planes_of
from napari_unet_cells.core.predict import Network
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, find_model
from napari_unet_cells.segmentation.pipeline import Event, Settings, segment_planes
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.tracked import check_tracking, tracked
from napari_unet_cells.tracking import TrackingOptions


@dataclass(frozen=True)
class Opened:
    """The network is ready; `device` is for the user."""

    device: str


@dataclass(frozen=True)
class Segmenter:
    """A model, and how its network is opened: segments any number of images.

    Attributes
    ----------
    card : ModelCard
    open : callable (card) -> Network
        Called for each image once it is known to fit the model; it may wait for a child process.
    """

    card: ModelCard
    open: Callable[[ModelCard], Network]

    @classmethod
    def of(cls, card: ModelCard, network: Network) -> Segmenter:
        """Make one of a network that is open already."""
        return cls(card, lambda _: network)

    def events(
        self,
        planes: Planes,
        settings: Settings | None = None,
        source: Mapping[str, Any] | None = None,
        uncertainty: bool = False,
    ) -> Generator[Opened | Event, None, None]:
        """Segment planes step by step; parameters as in `pipeline.segment_planes`.

        Yields
        ------
        Opened
            First; then the events of `pipeline.segment_planes`, a `Result` last.

        Raises
        ------
        UserError
            Where the image and the model do not fit, the model cannot be opened, or the image is
            constant or holds infinite values.
        """
        check_channels(planes, self.card)
        network = self.open(self.card)
        yield Opened(network.device)
        yield from segment_planes(planes, network, self.card, settings, source, uncertainty)

    def result(
        self,
        planes: Planes,
        settings: Settings | None = None,
        source: Mapping[str, Any] | None = None,
        *,
        uncertainty: bool = False,
    ) -> Result:
        """Segment planes and return the result; see `events`."""
        for event in self.events(planes, settings, source, uncertainty):
            if isinstance(event, Result):
                return event
        raise AssertionError("the last event is a Result")


def segment(
    image: ArrayLike,
    model: str | Path = DEFAULT_MODEL,
    *,
    axes: str | None = None,
    channel: Channels | None = None,
    projection: str | None = None,
    channel_names: Sequence[str] = (),
    diameter: float | None = None,
    link: str | None = None,
    track: bool | TrackingOptions = False,
    test_time_augmentation: bool = False,
    quality: str | None = None,
    runtime: str = "",
) -> Result:
    """Segment an image.

    Parameters
    ----------
    image : array, (y, x) grey or (y, x, 3) RGB or (y, x, 4) RGBA, any real dtype
        With `axes` also a stack or channels; numpy, dask or zarr.
    model : str or Path
        Name of an installed model, or a `.keras` file with its card beside it.
    axes : str, optional
        One letter an axis, such as "ZYX", "TCYX", "YXC". All planes are segmented.
    channel : int, str, or a sequence of them, optional
        Of the axis "C": numbers from 0, or names. Several are projected, or become one image for
        a model that was trained on as many channels.
    projection : str, optional
        "max" or "mean" of the chosen channels, by default of all: nuclei and cytoplasm together
        for a model of one channel. Each channel is stretched on its own first.
    channel_names : sequence of str, optional
        Of all channels, such as ("DAPI", "GFP"): to choose them by name, and for messages.
    diameter : float, optional
        Typical cell diameter in pixels; estimated by default.
    link : str, optional
        Letter of the axis along which cells are linked, "Z" or "T": cells that overlap from plane
        to plane get the same id.
    track : bool or TrackingOptions
        Track the cells of a movie, with the axes "TYX" (and channels): `Result.tracks`, and cells
        have the ids of their tracks. Needs the library laptrack.
    test_time_augmentation : bool
        Average predictions over four mirrored copies: slightly more accurate, up to four times
        slower.
    quality : str, optional
        Old name: "high" stands for ``test_time_augmentation=True``, "normal" for False.
    runtime : str, optional
        Library that computes the network, "openvino" or "tensorflow"; by default the best one
        there is.

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
    planes = planes_of(image, axes, channel, projection, channel_names)
    if quality not in (None, "normal", "high"):
        raise UserError(f"The quality is normal or high, not '{quality}'.")
    settings = Settings(
        diameter,
        link=link_axis(planes, axes, link),
        test_time_augmentation=test_time_augmentation or quality == "high",
    )
    card = find_model(model)
    if track:
        if link is not None:
            raise UserError("Cells are either linked or tracked. Leave one of the two out.")
        letters = "".join((axes or "").upper()[axis] for axis in planes.free) + "YX"
        check_tracking(letters, planes.shape[0], card.makes_cells)
    segmenter = Segmenter(card, lambda card: open_network(card, runtime))
    result = segmenter.result(planes, settings, many_channels(planes), uncertainty=True)
    if not track:
        return result
    return tracked(result, TrackingOptions() if track is True else track)


def link_axis(planes: Planes, axes: str | None, link: str | None) -> int | None:
    """Axis of the labels that a letter stands for.

    Raises
    ------
    UserError
        Where the planes do not follow each other along this axis.
    """
    if link is None:
        return None
    letters = "".join((axes or "").upper()[axis] for axis in planes.free)
    if link.upper() not in letters or len(link) != 1:
        known = " or ".join(letters) or "none: it is a single plane"
        raise UserError(f"Cells cannot be linked along '{link}'; the planes follow {known}.")
    return letters.index(link.upper())


def check_channels(planes: Planes, card: ModelCard) -> None:
    """Refuse an image of other channels than the model was trained on.

    Raises
    ------
    UserError
    """
    together = isinstance(planes.data, ManyChannels) and planes.color
    if planes.channels in (0, 3) and card.channels in (1, 3) and not together:
        return
    if planes.channels != card.channels:
        way_out = "a projection of the channels (max or mean), " if together else ""
        raise UserError(
            f"The model {card.name} was trained on images of {card.channels} channels, and this "
            f"one has {planes.channels or 1}. Choose {way_out}another model or image."
        )
