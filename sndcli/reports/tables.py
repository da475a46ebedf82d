"""Summaries as tables for a terminal, as Markdown and as CSV. Rates are percent in tables, fractions in CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from sndcli.analysis.measures import MEASURES, Interval
from sndcli.analysis.summary import Summary
from sndcli.reports.grid import NEEDED, Grid, Line, caption, grids

LABELS = ("attack", "defense")  # columns of words
LEAST = 3  # figures of the narrowest table: the three successes


@dataclass(frozen=True)
class Fitted:
    """A grid as a terminal of any width shows it: as many figures as fit, intervals never broken."""

    grid: Grid
    method: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The best table that fits."""
        for measures, brief, wrapped in self._forms():
            columns = _columns(self.grid, measures, brief)
            widths = [column.wrapped if wrapped else column.plain for column in columns]
            if sum(widths) + (1 if brief else 2) * (len(widths) - 1) <= options.max_width:
                break
        below, more = caption(measures, self.method), "; --format md has more"
        cut = len(measures) < len(self.grid.measures) and len(below + more) <= options.max_width
        yield Text(self.grid.title, style="bold")
        yield _table(self.grid, columns, widths, brief)
        yield Text(below + (more if cut else ""), style="dim")

    def _forms(self) -> Iterator[tuple[tuple[str, ...], bool, bool]]:
        """Figures, whether intervals are brief, and whether labels may be wrapped: the best first."""
        every, narrow = len(self.grid.measures), len(self.grid.narrow())
        yield from ((self.grid.measures[:k], False, False) for k in range(every, narrow - 1, -1))
        yield from ((self.grid.measures[:k], True, False) for k in range(every, LEAST - 1, -1))
        yield from ((self.grid.measures[:k], True, True) for k in range(narrow, LEAST - 1, -1))


@dataclass(frozen=True)
class Column:
    """A column: its heading, which may be wrapped, and its cells."""

    name: str
    cells: tuple[str, ...]
    left: bool = False

    @property
    def plain(self) -> int:
        """Its width where no cell is wrapped."""
        return max(map(len, (*self.name.split(), *self.cells)))

    @property
    def wrapped(self) -> int:
        """Its width where labels are wrapped at spaces, figures never."""
        return max(len(word) for text in (self.name, *self.cells) for word in text.split()) if self.left else self.plain


def rich_tables(rows: Sequence[Summary], method: str = "wilson", details: bool = True) -> list[Fitted | Text]:
    """One table a comparison, for a terminal; without `details` of the figures in `NEEDED` alone."""
    found: list[Fitted | Text] = []
    for full in grids(rows):
        grid = full if details else replace(full, measures=tuple(key for key in full.measures if key in NEEDED))
        found += [Text(""), Fitted(grid, method)] if found else [Fitted(grid, method)]
    return found


def _columns(grid: Grid, measures: Sequence[str], brief: bool) -> list[Column]:
    names = [*grid.keys, *(grid.heading(key) for key in measures)]
    lines = [cells_of(line, measures, brief) for part in grid.parts for line in part]
    return [Column(name, cells, name in LABELS) for name, cells in zip(names, zip(*lines, strict=True), strict=True)]


def _table(grid: Grid, columns: Sequence[Column], widths: Sequence[int], brief: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0 if brief else 1, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column.name, justify="left" if column.left else "right", width=width)
    lines = [list(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    several = len(lines) > len(grid.parts)
    for part in grid.parts:
        for k, cells in enumerate(lines[: len(part)]):
            once = ["", *cells[1:]] if k and grid.keys[0] == "Q" else cells  # a budget stands in the first of its lines
            table.add_row(*once, end_section=several and k == len(part) - 1)
        del lines[: len(part)]
    return table


def cells_of(line: Line, measures: Sequence[str], brief: bool = False) -> list[str]:
    """What a line says."""
    figure = line.summary.brief if brief else line.summary.text
    return [*line.cells, *(figure(key) for key in measures)]


def markdown(rows: Sequence[Summary], method: str = "wilson") -> str:
    """The comparisons as Markdown tables with all figures."""
    parts = []
    for grid in grids(rows):
        head = [*grid.keys, *(grid.heading(key) for key in grid.measures)]
        rule = ["---" if name in LABELS else "---:" for name in head]
        lines = [head, rule, *(cells_of(line, grid.measures) for part in grid.parts for line in part)]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"**{grid.title}**\n\n{table}\n\n{caption(grid.measures, method)}")
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
