"""A model card in words, for the biologist who asks what a model is good for.

The words are put together once, as parts of paragraphs, points and a table, and then written as
HTML for the dock or as plain text for a tooltip and the command line::

    about(card)       <h3>Works on</h3><ul><li>Nuclei ...</li></ul>
    about_text(card)  Works on              the same, wrapped
                      - Nuclei ...

A card may come from anywhere: what it says is shown and never followed, and scores of another
shape than ours are left out.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet_cells.core.labels import CELL_CLASSES
from napari_unet_cells.models.architectures import unknown_architecture

if TYPE_CHECKING:
    from napari_unet_cells.models.card import ModelCard

#: Characters in a line of plain text, and in one of a tooltip.
WIDTH, TIP_WIDTH = 88, 60

#: Lines that one thing takes in a tooltip at most.
TIP_LINES = 2

LOOK_AT_RESULTS = (
    "Look at its results with Review, in the section Correct, before you rely on them."
)

#: Heading of a column of scores and the keys of its value, in the order of the table.
_COLUMNS = {
    "images": ("n_images", "images"),
    "AP50": ("ap50",),
    "AP75": ("ap75",),
    "IoU": ("iou",),
    "mean IoU": ("mean_iou",),
    "before": ("ap50_of_parent", "mean_iou_of_parent"),
}

#: Columns of which at least one makes a mapping the scores of something.
_MEASURES = {"AP50", "AP75", "IoU", "mean IoU"}

#: Names above a score; ours are two at most, but a stranger's card may go down a thousand times.
_DEEPEST = 3

#: What a column means.
_MEANINGS = {
    "AP50": "AP50: of all cells that are there or were found, the part that is both. A found "
    "cell counts where it shares with a true one at least half of the area that the two cover.",
    "AP75": "AP75: the same with three quarters of the area, which takes a good outline.",
    "IoU": "IoU: the area that all found and all true cells share, divided by the area that they "
    "cover.",
    "mean IoU": "Mean IoU: the area that what was found of a class and what is there share, "
    "divided by the area that both cover; a mean over the classes.",
    "before": "Before: the same score of the model that this one was retrained from.",
}


@dataclass(frozen=True)
class Part:
    """A heading and what stands below it, in this order.

    Attributes
    ----------
    heading : str
    before : tuple of str
        Paragraphs.
    points : tuple of str
        Of a list.
    rows : tuple of tuple of str
        Of a table; the first one names the columns.
    after : tuple of str
        Paragraphs.
    """

    heading: str
    before: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    after: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing stands below the heading."""
        return not (self.before or self.points or self.rows or self.after)


def about(card: ModelCard) -> str:
    """Describe a model as HTML without links, colours or pictures.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    str
        What Qt's rich text knows; everything that the card says is escaped.
    """
    title = f"<h2>{html.escape(_clean(card.name))}</h2>"
    described = _html_paragraphs(filter(None, [_clean(card.description)]))
    return title + described + "".join(_as_html(part) for part in _parts(card))


def about_text(card: ModelCard, full: bool = False) -> str:
    """Describe a model as plain, wrapped text.

    Parameters
    ----------
    card : ModelCard
    full : bool
        All that `about` says; by default a few lines, as a tooltip has room for.
    """
    if not full:
        return _tip(card)
    head = [_clean(card.name), *_wrapped(_clean(card.description))]
    return "\n\n".join(["\n".join(head), *map(_as_text, _parts(card))])


def _tip(card: ModelCard) -> str:
    """Name, what it is, how wide the cells are, when not to use it."""
    said = re.split(r"(?<=[.!?])\s+(?=[A-Z])", _clean(card.description))[0]
    if not said and card.works_on and not card.parent:
        said = _clean(card.works_on[0])
    sentences = [said or "Nobody wrote down which images it works on."]
    if card.diameters[1] > 0:
        sentences.append(_learned_from(card))
    if card.fails_on and not card.parent:
        sentences.append("Not for: " + " ".join(map(_clean, card.fails_on)))
    lines = textwrap.wrap(_clean(card.name), TIP_WIDTH, max_lines=1, placeholder=" ...")
    for sentence in sentences:
        lines += textwrap.wrap(sentence, TIP_WIDTH, max_lines=TIP_LINES, placeholder=" ...")
    return "\n".join(lines)


