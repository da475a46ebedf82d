"""The figures of a report, one row each: what it is called, what it means, where it is known and how it is computed.

Tables, gates, CSV, the page and docs/reports.md read this table. A new figure is its computation and one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from sndcli.analysis import statistics
from sndcli.analysis.cut import Cut
from sndcli.analysis.frame import Flags, Floats

Kind = Literal["rate", "share", "distance", "count"]
Known = Literal["events", "anywhere", "stored", "verified", "drawn", "boundary", "mismatch", "end"]
Shown = Literal["always", "never", "boundary", "mismatch", "blocked"]

KNOWN: dict[Known, str] = {
    "events": "at any Q and ε, from the events",
    "anywhere": "at any Q",
    "stored": "at stored report points",
    "verified": "at stored report points; at another ε where the boundary was measured, or with `--eps a,b`",
    "drawn": "at stored report points; at another ε with `--eps a,b`",
    "boundary": "at stored report points, where the boundary was measured",
    "mismatch": "at the end of runs with `--mismatch`",
    "end": "at the end of runs",
}
UNITS: dict[Kind, str] = {
    "rate": "share of images, 95 % interval", "share": "share", "distance": "norm of the run", "count": "count",
}  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """A rate with its 95 % interval; `value` is None where there are no images."""

    value: float | None
    lo: float
    hi: float

    def as_dict(self) -> dict[str, float | None]:
        """Plain data for JSON."""
        return asdict(self)

    def text(self, std: float | None = None) -> str:
        """``62.1 [58.9, 65.2]`` in percent, or ``62.1 ± 0.4 [58.9, 65.2]``."""
        if self.value is None:
            return "–"
        spread = f" ± {100 * std:.1f}" if std is not None else ""
        return f"{100 * self.value:.1f}{spread} [{100 * self.lo:.1f}, {100 * self.hi:.1f}]"

    def brief(self) -> str:
        """``62.1 [59,65]`` in percent, for narrow tables."""
        return "–" if self.value is None else f"{100 * self.value:.1f} [{100 * self.lo:.0f},{100 * self.hi:.0f}]"


Figure = Interval | float | None  # None: not known; a distance may be infinite


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes:
        key: its name in JSON, CSV and gates.
        label: its name in tables.
        kind: how it is printed.
        known: where.
        shown: whether tables have it always, never, or where a run measured the boundary, or counted mismatches,
            or where questions were blocked.
        meaning: in a sentence.
        of: from the rows at a point, and the name of an interval's method, to the figure.
    """

    key: str
    label: str
    kind: Kind
    known: Known
    shown: Shown
    meaning: str
    of: Callable[[Cut, str], Figure]

    def text(self, figure: Figure, std: float | None = None) -> str:
        """As tables print it: rates and shares in percent."""
        if isinstance(figure, Interval):
            return figure.text(std)
        if figure is None:
            return "–"
        if math.isinf(figure):
            return "∞"
        if self.kind == "count":
            return f"{figure:,.6g}"
        if self.kind == "share":
            return f"{100 * figure:.1f}"
        return f"{figure:.2f}" if figure >= 0.1 or figure == 0 else f"{figure:.3g}"


def interval(c: Cut, hits: Flags, method: str = "wilson") -> Interval:
    """A success rate, 95 %.

    Args:
        c: the rows.
        hits: ``[n]`` successes.
        method: of the interval, see `statistics.rate`.
    """
    rate = statistics.pooled_rate(hits, c.seed, c.image, method)
    return Interval(statistics.finite(rate.value), rate.lo, rate.hi)


def _rate(of: Callable[[Cut], Flags | None]) -> Callable[[Cut, str], Figure]:
    def figure(c: Cut, method: str) -> Figure:
        hits = of(c)
        return None if hits is None else interval(c, hits, method)

    return figure


def _median(of: Callable[[Cut], Floats | None]) -> Callable[[Cut, str], Figure]:
    """Over all images, failures infinite."""

    def figure(c: Cut, _: str) -> Figure:
        values = of(c)
        return None if values is None else statistics.median(values)

    return figure


def _last(c: Cut, _: str) -> Figure:
    return None if c.last is None else statistics.finite(float(c.last.mean()))


def _floor(c: Cut, _: str) -> Figure:
    return statistics.finite(statistics.floor(c.p0[~np.isnan(c.p0)], c.budget, c.votes))


def _p_mis(c: Cut, _: str) -> Figure:
    asked = int(c.queries[~np.isnan(c.mismatches)].sum())
    return float(np.nansum(c.mismatches)) / asked if asked else None


