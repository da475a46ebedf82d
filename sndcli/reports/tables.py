"""Summaries as rich tables, Markdown, LaTeX and CSV. Rates are percent in tables and fractions in JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from sndcli.analysis import distances
from sndcli.analysis.labels import defense_label

MEASURES = {
    "success_seen": "seen",
    "success_noisy": "noisy",
    "success_as_submitted": "as submitted",
    "success_clean": "clean",
    "floor": "floor",
    "l2_last": "last",
    "l2_best": "best",
    "l2_claimed": "claimed",
    "l2_verified": "verified",
    "l2_border": "border",  # where the run measured it
    "p_mis": "P_mis",  # where the run counted it
    "p_mis_clean": "P_mis clean",
}

CAPTION = "success in % [95 % {}]; last: mean distance of the last query; best: median over all images"
DISTANCES = (
    "; claimed, verified, border: median distances of the point submitted, of the closest that fresh draws confirm, "
    "and at which the majority flips on its ray"
)
NAMES = {"wilson": "Wilson", "clopper-pearson": "Clopper-Pearson"}


def caption(rows: Sequence[dict[str, Any]], method: str = "wilson") -> str:
    """What the figures of a table are."""
    bordered = any(row.get("border_measured") for row in rows)
    return CAPTION.format(NAMES[method]) + (DISTANCES if bordered else "")


def rate_cell(value: dict[str, Any] | None) -> str:
    """``62.1 [58.9, 65.2]`` in percent."""
    if value is None or value["value"] is None:
        return "–"
    return f"{100 * value['value']:.1f} [{100 * value['lo']:.1f}, {100 * value['hi']:.1f}]"


def cell(row: dict[str, Any], measure: str) -> str:
    """One measure of one summary as text."""
    value = row.get(measure)
    if isinstance(value, dict):
        spread = (row.get("over_seeds") or {}).get(measure)
        text = rate_cell(value)
        return text.replace(" [", f" ± {100 * spread['std']:.1f} [") if spread else text
    if value is None:
        return "∞" if distances.unbounded(row, measure) else "–"
    return f"{100 * value:.1f}" if measure in ("floor", "p_mis", "p_mis_clean") else f"{value:.2f}"


def sections(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Summaries by what a table's title says: attack, victim, bound."""
    titled: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        attack = row["attack"] + (" (foolbox)" if row["engine"] == "foolbox" else "")
        attack += f" {row['preset']}" if row.get("preset") else ""
        attack += f" ({', '.join(row['settings'])})" if row.get("settings") else ""
        title = f"{attack} on {row['model']}, {row['dataset']}, {row['norm']} ≤ {row['eps']:g}"
        titled.setdefault(title, []).append(row)
    return titled


def grid(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and body of one section: a line for each defense and measure, a column for each budget."""
    budgets = sorted({row["budget"] for row in rows})
    defenses: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        label = f"{defense_label(row)} (n={row['n']})"
        while row["budget"] in defenses.get(label, {}):  # runs that differ in what the label does not say
            label += "′"
        defenses.setdefault(label, {})[row["budget"]] = row
    body = []
    for defense, by_budget in defenses.items():
        counted = any(row["p_mis"] is not None for row in by_budget.values())
        bordered = any(row.get("border_measured") for row in by_budget.values())
        hidden = () if bordered else distances.NAMES
        shown = [m for m in MEASURES if (counted or not m.startswith("p_mis")) and m not in hidden]
        for k, measure in enumerate(shown):
            values = [cell(by_budget[b], measure) if b in by_budget else "" for b in budgets]
            body.append([defense if k == 0 else "", MEASURES[measure], *values])
    votes = {row["votes"] for row in rows}
    t = votes.pop() if len(votes) == 1 else 1
    asked = [f"Q={b // t:,}×{t}" if t > 1 and b % t == 0 else f"Q={b:,}" for b in budgets]  # as the paper has them
    return ["defense", "", *asked], body


def rich_tables(rows: Sequence[dict[str, Any]], method: str = "wilson") -> list[Table]:
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


def markdown(rows: Sequence[dict[str, Any]], method: str = "wilson") -> str:
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


def latex(rows: Sequence[dict[str, Any]], method: str = "wilson") -> str:
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


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
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


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for key, value in row.items():
        if key == "over_seeds":
            line |= {f"{name}_std": spread["std"] for name, spread in (value or {}).items()}
        elif key.startswith("success_"):
            ends = value or dict.fromkeys(("value", "lo", "hi"))
            line |= {key: ends["value"], f"{key}_lo": ends["lo"], f"{key}_hi": ends["hi"]}
        elif isinstance(value, list):
            line[key] = " ".join(map(str, value))
        else:
            line[key] = "inf" if distances.unbounded(row, key) else value
    return line
