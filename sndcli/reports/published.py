"""Our figures beside the published ones: what ``snd reproduce`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from sndcli.analysis import measures
from sndcli.paper.published import PERCENT, Beside, Interval, assumptions, document, protocol

LEFT = 3  # columns of text; the others are figures, but for the last
SHORT = ("", "Q", "paper", "ours [95 %]", "noisy", "clean", "floor", "verdict")
HEADER = ["attack", "defense", "figure", "Q", "published", "ours [95 %]", "noisy", "clean", "floor", "n", "verdict"]
LISTED = ("table", "attack", "defense", "images", "budget", "queries", "other passes", "time", "state")


def rich_tables(name: str, cells: Sequence[Beside]) -> list[Table | str]:
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
            beside = [_percent(c.get("success_noisy")), _percent(c.get("success_clean"))]
            verdict = c["verdict"].replace("differs by ", "").replace(" points", "")
            table.add_row(_figure(c), _budget(c), *_figures(c), *beside, _floor(c), verdict)
        shown += [table, ""]
    return [*shown, *_files(name, cells), *_assumed(name)]


def markdown(name: str, cells: Sequence[Beside]) -> str:
    """The same as Markdown."""
    rule = ["---:" if LEFT <= k < len(HEADER) - 1 else "---" for k in range(len(HEADER))]
    body = _body(name, cells)
    if not body:
        return f"**{_title(name)}**\n\nNothing of it is there."
    lines = ["| " + " | ".join(line) + " |" for line in [HEADER, rule, *body]]
    parts = [*_files(name, cells), *_assumed(name)]
    return "\n".join([f"**{_title(name)}**", "", *lines, *("\n" + text for text in parts)])


def _files(name: str, cells: Sequence[Beside]) -> list[str]:
    """Which result files the figures were read from, and which networks are not the paper's."""
    mine = [c for c in cells if c["table"] == name]
    files = dict.fromkeys(c["file"] for c in mine if "file" in c)
    models = dict.fromkeys(c["model"] for c in mine if "model" in c)
    return [
        *([f"in kind only: on {', '.join(models)}, not the paper's network"] if models else []),
        *(["from " + ", ".join(f"`{file}`" for file in files)] if files else []),
    ]


@dataclass(frozen=True)
class Line:
    """What a run of a table would take: rows at most and usually, seconds of the passes alone."""

    table: str
    attack: str | None
    defense: str
    dataset: str
    images: int = 0
    budget: int = 0
    queries: int = 0
    unpaid: int = 0
    unpaid_usual: int = 0
    seconds: float = 0.0
    seconds_at_most: float = 0.0
    state: str = ""


def listing(lines: Sequence[Line]) -> Table:
    """What would be run, one line a run."""
    found = Table(
        title="paid queries and other passes at most; usual time of the passes alone, as measured here",
        title_justify="left",
    )
    for name in LISTED:
        left = name in ("table", "attack", "defense", "state")
        found.add_column(name, justify="left" if left else "right")
    for x in lines:
        figures = [f"{k:,}" if k else "" for k in (x.images, x.budget, x.queries, x.unpaid)]
        time = duration(x.seconds) if x.seconds else ""
        found.add_row(x.table, x.attack or "clean images", x.defense, *figures, time, x.state)
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


def _body(name: str, cells: Sequence[Beside]) -> list[list[str]]:
    lines = []
    for c in (cell for cell in cells if cell["table"] == name):
        beside = [_rate(c.get("success_noisy")), _rate(c.get("success_clean")), _floor(c)]
        names = [c["attack"] or "", c["defense"], _figure(c), _budget(c)]
        lines.append([*names, *_figures(c), *beside, str(c["n"]), c["verdict"]])
    return lines


def _figure(c: Beside) -> str:
    name: str = c["measure"]
    return measures.MEASURES[name].label if name in measures.MEASURES else name


def _budget(c: Beside) -> str:
    return f"{c['budget']:,}" if c["budget"] else ""


def _floor(c: Beside) -> str:
    floor = c.get("floor")
    return "–" if floor is None else f"{100 * floor:.1f}"


def _percent(rate: Interval | None) -> str:
    return "–" if rate is None or rate["value"] is None else f"{100 * rate['value']:.1f}"


def _rate(rate: Interval | None) -> str:
    if rate is None or rate["lo"] is None or rate["hi"] is None:
        return "–"
    return measures.Interval(rate["value"], rate["lo"], rate["hi"]).text()


def _figures(c: Beside) -> tuple[str, str]:
    scale, digits = (100, 1) if c["measure"] in PERCENT else (1, 3)
    if c["measure"] == "accuracy":
        digits = 2
    theirs = f"{scale * c['published']:.{digits}f}"
    theirs += f" ± {scale * c['published_std']:.{digits}f}" if c["published_std"] is not None else ""
    ours = f"{scale * c['value']:.{digits}f}"
    lo, hi = c["lo"], c["hi"]
    ours += f" [{scale * lo:.{digits}f}, {scale * hi:.{digits}f}]" if lo is not None and hi is not None else ""
    return theirs, ours
