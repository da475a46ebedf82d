"""The numbers behind the plots: success and distance along queries, success along ε."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sndcli.analysis import statistics
from sndcli.analysis.cut import Cut, cut
from sndcli.analysis.frame import Floats, Frame, grouped

POINTS = 160
EPS_POINTS = 121


@dataclass(frozen=True)
class Curve:
    """A line with a 95 % band. Distances may be infinite."""

    label: str
    x: Floats
    y: Floats
    lo: Floats
    hi: Floats


def labelled(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    """Runs that may be pooled, with what tells them from the others; the defense is always said.

    Args:
        frames: whose settings are told apart.
    """
    groups = list(grouped(frames).values())
    told = [_words(members[0]) for members in groups]
    differing = [len({w[k] for w in told}) > 1 for k in range(4)] + [True]
    labels = [", ".join(text for text, shown in zip(w, differing, strict=True) if shown) for w in told]
    return list(zip(labels, groups, strict=True))


def shared_words(frames: Sequence[Frame]) -> str:
    """What all runs have in common, for a title."""
    told = zip(*(_words(frame)[:4] for frame in frames), strict=True)
    return ", ".join(words[0] for words in told if len({*words}) == 1)


def _words(frame: Frame) -> tuple[str, ...]:
    s = frame.setting
    return s.attacked, s.modelled, s.data, s.bound, s.defended


def query_grid(frames: Sequence[Frame], lowest: int = 1) -> list[int]:
    """Budgets to evaluate: geometric from `lowest` to the largest, and all report points."""
    highest = max(f.budget for f in frames)
    even = np.unique(np.geomspace(min(lowest, highest), highest, POINTS).round().astype(int)).tolist()
    return sorted({*even, *(b for f in frames for b in f.budgets)})


def begins(found: Sequence[Curve]) -> float:
    """From where on curves along queries are worth drawing: nothing changes before."""
    changes = [float(c.x[max(0, int(np.argmax(c.y != c.y[0])) - 1)]) for c in found if (c.y != c.y[0]).any()]
    return min(changes, default=float(found[0].x[0]))


def bounded(curve: Curve) -> Curve:
    """Without what is infinite: no line where the median is, a band up to the line where its upper end is."""
    y = np.where(np.isfinite(curve.y), curve.y, np.nan)
    hi = np.where(np.isfinite(curve.hi), curve.hi, y)
    lo = np.where(np.isfinite(curve.lo), curve.lo, y)
    return Curve(curve.label, curve.x, y, np.where(np.isnan(y), np.nan, lo), hi)


def common_budget(frames: Sequence[Frame]) -> int:
    """The largest report point that all runs have, else the smallest of their budgets."""
    shared = set.intersection(*(set(f.budgets) for f in frames))
    return max(shared, default=min(f.budget for f in frames))


def eps_grid(frames: Sequence[Frame]) -> Floats:
    """Bounds from 0 to three times the largest of the runs."""
    return np.linspace(0, 3 * max(f.setting.eps for f in frames), EPS_POINTS)


def seen_along_queries(label: str, frames: Sequence[Frame], eps: float | None = None) -> Curve:
    """`success_seen` at every budget, from the events; Wilson band."""
    able = [(budget, [f for f in frames if f.budget >= budget]) for budget in query_grid(frames)]
    bound = frames[0].setting.eps if eps is None else eps
    found = [_rate(cut(members, budget, bound), noisy=False) for budget, members in able]
    return _curve(label, [budget for budget, _ in able], found)


def noisy_along_queries(label: str, frames: Sequence[Frame], eps: float | None = None) -> Curve | None:
    """`success_noisy` at the report points, between which nothing is verified; None where it is not known at any."""
    points = sorted({b for f in frames for b in f.budgets})
    bound = frames[0].setting.eps if eps is None else eps
    return _known(label, points, [cut([f for f in frames if b in f.position], b, bound) for b in points])


def _known(label: str, x: Sequence[float] | Floats, cuts: Sequence[Cut]) -> Curve | None:
    """`success_noisy` where it is known: an older file, or one without borders, does not know it at every ε."""
    found = [(place, _rate(c, noisy=True)) for place, c in zip(x, cuts, strict=True) if c.noisy is not None]
    return _curve(label, [place for place, _ in found], [rate for _, rate in found]) if found else None


def _rate(c: Cut, noisy: bool) -> statistics.Rate:
    hits = c.noisy if noisy else c.seen
    if hits is None:
        raise ValueError(f"Expected {c.budget} to be a report point of all runs.")
    return statistics.pooled_rate(hits, c.seed, c.image)


def _curve(label: str, x: Sequence[float] | Floats, rates: Sequence[statistics.Rate]) -> Curve:
    y, lo, hi = (np.array([getattr(rate, name) for rate in rates]) for name in ("value", "lo", "hi"))
    return Curve(label, np.asarray(x, dtype=np.float64), y, lo, hi)


def distance_along_queries(label: str, frames: Sequence[Frame]) -> Curve:
    """Median distance of the closest wrong answer, failures infinite; band from order statistics."""
    grid = query_grid(frames)
    rows = []
    for budget in grid:
        c = cut([f for f in frames if f.budget >= budget], budget, np.inf)
        rows.append([float(v) for v in statistics.median_interval(_by_image(c.best, c.image))])
    y, lo, hi = np.array(rows).T
    return Curve(label, np.array(grid, dtype=np.float64), y, lo, hi)


def success_along_eps(
    label: str, frames: Sequence[Frame], budget: int, grid: Floats, noisy: bool = False
) -> Curve | None:
    """Success at `budget` for every ε of `grid`: seen, or noisy where it is known (None where it is at no ε)."""
    able = [f for f in frames if f.budget >= budget]
    if not able or (noisy and not all(budget in f.position for f in able)):
        return None
    cuts = [cut(able, budget, float(eps)) for eps in grid]
    return _known(label, grid, cuts) if noisy else _curve(label, grid, [_rate(c, noisy=False) for c in cuts])


def _by_image(values: Floats, image: object) -> Floats:
    """The median over the seeds of each image, so that seeds do not count as images."""
    distinct, row = np.unique(np.asarray(image), return_inverse=True)
    if len(distinct) == len(values):
        return values
    return np.array([np.median(values[row == k]) for k in range(len(distinct))])
