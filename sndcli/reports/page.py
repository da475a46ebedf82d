"""One self-contained HTML page: it needs no network, stands without scripts, and is readable on paper."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

import numpy as np

from sndcli import __version__
from sndcli.analysis.comparison import Comparison
from sndcli.analysis.frame import Frame, grouped
from sndcli.analysis.measures import MEASURES, Interval
from sndcli.analysis.summary import Summary
from sndcli.analysis.verdict import Headline, Verdict
from sndcli.errors import DataError, SndError
from sndcli.reports import charts, gallery, plots
from sndcli.reports.grid import Grid, Line, caption, grids, shown
from sndcli.reports.page_parts import (
    Card,
    Cell,
    CurveGroup,
    Curves,
    Head,
    Image,
    Page,
    Part,
    Picture,
    PictureGroup,
    Run,
    Table,
)  # fmt: skip
from sndcli.runs.provenance import command_line

WORDS = ("attack", "defense")  # columns of text
KINDS = {"queries": "Success against queries", "distance": "Distance against queries", "eps": "Success against ε"}
MOST_LINES = 10  # of a picture; with more there is one for each defense


def render(
    frames: Sequence[Frame],
    rows: Sequence[Summary],
    verdict: Verdict,
    method: str = "wilson",
    eps: float | None = None,
) -> str:
    """The page.

    Args:
        frames: the runs, with their events where curves are wanted.
        rows: their summaries.
        verdict: on them; its comparisons, flags and notes are shown too.
        method: of the intervals.
        eps: the bound of the rows where it is not the runs' own.
    """
    drawn, drawn_notes = _curves(frames, eps)
    pictures, pictures_note = _gallery(frames)
    number = f"{len(frames)} result file{'s' * (len(frames) != 1)}"
    date = datetime.now(UTC).date().isoformat()
    page = Page(
        f"{number}, read by snd {__version__} on {date} with `{command_line()}`.", verdict,
        _after(verdict), tuple(map(_card, verdict.headlines)),
        tuple(_table(grid, method) for grid in grids(rows)),
        tuple((MEASURES[key].label, MEASURES[key].meaning) for key in shown(rows)),
        _baseline(verdict.comparisons) if verdict.comparisons else None,
        drawn, drawn_notes, pictures, pictures_note, tuple(map(_run, frames)),
    )  # fmt: skip
    live = any(curve.charts for group in drawn for curve in group.members)
    scripts = [*([charts.scripts()] if live else []), asset("page.js")]
    return filled("page.html", scripts, page=page)


def filled(template: str, scripts: Sequence[str], **given: object) -> str:
    """A template with its style and scripts, whose hashes are all that a browser may run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(str(files("sndcli.reports") / "templates")), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return environment.get_template(template).render(
        style=asset("page.css"), scripts=scripts, script_hashes=hashes, **given
    ).lstrip()  # fmt: skip


