"""From per-image rows to one summary a budget: the JSON contract of `attack` and `report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from sndcli.analysis import statistics
from sndcli.analysis.distances import confirmed, distances
from sndcli.analysis.frame import Flags, Floats, Frame, Integers, frame_of, grouped
from sndcli.analysis.statistics import finite
from sndcli.ball import within
from sndcli.runs.results import Metadata
from sndcli.runs.success import HALF

RATES = ("success_seen", "success_seen_net", "success_noisy", "success_as_submitted", "success_clean")


@dataclass(frozen=True)
class Cut:
    """The pooled rows of one setting at one report point; each image and seed once.

    Attributes:
        budget, eps: the point.
        seed, image, best, spent, p0, p_mis_clean, initially_wrong, failed: ``[n]``.
        last: ``[n]``, or None where a run did not store this point.
        noisy, clean: ``[n]`` the two verified successes, of the points moved out to ε, or None as `last`. At an ε that
            the run did not verify at, noisy is ``border <= eps`` and clean is None.
        as_submitted: ``[n]``, as noisy, of the points as they were submitted.
        claimed, verified: ``[n]`` distances (see `distances`), or None as `last`.
        border: ``[n]``, None also where a run did not measure it.
        mismatches, asked: mismatches and paid queries of the runs that counted them and end at this point.
    """

    budget: int
    eps: float
    seed: Integers
    image: Integers
    best: Floats
    spent: Integers
    p0: Floats
    p_mis_clean: Floats
    initially_wrong: Flags
    failed: Flags
    last: Floats | None
    noisy: Flags | None
    clean: Flags | None
    as_submitted: Flags | None
    claimed: Floats | None
    verified: Floats | None
    border: Floats | None
    mismatches: float
    asked: int

    @property
    def seen(self) -> Flags:
        """``[n]``: some paid query within the bound was answered wrong."""
        return within(self.best, self.eps)


def cut(frames: Sequence[Frame], budget: int, eps: float) -> Cut:
    """Pools the runs of one setting at one point. Of runs with the same image and seed, the longest speaks.

    Args:
        frames: that store the point, or have their events and a budget that reaches it; by ascending budget.
        budget: Q.
        eps: ε.
    """
    stored = all(budget in frame.position for frame in frames)
    keep = _longest(frames)

    def pool(parts: Iterable[Any]) -> Any:
        joined = np.concatenate([np.asarray(part) for part in parts])
        return joined if keep is None else joined[keep]

    def at(name: str) -> Any:
        return pool(getattr(f, name)[:, f.position[budget]] for f in frames)

    held: Floats | None = at("held") if stored else None
    inside = None if held is None else within(held, eps)
    border = at("border") if stored and all(f.border is not None for f in frames) else None
    noisy, clean = (None, None) if inside is None else _verified(frames, eps, inside, border, budget, pool)
    counted = pool(np.where(f.budget == budget, f.mismatches, np.nan) for f in frames)
    queries = pool(f.queries for f in frames)
    return Cut(
        budget, eps,
        seed=pool(f.seed for f in frames), image=pool(f.image for f in frames),
        best=at("best") if stored else pool(_best(f, budget) for f in frames),
        spent=np.minimum(queries, budget),
        p0=pool(f.p0 for f in frames), p_mis_clean=pool(f.p_mis_clean for f in frames),
        initially_wrong=pool(f.initially_wrong for f in frames), failed=pool(f.failed for f in frames),
        last=at("last") if stored else None,
        noisy=noisy, clean=clean,
        as_submitted=None if inside is None else inside & (at("p_adv_submitted") >= HALF),
        claimed=held, verified=pool(confirmed(f, budget) for f in frames) if stored else None,
        border=border,
        mismatches=float(np.nansum(counted)), asked=int(queries[~np.isnan(counted)].sum()),
    )  # fmt: skip


def _verified(
    frames: Sequence[Frame], eps: float, inside: Flags, border: Floats | None, budget: int, pool: Callable[..., Any]
) -> tuple[Flags | None, Flags | None]:
    """Noisy and clean success at ε: of fresh draws where the runs verified there, else of the measured border."""
    drawn = [_drawn(f, eps) for f in frames]
    if all(pair is not None for pair in drawn):
        p_adv, clean = (
            pool(pair[k][:, f.position[budget]] for f, pair in zip(frames, drawn, strict=True) if pair) for k in (0, 1)
        )
        return inside & (p_adv >= HALF), inside & clean
    if border is None or any(f.setting["eps"] == eps for f in frames):
        return None, None
    return within(border, eps), None


def _drawn(frame: Frame, eps: float) -> tuple[Floats, Flags] | None:
    """p_adv and adv_clean ``[n, B]`` of the points moved out to ε; None where the run did not verify there."""
    if eps != frame.setting["eps"]:
        return frame.also.get(eps)
    return None if frame.p_adv is None or frame.adv_clean is None else (frame.p_adv, frame.adv_clean)


def _best(frame: Frame, budget: int) -> Floats:
    if budget in frame.position:
        best: Floats = frame.best[:, frame.position[budget]]
        return best
    if frame.events is None:
        raise ValueError(f"Expected the events of {frame.path} to be read for a budget of {budget}.")
    return frame.events.best(budget)


def _longest(frames: Sequence[Frame]) -> Integers | None:
    """Which of the concatenated rows count: the last of each (seed, image). None for all."""
    if len(frames) == 1:
        return None
    seed = np.concatenate([f.seed for f in frames])
    image = np.concatenate([f.image for f in frames])
    order = np.lexsort((image, seed))  # stable, so that later rows of a pair stay later
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (seed[order][1:] != seed[order][:-1]) | (image[order][1:] != image[order][:-1])
    return np.sort(order[last])


def summarise(
    runs: Iterable[pa.Table | Frame],
    at: Sequence[int] = (),
    eps: float | None = None,
    method: str = "wilson",
) -> list[dict[str, Any]]:
    """One row for each setting and report point, in the order of the contract.

    Rows of one setting and several seeds or files are pooled; `seed` is then the list of seeds, the intervals hold
    both levels of sampling, and `over_seeds` has mean and standard deviation over the seeds. Where runs of several
    budgets hold the same image and seed, the longest speaks.

    Args:
        runs: result tables or their frames.
        at: budgets instead of the stored report points. What can be recomputed from the events is (`success_seen`,
            `success_seen_net`, `l2_best`, `floor`, queries); the rest is None unless stored there. Runs that do not
            reach a budget are left out of it.
        eps: a bound instead of the runs' own.
        method: of the intervals, see `statistics.rate`.
    """
    frames = [run if isinstance(run, Frame) else frame_of(run) for run in runs]
    summaries = []
    for members in grouped(frames).values():
        radii = (members[0].setting["eps"], *members[0].also) if eps is None else (eps,)
        for bound, budget in product(radii, sorted(set(at) or {b for f in members for b in f.budgets})):
            able = [f for f in members if (f.budget >= budget if at else budget in f.position)]
            if able:
                summaries.append(_identity(able, bound) | _figures(cut(able, budget, bound), able[0], method))
    return summaries


def _identity(frames: Sequence[Frame], eps: float) -> dict[str, Any]:
    config = frames[0].run["config"]
    seeds = sorted({int(seed) for f in frames for seed in np.unique(f.seed)})
    found = frames[0].setting | {"eps": eps, "preset": config.get("preset"), "settings": config.get("settings", [])}
    return found | {"seed": seeds[0] if len(seeds) == 1 else seeds} | _measured(frames[0].run)


def _measured(run: Metadata) -> dict[str, Any]:
    """What `flags` compares with the noise; None where an older file does not say."""
    scales = run.get("scales") or {}
    return {
        "probe": scales.get("probe"),
        "search": scales.get("search"),
        "passes_differ": run.get("passes_differ"),
    }


def interval(c: Cut, hits: Flags | None, method: str = "wilson") -> dict[str, float | None] | None:
    """``{"value", "lo", "hi"}`` of a success rate, 95 %; None where the successes are not known.

    Args:
        c: the rows.
        hits: ``[n]`` successes.
        method: of the interval.
    """
    if hits is None:
        return None
    rate = statistics.pooled_rate(hits, c.seed, c.image, method)
    return {"value": finite(rate.value), "lo": rate.lo, "hi": rate.hi}


def _figures(c: Cut, frame: Frame, method: str) -> dict[str, Any]:
    hits = {"success_seen": c.seen, "success_noisy": c.noisy, "success_clean": c.clean}
    return {
        "n": len(c.image),
        "budget": c.budget,
        "success_seen": interval(c, c.seen, method=method),
        "success_seen_net": interval(c, c.seen & ~c.initially_wrong, method=method),
        "success_noisy": interval(c, c.noisy, method=method),
        "success_as_submitted": interval(c, c.as_submitted, method=method),
        "success_clean": interval(c, c.clean, method=method),
        "floor": finite(statistics.floor(c.p0, c.budget, frame.setting["votes"])),
        "l2_last": None if c.last is None else finite(float(c.last.mean())),
        "l2_best": finite(statistics.median(c.best)),
        **distances(c.claimed, c.verified, c.border),
        "p_mis": c.mismatches / c.asked if c.asked else None,
        "p_mis_clean": float(c.p_mis_clean.mean()),
        "queries_mean": float(c.spent.mean()),
        "queries_max": int(c.spent.max()),
        "initially_wrong": int(c.initially_wrong.sum()),
        "failed": int(c.failed.sum()),
        "over_seeds": _over_seeds(c.seed, {name: hit for name, hit in hits.items() if hit is not None}),
    }


def _over_seeds(seed: Integers, hits: dict[str, Flags]) -> dict[str, dict[str, float]] | None:
    seeds, row = np.unique(seed, return_inverse=True)
    if len(seeds) == 1:
        return None
    found = {}
    for name, hit in hits.items():
        mean, std = statistics.mean_std((np.bincount(row, hit) / np.bincount(row)).tolist())
        found[name] = {"mean": mean, "std": std}
    return found


def outcomes(table: pa.Table, budget: int) -> dict[str, dict[tuple[int, int], bool]]:
    """Success of each (seed, image id) at a report point, seen and noisy, for paired comparisons."""
    frame = frame_of(table)
    c = cut([frame], budget, frame.setting["eps"])
    if c.noisy is None:
        raise ValueError(f"Expected {budget} to be one of the report points {frame.budgets}.")
    keys = list(zip(c.seed.tolist(), c.image.tolist(), strict=True))
    hits = {"success_seen": c.seen, "success_noisy": c.noisy}
    return {name: dict(zip(keys, hit.tolist(), strict=True)) for name, hit in hits.items()}


def recompute_notes(frames: Sequence[Frame], at: Sequence[int], eps: float | None) -> list[str]:
    """What a reader must know of figures at points that the runs did not store; a line each."""
    lines = []
    for budget in at:
        short = sorted({_name(f) for f in frames if f.budget < budget})
        if short:
            lines.append(f"no figures at {budget:,} queries for {', '.join(short)}: the runs end before.")
    away = [b for b in at if any(b not in f.position for f in frames if f.budget >= b)]
    if away:
        lines.append(
            f"at {', '.join(f'{b:,}' for b in away)} queries success_noisy, success_clean and l2_last are not stored "
            "and cannot be recomputed; success_seen and l2_best come from the events of longer runs. An attack that "
            "plans for its whole budget (geoda, hsja) can reach more in a run of its own."
        )
    changed = [f for f in frames if eps is not None and f.setting["eps"] != eps]
    elsewhere = [f for f in changed if eps not in f.also]
    if any(f.border is not None for f in elsewhere):
        lines.append(
            f"at ε = {eps:g} success_noisy is whether the majority boundary on the ray of the submitted point lies "
            "within ε, and success_clean is not known; `snd attack --eps a,b` verifies at several."
        )
    if any(f.border is None for f in elsewhere):
        lines.append(
            f"at ε = {eps:g} success_noisy and success_clean are not known of runs that measured no boundary "
            "(--no-border); `snd attack --eps a,b` verifies at several."
        )
    if any(f.p_adv is None and eps in (None, f.setting["eps"]) for f in frames):
        lines.append(
            "runs of version 0.1.0 verified points as they were submitted (success_as_submitted): success_noisy and "
            "success_clean, of points moved out to ε, are not known of them."
        )
    aware = sorted({_named(f) for f in changed if _uses_eps(f)})
    if aware:
        lines.append(
            f"{', '.join(aware)}: which points are asked about or submitted depends on ε. Figures at ε = {eps:g} are "
            "those of runs with another ε, a lower bound of what the attack reaches."
        )
    return lines


def _uses_eps(frame: Frame) -> bool:
    """Whether what an attack submits depends on ε: that of score attacks, of hand-overs and perhaps of plug-ins."""
    from sndcli.attacks.registry import ATTACKS

    attack, options = frame.setting["attack"], frame.run["config"].get("options") or {}
    return attack not in ATTACKS or ATTACKS[attack].access == "scores" or bool(options.get("confirm"))


def _named(frame: Frame) -> str:
    return " ".join([frame.setting["attack"], *filter(None, [frame.run["config"].get("preset")])])


def _name(frame: Frame) -> str:
    from sndcli.analysis.labels import defense_label

    return f"{frame.setting['attack']} against {defense_label(frame.setting)}"
