"""What a table shows, whatever it is written in: attacks side by side, what all lines share said once, above them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sndcli.analysis.measures import MEASURES, TABLE, THREE
from sndcli.analysis.setting import NORMS
from sndcli.analysis.summary import Summary

# The order of columns: what a narrow table has, then what it leaves out.
NEEDED = (*THREE, "floor")  # before all others
FIRST = (*NEEDED, "distance_best")
THEN = (
    "distance_boundary", "p_mis", "success_as_submitted", "distance_submitted", "distance_verified", "distance_last",
    "p_mis_clean",
)  # fmt: skip
MEANS = ("distance_last",)  # the other distances are medians


@dataclass(frozen=True)
class Key:
    """A column that says what a line is of."""

    name: str
    of: Callable[[Summary], str]
    in_title: str  # how a title says what all lines share


@dataclass(frozen=True)
class Line:
    """A line of a grid: its cells under `Grid.keys`, and the figures."""

    cells: tuple[str, ...]
    summary: Summary


@dataclass(frozen=True)
class Grid:
    """One comparison: all settings of one model, data set and bound.

    Attributes:
        title: what all lines share.
        name: the same in letters, digits and hyphens.
        unit: of distances, ``L2``.
        keys: names of the columns that tell lines apart.
        measures: keys of the figures that some line has, what a narrow table leaves out last.
        parts: the lines of each budget, budgets ascending.
    """

    title: str
    name: str
    unit: str
    keys: tuple[str, ...]
    measures: tuple[str, ...]
    parts: tuple[tuple[Line, ...], ...]

    def narrow(self) -> tuple[str, ...]:
        """The figures that no paper is too narrow for."""
        return tuple(key for key in self.measures if key in FIRST)

    def heading(self, key: str) -> str:
        """A figure's name with its unit."""
        measure = MEASURES[key]
        unit = {"rate": "%", "share": "%", "distance": self.unit, "count": ""}[measure.kind]
        return f"{measure.label} {unit}".strip()


def asked(row: Summary) -> str:
    """The budget as the paper has it: questions, and answers to each."""
    q, t = row.budget, row.setting.votes
    return f"{q // t:,}×{t}" if t > 1 and q % t == 0 else f"{q:,}"


KEYS = (
    Key("Q", asked, "{} queries"),
    Key("attack", lambda row: row.setting.attacked, "{}"),
    Key("defense", lambda row: row.setting.defended, "{}"),
    Key("n", lambda row: f"{row.n:,}", "n = {}"),
)


def shown(rows: Iterable[Summary]) -> list[str]:
    """The measures that a table of these rows has, in its order."""
    wanted = {"always"}
    for row in rows:
        wanted |= {"boundary"} if row.boundary_measured else set()
        wanted |= {"mismatch"} if row.figures.get("p_mis") is not None else set()
        wanted |= {"blocked"} if row.figures.get("detected_at") is not None else set()
    others = [measure.key for measure in TABLE if measure.key not in (*FIRST, *THEN)]
    return [key for key in (*FIRST, *THEN, *others) if MEASURES[key].shown in wanted]


def grids(rows: Sequence[Summary]) -> list[Grid]:
    """The comparisons that summaries make, in the order of the first of each."""
    found: dict[tuple[str, str, str], list[Summary]] = {}
    for row in rows:
        found.setdefault((row.setting.modelled, row.setting.data, row.setting.bound), []).append(row)
    return [_grid(members) for members in found.values()]


def _grid(rows: Sequence[Summary]) -> Grid:
    told = {key.name: [key.of(row) for row in rows] for key in KEYS}
    said = [key for key in KEYS if len({*told[key.name]}) > 1] or [*KEYS[:1]]
    common = {key.name: key.in_title.format(told[key.name][0]) for key in KEYS if key not in said}
    s = rows[0].setting
    attacked = " against ".join(common[name] for name in ("attack", "defense") if name in common)
    victim = f"{attacked} on {s.modelled}" if "defense" in common else f"{attacked}, {s.modelled}".removeprefix(", ")
    title = ", ".join([victim, s.data, s.bound, *(common[name] for name in ("Q", "n") if name in common)])
    parts: dict[int, list[Line]] = {}
    for row in sorted(rows, key=lambda row: row.budget):  # stable: settings stay in their order
        parts.setdefault(row.budget, []).append(Line(tuple(key.of(row) for key in said), row))
    return Grid(
        title, re.sub(r"[^a-z0-9]+", "-", f"{s.modelled} {s.data} {s.bound}".replace("∞", "inf").lower()).strip("-"),
        NORMS.get(s.norm, s.norm), tuple(key.name for key in said), tuple(shown(rows)),
        tuple(tuple(lines) for lines in parts.values()),
    )  # fmt: skip


def caption(measures: Sequence[str], method: str = "wilson") -> str:
    """What the figures of these columns are, in a line."""
    name = {"wilson": "Wilson", "clopper-pearson": "Clopper-Pearson"}[method]
    distances = [key for key in measures if MEASURES[key].kind == "distance"]
    medians = ", ".join(MEASURES[key].label for key in distances if key not in MEANS)
    means = ", ".join(MEASURES[key].label for key in distances if key in MEANS)
    parts = [f"% of images [95 % {name}]"]
    parts += [f"{medians}: median distance"] if medians else []
    parts += [f"{means}: mean of the last query's"] if means else []
    return "; ".join(parts)
