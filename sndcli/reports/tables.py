"""Summaries as rich tables, Markdown and CSV. Rates are percent here and fractions in JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.table import Table

MEASURES = {
    "success_seen": "seen",
    "success_noisy": "noisy",
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

CAPTION = (
    "success in % [95 % Wilson]; last: mean distance of the last query; best: median over all images; "
    "claimed, verified, border: median distances of the point handed over, of the closest that fresh draws confirm, "
    "and at which the majority flips on its ray"
)


def defense_label(row: dict[str, Any]) -> str:
    """``snd 0.01``, ``snd 0.01 β=2``, ``none``; votes are added where there are any."""
    label = str(row["defense"])
    if row["sigma"]:
        label += f" {row['sigma']:g}"
    if row["beta"] is not None:
        label += f" β={row['beta']:g}"
    if row["votes"] > 1:
        label += f", T={row['votes']}"
    return label


def rate_cell(value: dict[str, Any] | None) -> str:
    """``62.1 [58.9, 65.2]`` in percent."""
    if value is None or value["value"] is None:
        return "–"
    return f"{100 * value['value']:.1f} [{100 * value['lo']:.1f}, {100 * value['hi']:.1f}]"


def cell(row: dict[str, Any], measure: str) -> str:
    """One measure of one summary as text."""
    value = row.get(measure)
    if isinstance(value, dict):
        return rate_cell(value)
    if value is None:
        return "∞" if measure in ("l2_best", "l2_claimed", "l2_verified", "l2_border") else "–"
    return f"{100 * value:.1f}" if measure in ("floor", "p_mis", "p_mis_clean") else f"{value:.2f}"


def sections(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Summaries by what a table's title says: attack, victim, bound."""
    titled: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        attack = row["attack"] + (" (foolbox)" if row["engine"] == "foolbox" else "")
        attack += f" {row['preset']}" if row.get("preset") else ""
        attack += "".join(f" {setting}" for setting in row.get("settings") or ())
        title = f"{attack} on {row['model']}, {row['dataset']}, {row['norm']} ≤ {row['eps']:g}"
        titled.setdefault(title, []).append(row)
    return titled


def grid(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and body of one section: a line for each defense and measure, a column for each budget."""
    budgets = sorted({row["budget"] for row in rows})
    defenses: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        defenses.setdefault(f"{defense_label(row)} (n={row['n']})", {})[row["budget"]] = row
    body = []
    for defense, by_budget in defenses.items():
        counted = any(row["p_mis"] is not None for row in by_budget.values())
        bordered = any(row.get("border_measured") for row in by_budget.values())
        hidden = () if bordered else ("l2_claimed", "l2_verified", "l2_border")
        shown = [m for m in MEASURES if (counted or not m.startswith("p_mis")) and m not in hidden]
        for k, measure in enumerate(shown):
            values = [cell(by_budget[b], measure) if b in by_budget else "" for b in budgets]
            body.append([defense if k == 0 else "", MEASURES[measure], *values])
    votes = {row["votes"] for row in rows}
    t = votes.pop() if len(votes) == 1 else 1
    asked = [f"Q={b // t:,}×{t}" if t > 1 and b % t == 0 else f"Q={b:,}" for b in budgets]  # as the paper has them
    return ["defense", "", *asked], body


def rich_tables(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """One table a section, for a terminal."""
    found = []
    for title, members in sections(rows).items():
        header, body = grid(members)
        table = Table(title=title, caption=CAPTION, title_justify="left", caption_justify="left")
        for k, name in enumerate(header):
            table.add_column(name, justify="left" if k < 2 else "right")
        for line, following in zip(body, [*body[1:], [""]], strict=True):
            table.add_row(*line, end_section=following[0] != "")
        found.append(table)
    return found


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The sections as Markdown tables."""
    parts = []
    for title, members in sections(rows).items():
        header, body = grid(members)
        lines = [header, ["---", "---", *["---:"] * (len(header) - 2)], *body]
        parts.append(f"**{title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join([*parts, CAPTION]) if parts else ""


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """One line for each summary, every figure of the JSON in a column of its own, fractions not percent."""
    flat = []
    for row in rows:
        line: dict[str, Any] = {}
        for key, value in row.items():
            if isinstance(value, dict):
                line |= {key: value["value"], f"{key}_lo": value["lo"], f"{key}_hi": value["hi"]}
            else:
                line[key] = value
        flat.append(line)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()
