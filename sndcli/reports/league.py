"""A league as Markdown, as a table of numbers and as one page with two pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from sndcli import __version__
from sndcli.analysis.audit_figures import named
from sndcli.analysis.audit_words import bound, flags, sentence, verdict
from sndcli.analysis.bought import Bought
from sndcli.analysis.league import RANKED, Placed, Table
from sndcli.analysis.statistics import finite
from sndcli.errors import SndError
from sndcli.reports import league_plots, page, plots
from sndcli.reports.audit import Sheet, number, percent
from sndcli.reports.page_parts import Cell, Curves, Head, Part
from sndcli.reports.page_parts import Table as View

WORDS = 3  # of the first columns


@dataclass(frozen=True)
class LeaguePage:
    """All that the template shows."""

    title: str
    written: str
    tables: tuple[View, ...]
    notes: tuple[str, ...]
    pictures: tuple[Curves, ...]
    sentences: tuple[tuple[str, str], ...]


def sheet(table: Table) -> Sheet:
    """The one table of a league, a line a defense."""
    priced = any(one.price is not None for one in table.placed)
    found = [dict(_cells(one, priced)) for one in table.placed]
    head = tuple(found[0]) if found else ()
    return Sheet(title(table), head, tuple(tuple(line.values()) for line in found), WORDS)


def brief(table: Table) -> Sheet:
    """What fits a terminal."""
    lines = []
    for one in table.placed:
        f = one.figures
        standing = one.standings[f.claim.access].text + ("*" if one.front else "")
        lost = "–" if f.drop is None else f"{100 * f.drop.value:.1f}"
        ratio = "1" if f.defense == "none" else _times(f.ratio)
        stand = percent(named(f)["robust_accuracy"])
        lines.append((standing, one.row.name, verdict(f), f"{100 * f.accuracy.value:.1f}", lost, stand, ratio))
    head = ("", "defense", "verdict", "acc. %", "lost", "stand %", "× queries")
    return Sheet(title(table), head, tuple(lines), WORDS)


def title(table: Table) -> str:
    """What all lines share."""
    if not table.placed:
        return "no audit is finished"
    f = table.placed[0].figures
    return f"{f.dataset}, {bound(f)}, {f.budget:,} queries, n = {f.n}, battery {f.battery}, seed {f.seed}"


def _cells(one: Placed, priced: bool) -> Iterator[tuple[str, str]]:
    f, row = one.figures, one.row
    widest = one.standings[f.claim.access]
    yield "group" if widest.ranks is None else "rank", widest.text + ("*" if one.front else "")
    yield "defense", row.name
    yield "verdict", verdict(f)
    yield "accuracy %", f"{100 * f.accuracy.value:.1f}"
    yield "lost", "–" if f.drop is None else f"{100 * f.drop.value:.1f} [{100 * f.drop.lo:.1f}, {100 * f.drop.hi:.1f}]"
    for claim in f.claims:
        yield f"stand % {claim.access}", percent(named(f)[f"robust_accuracy_{claim.access}"])
    yield "one answer %", f"{100 * f.claim.robust_single.value:.0f}"
    for access in f.times:
        yield f"× {access}", "1" if f.defense == "none" else _times(f.ratios.get(access))
    yield "best attack", f.best_attack or "–"
    yield "boundary", number(f.claim.boundary.value)
    if priced:
        yield "σ_m", "–" if one.price is None else f"{one.price.margin_noise:.3f}"
        yield "ρ", "–" if one.price is None or one.price.agreement is None else f"{one.price.agreement:.2f}"
        yield "× direction", "–" if one.price is None else number(one.price.measured, 1)
        yield "× theory", "–" if one.price is None else number(one.price.predicted, 1)
    yield "disagree %", f"{100 * f.inconsistent.value:.1f}"
    passes = "–" if f.speed.passes is None else f"{f.speed.passes:g}"
    yield "passes", passes
    yield "ms", f"{f.speed.latency_ms:.1f}"
    yield "reported %", "–" if row.claimed is None else f"{100 * row.claimed:.0f}"
    yield "flags", ", ".join(flag.name for flag in flags(f)) or "–"


def _times(ratio: Bought | None) -> str:
    """``1.8 [1.4, 2.4]``, or what it is more than."""
    if ratio is None:
        return "–"
    if ratio.at_least is not None:
        return f"> {ratio.at_least:.1f} [{ratio.lo:.1f}, ∞]"
    return f"{ratio.value:.1f} [{ratio.lo:.1f}, {number(ratio.hi, 1)}]"


def notes(table: Table) -> list[str]:
    """How to read it."""
    if not table.placed:
        return []
    f = table.placed[0].figures
    reference = " and ".join(table.against)
    group = (
        f"Groups, since {f.n} images rank nothing (ranks from {RANKED} on): A, significantly more images stand than "
        f"with {table.against[-1]}; B, more than with {table.against[0]}; C, no difference that shows; D, fewer. Exact "
        f"McNemar tests on the same images, Holm's correction over the comparisons with {reference}."
        if f.n < RANKED and table.against
        else "Ranks from and to: exact McNemar tests on the same images, Holm's correction over all pairs."
    )
    told = [
        group,
        "A star: on the front, no other defense beats it in accuracy or robustness without losing in the other. stand: "
        "images that no attack of the battery has broken, by final draws. one answer: accuracy of one answer at the "
        "points that attacks found. ×: how many times the queries of the bare model, at the median image. Intervals: "
        "95 %.",
    ]
    told += [
        "σ_m: how far the defense moves the margin, in L2 of pixels. ρ: how far the gradients of two draws agree. "
        "× direction, × theory: what a direction costs, measured and predicted (`snd evidence --price`)."
    ] * any(one.price is not None for one in table.placed)
    told += [f"Not finished: {', '.join(table.missing)}."] if table.missing else []
    cited = [f"{one.row.name}: {one.row.cite}" for one in table.placed if one.row.cite]
    return told + ([f"Published: {'; '.join(cited)}."] if cited else [])


def markdown(table: Table) -> str:
    """The league as Markdown: one pipe table, and how to read it."""
    parts = [sheet(table).markdown(), *notes(table)]
    return "\n\n".join(parts) + "\n"


def html(table: Table) -> str:
    """One page that needs nothing else."""
    shown = sheet(table)
    lines = tuple(
        tuple(Cell(text, _sorted_by(text) if k >= WORDS else None, k < WORDS) for k, text in enumerate(line))
        for line in shown.lines
    )
    heads = tuple(Head(name, k < WORDS) for k, name in enumerate(shown.head))
    view = View(shown.title, heads, (Part("", lines),), "Sorted by a click on a heading.")
    told = notes(table)
    pictures: tuple[Curves, ...] = ()
    try:
        plots.check(None)
        pictures = tuple(
            Curves(name, plots.inline_svg(figure, name), ()) for name, figure in league_plots.pictures(table)
        )
    except SndError as error:
        told.append(str(error))
    made = LeaguePage(
        "League of defenses", f"{len(table.placed)} audits, shown by snd {__version__} on "
        f"{datetime.now(UTC).date().isoformat()}.", (view,), tuple(told), pictures,
        tuple((one.row.name, sentence(one.figures)) for one in table.placed),
    )  # fmt: skip
    return page.filled("league.html", [page.asset("page.js")], league=made)


def _sorted_by(text: str) -> str | None:
    first = text.lstrip("> ").split(" ")[0].replace(",", "")
    if first == "∞":
        return "Infinity"
    try:
        return f"{float(first):.6g}"
    except ValueError:
        return None


def rows(table: Table) -> pa.Table:
    """One row a defense and access, every figure with its interval as ``_value``, ``_lo`` and ``_hi``."""
    found = [_row(one, claim.access) for one in table.placed for claim in one.figures.claims]
    names = list(dict.fromkeys(name for line in found for name in line))
    return pa.table({name: [line.get(name) for line in found] for name in names})


def _row(one: Placed, access: str) -> dict[str, object]:
    f, standing = one.figures, next(s for key, s in one.standings.items() if key == access)
    line: dict[str, object] = {
        "defense": one.row.name, "family": one.row.family, "spec": f.defense, "model": f.model, "dataset": f.dataset,
        "access": access, "battery": f.battery, "norm": f.norm, "eps": f.eps, "budget": f.budget, "n": f.n,
        "seed": f.seed, "group": standing.text, "rank_lo": standing.ranks and standing.ranks[0],
        "rank_hi": standing.ranks and standing.ranks[1], "front": one.front,
        "verdict": verdict(f, next(claim for claim in f.claims if claim.access == access)),
        "reported": one.row.claimed, "cite": one.row.cite, "best_attack": f.best_attack,
        "accuracy_std": f.accuracy_std, "flags": [flag.name for flag in flags(f)], "runs": [*f.runs],
        "snd": __version__,
    }  # fmt: skip
    line |= {
        "margin_noise": one.price and one.price.margin_noise, "agreement": one.price and one.price.agreement,
        "price": one.price and one.price.measured, "price_predicted": one.price and one.price.predicted,
    }  # fmt: skip
    tails = tuple(f"_{each}" for each in ("labels", "scores", "both"))
    for name, figure in named(f).items():
        short = name.removesuffix(f"_{access}")
        if name.endswith(tails) and short == name and not name.startswith("queries"):
            continue  # of the other access
        if not name.endswith(tails) and f"{name}_{access}" in named(f):
            continue  # of the widest access
        short = name if name.startswith("queries") else short
        ends = {} if figure is None else figure.as_dict()
        line |= {f"{short}_{end}": ends.get(end) for end in ("value", "lo", "hi")}
    return line


def as_dict(table: Table) -> dict[str, object]:
    """Plain data for JSON."""
    lines = [
        {name: finite(value) if isinstance(value, float) else value for name, value in line.items()}
        for line in rows(table).to_pylist()
    ]
    return {"rows": lines, "against": [*table.against], "missing": [*table.missing]}