@cache
def asset(name: str) -> str:
    """A file of the templates."""
    return (files("sndcli.reports") / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _after(verdict: Verdict) -> str:
    """The verdict's sentence without its title, which stands above it."""
    return verdict.sentence.removeprefix(verdict.title).lstrip(":. ")


def _card(head: Headline) -> Card:
    value = head.value.value or 0.0
    beside = [f"seen {100 * (head.seen.value or 0.0):.1f} %"] if head.seen and head.measure != "success_seen" else []
    beside += [f"floor {100 * head.floor:.1f} %"] if head.floor is not None else []
    beside += [f"median distance {head.distance:.3g}"] if head.distance is not None else []
    known = "" if head.aware else ", none of which knows of noise"
    attacks = f"the strongest of {head.attacks} attacks" if head.attacks > 1 else "the only attack"
    return Card(
        head.victim, f"{100 * value:.1f} %{' seen' if head.measure == 'success_seen' else ''}",
        f"[{100 * head.value.lo:.1f}, {100 * head.value.hi:.1f}], n = {head.n}",
        f"{head.attack} at {head.budget:,} queries: {attacks}{known}", ", ".join(beside),
    )  # fmt: skip


def _table(grid: Grid, method: str) -> Table:
    """The largest budget comes first."""
    apart = "Q" in grid.keys and len(grid.keys) > 1
    keys = grid.keys[1:] if apart else grid.keys
    heads = [Head(name, name in WORDS) for name in keys]
    heads += [Head(grid.heading(key)) for key in grid.measures]
    parts = [
        Part(
            f"{part[0].cells[0]} queries" if apart else "",
            tuple(_line(line, grid, heads, line.cells[1:] if apart else line.cells) for line in part),
        )
        for part in (reversed(grid.parts) if apart else grid.parts)
    ]
    return Table(grid.title, tuple(heads), tuple(parts), caption(grid.measures, method))


def _line(line: Line, grid: Grid, heads: Sequence[Head], keys: Sequence[str]) -> tuple[Cell, ...]:
    told = [
        Cell(text, None if head.left else text.replace(",", "").split("×")[0], head.left)
        for text, head in zip(keys, heads, strict=False)
    ]
    return (*told, *(_figure(line.summary, key) for key in grid.measures))


def _figure(row: Summary, key: str) -> Cell:
    figure, text = row.figures.get(key), row.text(key)
    value = figure.value if isinstance(figure, Interval) else figure
    sorted_by = None if value is None else ("Infinity" if math.isinf(value) else f"{value:.6g}")
    if not isinstance(figure, Interval) or value is None:
        return Cell(text, sorted_by)
    before, _, ends = text.partition(" [")
    return Cell(before, sorted_by, ends=f"[{ends}", share=f"{100 * value:.1f}")


def _baseline(comparisons: Sequence[Comparison]) -> Table:
    names = ("attack", "old", "new", "Q", "measure", "n", "old %", "new %", "change", "worse/better", "p", "")
    left = ("attack", "old", "new", "measure", "")
    lines = tuple(
        (
            Cell(c.attack), Cell(c.old, left=True), Cell(c.new, left=True), Cell(f"{c.budget:,}", str(c.budget)),
            Cell(c.measure.removeprefix("success_"), left=True), Cell(str(c.n), str(c.n)),
            Cell(f"{100 * c.old_rate:.1f}", f"{c.old_rate:.6g}"), Cell(f"{100 * c.new_rate:.1f}", f"{c.new_rate:.6g}"),
            Cell(f"{100 * c.difference:+.1f}", f"{c.difference:.6g}", ends=f"[{100 * c.lo:+.1f}, {100 * c.hi:+.1f}]"),
            Cell(f"{c.worse}/{c.better}", str(c.worse - c.better)), Cell(f"{c.p_adjusted:.2g}", f"{c.p_adjusted:.6g}"),
            Cell("regression" if c.regression else "", left=True),
        )
        for c in comparisons
    )  # fmt: skip
    note = "change: points [95 %]; p: exact McNemar test on the same images, adjusted for the comparisons (Holm)"
    heads = tuple(Head(name, name in left) for name in names)
    return Table("Paired on the same images", heads, (Part("", lines),), note)


def _curves(frames: Sequence[Frame], eps: float | None) -> tuple[tuple[CurveGroup, ...], tuple[str, ...]]:
    """Curves, and a line for each that cannot be drawn."""
    try:
        plots.check(None)
    except SndError as error:
        return (), (str(error),)
    groups, notes = [], list[str]()
    for title, members in _together(frames):
        found = []
        for kind, name in KINDS.items():
            try:
                svg = plots.inline_svg(plots.draw(members, kind, eps=eps), f"{name}, {title}")
                live = charts.draw(members, kind, eps) if charts.able() else []
            except DataError as error:
                notes.append(f"{name}, {title}: {error}")
                continue
            found.append(Curves(name, svg, tuple(live)))
        groups.append(CurveGroup(title, tuple(found), tuple(charts.styles(members))))
    return tuple(groups), tuple(notes)


def _together(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    """Runs of one model, data set and bound; where they are too many lines, those of each defense, and then in turn."""
    found: dict[str, list[Frame]] = {}
    for frame in frames:
        s = frame.setting
        found.setdefault(f"{s.modelled}, {s.data}, {s.bound}", []).append(frame)
    groups = []
    for title, members in found.items():
        if _lines(members) <= MOST_LINES:
            groups.append((title, members))
            continue
        for defense in dict.fromkeys(f.setting.defended for f in members):
            mine = [f for f in members if f.setting.defended == defense]
            groups.append((f"{title}, {defense}", mine))
    return groups


def _lines(frames: Sequence[Frame]) -> int:
    return len(grouped(frames))


def _gallery(frames: Sequence[Frame]) -> tuple[tuple[PictureGroup, ...], str]:
    try:
        found = gallery.choose(frames)
    except DataError as error:
        return (), str(error)
    groups: dict[str, list[Picture]] = {}
    for image in found:
        pictures = (
            (image.clean, f"clean image, {image.was}"),
            (image.submitted, f"image submitted, {image.now}"),
            (image.amplified, f"perturbation times {image.gain:.3g}"),
        )
        told = f"{image.caption()}; perturbation × {image.gain:.3g}"
        shown_ = tuple(Image(text, _png(pixels)) for pixels, text in pictures)
        groups.setdefault(image.run, []).append(Picture(told, not image.inside, shown_))
    note = "Clean, submitted, and the perturbation amplified: the first images of each run. A dashed frame: outside ε."
    return tuple(PictureGroup(run, tuple(members)) for run, members in groups.items()), note


def _png(pixels: gallery.Pixels) -> str:
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8).squeeze()).save(out, "png")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _run(frame: Frame) -> Run:
    run = frame.run
    known = {key: run.get(key) for key in ("id", "made", "command", "commit", "wall_s")}
    known |= {f"version of {k}": v for k, v in run.get("versions", {}).items()}
    facts = [(str(k), v if isinstance(v, str) else json.dumps(v)) for k, v in {**known, **run["config"]}.items()]
    return Run(frame.path.name if frame.path else run["id"], tuple(facts))