# --- the parts --------------------------------------------------------------------------


def _parts(card: ModelCard) -> list[Part]:
    parts = [
        _works_on(card),
        _sizes(card),
        _fails_on(card),
        _classes(card),
        Part("Learned from", points=tuple(map(_data_set, card.trained_on))),
        _scores(card.scores),
        _file(card),
    ]
    return [part for part in parts if not part.empty]


def _works_on(card: ModelCard) -> Part:
    points = tuple(map(_clean, card.works_on))
    before: tuple[str, ...] = ()
    if card.parent:
        before = ("It is made for images like those that it was retrained on.",)
        if points:  # they are its parent's
            before = (f"{before[0]} Its parent, {_parent(card)}, was made for:",)
        else:
            before = (f"{before[0]} Nobody wrote down on which others it works. {LOOK_AT_RESULTS}",)
    elif not points:
        before = (f"Nobody wrote down in its card which images it works on. {LOOK_AT_RESULTS}",)
    several = card.channels not in (1, 3)  # those take grey and colour
    after = (f"Its images have {card.channels} channels.",) if several else ()
    return Part("Works on", before, points, after=after)


def _learned_from(card: ModelCard) -> str:
    return f"It learned mostly from cells {_range(card.diameters)} pixels wide."


def _sizes(card: ModelCard) -> Part:
    said = []
    if card.diameters[1] > 0:
        said.append(_learned_from(card))
    if card.diameter_window[1] > 0:
        said.append(
            "An image is zoomed for it until a typical cell is "
            f"{_range(card.diameter_window)} pixels wide, so other sizes are found too."
        )
        if card.typical_diameter > 0:
            said.append(
                f"Cells are taken to be {card.typical_diameter:.0f} pixels wide, as in the images "
                "that it was retrained on; where yours are not, say so under 'Cell size'."
            )
        elif card.makes_cells:
            said.append(
                "How wide your cells are is estimated from the image; where the estimate is "
                "wrong, say it under 'Cell size'."
            )
            if card.tuned_diameter > 0:
                said.append(
                    f"Where they seem about {card.tuned_diameter:.0f} pixels wide, as in the "
                    "regions that it was retrained on, they are taken to be just as wide."
                )
    elif said:
        said.append("It sees every image as it is, so yours should have cells of this size.")
    if said:
        said.append("Only pixels count: the pixel size in micrometers plays no part.")
    return Part("Size of the cells", points=tuple(said))


def _fails_on(card: ModelCard) -> Part:
    points = tuple(map(_clean, card.fails_on))
    before = (f"This was written for its parent, {_parent(card)}:",) if card.parent else ()
    return Part("When not to use it", before if points else (), points)


def _classes(card: ModelCard) -> Part:
    named = ", ".join(map(_clean, card.classes))
    if not card.makes_cells:
        return Part("Classes", (f"Each pixel gets one of {named}; cells are not separated.",))
    if set(card.classes) - set(CELL_CLASSES):
        return Part("Classes", (f"Besides single cells, each pixel gets one of {named}.",))
    return Part("Classes")


def _data_set(known: Mapping[str, Any]) -> str:
    """One line on a data set, of what its card says."""
    texts = {key: _clean(value) for key, value in known.items() if isinstance(value, str)}
    line = texts.get("name") or "images without a name"
    images = _number(known.get("images"))
    if images is not None:
        line += f", {images:,.0f} image{'' if images == 1 else 's'}"
    if texts.get("license"):
        line += f", licence {texts['license']}"
    return f"{line}: {texts['origin']}" if texts.get("origin") else line


