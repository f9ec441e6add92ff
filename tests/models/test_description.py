"""A model card in words: everything that is known, nothing that is not, and no foreign HTML."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.core.metrics import ClassSummary, Summary
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.description import TIP_WIDTH, WIDTH, about, about_text
from napari_unet_cells.training.mixing import Measurement
from napari_unet_cells.training.retrain import _scores

CARD = ModelCard(
    name="cells",
    architecture="mobilenet_unet",
    classes=("background", "cell", "boundary"),
    channels=3,
    stride=16,
    halo=144,
    sha256="0" * 64,
    description="Nuclei in fluorescence. Trained for 102 minutes.",
    works_on=("Nuclei stained with DAPI.", "Nuclei in H&E."),
    fails_on=("Whole cells in phase contrast.",),
    diameters=(9.6, 50.8),
    diameter_window=(18.0, 36.0),
    license="BSD-3-Clause",
    date="2026-11-22",
    trained_on=(
        {"name": "dsb2018", "images": 594, "license": "CC0", "origin": "BBBC038v1"},
        {"name": "mine", "images": 1},
    ),
    scores={
        "dsb2018 val": {"n_images": 70, "ap50": 0.7767, "ap75": 0.5133, "iou": 0.8652},
        "dsb2018 val, fluorescence": {"n_images": 1059, "ap50": 0.816, "ap75": 0.575, "iou": 0.88},
    },
)

#: What no one wrote much about.
BARE = replace(
    CARD,
    description="",
    works_on=(),
    fails_on=(),
    diameters=(0.0, 0.0),
    diameter_window=(0.0, 0.0),
    license="",
    date="",
    trained_on=(),
    scores={},
    path=Path("gone.keras"),
)


def words(card: ModelCard) -> str:
    """All words in one line, wherever they were wrapped."""
    return " ".join(about_text(card, full=True).split())


class Tags(HTMLParser):
    """Collects the tags and the text of HTML."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_what_a_biologist_asks_stands_in_the_order_of_her_questions(tmp_path: Path) -> None:
    path = tmp_path / "cells.keras"
    path.write_bytes(bytes(1_400_000))
    text = about_text(replace(CARD, path=path), full=True)
    headings = [
        "cells\n", "Works on\n", "Size of the cells\n", "When not to use it\n", "Learned from\n",
        "Scores\n", "The file\n",
    ]  # fmt: skip
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert "- Nuclei in H&E.\n" in text
    assert "- Whole cells in phase contrast.\n" in text
    assert "10 to 51 pixels wide" in text
    assert "typical cell is 18 to 36 pixels wide" in text
    assert "How wide your cells are is estimated" in text
    assert "- dsb2018, 594 images, licence CC0: BBBC038v1\n- mine, 1 image\n" in text
    assert "1.4 MB" in text
    assert "Made on 2026-11-22" in text
    assert "BSD-3-Clause" in text
    assert "Classes" not in text  # they are cells


def test_html_and_text_say_the_same() -> None:
    markup = Tags(about(CARD))
    assert markup.tags == {"h2", "h3", "p", "ul", "li", "table", "tr", "th", "td"}
    plain = re.sub(r"(?m)^- ", "", about_text(CARD, full=True))
    assert markup.text.split() == plain.split()


def test_scores_are_a_table_of_equal_columns() -> None:
    lines = about_text(CARD, full=True).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("measured on"))
    header, first, second = lines[at : at + 3]
    assert header.split() == ["measured", "on", "images", "AP50", "AP75", "IoU"]
    assert first.split() == ["dsb2018", "validation", "70", "0.78", "0.51", "0.87"]
    assert second.split()[-4:] == ["1,059", "0.82", "0.57", "0.88"]
    assert len(header) == len(first) == len(second)
    assert "AP50: of all cells" in lines[at + 3]


def test_the_scores_that_our_own_programs_write_are_shown() -> None:
    cells = Summary((0.9,) * 10, 0.8, 0.7, 0.8, 0.1, 5, 50, 51).as_dict()
    trained = replace(CARD, scores={"val": {"all": cells, "phase": cells}})
    assert "validation, all 5 0.90 0.90 0.70 validation, phase 5 0.90" in words(trained)

    classes = ClassSummary({"soil": 0.5, "root": 0.75, "none": None}, 0.9, 4).as_dict()
    trained = replace(CARD, scores={"val": {"all": classes}})
    assert "images mean IoU validation, all 4 0.62" in words(trained)
    assert "AP50" not in words(trained)

    before, after = (Measurement(score, (0.5, 0.9), 3) for score in (0.7, 0.81))
    retrained = replace(CARD, scores=_scores(before, after, cells=True))
    assert "images AP50 before held-out images 3 0.81 0.70 AP50:" in words(retrained)
    retrained = replace(CARD, scores=_scores(None, after, cells=False))
    assert "images mean IoU held-out images 3 0.81 Mean IoU:" in words(retrained)


@pytest.mark.parametrize(
    "scores",
    [
        {},
        {"val": 3},
        {"val": {"ap50": "0.9"}},
        {"val": {"ap50": None, "n_images": 3}},
        {"val": {"ap50": float("nan")}},
        {"val": {"ap50": 10**400}},
        {"val": [1, 2]},
        {"a": {"b": {"c": {"d": {"ap50": 0.5}}}}},
    ],
)
def test_scores_of_an_unknown_shape_are_left_out(scores: dict[str, Any]) -> None:
    card = replace(CARD, scores=scores)
    assert "Scores" not in words(card)
    assert "Scores" not in about(card)


