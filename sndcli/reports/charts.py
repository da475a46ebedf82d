"""Curves that answer to a pointer (altair and vl-convert-python, the extra ``page``), beside the pictures of a page.

The scripts that draw them come with vl-convert-python and go into the page as they are; nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from sndcli.analysis import curves
from sndcli.analysis.curves import Curve
from sndcli.analysis.frame import Frame
from sndcli.analysis.setting import NORMS
from sndcli.errors import DataError
from sndcli.reports import plots

if TYPE_CHECKING:
    import altair as alt

Scale = Literal["log", "linear"]
HEIGHT = 260
POINTS = "points"  # name of the data
DASHES = ((1, 0), (8, 3), (2, 2), (9, 3, 2, 3), (5, 2, 2, 2, 2, 2))  # as `plots.DASHES`
SHAPES = (  # as `plots.MARKERS`, in a square from -1 to 1
    "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z", "M-.8,-.8H.8V.8H-.8Z", "M0,-1L1,0L0,1L-1,0Z", "M0,-.9L1,.8H-1Z",
    "M0,.9L1,-.8H-1Z", "M-.35,-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z",
    "M-.7,-1L0,-.3L.7,-1L1,-.7L.3,0L1,.7L.7,1L0,.3L-.7,1L-1,.7L-.3,0L-1,-.7Z",
    "M0,-1L.24,-.32L.95,-.31L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31L-.24,-.32Z", "M-.9,0L.8,-1V1Z",
    "M.9,0L-.8,-1V1Z",
)  # fmt: skip
INK, FAINT = "var(--ink)", "var(--rule)"  # of the page, whatever its colours are


@dataclass(frozen=True)
class Axis:
    """One side of a chart: its title, its scale, what of it is shown, and where it has numbers if not anywhere."""

    title: str
    scale: Scale
    first: float
    last: float
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Style:
    """How a line looks: colour as a variable of the page, dash, and marker as a path from -1 to 1."""

    label: str
    colour: str
    dash: tuple[float, ...]
    shape: str


@dataclass(frozen=True)
class Chart:
    """One panel.

    Attributes:
        title: what it shows.
        spec: of Vega-Lite, as JSON.
    """

    title: str
    spec: str


def able() -> bool:
    """Whether the extra is installed."""
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def scripts() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, from vl-convert-python."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def styles(frames: Sequence[Frame]) -> list[Style]:
    """Of the lines of `draw`, as `plots.style` has them: a legend."""
    colours, dashes = len(plots.COLOURS), len(DASHES)
    return [
        Style(label, f"var(--line-{k % colours})", DASHES[(k + k // colours) % dashes], SHAPES[k % len(SHAPES)])
        for k, (label, _) in enumerate(curves.labelled(frames))
    ]


def draw(frames: Sequence[Frame], kind: str, eps: float | None = None) -> list[Chart]:
    """The panels of `plots.draw`.

    Args:
        frames: runs with their events, no more of them than `plots.MOST_LINES`.
        kind: ``queries``, ``distance`` or ``eps``.
        eps: the bound of ``queries``; by default the runs' own.

    Raises:
        DataError: the runs do not have what the picture needs.
    """
    lines, looks = curves.labelled(frames), styles(frames)
    success = Axis("success, %", "linear", 0, 100)
    last = max(f.budget for f in frames)
    bounds = plots.bounds(frames)
    norms = "/".join(sorted({NORMS.get(f.setting.norm, f.setting.norm) for f in frames}))
    points = plots.report_points(frames)
    marked = {float(b) for f in frames for b in f.budgets}
    if kind == "queries":
        seen = [_percent(curves.seen_along_queries(label, members, eps)) for label, members in lines]
        noisy = [curves.noisy_along_queries(label, members, eps) for label, members in lines]
        known = [_percent(c) for c in noisy if c is not None]
        panels = [("seen", seen, _queries(curves.begins(seen), last), False)]
        if known:
            x = replace(_queries(points[0] * 0.8, last * 1.2), ticks=tuple(map(float, points)))
            panels.append(("noisy, at the report points", known, x, True))
        return [Chart(title, _spec(found, looks, x, success, marked, bars)) for title, found, x, bars in panels]
    if kind == "distance":
        far = [curves.bounded(curves.distance_along_queries(label, members)) for label, members in lines]
        finite = np.concatenate([c.y[np.isfinite(c.y) & (c.y > 0)] for c in far])
        if not len(finite):
            raise DataError("No run found a wrong answer for half of its images: there is no median distance to draw.")
        low, high = float(finite.min()) / 1.3, float(finite.max()) * 1.3
        first = min(float(c.x[np.isfinite(c.y)][0]) for c in far if np.isfinite(c.y).any())
        y = Axis(f"median {norms} distance", "log", low, high, tuple(plots.ticks(low, high)))
        far = [Curve(c.label, c.x, c.y.clip(low), c.lo.clip(low), c.hi.clip(low)) for c in far]  # 0 has no logarithm
        return [Chart("median distance", _spec(far, looks, _queries(first, last), y, marked, across=bounds))]
    budget, grid = curves.common_budget(frames), curves.eps_grid(frames)
    x = Axis(f"bound ε on the {norms} distance", "linear", 0, float(grid[-1]))
    charts = []
    for noisy_too, title in ((False, "seen"), (True, "noisy")):
        rates = [curves.success_along_eps(label, members, budget, grid, noisy_too) for label, members in lines]
        found = [_percent(c) for c in rates if c is not None]
        if found:
            spec = _spec(found, looks, x, success, {*map(float, grid[::20])}, along=bounds)
            charts.append(Chart(f"{title}, at {budget:,} queries", spec))
    return charts


def _queries(first: float, last: float) -> Axis:
    return Axis("paid queries an image", "log", first, last, tuple(plots.ticks(first, last)))


def _percent(c: Curve) -> Curve:
    return Curve(c.label, c.x, 100 * c.y, 100 * c.lo, 100 * c.hi)


def _spec(
    found: Sequence[Curve], looks: Sequence[Style], x: Axis, y: Axis, marked: set[float], bars: bool = False,
    along: Sequence[tuple[float, str]] = (), across: Sequence[tuple[float, str]] = (),
) -> str:  # fmt: skip
    """Lines, their bands, markers at some places, and points that answer to the pointer.

    Args:
        found: the lines.
        looks: of these and of the other panels' lines.
        x, y: the axes.
        marked: where lines have markers.
        bars: intervals are bars, since between the points nothing is known.
        along, across: values of x, and of y, that have a line of their own, with what they are called: ε.
    """
    import altair as alt

    near = alt.selection_point(name="near", on="pointerover", empty=False, fields=["line", "x"])
    labels = [look.label for look in looks]
    colour = alt.Color("line:N", legend=None).scale(domain=labels, range=[look.colour for look in looks])
    dash = alt.StrokeDash("line:N", legend=None).scale(domain=labels, range=[list(look.dash) for look in looks])
    shape = alt.Shape("line:N", legend=None).scale(domain=labels, range=[look.shape for look in looks])
    told = "format(datum.y, '.3~g') + ' [' + format(datum.lo, '.3~g') + ', ' + format(datum.hi, '.3~g') + ']'"
    base = (
        alt.Chart(alt.NamedData(name=POINTS))
        .transform_calculate(line=f"{json.dumps(list(labels))}[datum.k]", told=told)
        .encode(x=_x(x), y=_y(y), color=colour)
    )
    tooltip = [
        alt.Tooltip("line:N", title="line"), alt.Tooltip("at:Q" if bars else "x:Q", title=x.title, format=",.4~g"),
        alt.Tooltip("told:N", title=f"{y.title} [95 %]"),
    ]  # fmt: skip
    interval = base.mark_rule(strokeWidth=1) if bars else base.mark_area(opacity=0.13, clip=True)
    layers: list[alt.Chart] = [
        interval.encode(y=_y(y, "lo"), y2="hi:Q"),
        base.mark_line(strokeWidth=1 if bars else 2, clip=True).encode(strokeDash=dash),
        base.transform_filter("datum.marked").mark_point(size=60, filled=True, opacity=1).encode(shape=shape),
        base.mark_point(size=250, filled=True)
        .encode(opacity=alt.when(near).then(alt.value(1)).otherwise(alt.value(0)), tooltip=tooltip)
        .add_params(near),
    ]
    for name, values, scale in (("x", along, x), ("y", across, y)):
        inside = [(value, told) for value, told in values if scale.first <= value <= scale.last]
        layers += _bounds(name, inside, x, y) if inside else []
    chart = (
        alt.layer(*layers)
        .properties(width="container", height=HEIGHT, background="transparent")
        .configure(aria=False, font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK, titleColor=INK, domainColor=INK, tickColor=INK, gridColor=FAINT, titleFontWeight="normal",
            labelFontSize=11, titleFontSize=12, labelOverlap=True,
        )
    )  # fmt: skip
    spec = chart.to_dict()
    spec.setdefault("datasets", {})[POINTS] = _points(found, labels, marked, x, bars)  # which altair need not look at
    return json.dumps(spec, separators=(",", ":"), allow_nan=False).replace("<", r"\u003c")


def _bounds(name: str, values: Sequence[tuple[float, str]], x: Axis, y: Axis) -> list[alt.Chart]:
    """A thin line at each ε with its value."""
    import altair as alt

    data = alt.InlineData(values=[{name: value, "told": told} for value, told in values])
    base = alt.Chart(data)
    rule, text = base.mark_rule(color=INK, strokeDash=[2, 3], strokeWidth=1), base.mark_text(color=INK, fontSize=11)
    if name == "x":
        return [rule.encode(x=_x(x)), text.encode(x=_x(x), y=alt.value(-7), text="told:N")]
    text = base.mark_text(color=INK, fontSize=11, align="right", dy=-7)
    return [rule.encode(y=_y(y)), text.encode(x=alt.value("width"), y=_y(y), text="told:N")]


def _x(axis: Axis) -> alt.X:
    import altair as alt

    scale = alt.Scale(type=axis.scale, domain=[axis.first, axis.last], nice=False)
    return alt.X("x:Q", title=axis.title, scale=scale, axis=_ticks(axis))


def _y(axis: Axis, field: str = "y") -> alt.Y:
    import altair as alt

    scale = alt.Scale(type=axis.scale, domain=[axis.first, axis.last], nice=False, clamp=True)
    return alt.Y(f"{field}:Q", title=axis.title, scale=scale, axis=_ticks(axis))


def _ticks(axis: Axis) -> alt.Axis:
    import altair as alt

    return alt.Axis(format=",.4~g", values=list(axis.ticks)) if axis.ticks else alt.Axis(format=",.4~g", tickCount=6)


def _points(
    found: Sequence[Curve], labels: Sequence[str], marked: set[float], axis: Axis, bars: bool
) -> list[dict[str, float | bool]]:
    """The finite points of lines on the axis, without those at which nothing changes.

    `k` is a line's place among the labels. Bars of several lines stand side by side, and `at` is where they belong.
    """
    points: list[dict[str, float | bool]] = []
    for c in found:
        values = np.column_stack([c.y, c.lo, c.hi])
        same = np.all(values[1:] == values[:-1], axis=1)
        between = np.concatenate(([False], same)) & np.concatenate((same, [False]))
        k = labels.index(c.label)
        aside = 1 + 0.02 * (k - (len(labels) - 1) / 2) if bars else 1.0
        for x, (y, lo, hi), idle in zip(c.x.tolist(), values.tolist(), between.tolist(), strict=True):
            if np.isfinite(y) and (x in marked or not idle) and axis.first <= x <= axis.last:
                point = {"k": k, "x": _short(x * aside), "y": _short(y), "lo": _short(lo), "hi": _short(hi)}
                points.append(point | ({"at": x} if bars else {}) | ({"marked": True} if x in marked else {}))
    return points


def _short(value: float) -> float:
    return float(f"{value:.5g}")