def _scores(scores: Mapping[str, Any]) -> Part:
    found = list(_score_rows(scores))
    columns = [name for name in _COLUMNS if any(name in row for _, row in found)]
    if not found:
        return Part("Scores")
    header = ("measured on", *columns)
    rows = [(name, *(row.get(column, "") for column in columns)) for name, row in found]
    said = [_MEANINGS[column] for column in columns if column in _MEANINGS]
    said.append("All go from 0 to 1, and 1 is perfect.")
    names = " ".join(name for name, _ in found)
    if "validation" in names:
        said.append("Validation images belong to the same data sets; it did not learn from them.")
    if _HELD_OUT in names:
        said.append("Held-out images belong to the data set; the model was not trained on them.")
    return Part("Scores", rows=(header, *rows), after=(" ".join(said),))


_HELD_OUT = "held-out images"


def _score_rows(
    scores: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Give what was measured on, and the values by column; they may lie some names deep."""
    values = {
        column: f"{value:,.0f}" if column == "images" else f"{value:.2f}"
        for column, keys in _COLUMNS.items()
        for value in (_number(scores.get(key)) for key in keys)
        if value is not None
    }
    if values.keys() & _MEASURES:
        yield _measured_on(above), values
        return
    for name, inner in scores.items():
        if isinstance(inner, Mapping) and len(above) < _DEEPEST:
            yield from _score_rows(inner, (*above, str(name)))


def _measured_on(names: Sequence[str]) -> str:
    """Say the names that training and retraining give in words."""
    said = _clean(", ".join(names)) or "not said"
    return re.sub(r"\bval\b", "validation", said).replace("held_out", _HELD_OUT)


def _file(card: ModelCard) -> Part:
    points = list(filter(None, [unknown_architecture(card)]))
    if card.parent:
        points.append(f"Retrained from {_parent(card)}.")
    if card.date:
        points.append(f"Made on {_clean(card.date)}.")
    if card.license:
        points.append(f"Licence: {_clean(card.license)}.")
    if card.path.is_file():  # it may have been deleted since it was listed
        size = card.path.stat().st_size / 1e6
        points.append(f"{_clean(str(card.path))}, {size:.1f} MB.")
    return Part("The file", points=tuple(points))


# --- words ------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """Take out what is no sign: a card must not steer the terminal or turn text around."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _number(value: object) -> float | None:
    """Give a number that can be shown, else None: a card may hold anything, as 10 ** 400."""
    if isinstance(value, int | float) and abs(value) < 1e9:
        return float(value)
    return None


def _range(limits: tuple[float, float]) -> str:
    low, high = (f"{limit:.0f}" for limit in limits)
    return f"about {high}" if low == high else f"{low} to {high}"


def _parent(card: ModelCard) -> str:
    return _clean(card.parent.get("name", "")) or "another model"


# --- HTML and text ----------------------------------------------------------------------


def _html_paragraphs(sentences: Iterator[str] | Sequence[str]) -> str:
    return "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)


def _as_html(part: Part) -> str:
    points = "".join(f"<li>{html.escape(point)}</li>" for point in part.points)
    return "".join(
        [
            f"<h3>{html.escape(part.heading)}</h3>",
            _html_paragraphs(part.before),
            f"<ul>{points}</ul>" if points else "",
            _html_table(part.rows),
            _html_paragraphs(part.after),
        ]
    )


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = []
    for number, (first, *others) in enumerate(rows):
        tag = "td" if number else "th"
        cells = "".join(f'<{tag} align="right">{html.escape(cell)}</{tag}>' for cell in others)
        lines.append(f'<tr><{tag} align="left">{html.escape(first)}</{tag}>{cells}</tr>')
    return f'<table cellpadding="3" cellspacing="0">{"".join(lines)}</table>'


def _wrapped(text: str, indent: str = "", hanging: str = "") -> list[str]:
    """Wrap a text; names of files and of data sets stay whole."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _as_text(part: Part) -> str:
    lines = [part.heading]
    for paragraph in part.before:
        lines += _wrapped(paragraph)
    for point in part.points:
        lines += _wrapped(point, "- ", "  ")
    widths = [max(map(len, column)) for column in zip(*part.rows, strict=True)]
    for first, *others in part.rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    for paragraph in part.after:
        lines += _wrapped(paragraph)
    return "\n".join(lines)
