"""The figures of an audit, each with its 95 % interval: pure functions of what `runs.audit` left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from sndcli.analysis.bought import Bought, bought
from sndcli.analysis.statistics import (
    Rate,
    crossed_rate,
    finite,
    floor,
    median_interval,
    paired_difference,
    rate,
)  # fmt: skip
from sndcli.runs.audited import Audited, Done
from sndcli.runs.battery import BATTERY, Access, Step, claims
from sndcli.runs.final import Judged
from sndcli.runs.honest import Speed, agreeing
from sndcli.runs.success import HALF


@dataclass(frozen=True)
class Figure:
    """A figure with its interval."""

    value: float
    lo: float
    hi: float

    @classmethod
    def of(cls, rate: Rate) -> Figure:
        """Of a rate."""
        return cls(rate.value, rate.lo, rate.hi)

    def as_dict(self) -> dict[str, float | None]:
        """Plain data for JSON; what is infinite or unknown is null."""
        return {name: finite(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Stepped:
    """What a step of the battery did.

    Attributes:
        step: which.
        images: that it got.
        broken: that it confirmed.
        alone: of those, images that no other step confirmed.
        by_any: of its images, those that some step confirmed.
        seen: share of its images on which some paid answer inside ε was wrong.
        queries_mean: paid; None without images.
        run_id: of its run; None without images.
        blocked: share of the paid queries that a defense which remembers them detected.
    """

    step: Step
    images: int
    broken: int
    alone: int
    by_any: int
    seen: float
    queries_mean: float | None
    run_id: str | None
    blocked: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        s = self.step
        return {
            "attack": s.attack, "preset": s.preset, "access": s.access, "role": s.role, "images": self.images,
            "broken": self.broken, "alone": self.alone, "seen": finite(self.seen), "queries_mean": self.queries_mean,
            "blocked": self.blocked, "run": self.run_id,
        }  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """What is claimed of one kind of access.

    Attributes:
        access: of the attacker.
        broken: by image id, in the order of the images: whether it is broken at Q; without an attack too.
        robust: share of images that stand.
        robust_single: accuracy of one fresh answer at the points that won.
        success: share of the images that are right without an attack that are broken.
        optimism: share of images confirmed, less that which final draws hold.
        boundary, boundary_bare: median distance of the majority flip on the rays of the points that won.
    """

    access: Access
    broken: Mapping[int, bool]
    robust: Rate
    robust_single: Figure
    success: Rate
    optimism: float
    boundary: Figure
    boundary_bare: Figure | None


@dataclass(frozen=True)
class Figures:
    """All of an audit.

    Attributes:
        model, dataset, defense: in words.
        norm, eps, budget, n, seed: of the runs.
        access: of the attacker.
        accuracy, accuracy_std: behind the defense, on all images of the data set; over seeds of its randomness.
        accuracy_bare, drop: None where the bare model is not known.
        inconsistent: share of images on which two answers disagree.
        claims: one for each access that something is said of, the wider last.
        ratios: by access of a champion, how many queries the defense buys; None where there is no ratio.
        steps: what each did.
        floor, seen: what resending the clean image would show a label attacker at Q, and what the champion saw.
        speed: of an answer.
        random, passes_differ: whether the defense says that it is random, and whether two answers differed.
        runs: ids of all runs.
        times, times_bare: by access of a champion, by image, queries until it was broken; 0 without an attack.
        correct, correct_bare: by image of the data set, the share of answers that are right; without the defense.
    """

    model: str
    dataset: str
    defense: str
    norm: str
    eps: float
    budget: int
    n: int
    seed: int
    access: Access
    accuracy: Figure
    accuracy_std: float
    accuracy_bare: Figure | None
    drop: Figure | None
    inconsistent: Figure
    claims: tuple[Claim, ...]
    ratios: Mapping[str, Bought | None]
    steps: tuple[Stepped, ...]
    floor: float
    seen: float
    speed: Speed
    random: bool
    passes_differ: bool | None
    runs: tuple[str, ...]
    times: Mapping[str, Mapping[int, float]]
    times_bare: Mapping[str, Mapping[int, float]]
    correct: Mapping[int, float]
    correct_bare: Mapping[int, float]
    battery: str = BATTERY

    @property
    def claim(self) -> Claim:
        """Of the widest access."""
        return self.claims[-1]

    @property
    def ratio(self) -> Bought | None:
        """The smallest of those that are known: an attacker chooses."""
        known = [ratio for ratio in self.ratios.values() if ratio is not None]
        return min(known, key=lambda ratio: ratio.value) if known else None

    @property
    def best_attack(self) -> str | None:
        """The step that breaks most images by itself; None where none breaks any."""
        best = max(self.steps, key=lambda one: one.broken)
        return best.step.name if best.broken else None


def figures(audited: Audited) -> Figures:
    """Computes them."""
    c, done = audited.facts, [run for run in audited.done if not run.bare]
    honest = audited.honest
    right = (honest.answers == honest.label).numpy()
    known = bool((honest.bare >= 0).all())
    bare = (honest.bare == honest.label).numpy() if known else None
    champion = next(run for run in done if audited.steps[run.step].role == "champion")
    first = [outcome for _, outcome in sorted(champion.outcomes.items())]
    times, times_bare = _times(audited, 0), _times(audited, -1)
    runs = tuple(run.run_id for run in audited.done if run.run_id is not None)
    return Figures(
        model=c.model, dataset=c.dataset, defense=c.defense, norm=c.norm, eps=c.eps, budget=c.budget,
        n=len(audited.ids), seed=c.seed, access=audited.access,
        accuracy=Figure.of(crossed_rate(right.astype(np.float64))),
        accuracy_std=float(right.mean(1).std(ddof=1)),
        accuracy_bare=None if bare is None else Figure.of(rate(int(bare.sum()), len(bare))),
        drop=None if bare is None else Figure(*paired_difference(bare.astype(float) - right.mean(0))),
        inconsistent=Figure(*paired_difference(1 - agreeing(honest.answers).numpy())),
        claims=tuple(_claim(audited, access) for access in claims(audited.access)),
        ratios=ratios_of(times_bare, times, c.budget) if known else {},
        steps=tuple(_stepped(audited.steps, done, run) for run in done),
        floor=floor([outcome.p0 for outcome in first], c.budget),
        seen=float(np.mean([outcome.seen for outcome in first])), speed=honest.speed, random=c.random,
        passes_differ=champion.passes_differ, runs=runs,
        times=times, times_bare=times_bare,
        correct=dict(zip(honest.image_id.tolist(), right.mean(0).tolist(), strict=True)),
        correct_bare={} if bare is None else dict(zip(honest.image_id.tolist(), bare.tolist(), strict=True)),
    )  # fmt: skip


def _stepped(steps: Sequence[Step], done: Sequence[Done], run: Done) -> Stepped:
    mine = {image for image, outcome in run.outcomes.items() if outcome.confirmed}
    others = {
        image for other in done if other is not run for image, outcome in other.outcomes.items() if outcome.confirmed
    }  # fmt: skip
    told = [*run.outcomes.values()]
    return Stepped(
        steps[run.step], len(told), len(mine), len(mine - others),
        len((mine | others) & run.outcomes.keys()),
        float(np.mean([outcome.seen for outcome in told])) if told else math.nan,
        float(np.mean([outcome.queries for outcome in told])) if told else None, run.run_id,
        sum(outcome.blocked for outcome in told) / max(1, sum(outcome.queries for outcome in told)),
    )  # fmt: skip


def _claim(audited: Audited, access: Access) -> Claim:
    rows = _rows(audited.final, access, "defended")
    broken = {row["image_id"]: bool(row["broken"]) for row in rows}
    n, right = len(rows), [row for row in rows if not row["p0"] >= HALF]
    p = [row["p0"] if row["p_final"] is None else row["p_final"] for row in rows]
    held = sum(row["p_final"] is not None and row["p_final"] >= HALF for row in rows)
    bare = _rows(audited.final, access, "bare")
    single = Figure(*paired_difference(1 - np.array(p, dtype=np.float64)))
    return Claim(
        access, broken, rate(n - sum(broken.values()), n), single,
        rate(sum(broken[row["image_id"]] for row in right), len(right)),
        (sum(row["confirmed"] for row in rows) - held) / max(1, n), _boundary(rows), _boundary(bare) if bare else None,
    )  # fmt: skip


def _rows(final: pa.Table, access: Access, arm: str) -> list[Judged]:
    return [row for row in final.to_pylist() if row["access"] == access and row["arm"] == arm]


def _boundary(rows: Sequence[Judged]) -> Figure:
    """Median over the images that are right without an attack; where there is no point, or no flip, it is infinite."""
    right = [row for row in rows if not row["p0"] >= HALF]
    far = [math.inf if row["distance_boundary"] is None else row["distance_boundary"] for row in right]
    if not far:
        return Figure(math.nan, math.nan, math.nan)
    middle, lo, hi = median_interval(np.array(far, dtype=np.float64))
    return Figure(float(middle), max(0.0, float(lo)), float(hi))


def ratios_of(
    bare: Mapping[str, Mapping[int, float]], defended: Mapping[str, Mapping[int, float]], budget: int
) -> dict[str, Bought | None]:
    """How many queries the second arm takes beside the first, by access of the champion, on images that both have."""
    found: dict[str, Bought | None] = {}
    for access in (access for access in defended if access in bare):
        images = [image for image in defended[access] if image in bare[access]]
        arms = [[arm[access][image] for image in images] for arm in (bare, defended)]
        found[access] = bought(arms[0], arms[1], budget)
    return found


def _times(audited: Audited, arm: int) -> dict[str, dict[int, float]]:
    """By access of a champion, the queries of its first (0) or last (-1) run: one is both, without a defense."""
    found: dict[str, dict[int, float]] = {}
    for place, step in enumerate(audited.steps):
        if step.role == "champion":
            run = [run for run in audited.done if run.step == place][arm]
            found[step.access] = {image: run.outcomes[image].at for image in audited.ids}
    return found
