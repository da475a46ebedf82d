"""An audit as tables: its figures, and what each step of the battery did."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sndcli.analysis.audit import Figure, Figures
from sndcli.analysis.audit_words import access_words, bought_words, bound, flags, sentence, verdict


@dataclass(frozen=True)
class Sheet:
    """A table whatever it is written in.

    Attributes:
        title: above it.
        head: names of the columns.
        lines: cells.
        left: how many of the first columns are words.
    """

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    left: int = 1

    def markdown(self) -> str:
        """A pipe table under its title."""
        rule = ["---" if k < self.left else "---:" for k in range(len(self.head))]
        rows = [self.head, rule, *self.lines]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        return f"**{self.title}**\n\n{table}"

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=self.title, title_justify="left")
        for k, name in enumerate(self.head):
            table.add_column(name, justify="left" if k < self.left else "right", no_wrap=k >= self.left)
        for line in self.lines:
            table.add_row(*line)
        return table


def percent(figure: Figure | None, digits: int = 0) -> str:
    """``62 [58, 66]``; a dash where it is not known."""
    if figure is None or math.isnan(figure.value):
        return "–"
    return f"{100 * figure.value:.{digits}f} [{100 * figure.lo:.{digits}f}, {100 * figure.hi:.{digits}f}]"


def number(value: float, digits: int = 2) -> str:
    """A number, ∞ or a dash."""
    if math.isnan(value):
        return "–"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "∞"


def sheets(f: Figures) -> tuple[Sheet, Sheet]:
    """Figures, and steps."""
    return _figures(f), _steps(f)


def _figures(f: Figures) -> Sheet:
    lines: list[tuple[str, ...]] = [
        ("accuracy %", percent(f.accuracy, 1), f"± {100 * f.accuracy_std:.2f} over seeds"),
    ]
    if f.defense != "none" and f.drop is not None and f.accuracy_bare is not None:
        lines.append(("of it lost, points", percent(f.drop, 1), f"bare {percent(f.accuracy_bare, 1)}"))
    lines.append(("two answers disagree %", percent(f.inconsistent, 1), "on clean images"))
    for claim in f.claims:
        robust = Figure(claim.robust.value, claim.robust.lo, claim.robust.hi)
        words = f"{access_words(claim.access)}: {verdict(f, claim)}"
        lines.append(("images that stand %", percent(robust), words))
        lines.append(
            ("one answer is right %", percent(claim.robust_single), f"{access_words(claim.access)}, at the points")
        )
        bare = "" if claim.boundary_bare is None else f"bare {number(claim.boundary_bare.value)}"
        lines.append(("median boundary", number(claim.boundary.value), bare))
    for access, ratio in f.ratios.items():
        if f.defense != "none" and ratio is not None:
            medians = f"median {number(ratio.median, 0)}, bare {number(ratio.median_bare, 0)}; {access}"
            lower = f"> {ratio.at_least:.1f}, at least {ratio.lo:.1f}" if ratio.at_least is not None else ""
            text = lower or f"{ratio.value:.2f} [{ratio.lo:.2f}, {number(ratio.hi)}]"
            lines.append(("times the queries", text, medians))
    s = f.speed
    passes = "–" if s.passes is None else f"{s.passes:g}"
    lines.append(("passes an answer", passes, f"{s.latency_ms:.1f} ms, bare {s.latency_bare_ms:.1f} ms"))
    title = f"{f.defense} on {f.model}, {f.dataset}, {bound(f)}, {f.budget:,} queries, n = {f.n}, battery {f.battery}"
    return Sheet(title, ("figure", "value [95 %]", "of"), tuple(lines), 1)


def _steps(f: Figures) -> Sheet:
    lines = tuple(
        (one.step.name, one.step.role, one.step.access, f"{one.images}", f"{one.broken}", f"{one.alone}",
         "–" if math.isnan(one.seen) else f"{100 * one.seen:.0f}",
         "–" if one.queries_mean is None else f"{one.queries_mean:,.0f}")
        for one in f.steps
    )  # fmt: skip
    head = ("step", "role", "access", "images", "broken", "alone", "seen %", "queries")
    return Sheet("the battery, in its order", head, lines, 3)


def rich_parts(f: Figures) -> Iterator[RenderableType]:
    """For a terminal: both tables, flags, and the sentence."""
    first, second = sheets(f)
    yield from (first.rich(), Text(""), second.rich(), "")
    yield sentence(f)


def markdown(audits: Sequence[Figures]) -> str:
    """Audits as Markdown."""
    parts = []
    for f in audits:
        told = [sheet.markdown() for sheet in sheets(f)]
        parts.append("\n\n".join([sentence(f), *told, *(f"- `{flag.name}`: {flag.text}" for flag in flags(f))]))
    return "\n\n".join(parts)


__all__ = ["Sheet", "bought_words", "markdown", "number", "percent", "rich_parts", "sheets"]
