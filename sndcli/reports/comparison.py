"""Our figures beside the published ones: what ``snd reproduce`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from sndcli.reports.published import PERCENT, assumptions, document
from sndcli.reports.tables import MEASURES, rate_cell

LEFT = 3  # columns of text; the others are figures, but for the last
HEADER = ["attack", "defense", "figure", "Q", "published", "ours [95 %]", "noisy", "clean", "floor", "n", "verdict"]
LISTED = ("table", "attack", "defense", "images", "budget", "queries", "time", "state")


def rich_table(name: str, cells: Sequence[dict[str, Any]]) -> Table:
    """One table of the paper for a terminal; `cells` of other tables are left out."""
    table = Table(
        title=_title(name), title_justify="left", caption_justify="left", caption="\n".join(_assumed(name)) or None
    )
    for k, column in enumerate(HEADER):
        table.add_column(column, justify="right" if LEFT <= k < len(HEADER) - 1 else "left")
    for line in _body(name, cells):
        table.add_row(*line)
    return table


def markdown(name: str, cells: Sequence[dict[str, Any]]) -> str:
    """The same as Markdown."""
    rule = ["---:" if LEFT <= k < len(HEADER) - 1 else "---" for k in range(len(HEADER))]
    lines = ["| " + " | ".join(line) + " |" for line in [HEADER, rule, *_body(name, cells)]]
    return "\n".join([f"**{_title(name)}**", "", *lines, *("\n" + text for text in _assumed(name))])


def listing(lines: Sequence[dict[str, Any]]) -> Table:
    """What would be run, one line a run."""
    found = Table(
        title="paid queries at most; time of the forward passes alone, as measured here", title_justify="left"
    )
    for name in LISTED:
        found.add_column(name, justify="right" if name in ("images", "budget", "queries", "time") else "left")
    for x in lines:
        figures = [f"{x[k]:,}" if x[k] else "" for k in ("images", "budget", "queries")]
        time = duration(x["seconds"]) if x["seconds"] else ""
        found.add_row(x["table"], x["attack"] or "clean images", x["defense"], *figures, time, x["state"])
    return found


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _title(name: str) -> str:
    return f"{name}: {document()['tables'][name]['caption']}"


def _assumed(name: str) -> list[str]:
    return [f"assumed: {line}" for line in assumptions(name)]


def _body(name: str, cells: Sequence[dict[str, Any]]) -> list[list[str]]:
    lines = []
    for c in (cell for cell in cells if cell["table"] == name):
        beside = [rate_cell(c.get("success_noisy")), rate_cell(c.get("success_clean"))]
        beside.append(f"{100 * c['floor']:.1f}" if c.get("floor") is not None else "–")
        budget = f"{c['budget']:,}" if c["budget"] else ""
        figure = MEASURES.get(c["measure"], c["measure"])
        lines.append(
            [c["attack"] or "", c["defense"], figure, budget, *_figures(c), *beside, str(c["n"]), c["verdict"]]
        )
    return lines


def _figures(c: dict[str, Any]) -> tuple[str, str]:
    scale, digits = (100, 1) if c["measure"] in PERCENT else (1, 3)
    if c["measure"] == "accuracy":
        digits = 2
    theirs = f"{scale * c['published']:.{digits}f}"
    theirs += f" ± {scale * c['published_std']:.{digits}f}" if c["published_std"] is not None else ""
    ours = f"{scale * c['value']:.{digits}f}"
    ours += f" [{scale * c['lo']:.{digits}f}, {scale * c['hi']:.{digits}f}]" if c["lo"] is not None else ""
    return theirs, ours
