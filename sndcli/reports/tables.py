"""Summaries as rich tables, Markdown, LaTeX and CSV. Rates are percent in tables and fractions in JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

from rich.table import Table

from sndcli.analysis.measures import MEASURES, TABLE, Interval
from sndcli.analysis.summary import Summary

CAPTION = "success in % [95 % {}]; last: mean distance of the last query; best: median over all images"
DISTANCES = (
    "; submitted, verified, boundary: median distances of the point submitted, of the closest that fresh draws "
    "confirm, and at which the majority flips on its ray"
)
NAMES = {"wilson": "Wilson", "clopper-pearson": "Clopper-Pearson"}


def caption(rows: Sequence[Summary], method: str = "wilson") -> str:
    """What the figures of a table are."""
    measured = any(row.boundary_measured for row in rows)
    return CAPTION.format(NAMES[method]) + (DISTANCES if measured else "")


def shown(rows: Iterable[Summary]) -> list[str]:
    """The measures that a table of these rows has, in its order."""
    wanted = {"always"}
    for row in rows:
        wanted |= {"boundary"} if row.boundary_measured else set()
        wanted |= {"mismatch"} if row.figures.get("p_mis") is not None else set()
    return [measure.key for measure in TABLE if measure.shown in wanted]


def sections(rows: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Summaries by what a table's title says: attack, victim, bound."""
    titled: dict[str, list[Summary]] = {}
    for row in rows:
        s = row.setting
        titled.setdefault(f"{s.attacked} on {s.modelled}, {s.data}, {s.bound}", []).append(row)
    return titled


def grid(rows: Sequence[Summary]) -> tuple[list[str], list[list[str]]]:
    """Header and body of one section: a line for each defense and measure, a column for each budget."""
    budgets = sorted({row.budget for row in rows})
    defenses: dict[str, dict[int, Summary]] = {}
    for row in rows:
        label = f"{row.setting.defended} (n={row.n})"
        defenses.setdefault(label, {})[row.budget] = row
    body = []
    for defense, by_budget in defenses.items():
        for k, key in enumerate(shown(by_budget.values())):
            values = [by_budget[b].text(key) if b in by_budget else "" for b in budgets]
            body.append([defense if k == 0 else "", MEASURES[key].label, *values])
    votes = {row.setting.votes for row in rows}
    t = votes.pop() if len(votes) == 1 else 1
    asked = [f"Q={b // t:,}×{t}" if t > 1 and b % t == 0 else f"Q={b:,}" for b in budgets]  # as the paper has them
    return ["defense", "", *asked], body


def rich_tables(rows: Sequence[Summary], method: str = "wilson") -> list[Table]:
    """One table a section, for a terminal."""
    found = []
    for title, members in sections(rows).items():
        header, body = grid(members)
        table = Table(title=title, caption=caption(members, method), title_justify="left", caption_justify="left")
        for k, name in enumerate(header):
            table.add_column(name, justify="left" if k < 2 else "right")
        for line, following in zip(body, [*body[1:], [""]], strict=True):
            table.add_row(*line, end_section=following[0] != "")
        found.append(table)
    return found


def markdown(rows: Sequence[Summary], method: str = "wilson") -> str:
    """The sections as Markdown tables."""
    parts = []
    for title, members in sections(rows).items():
        header, body = grid(members)
        lines = [header, ["---", "---", *["---:"] * (len(header) - 2)], *body]
        parts.append(f"**{title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join([*parts, caption(rows, method)]) if parts else ""


LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "∞": r"$\infty$", "≤": r"$\leq$",
     "×": r"$\times$", "±": r"$\pm$", "β": r"$\beta$", "σ": r"$\sigma$", "′": r"$'$"}
)  # fmt: skip


def latex(rows: Sequence[Summary], method: str = "wilson") -> str:
    """The sections as LaTeX tables (packages: booktabs)."""
    parts = []
    for title, members in sections(rows).items():
        header, body = grid(members)
        lines = [" & ".join(text.translate(LATEX) for text in line) + r" \\" for line in body]
        spaced = [lines[0]]
        for text, line in zip(lines[1:], body[1:], strict=True):
            spaced += [r"\addlinespace", text] if line[0] else [text]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{title.translate(LATEX)}; {caption(members, method).translate(LATEX)}}}",
                    rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}",
                    r"\toprule",
                    " & ".join(text.translate(LATEX) for text in header) + r" \\",
                    r"\midrule",
                    *spaced,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts)


def csv_text(rows: Sequence[Summary]) -> str:
    """One line for each summary, every figure of the JSON in a column of its own, fractions not percent.

    Several seeds or settings are separated by spaces; what is not known is empty, an infinite distance is ``inf``.
    """
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for line in flat for name in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _text(value: object) -> object:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _flat(row: Summary) -> dict[str, object]:
    told = row.as_dict()
    del told["over_seeds"]
    line: dict[str, object] = {}
    for key, value in told.items():
        figure = row.figures.get(key)
        if key in MEASURES and MEASURES[key].kind == "rate":
            ends = figure if isinstance(figure, Interval) else None
            line |= {key: ends and ends.value, f"{key}_lo": ends and ends.lo, f"{key}_hi": ends and ends.hi}
        elif key in MEASURES:
            line[key] = figure  # an infinite one as `inf`
        else:
            line[key] = " ".join(map(str, value)) if isinstance(value, list) else _text(value)
    return line | {f"{key}_std": spread.std for key, spread in row.over_seeds.items()}