def test_a_model_of_which_nothing_is_known_reads_well() -> None:
    text = words(BARE)
    assert text.startswith("cells Works on Nobody wrote down in its card which images it works on.")
    assert text.endswith("results with Review, in the section Correct, before you rely on them.")
    assert about_text(BARE) == "cells\nNobody wrote down which images it works on."


def test_a_model_of_an_unknown_architecture_says_what_it_cannot_do() -> None:
    said = "architecture that this version does not know ('swin'). It segments, and cannot be"
    assert said not in words(CARD)
    assert said in words(replace(CARD, architecture="swin"))


def test_what_was_said_of_the_parent_is_not_said_of_the_retrained_model() -> None:
    parent = {"name": "cells-2", "sha256": "1" * 64}
    text = words(replace(CARD, name="cells-3", parent=parent, typical_diameter=23.4))
    assert "images like those that it was retrained on. Its parent, cells-2, was made for:" in text
    assert "This was written for its parent, cells-2: - Whole cells in phase" in text
    assert "Cells are taken to be 23 pixels wide" in text
    assert "estimated" not in text
    assert "Retrained from cells-2." in text
    assert "phase contrast" not in about_text(replace(CARD, parent=parent))

    text = words(replace(CARD, parent=parent, tuned_diameter=15.6))
    assert "estimated from the image" in text
    assert "Where they seem about 16 pixels wide" in text
    assert "Where they seem" not in words(replace(CARD, parent=parent))

    text = words(replace(BARE, parent=parent))
    assert "Nobody wrote down on which others it works. Look at its results with Review" in text
    assert "When not to use it" not in text


def test_classes_and_channels_are_named_where_they_are_others() -> None:
    text = words(replace(BARE, classes=("soil", "root"), channels=4))
    assert "Each pixel gets one of soil, root; cells are not separated." in text
    assert "Its images have 4 channels." in text
    text = words(replace(CARD, classes=("background", "cell", "boundary", "debris")))
    assert "Besides single cells, each pixel gets one of background, cell, boundary, debris" in text


def test_a_model_without_a_window_sees_the_image_as_it_is() -> None:
    text = words(replace(CARD, diameter_window=(0.0, 0.0), diameters=(20.2, 20.4)))
    assert (
        "It learned mostly from cells about 20 pixels wide. - It sees every image as it is" in text
    )
    assert "zoomed" not in text


def test_the_tooltip_is_short() -> None:
    assert about_text(CARD).splitlines() == [
        "cells",
        "Nuclei in fluorescence.",
        "It learned mostly from cells 10 to 51 pixels wide.",
        "Not for: Whole cells in phase contrast.",
    ]
    assert "Nuclei stained with DAPI." in about_text(replace(CARD, description=""))
    endless = replace(CARD, name="n" * 500, description="d " * 500, fails_on=("x" * 5000,) * 9)
    lines = about_text(endless).splitlines()
    assert len(lines) == 6
    assert max(map(len, lines)) <= TIP_WIDTH


def test_text_is_wrapped() -> None:
    text = about_text(replace(CARD, description="word " * 99), full=True)
    assert max(map(len, text.splitlines())) <= WIDTH


ATTACK = "<img src='x'><a href='file:///etc'>&amp;</a>"


def attacked() -> ModelCard:
    data_set = dict.fromkeys(("name", "license", "origin", ATTACK), ATTACK) | {"images": ATTACK}
    return replace(
        CARD,
        name=ATTACK,
        description=ATTACK,
        works_on=(ATTACK,),
        fails_on=(ATTACK,),
        classes=(ATTACK, "b"),
        license=ATTACK,
        date=ATTACK,
        parent={"name": ATTACK, "sha256": ATTACK},
        trained_on=(data_set,),
        scores={ATTACK: {"ap50": 0.5, "n_images": ATTACK}},
    )


def test_what_a_card_says_is_never_taken_for_html() -> None:
    markup = Tags(about(attacked()))
    assert markup.tags == {"h2", "h3", "p", "ul", "li", "table", "tr", "th", "td"}
    assert markup.text.count(ATTACK) == 14  # three times as the name of the parent


@pytest.mark.parametrize("sign", ["\x1b]0;owned\x07", "\x9b2J", "\u202e", "\ud800", "\0", "\r"])
def test_what_a_card_says_does_not_steer_the_terminal(sign: str) -> None:
    card = json.loads(json.dumps(sign))
    for text in (
        about_text(replace(CARD, name=f"a{card}", works_on=(f"b{card}c",)), full=True),
        about_text(replace(CARD, description=f"b{card}c")),
        about(replace(CARD, description=f"b{card}c")),
    ):
        text.encode()
        assert all(c.isprintable() or c == "\n" for c in text)


def test_data_sets_of_another_shape_are_named_as_far_as_they_can_be() -> None:
    strange: Any = ({}, {"name": ["x"], "images": "many"}, {"name": "a", "images": 10**400})
    text = about_text(replace(CARD, trained_on=strange), full=True)
    assert "Learned from\n- images without a name\n- images without a name\n- a\n" in text
