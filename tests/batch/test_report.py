"""The report: one file, failures first, whatever images are called."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest

from napari_unet_cells.batch import report as reports
from napari_unet_cells.batch.report import Report, is_report, write_report
from napari_unet_cells.batch.units import Unit
from napari_unet_cells.batch.work import UnitDone
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.untrusted.unit_record import Histogram, Stamp, UnitRecord

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)
RECORD = UnitRecord(
    "ab" * 32,
    Stamp(1, 1),
    {},
    {},
    summary="12 cells in 0.3 s",
    cells=1200,
    shape=(300, 400),
    area=Histogram(10.0, 2000.0, (0, 4, 8)),
    intensity=Histogram(0.125, 0.5, (1, 1)),
    unit="micrometer",
    device="CPU",
    seconds=0.25,
)
EVIL = "<script>alert(1)</script>\u202e\x1b[2J'\"&"


class Page(HTMLParser):
    """Elements, their attributes and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in ("meta", "img", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(folder: Path, *done: UnitDone, left: int = 0, **others: object) -> Page:
    units = [one.unit for one in done] + [Unit(Path("/x"), f"left{n}") for n in range(left)]
    by_name = {one.unit.name: one for one in done}
    report = Report(CARD, {"settings": {"diameter": 20.0}, "plane": None}, units, by_name, **others)  # type: ignore[arg-type]
    path = write_report(folder, report)
    assert is_report(path)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def good(name: str, **columns: str) -> UnitDone:
    return UnitDone(Unit(Path(f"/in/{name}.tif"), name, columns), RECORD)


def test_failures_come_first_and_what_was_done_is_counted(tmp_path: Path) -> None:
    bad = UnitDone(Unit(Path("/in/b.tif"), "b"), problem="b.tif is empty (0 bytes).")
    page = written(
        tmp_path, good("a", well="B2", field="1"), bad, left=3, problems=["x does not exist."]
    )
    assert "1 image done1,200 cells2 failed3 not done yet" in page.text
    places = [page.text.index(part) for part in ("What failed", "How it was made", "Images\n")]
    assert places == sorted(places)
    assert "b.tif is empty (0 bytes).\n" in page.text.replace("/in/b.tif", "\n")
    assert "x does not exist." in page.text
    for said in ("cells", "ab" * 32, "diameter 20.0", "CPU", "well B2 field 1", "300 x 400 px"):
        assert said in page.text
    assert "area (\u00b5m\u00b2): 10 to 2,000" in page.text
    assert "mean intensity: 0.125 to 0.5" in page.text
    assert page.tags.count("svg") == 2


def test_names_are_text_whatever_they_say(tmp_path: Path) -> None:
    page = written(
        tmp_path,
        good(EVIL),
        UnitDone(Unit(Path(EVIL), f"x{EVIL}"), problem=EVIL),
        problems=[EVIL],
        stopped=EVIL,
        left=1,
    )
    assert "script" not in page.tags
    assert page.text.count("<script>alert(1)</script>") >= 4
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text


def test_nothing_is_fetched_from_a_network(tmp_path: Path) -> None:
    (tmp_path / "a_outlines.jpg").write_bytes(b"jpeg")
    page = written(tmp_path, good("a"), good("gone"), table="cells.csv")
    picture, table = sorted(page.links, key=len, reverse=True)
    assert picture == f"data:image/jpeg;base64,{base64.b64encode(b'jpeg').decode()}"
    assert table == "cells.csv"
    assert "The picture is missing." in page.text
    text = (tmp_path / "report.html").read_text()
    assert "http" not in text
    assert "@import" not in text


def test_of_very_many_images_the_pictures_stay_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_EMBEDDED", 1)
    for name in ("a", "b c#"):
        (tmp_path / f"{name}_outlines.jpg").write_bytes(b"jpeg")
    page = written(tmp_path, good("a"), good("b c#"))
    assert page.links[0].startswith("data:")
    assert page.links[1] == "b%20c%23_outlines.jpg"


def test_a_report_of_nothing_and_files_of_others(tmp_path: Path) -> None:
    assert "0 images done" in written(tmp_path).text
    other = tmp_path / "other.html"
    other.write_text("<html></html>")
    assert not is_report(other)
    assert not is_report(tmp_path / "nowhere.html")
