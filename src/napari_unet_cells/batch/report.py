"""Write the report of a batch: one HTML file that is looked at without a network.

::

    what failed            name and sentence
    how it was made        model, settings, devices
    what was done          a card for each image: picture with outlines, count, histograms
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from napari_unet_cells import __version__
from napari_unet_cells.batch.one_image import PICTURE
from napari_unet_cells.batch.units import Unit
from napari_unet_cells.batch.work import UnitDone
from napari_unet_cells.files.atomic import atomic_write
from napari_unet_cells.files.file_set import write_together
from napari_unet_cells.files.pixel_size import SYMBOLS
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.untrusted.rules import printable
from napari_unet_cells.untrusted.unit_record import Histogram, UnitRecord

REPORT = "report.html"

#: Pictures that the file holds; those of further images are read from beside it.
MOST_EMBEDDED = 1000

#: Bytes of a picture that is embedded; ours have a tenth.
_LARGEST_PICTURE = 400_000

_MARK = '<meta name="generator" content="napari-unet-cells">'


@dataclass(frozen=True)
class Report:
    """Content of the report of a batch.

    Attributes
    ----------
    card : ModelCard
    settings : mapping
        See `Request.decisive`.
    units : sequence of Unit
        All of them, in order.
    done : mapping of str to UnitDone
        By the names of the units, those that are done or failed.
    problems : sequence of str
        Sentences about names that stand for no image.
    table : str
        Name of the table beside the report; empty where there is none.
    stopped : str
        Why units are left, such as "It was stopped."; empty where it goes on.
    """

    card: ModelCard
    settings: Mapping[str, Any]
    units: Sequence[Unit]
    done: Mapping[str, UnitDone]
    problems: Sequence[str] = ()
    table: str = ""
    stopped: str = ""


def is_report(path: Path) -> bool:
    """Whether a file is a report of ours."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return _MARK.encode() in file.read(1000)
    return False


def write_report(folder: Path, report: Report) -> Path:
    """Write the report into the folder of the results, atomically; an older one is replaced.

    Raises
    ------
    UserError
        Where the disk refuses.
    """
    target = folder / REPORT
    with (
        write_together((target,), overwrite=True) as hidden,  # removes what a killed run left
        atomic_write(hidden / REPORT) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for part in _page(folder, report):
            file.write(part)
    return target


def _page(folder: Path, report: Report) -> Iterator[str]:
    finished = [done for done in _in_order(report) if done.record is not None]
    failed = [done for done in _in_order(report) if done.problem]
    left = len(report.units) - len(finished) - len(failed)
    path = folder.absolute()
    yield (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{_MARK}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Batch report: {_text(path.name)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>Batch report</h1>\n<p class=place>{_text(str(path), 400)}</p>\n"
    )
    yield _numbers(report, finished, len(failed) + len(report.problems), left)
    yield from _failures(report, failed, folder)
    yield _making(report, finished)
    if finished:
        yield "<h2>Images</h2>\n<div class=cards>\n"
        for number, done in enumerate(finished):
            yield _card(folder, done, number < MOST_EMBEDDED)
        yield "</div>\n"
    yield "</body>\n</html>\n"


def _in_order(report: Report) -> Iterator[UnitDone]:
    return (report.done[unit.name] for unit in report.units if unit.name in report.done)


def _text(text: str, longest: int = 200) -> str:
    """Make a text of others fit for a page: no markup, no control characters."""
    return escape(printable(text, longest))


def _numbers(report: Report, finished: Sequence[UnitDone], failed: int, left: int) -> str:
    cells = [
        done.record.cells for done in finished if done.record and done.record.cells is not None
    ]
    shown = [(f"{len(finished):,}", "image done" if len(finished) == 1 else "images done")]
    shown += [(f"{sum(cells):,}", "cells")] if cells else []
    shown += [(f"{failed:,}", "failed")] if failed else []
    shown += [(f"{left:,}", "not done yet")] if left else []
    boxes = "".join(
        f'<div class="number{" bad" if what == "failed" else ""}"><b>{n}</b> {what}</div>'
        for n, what in shown
    )
    stopped = f"<p>{_text(report.stopped)}</p>\n" if report.stopped and left else ""
    table = ""
    if report.table and cells:
        table = f'<p>All cells: <a href="{quote(report.table)}">{_text(report.table)}</a></p>\n'
    return f"<div class=numbers>{boxes}</div>\n{stopped}{table}"


def _failures(report: Report, failed: Sequence[UnitDone], folder: Path) -> Iterator[str]:
    if not failed and not report.problems:
        return
    yield "<h2>What failed</h2>\n<table class=failures>\n"
    for done in failed:
        yield (
            f"<tr><th>{_text(done.unit.name)}</th><td>{_text(done.problem, 2000)}"
            f"<div class=path>{_text(str(done.unit.path), 1000)}</div></td></tr>\n"
        )
    for problem in report.problems:
        yield f"<tr><th></th><td>{_text(problem, 2000)}</td></tr>\n"
    yield "</table>\n"


def _making(report: Report, finished: Sequence[UnitDone]) -> str:
    card = report.card
    devices = sorted({done.record.device for done in finished if done.record})
    seconds = sum(done.record.seconds for done in finished if done.record)
    rows = {
        "Model": card.name,
        "sha256 of the model": card.sha256,
        "Settings": "; ".join(_chosen(report.settings)) or "those of the model",
        "Computed on": "; ".join(devices),
        "Time of all images together": f"{seconds:,.1f} s" if finished else "",
        "Program": f"napari-unet-cells {__version__}",
        "Report written": datetime.now().astimezone().isoformat(" ", "seconds"),
    }
    lines = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value, 1000)}</td></tr>\n"
        for name, value in rows.items()
        if value
    )
    return f"<h2>How it was made</h2>\n<table>\n{lines}</table>\n"


