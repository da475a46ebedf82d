"""Plots (matplotlib, the extra ``plot``): lines told apart by colour, dash and marker, so that they survive print."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sndcli.analysis import curves
from sndcli.analysis.frame import Frame
from sndcli.analysis.setting import NORMS
from sndcli.errors import ConfigError, DataError
from sndcli.runs.writing import check_writable, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("queries", "distance", "eps", "gallery")
# Okabe and Ito's colours, without the yellow, which vanishes on paper (https://jfly.uni-koeln.de/color/).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX*<>"
MOST_LINES = 35  # colours × dashes
MOST_TICKS = 9
GREY, INK = "#666666", "#010101"  # of what is no line; black itself is the colour of a line
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "snd", "text.color": INK,
    "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip


def check(path: Path | None) -> None:
    """Raises ConfigError unless a picture can be drawn, and be written to `path`."""
    if path is not None and path.suffix not in (".svg", ".png"):
        raise ConfigError(f"Expected `--plot` to end in .svg or .png but got {path}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("Plots need matplotlib: pip install 'sndcli[plot]'.") from None
    if path is not None:
        check_writable(path)


def style(k: int) -> dict[str, Any]:
    """Colour, dash and marker of the k-th line."""
    return {
        "color": COLOURS[k % len(COLOURS)],
        "linestyle": DASHES[(k + k // len(COLOURS)) % len(DASHES)],
        "marker": MARKERS[k % len(MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.5,
    }


def draw(frames: Sequence[Frame], kind: str, at: int | None = None, eps: float | None = None) -> Figure:
    """One figure over all runs.

    Args:
        frames: runs with their events.
        kind: of `KINDS`.
        at: the budget of ``eps``; by default the largest that all runs store.
        eps: the bound of ``queries``; by default the runs' own.

    Raises:
        DataError: the runs do not have what the picture needs.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        if kind == "gallery":
            from sndcli.reports import gallery

            return gallery.draw(gallery.choose(frames))
        lines = curves.labelled(frames)
        if len(lines) > MOST_LINES:
            raise DataError(f"{len(lines)} settings do not fit one picture; choose with --where.")
        if kind == "queries":
            return _queries(frames, lines, eps)
        if kind == "distance":
            return _distance(frames, lines)
        return _eps(frames, lines, at)


def save(figure: Figure, path: Path) -> None:
    """Writes .svg or .png; the same figures give the same bytes."""
    import matplotlib as mpl

    form = path.suffix[1:]
    with mpl.rc_context(STYLE), replacing(path) as temporary:
        figure.savefig(temporary, format=form, dpi=200, metadata={"Date": None} if form == "svg" else None)


