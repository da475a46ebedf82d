"""Paired comparisons of two settings: for a terminal of 80 columns, and as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sndcli.analysis.comparison import Comparison
from sndcli.analysis.sides import Pair
from sndcli.reports import latex as tex

WIDTH = 80
CAPTION = (
    "success in % of the images that both have, [95 % paired bootstrap]; {n}: median distance of the closest wrong "
    "answer; +/−: images on which {new} succeeds and {old} does not / the reverse; p: exact McNemar, adjusted for "
    "{count} comparisons (Holm), * below 0.05"
)


@dataclass(frozen=True)
class Section:
    """One pair of settings.

    Attributes:
        title: what both are.
        old, new: what each is beside that.
        names: what the columns call them.
        comparisons: by budget and measure.
    """

    title: str
    old: str
    new: str
    names: tuple[str, str]
    comparisons: tuple[Comparison, ...]

    @property
    def lines(self) -> list[str]:
        """Title and the two settings."""
        return [self.title, *(f"{name}: {text}" for name, text in zip(self.names, (self.old, self.new), strict=True))]


def of_baseline(comparisons: Sequence[Comparison]) -> list[Section]:
    """Sections of a report's comparisons with its baseline."""
    found: dict[tuple[str, str, str], list[Comparison]] = {}
    for c in comparisons:
        found.setdefault((c.attack, c.old, c.new), []).append(c)
    return [Section(*key, ("old", "new"), tuple(members)) for key, members in found.items()]


def of_pairs(pairs: Sequence[Pair]) -> list[Section]:
    """Sections of ``snd compare``."""
    return [Section(pair.shared, pair.a, pair.b, ("A", "B"), pair.comparisons) for pair in pairs]


def grid(section: Section) -> tuple[list[str], list[list[str]]]:
    """Header and body: a line for each report point and measure, and one for the closest distance."""
    old, new = section.names
    header = ["Q", "", "n", old, new, f"{new} − {old} [95 %]", "+/−", "p"]
    body: list[list[str]] = []
    budgets = dict.fromkeys(c.budget for c in section.comparisons)
    for budget in budgets:
        members = [c for c in section.comparisons if c.budget == budget]
        body += [_line(c) for c in members]
        body += [] if members[0].median is None else [_distance(members[0])]
    return header, body


def _line(c: Comparison) -> list[str]:
    change = f"{100 * c.difference:+.1f} [{100 * c.lo:+.1f}, {100 * c.hi:+.1f}]"
    rates = [f"{100 * c.old_rate:.1f}", f"{100 * c.new_rate:.1f}"]
    p = f"{c.p_adjusted:.2g}{' *' if c.significant else ''}"
    return [f"{c.budget:,}", c.measure.removeprefix("success_"), str(c.n), *rates, change, f"{c.worse}/{c.better}", p]


def _distance(c: Comparison) -> list[str]:
    ends = [_number(value, sign) for value, sign in ((c.median, 1), (c.median_lo, -1), (c.median_hi, 1))]
    change = f"{ends[0]} [{ends[1]}, {ends[2]}]"
    sides = ["∞" if value is None else f"{value:.3g}" for value in (c.old_distance, c.new_distance)]
    return [f"{c.budget:,}", "best", str(c.n), *sides, change, "", ""]


def _number(value: float | None, sign: int) -> str:
    return ("∞" if sign > 0 else "−∞") if value is None else f"{value:+.3g}"


def caption(sections: Sequence[Section]) -> str:
    """What the figures are."""
    old, new = sections[0].names
    return CAPTION.format(n="best", old=old, new=new, count=sum(len(section.comparisons) for section in sections))


def rich_tables(sections: Sequence[Section], title: str = "") -> Group:
    """For a terminal: one table a pair, and one caption."""
    parts: list[Text | Table] = [Text(title, style="bold")] if title else []
    for section in sections:
        parts += [Text(""), *(Text(line, style="bold" if k == 0 else "") for k, line in enumerate(section.lines))]
        header, body = grid(section)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for k, name in enumerate(header):
            table.add_column(name, justify="left" if k == 1 else "right", no_wrap=True)
        for k, line in enumerate(body):
            last = k + 1 == len(body) or body[k + 1][0] != line[0]
            table.add_row(line[0] if k == 0 or body[k - 1][0] != line[0] else "", *line[1:], end_section=last)
        parts.append(table)
    return Group(*parts, Text(caption(sections), style="dim")) if sections else Group(*parts)


def markdown(sections: Sequence[Section]) -> str:
    """The same as Markdown, no line longer than 80 characters but for long names."""
    parts = []
    for section in sections:
        header, body = grid(section)
        lines = [header, ["---:", "---", *["---:"] * (len(header) - 2)], *body]
        rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        title, *told = section.lines
        parts.append(f"{filled(f'**{title}**')}\n\n" + "\n".join(f"- {line}" for line in told) + f"\n\n{rows}")
    return "\n\n".join([*parts, filled(caption(sections))]) if parts else ""


def latex(sections: Sequence[Section]) -> str:
    """One ``table`` a pair, for ``\\usepackage{booktabs}``."""
    parts = []
    for number, section in enumerate(sections, 1):
        header, body = grid(section)
        title = "; ".join(section.lines) + f". {caption(sections)}."
        lines = [
            r"\begin{table}", r"\centering",
            filled(rf"\caption{{{title.translate(ESCAPED)}}}"),
            rf"\label{{tab:comparison-{number}}}", r"\footnotesize",
            rf"\begin{{tabular}}{{rl{'r' * (len(header) - 2)}}}",
            r"\toprule", _row(header), r"\midrule", *map(_row, body), r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


ESCAPED = tex.ESCAPED | {ord("−"): "$-$", ord("ε"): r"$\varepsilon$"}


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(ESCAPED) for cell in cells) + r" \\"


def csv_text(sections: Sequence[Section]) -> str:
    """One line for each comparison, fractions not percent; the two settings come last, since they are long."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    old, new = (name.lower() for name in sections[0].names)
    writer.writerow(["budget", "measure", "n", old, new, "difference", "lo", "hi", "higher", "lower", "p", "p_adjusted",
                     "distance", f"{old}_setting", f"{new}_setting", "shared"])  # fmt: skip
    for section in sections:
        for c in section.comparisons:
            figures = (c.old_rate, c.new_rate, c.difference, c.lo, c.hi)
            tail = (c.p, c.p_adjusted, c.median)
            writer.writerow(
                [c.budget, c.measure, c.n, *map(_short, figures), c.worse, c.better, *map(_short, tail), section.old,
                 section.new, section.title]
            )  # fmt: skip
    return out.getvalue()


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def filled(text: str) -> str:
    """`text` in lines of 80 characters."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
