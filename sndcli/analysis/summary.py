"""From per-image rows to one summary a budget: the JSON contract of `attack` and `report`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow as pa

from sndcli.analysis import measures, statistics
from sndcli.analysis.cut import Cut, cut, points_of
from sndcli.analysis.frame import Frame, frame_of, grouped, named
from sndcli.analysis.measures import Figure, Interval
from sndcli.analysis.setting import Setting
from sndcli.analysis.statistics import finite
from sndcli.runs.results import Metadata


@dataclass(frozen=True)
class Scales:
    """What `flags` compares with the noise; None where an older file does not say.

    Attributes:
        probe, search: how far the attack's probes and searches reach at ε.
        sigma_all: σ of the noise that these are compared with, where it is not that of ``snd`` alone.
        passes_differ: whether two passes on one image differed, as those of a random defense should.
        sigma_round: width of the noise that rounding alone is; 0 in float32.
        rounding_share: how much of the defense's own noise that is; None without one.
    """

    probe: float | None = None
    search: float | None = None
    sigma_all: float | None = None
    passes_differ: bool | None = None
    sigma_round: float | None = None
    rounding_share: float | None = None


@dataclass(frozen=True)
class Spread:
    """Of a rate over the seeds."""

    mean: float
    std: float


@dataclass(frozen=True)
class Summary:
    """The figures of one setting at one report point.

    Attributes:
        setting: attack, victim and bound.
        seeds: of the pooled rows.
        budget: Q.
        figures: by the key of a measure (`measures.MEASURES`).
        scales: of the attack.
        over_seeds: of `measures.THREE`, where there are several seeds.
        boundary_measured: whether the majority boundary was measured.
        runs: ids of the pooled runs.
    """

    setting: Setting
    seeds: tuple[int, ...]
    budget: int
    figures: Mapping[str, Figure]
    scales: Scales = Scales()
    over_seeds: Mapping[str, Spread] = field(default_factory=dict)
    boundary_measured: bool = False
    runs: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Images, one for each seed."""
        return int(self.number("n") or 0)

    def rate(self, key: str) -> Interval | None:
        """A figure that has an interval; None where it is not known, or of no images."""
        figure = self.figures.get(key)
        return figure if isinstance(figure, Interval) and figure.value is not None else None

    def number(self, key: str) -> float | None:
        """A figure without an interval, or the value of one with it; None where it is not known."""
        figure = self.figures.get(key)
        return figure.value if isinstance(figure, Interval) else figure

    def text(self, key: str) -> str:
        """A figure as tables print it."""
        spread = self.over_seeds.get(key)
        return measures.MEASURES[key].text(self.figures.get(key), spread.std if spread else None)

    def brief(self, key: str) -> str:
        """`text` in less room: the ends of intervals in whole percent."""
        figure = self.figures.get(key)
        return figure.brief() if isinstance(figure, Interval) else self.text(key)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON: what is infinite or not known is None."""
        seed = self.seeds[0] if len(self.seeds) == 1 else list(self.seeds)
        spreads = {name: asdict(spread) for name, spread in self.over_seeds.items()}
        run = self.runs[0] if len(self.runs) == 1 else list(self.runs)
        return {
            **self.setting.as_dict(), "run": run, "seed": seed, **asdict(self.scales), "budget": self.budget,
            **{key: _plain(figure) for key, figure in self.figures.items()},
            "boundary_measured": self.boundary_measured, "over_seeds": spreads or None,
        }  # fmt: skip


def _plain(figure: Figure) -> object:
    if isinstance(figure, Interval):
        return figure.as_dict()
    return None if figure is None or finite(figure) is None else figure


def summarise(
    runs: Iterable[pa.Table | Frame],
    at: Sequence[int] = (),
    eps: float | None = None,
    method: str = "wilson",
) -> list[Summary]:
    """One summary for each setting and report point.

    Rows of one setting and several seeds or files are pooled; the intervals hold both levels of sampling, and
    `over_seeds` has mean and standard deviation over the seeds. Where runs of several budgets hold the same image and
    seed, the longest speaks.

    Args:
        runs: result tables, or frames whose settings are told apart.
        at: budgets instead of the stored report points. What can be recomputed is (see `measures`); the rest is None
            unless stored there. Runs that do not reach a budget are left out of it.
        eps: a bound instead of the runs' own.
        method: of the intervals, see `statistics.rate`.
    """
    given = list(runs)
    frames = [run for run in given if isinstance(run, Frame)]
    frames += named(frame_of(run) for run in given if not isinstance(run, Frame))
    return [
        _summary(cut(able, budget, bound), able, method)
        for members in grouped(frames).values()
        for able, budget, bound in points_of(members, at, eps)
    ]


def _summary(c: Cut, frames: Sequence[Frame], method: str) -> Summary:
    return Summary(
        replace(frames[0].setting, eps=c.eps),
        tuple(sorted({int(seed) for f in frames for seed in np.unique(f.seed)})),
        c.budget,
        {measure.key: measure.of(c, method) for measure in measures.TABLE},
        _scales(frames[0].run),
        _over_seeds(c),
        c.boundary is not None,
        tuple(sorted({f.run["id"] for f in frames})),
    )


def _scales(run: Metadata) -> Scales:
    scales, rounding = run.get("scales") or {}, run.get("rounding") or {}
    return Scales(
        scales.get("probe"), scales.get("search"), scales.get("sigma_all"), run.get("passes_differ"),
        rounding.get("sigma"), rounding.get("share"),
    )  # fmt: skip


def _over_seeds(c: Cut) -> dict[str, Spread]:
    seeds, row = np.unique(c.seed, return_inverse=True)
    if len(seeds) == 1:
        return {}
    found = {}
    for name, hits in zip(measures.THREE, (c.seen, c.noisy, c.clean), strict=True):
        if hits is not None:
            shares: list[float] = (np.bincount(row, hits) / np.bincount(row)).tolist()
            found[name] = Spread(*statistics.mean_std(shares))
    return found


def outcomes(table: pa.Table, budget: int) -> dict[str, dict[tuple[int, int], bool]]:
    """Success of each (seed, image id) at a report point, seen and noisy, for paired comparisons."""
    frame = frame_of(table)
    c = cut([frame], budget, frame.setting.eps)
    if c.noisy is None:
        raise ValueError(f"Expected {budget} to be one of the report points {frame.budgets}.")
    keys = list(zip(c.seed.tolist(), c.image.tolist(), strict=True))
    hits = {"success_seen": c.seen, "success_noisy": c.noisy}
    return {name: dict(zip(keys, hit.tolist(), strict=True)) for name, hit in hits.items()}