def _p_mis_clean(c: Cut, _: str) -> Figure:
    return None if np.isnan(c.p_mis_clean).any() else float(c.p_mis_clean.mean())


def _blocked(c: Cut, _: str) -> Figure:
    return None if np.isnan(c.blocked).any() else float(c.blocked.mean())


def _detected_at(c: Cut, _: str) -> Figure:
    return statistics.median(c.detected_at) if np.isfinite(c.detected_at).any() else None


TABLE = (
    Measure("n", "n", "count", "anywhere", "never", "images, one for each seed", lambda c, _: len(c.image)),
    Measure("success_seen", "seen", "rate", "events", "always",
            "some paid query inside ε was answered with a wrong label", _rate(lambda c: c.seen)),
    Measure("success_seen_net", "seen, net", "rate", "events", "never",
            "seen, but not at the clean image itself", _rate(lambda c: c.seen_net)),
    Measure("success_noisy", "noisy", "rate", "verified", "always",
            "the submitted point, moved out to ε, is misclassified by the defended model in half of draws or more",
            _rate(lambda c: c.noisy)),
    Measure("success_as_submitted", "as submitted", "rate", "stored", "always",
            "as noisy, of the submitted point itself", _rate(lambda c: c.as_submitted)),
    Measure("success_clean", "clean", "rate", "drawn", "always",
            "the undefended model misclassifies the moved point", _rate(lambda c: c.clean)),
    Measure("floor", "floor", "share", "anywhere", "always",
            "what resending the clean image would reach as seen", _floor),
    Measure("distance_last", "last", "distance", "stored", "always", "mean distance of the last paid query", _last),
    Measure("distance_best", "best", "distance", "events", "always",
            "median distance of the closest wrong answer, over all images; failures are infinite",
            _median(lambda c: c.best)),
    Measure("distance_submitted", "submitted", "distance", "stored", "boundary",
            "median distance of the point submitted", _median(lambda c: c.submitted)),
    Measure("distance_verified", "verified", "distance", "stored", "boundary",
            "median distance of the closest point submitted so far that at least half of fresh draws confirm",
            _median(lambda c: c.verified)),
    Measure("distance_boundary", "boundary", "distance", "boundary", "boundary",
            "median distance at which the majority flips on the ray through the point submitted",
            _median(lambda c: c.boundary)),
    Measure("p_mis", "P_mis", "share", "mismatch", "mismatch",
            "paid queries whose defended label is not the undefended one", _p_mis),
    Measure("p_mis_clean", "P_mis clean", "share", "anywhere", "mismatch",
            "the same of fresh draws at the clean images", _p_mis_clean),
    Measure("blocked", "blocked", "count", "end", "blocked",
            "mean of the paid queries that a stateful defense detected; with its policy log it only counts", _blocked),
    Measure("detected_at", "detected at", "count", "anywhere", "blocked",
            "median of the first of them, over all images; never is infinite", _detected_at),
    Measure("queries_mean", "queries, mean", "count", "anywhere", "never",
            "paid queries an image", lambda c, _: float(c.spent.mean())),
    Measure("queries_max", "queries, most", "count", "anywhere", "never",
            "of any image", lambda c, _: int(c.spent.max())),
    Measure("initially_wrong", "initially wrong", "count", "anywhere", "never",
            "images on which the first query was answered wrong", lambda c, _: int(c.initially_wrong.sum())),
    Measure("failed", "failed", "count", "anywhere", "never",
            "images whose attack could not start or broke off", lambda c, _: int(c.failed.sum())),
)  # fmt: skip
MEASURES = {measure.key: measure for measure in TABLE}
RATES = tuple(measure.key for measure in TABLE if measure.kind == "rate")
THREE = (
    "success_seen",
    "success_noisy",
    "success_clean",
)  # whose spread over seeds is told, and that of the worst rung

# Names of version 0.1, for one version more; their use is noted.
OLD = {
    "l2_last": "distance_last", "l2_best": "distance_best", "l2_claimed": "distance_submitted",
    "l2_verified": "distance_verified", "l2_border": "distance_boundary",
}  # fmt: skip


def markdown() -> str:
    """The table as Markdown."""
    lines = [
        f"| `{m.key}` | {m.label if m.shown != 'never' else ''} | {UNITS[m.kind]} | {m.meaning} | {KNOWN[m.known]} |"
        for m in TABLE
    ]
    return "\n".join(["| measure | in tables | unit | meaning | known |", "| --- | --- | --- | --- | --- |", *lines])
