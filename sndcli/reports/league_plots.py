"""The two pictures of a league: what stands against what is right, and what is bought against what is lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sndcli.analysis.league import Placed, Table
from sndcli.paper.bounds import best_price
from sndcli.reports.plots import GREY, STYLE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVATURES = (0.5, 1.0, 2.0)  # lengths of noise over the curvature radius, whose price is drawn


def pictures(table: Table) -> Iterator[tuple[str, Figure]]:
    """Titles and pictures."""
    import matplotlib as mpl

    if not table.placed:
        return
    with mpl.rc_context(STYLE):
        yield "Images that stand against accuracy", _front(table)
        yield "Queries bought against accuracy lost", _bought(table)


def families(table: Table) -> dict[str, list[Placed]]:
    """Rows of one family together, the weaker first: they lose less accuracy."""
    found: dict[str, list[Placed]] = {}
    for one in table.placed:
        found.setdefault(one.row.family, []).append(one)
    return {name: sorted(rows, key=lambda one: -one.figures.accuracy.value) for name, rows in found.items()}


def _canvas(across: str, up: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.25, linewidth=0.5)
    return figure, axes


def _front(table: Table) -> Figure:
    access = table.placed[0].figures.access
    seen = "labels and scores" if access == "both" else access
    figure, axes = _canvas("accuracy, %", f"images that stand, %, attacker of {seen} (95 %)")
    for k, rows in enumerate(families(table).values()):
        x = [100 * one.figures.accuracy.value for one in rows]
        y = [100 * one.figures.claim.robust.value for one in rows]
        ends = [[100 * (one.figures.claim.robust.value - one.figures.claim.robust.lo) for one in rows],
                [100 * (one.figures.claim.robust.hi - one.figures.claim.robust.value) for one in rows]]  # fmt: skip
        across = [[100 * (one.figures.accuracy.value - one.figures.accuracy.lo) for one in rows],
                  [100 * (one.figures.accuracy.hi - one.figures.accuracy.value) for one in rows]]  # fmt: skip
        axes.errorbar(x, y, yerr=ends, xerr=across, elinewidth=0.6, **style(k))
        _names(axes, rows, x, y)
    return figure


def _bought(table: Table) -> Figure:
    figure, axes = _canvas("accuracy lost, points", "times the queries, at the median image (95 %)")
    for w in CURVATURES:
        axes.axhline(best_price(w), color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"theory, noise {w:g} curvature radii long", (1, best_price(w)), xycoords=("axes fraction", "data"),
            ha="right", va="bottom", fontsize=7, color=GREY,
        )  # fmt: skip
    axes.axhline(1.0, color=GREY, linewidth=0.8)
    for k, rows in enumerate(families(table).values()):
        known = [one for one in rows if one.figures.ratio is not None and one.figures.drop is not None]
        x, y, lo, hi = [], [], [], []
        for one in known:
            ratio, drop = one.figures.ratio, one.figures.drop
            assert ratio is not None
            assert drop is not None
            at = ratio.at_least or ratio.value
            x.append(100 * drop.value)
            y.append(at)
            lo.append(max(0.0, at - ratio.lo))
            hi.append(max(0.0, ratio.hi - at) if math.isfinite(ratio.hi) else 0.3 * at)
        if known:
            axes.errorbar(x, y, yerr=[lo, hi], elinewidth=0.6, **style(k))
            _names(axes, known, x, y)
    axes.set_yscale("log")
    return figure


def _names(axes: Axes, rows: Sequence[Placed], x: Sequence[float], y: Sequence[float]) -> None:
    for one, across, up in zip(rows, x, y, strict=True):
        axes.annotate(one.row.name, (across, up), textcoords="offset points", xytext=(5, 4), fontsize=7)