#: Options that say how results are kept, not how they are made.
_NOT_SHOWN = frozenset({"table"})


def _chosen(settings: Mapping[str, Any]) -> Iterator[str]:
    """Name the options that the user chose."""
    inner = settings.get("settings", {})
    for name, value in {**inner, **settings}.items():
        if name in _NOT_SHOWN or isinstance(value, Mapping) or value in (None, False, ""):
            continue
        said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {said}"


def _card(folder: Path, done: UnitDone, embed: bool) -> str:
    record = done.record
    assert record is not None
    name = _text(done.unit.name)
    cells = "" if record.cells is None else f"<b>{record.cells:,}</b> cells"
    size = " x ".join(map(str, record.shape))
    well = " ".join(f"{key} {value}" for key, value in done.unit.columns.items())
    facts = " &middot; ".join(filter(None, (cells, _text(well), f"{size} px" if size else "")))
    return (
        f"<figure>{_picture(folder, done.unit.name, embed)}<figcaption><h3>{name}</h3>"
        f"<p>{facts}</p><p class=summary>{_text(record.summary, 500)}</p>{_plots(record)}"
        "</figcaption></figure>\n"
    )


def _picture(folder: Path, name: str, embed: bool) -> str:
    path = folder / f"{name}{PICTURE}"
    source = quote(os.fsencode(f"{name}{PICTURE}"))
    if embed:
        try:
            content = path.read_bytes() if path.stat().st_size <= _LARGEST_PICTURE else b""
        except OSError:
            return "<div class=none>The picture is missing.</div>"
        if content:
            source = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return f'<img loading=lazy alt="cells of {_text(name)}" src="{source}">'


def _plots(record: UnitRecord) -> str:
    unit = SYMBOLS.get(record.unit, record.unit)
    plots = (
        ("area", record.area, f"{unit}\N{SUPERSCRIPT TWO}"),
        ("mean intensity", record.intensity, ""),
    )
    drawn = "".join(_plot(name, values, unit) for name, values, unit in plots if values is not None)
    return f"<div class=plots>{drawn}</div>" if drawn else ""


#: Size of a histogram, in units of its picture.
_WIDTH, _HEIGHT = 144, 40


def _plot(name: str, values: Histogram, unit: str) -> str:
    """Draw a histogram as a picture of lines in the page."""
    step, top = _WIDTH / len(values.counts), max(1, *values.counts)
    bars = "".join(
        f"M{i * step:.1f} {_HEIGHT}v{-_HEIGHT * n / top:.1f}h{step - 0.8:.1f}V{_HEIGHT}z"
        for i, n in enumerate(values.counts)
        if n
    )
    title = f"{name}{f' ({unit})' if unit else ''}"
    return (
        f"<div class=plot><div>{_text(title)}</div>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 1}" role="img">'
        f"<title>{_text(title)}: {_short(values.low)} to {_short(values.high)}</title>"
        f'<path d="{bars}"/><path class=axis d="M0 {_HEIGHT + 0.5}h{_WIDTH}"/></svg>'
        f"<div class=ends><span>{_short(values.low)}</span><span>{_short(values.high)}</span>"
        "</div></div>"
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #777; --bar: #3b7dd8; --bad: #c62828; }
@media (prefers-color-scheme: dark) { :root { --soft: #aaa; --bad: #ff8a80; --bar: #7fb0f5; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem;
  max-width: 1500px; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 1.8rem 0 .6rem; }
.place, .path, .summary { color: var(--soft); overflow-wrap: anywhere; margin: .1rem 0; }
.path, .summary { font-size: .85rem; }
.numbers { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.number { border: 1px solid var(--line); border-radius: 6px; padding: .4rem .8rem; }
.number b { font-size: 1.3rem; } .bad, .bad b { color: var(--bad); }
table { border-collapse: collapse; width: 100%; table-layout: auto; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; min-width: 8rem; max-width: 22rem; }
.failures th { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
  gap: 1rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; overflow: hidden;
  content-visibility: auto; contain-intrinsic-size: auto 30rem; }
figure img, .none { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: contain;
  background: #000; image-rendering: auto; }
.none { color: #bbb; text-align: center; padding-top: 4rem; box-sizing: border-box; }
figcaption { padding: .5rem .8rem .7rem; } h3 { font-size: 1rem; margin: 0;
  overflow-wrap: anywhere; } figcaption p { margin: .15rem 0; }
.plots { display: flex; gap: 1rem; margin-top: .5rem; font-size: .8rem; }
.plot { flex: 1; min-width: 0; } .plot svg { width: 100%; height: auto; display: block; }
.plot path { fill: var(--bar); } .plot .axis { stroke: var(--soft); stroke-width: .8; }
.ends { display: flex; justify-content: space-between; color: var(--soft); }
"""
