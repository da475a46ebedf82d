"""Plots (matplotlib, the extra ``plot``): lines told apart by colour, dash and marker, so that they survive print."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sndcli.analysis import curves
from sndcli.analysis.frame import Frame
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
EPS_POINTS = 121
STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "snd"}


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
    """An ``<svg>`` element for a page: text as text, no prolog, no metadata, ids that no other figure has."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<g[^>]*?) id="[^"]*"', r"\1", text)  # never referred to, and the same in every figure
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).strip()


def _panels(count: int, lines: int) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * count, 3.2 + 0.2 * -(-lines // (2 * count))), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False, sharey=count > 1)[0]


def _finish(figure: Figure, axes: Axes, title: str, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.suptitle(title, fontsize=10)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=4)


def _band(axes: Axes, curve: curves.Curve, k: int, scale: float, every: Any = 24) -> None:
    axes.plot(curve.x, scale * curve.y, label=curve.label, markevery=every, **style(k))
    axes.fill_between(curve.x, scale * curve.lo, scale * curve.hi, color=style(k)["color"], alpha=0.15, linewidth=0)


def _rates(axes: Axes, text: str) -> None:
    axes.set_ylim(-2, 102)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_title(text, fontsize=9)


def _queries(frames: Sequence[Frame], lines: list[tuple[str, list[Frame]]], eps: float | None) -> Figure:
    from matplotlib.ticker import FuncFormatter

    figure, (left, right) = _panels(2, len(lines))
    for k, (label, members) in enumerate(lines):
        curve = curves.seen_along_queries(label, members, eps)
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
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.set_xlabel("paid queries an image")
    if not right.lines:
        right.annotate("not known at this ε", (0.5, 0.5), xycoords="axes fraction", ha="center")
    right.minorticks_off()
    points = sorted({b for f in frames for b in f.budgets})
    right.set_xticks(points if len(points) < 7 else points[:: len(points) // 6 + 1])
    left.set_ylabel("success, % (95 % interval)")
    bound = f"; ε = {eps:g}" if eps is not None else ""
    _finish(figure, left, curves.shared_words(frames) + bound, 2)
    return figure


def _at(curve: curves.Curve, frames: Sequence[Frame]) -> list[int]:
    """Where the report points are on a curve: there it gets its markers."""
    points = {b for f in frames for b in f.budgets}
    return [k for k, x in enumerate(curve.x) if int(x) in points]


def _distance(frames: Sequence[Frame], lines: list[tuple[str, list[Frame]]]) -> Figure:
    from matplotlib.ticker import FuncFormatter

    figure, (axes,) = _panels(1, 2 * len(lines))
    found = [curves.distance_along_queries(label, members) for label, members in lines]
    finite = np.concatenate([values[np.isfinite(values) & (values > 0)] for c in found for values in (c.y, c.hi)])
    if not len(finite):
        raise DataError("No run found a wrong answer for half of its images: there is no median distance to draw.")
    top, bottom = float(finite.max()), float(finite.min())
    for k, (c, (_, members)) in enumerate(zip(found, lines, strict=True)):
        shown = curves.Curve(
            c.label, c.x, np.where(np.isfinite(c.y), c.y, np.nan), c.lo.clip(bottom / 2), c.hi.clip(0, 9 * top)
        )
        shown.lo[np.isnan(shown.y)] = np.nan
        _band(axes, shown, k, 1, _at(c, members))
    norms = {f.setting.norm for f in frames}
    for eps in sorted({f.setting.eps for f in frames}):
        axes.axhline(eps, color="0.4", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"ε = {eps:g}", (1, eps), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8,
            annotation_clip=True,  # an ε far outside would take all the room of the layout
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="paid queries an image")
    axes.set_ylim(bottom / 1.3, top * 1.3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    axes.set_ylabel(f"median {'/'.join(sorted(norms))} distance (95 % interval)")
    axes.grid(alpha=0.25, linewidth=0.5)
    _finish(figure, axes, curves.shared_words(frames), 1)
    return figure


def _eps(frames: Sequence[Frame], lines: list[tuple[str, list[Frame]]], at: int | None) -> Figure:
    shared = set.intersection(*(set(f.budgets) for f in frames))
    budget = at or max(shared, default=min(f.budget for f in frames))
    if not any(f.budget >= budget for f in frames):
        raise DataError(f"No run reaches {budget:,} queries.")
    figure, (left, right) = _panels(2, len(lines))
    grid = np.linspace(0, 3 * max(f.setting.eps for f in frames), EPS_POINTS)
    for k, (label, members) in enumerate(lines):
        for axes, noisy in ((left, False), (right, True)):
            curve = curves.success_along_eps(label, members, budget, grid, noisy)
            if curve is not None:
                _band(axes, curve, k, 100, (3 * k % 20, 20))
    for axes, text in ((left, "seen"), (right, "noisy")):
        _rates(axes, text)
        axes.set_xlabel("bound ε on the distance")
        for eps in sorted({f.setting.eps for f in frames}):
            axes.axvline(eps, color="0.4", linewidth=0.8, linestyle=":")
    if not right.lines[: -len({f.setting.eps for f in frames})]:
        right.annotate("not known at this budget", (0.5, 0.5), xycoords="axes fraction", ha="center")
    left.set_ylabel("success, % (95 % interval)")
    _finish(figure, left, f"{curves.shared_words(frames)}; {budget:,} queries", 2)
    return figure