def inline_svg(figure: Figure, title: str) -> str:
    """An ``<svg>`` element for a page: text as text, no prolog, no metadata, ids that no other figure has.

    Colours are CSS variables of the page (``--line-0`` and so on, ``--grey``, and the colour of its text), so that one
    picture serves light and dark; where a program knows no variables they are those of `COLOURS`.
    """
    import matplotlib as mpl

    out = io.StringIO()
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    with mpl.rc_context(STYLE | {"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<g[^>]*?) id="[^"]*"', r"\1", text)  # never referred to, and the same in every figure
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\d\.\d\d)\d+", r"\1", path[0]), text)  # a hundredth of a point
    for k, colour in enumerate(COLOURS):
        text = re.sub(rf"(fill|stroke): {colour}", rf"\1: var(--line-{k}, {colour})", text, flags=re.IGNORECASE)
    text = text.replace(f": {GREY}", f": var(--grey, {GREY})").replace(f": {INK}", ": currentColor")
    text = re.sub(r"(<text[^>]*style=\")(?![^\"]*fill:)", r"\1fill: currentColor; ", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1).strip()


def ticks(first: float, last: float) -> list[float]:
    """Where a logarithmic axis has its numbers: 1, 2, 5, 10 and so on, or fewer of them."""
    every = [float(f"{digit}e{power}") for power in range(-6, 9) for digit in (1, 2, 5)]
    inside = [tick for tick in every if first <= tick <= last]
    return inside if len(inside) < MOST_TICKS else [tick for tick in inside if f"{tick:e}"[0] == "1"]


def _panels(count: int, lines: int) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    tall = max(3.4, 0.2 * lines) if count == 1 else 3.2 + 0.2 * -(-lines // 2)
    figure = Figure(figsize=(7.2 if count == 1 else 8.8, tall), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False, sharey=count > 1)[0]


def _finish(figure: Figure, axes: Axes, title: str, beside: bool = False) -> None:
    """Title and legend, which stands below, or beside one panel."""
    handles, labels = axes.get_legend_handles_labels()
    figure.suptitle(title, fontsize=10)
    if beside:
        figure.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=4)
    else:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, handlelength=4)


def _band(axes: Axes, curve: curves.Curve, k: int, scale: float, every: Any = 24) -> None:
    axes.plot(curve.x, scale * curve.y, label=curve.label, markevery=every, **style(k))
    axes.fill_between(curve.x, scale * curve.lo, scale * curve.hi, color=style(k)["color"], alpha=0.15, linewidth=0)


def _rates(axes: Axes, text: str) -> None:
    axes.set_ylim(-2, 102)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_title(text, fontsize=9)


def _counted(axes: Axes, first: float, last: float) -> None:
    """A logarithmic axis of queries from `first` to `last`, with ticks that can be read."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(first, last * 1.04)
    axes.xaxis.set_major_locator(FixedLocator(ticks(first, last)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel("paid queries an image")


def _queries(frames: Sequence[Frame], lines: list[tuple[str, list[Frame]]], eps: float | None) -> Figure:
    figure, (left, right) = _panels(2, len(lines))
    found = [curves.seen_along_queries(label, members, eps) for label, members in lines]
    last = max(f.budget for f in frames)
    for k, (curve, (label, members)) in enumerate(zip(found, lines, strict=True)):
        _band(left, curve, k, 100, _at(curve, members))
        c = curves.noisy_along_queries(label, members, eps)
        if c is None:
            continue
        aside = 1 + 0.03 * (k - (len(lines) - 1) / 2)  # bars of several lines beside each other
        right.errorbar(
            c.x * aside, 100 * c.y, yerr=100 * np.array([c.y - c.lo, c.hi - c.y]), capsize=2.5, elinewidth=1,
            **(style(k) | {"linewidth": 1}),
        )  # fmt: skip
    for axes, text in ((left, "seen: some paid answer was wrong"), (right, "noisy: verified at the report points")):
        _rates(axes, text)
    points = report_points(frames)
    _counted(left, curves.begins(found), last)
    _counted(right, points[0] * 0.8, last * 1.2)
    right.set_xticks(points)
    if not right.lines:
        right.annotate("not known at this ε", (0.5, 0.5), xycoords="axes fraction", ha="center")
    left.set_ylabel("success, % (95 % interval)")
    bound = f"; ε = {eps:g}" if eps is not None else ""
    _finish(figure, left, curves.shared_words(frames) + bound)
    return figure


def bounds(frames: Sequence[Frame]) -> list[tuple[float, str]]:
    """Each ε of the runs, ascending, and what it is called."""
    return sorted({f.setting.eps: f"ε = {f.setting.radius}" for f in frames}.items())


def report_points(frames: Sequence[Frame]) -> list[int]:
    """Those of all runs, or fewer of them where an axis has no room."""
    points = sorted({b for f in frames for b in f.budgets})
    return points if len(points) < MOST_TICKS else points[:: len(points) // 6 + 1]


def _at(curve: curves.Curve, frames: Sequence[Frame]) -> list[int]:
    """Where the report points are on a curve: there it gets its markers."""
    points = {b for f in frames for b in f.budgets}
    return [k for k, x in enumerate(curve.x) if int(x) in points]


def _distance(frames: Sequence[Frame], lines: list[tuple[str, list[Frame]]]) -> Figure:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    figure, (axes,) = _panels(1, len(lines))
    found = [curves.distance_along_queries(label, members) for label, members in lines]
    known = np.concatenate([c.y[np.isfinite(c.y) & (c.y > 0)] for c in found])
    if not len(known):
        raise DataError("No run found a wrong answer for half of its images: there is no median distance to draw.")
    for k, (c, (_, members)) in enumerate(zip(found, lines, strict=True)):
        _band(axes, curves.bounded(c), k, 1, _at(c, members))
    axes.set_yscale("log")
    axes.set_ylim(float(known.min()) / 1.3, float(known.max()) * 1.3)
    axes.yaxis.set_major_locator(FixedLocator(ticks(*axes.get_ylim())))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for eps, told in bounds(frames):
        axes.axhline(eps, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(
            told, (1, eps), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=8,
            annotation_clip=True,  # an ε far outside would take all the room of the layout
        )  # fmt: skip
    first = min(float(c.x[np.isfinite(c.y)][0]) for c in found if np.isfinite(c.y).any())
    _counted(axes, first, max(f.budget for f in frames))
    norms = sorted({NORMS.get(f.setting.norm, f.setting.norm) for f in frames})
    axes.set_ylabel(f"median {'/'.join(norms)} distance (95 % interval)")
    axes.grid(alpha=0.25, linewidth=0.5)
    _finish(figure, axes, curves.shared_words(frames), beside=True)
    return figure


def _eps(frames: Sequence[Frame], lines: list[tuple[str, list[Frame]]], at: int | None) -> Figure:
    budget = at or curves.common_budget(frames)
    if not any(f.budget >= budget for f in frames):
        raise DataError(f"No run reaches {budget:,} queries.")
    figure, (left, right) = _panels(2, len(lines))
    grid = curves.eps_grid(frames)
    norms = sorted({NORMS.get(f.setting.norm, f.setting.norm) for f in frames})
    drawn = {False: 0, True: 0}
    for k, (label, members) in enumerate(lines):
        for axes, noisy in ((left, False), (right, True)):
            curve = curves.success_along_eps(label, members, budget, grid, noisy)
            if curve is not None:
                drawn[noisy] += 1
                _band(axes, curve, k, 100, (3 * k % 20, 20))
    for axes, text in ((left, "seen"), (right, "noisy")):
        _rates(axes, text)
        axes.set_xlim(0, float(grid[-1]))
        axes.set_xlabel(f"bound ε on the {'/'.join(norms)} distance")
        for eps, told in bounds(frames):
            axes.axvline(eps, color=GREY, linewidth=0.8, linestyle=":")
            axes.annotate(
                told, (eps, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8,
            )  # fmt: skip
    if not drawn[True]:
        right.annotate("not known at this budget", (0.5, 0.5), xycoords="axes fraction", ha="center")
    left.set_ylabel("success, % (95 % interval)")
    _finish(figure, left, f"{curves.shared_words(frames)}; {budget:,} queries")
    return figure
