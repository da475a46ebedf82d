"""Our figures beside the published ones: what ``snd reproduce`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from sndcli.analysis.measures import MEASURES, Interval
from sndcli.paper.published import PERCENT, assumptions, document, protocol

LEFT = 3  # columns of text; the others are figures, but for the last
SHORT = ("", "Q", "paper", "ours [95 %]", "noisy", "clean", "floor", "verdict")
HEADER = ["attack", "defense", "figure", "Q", "published", "ours [95 %]", "noisy", "clean", "floor", "n", "verdict"]
LISTED = ("table", "attack", "defense", "images", "budget", "queries", "other passes", "time", "state")


def rich_tables(name: str, cells: Sequence[dict[str, Any]]) -> list[Table | str]:
    """One table of the paper for a terminal, a part for each run; `cells` of other tables are left out."""
    mine = [c for c in cells if c["table"] == name]
    shown: list[Table | str] = [_title(name)]
    for attack, defense in dict.fromkeys((c["attack"], c["defense"]) for c in mine):
        run = [c for c in mine if (c["attack"], c["defense"]) == (attack, defense)]
        title = f"{attack or 'clean images'}, {defense} ({run[0]['n']} images)"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for k, column in enumerate(SHORT):
            last = k == len(SHORT) - 1
            table.add_column(column, justify="right" if k > 0 and not last else "left", no_wrap=not last)
        for c in run:
            beside = [f"{100 * c[m]['value']:.1f}" if c.get(m) else "–" for m in ("success_noisy", "success_clean")]
            verdict = c["verdict"].replace("differs by ", "").replace(" points", "")
            table.add_row(_figure(c), _budget(c), *_figures(c), *beside, _floor(c), verdict)
        shown += [table, ""]
    return [*shown, *_assumed(name)]


def markdown(name: str, cells: Sequence[dict[str, Any]]) -> str:
    """The same as Markdown."""
    rule = ["---:" if LEFT <= k < len(HEADER) - 1 else "---" for k in range(len(HEADER))]
    lines = ["| " + " | ".join(line) + " |" for line in [HEADER, rule, *_body(name, cells)]]
    return "\n".join([f"**{_title(name)}**", "", *lines, *("\n" + text for text in _assumed(name))])


def listing(lines: Sequence[dict[str, Any]]) -> Table:
    """What would be run, one line a run."""
    found = Table(
        title="paid queries and other passes at most; usual time of the passes alone, as measured here",
        title_justify="left",
    )
    for name in LISTED:
        left = name in ("table", "attack", "defense", "state")
        found.add_column(name, justify="left" if left else "right")
    for x in lines:
        figures = [f"{x[k]:,}" if x[k] else "" for k in ("images", "budget", "queries", "unpaid")]
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
    return [
        *(f"as in the paper: {line}" for line in protocol(name)),
        *(f"assumed: {line}" for line in assumptions(name)),
    ]


def _body(name: str, cells: Sequence[dict[str, Any]]) -> list[list[str]]:
    lines = []
    for c in (cell for cell in cells if cell["table"] == name):
        rates = [Interval(**c[key]).text() if c.get(key) else "–" for key in ("success_noisy", "success_clean")]
        beside = [*rates, _floor(c)]
        names = [c["attack"] or "", c["defense"], _figure(c), _budget(c)]
        lines.append([*names, *_figures(c), *beside, str(c["n"]), c["verdict"]])
    return lines


def _figure(c: dict[str, Any]) -> str:
    name: str = c["measure"]
    return MEASURES[name].label if name in MEASURES else name


def _budget(c: dict[str, Any]) -> str:
    return f"{c['budget']:,}" if c["budget"] else ""


def _floor(c: dict[str, Any]) -> str:
    return f"{100 * c['floor']:.1f}" if c.get("floor") is not None else "–"


def _figures(c: dict[str, Any]) -> tuple[str, str]:
    scale, digits = (100, 1) if c["measure"] in PERCENT else (1, 3)
    if c["measure"] == "accuracy":
        digits = 2
    theirs = f"{scale * c['published']:.{digits}f}"
    theirs += f" ± {scale * c['published_std']:.{digits}f}" if c["published_std"] is not None else ""
    ours = f"{scale * c['value']:.{digits}f}"
    ours += f" [{scale * c['lo']:.{digits}f}, {scale * c['hi']:.{digits}f}]" if c["lo"] is not None else ""
    return theirs, ours
