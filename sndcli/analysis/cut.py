"""The rows of one setting at one report point: each image and seed once, successes and distances as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sndcli.analysis.frame import Flags, Floats, Frame, Integers
from sndcli.ball import within
from sndcli.runs.success import HALF, confirmed, fools_bare

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Cut:
    """The pooled rows of one setting at one report point.

    Attributes:
        budget, eps: the point.
        votes: answers to a question.
        run: ``[n]``, which of the pooled runs a row is of.
        seed, image, best, spent, p0, p_mis_clean, initially_wrong, failed: ``[n]``.
        last: ``[n]``, or None where a run did not store this point.
        noisy, clean: ``[n]`` the two verified successes, of the points moved out to ε, or None as `last`. At an ε that
            the run did not verify at, noisy is ``boundary <= eps`` and clean is None; so is clean without a bare model.
        as_submitted: ``[n]``, as noisy, of the points as they were submitted.
        p_adv, p_adv_submitted: ``[n]`` shares of fresh draws behind them; None where they are not known.
        submitted: ``[n]`` distances of these points; infinite where there is none; None as `last`.
        verified: ``[n]``, see `least_confirmed`; None as `last`.
        boundary: ``[n]`` where the majority flips on the rays through them; None also where a run did not measure it.
        mismatches: ``[n]``, NaN where a run did not count them or does not end at this point.
        blocked: ``[n]``, NaN likewise.
        detected_at: ``[n]``, the first query up to this point that a stateful defense detected; infinite: none.
        queries: ``[n]``, paid in the whole run.
    """

    budget: int
    eps: float
    votes: int
    run: Integers
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
    p_adv: Floats | None
    p_adv_submitted: Floats | None
    submitted: Floats | None
    verified: Floats | None
    boundary: Floats | None
    mismatches: Floats
    blocked: Floats
    detected_at: Floats
    queries: Integers

    @property
    def seen(self) -> Flags:
        """``[n]``: some paid query within the bound was answered wrong."""
        return within(self.best, self.eps)

    @property
    def seen_net(self) -> Flags:
        """``[n]``: seen, and not at the clean image itself."""
        return self.seen & ~self.initially_wrong


def cut(frames: Sequence[Frame], budget: int, eps: float) -> Cut:
    """Pools the runs of one setting at one point. Of runs with the same image and seed, the longest speaks.

    Args:
        frames: that store the point, or have their events and a budget that reaches it; by ascending budget.
        budget: Q.
        eps: ε.
    """
    stored = all(budget in frame.position for frame in frames)
    keep = _longest(frames)

    def pool(of: Callable[[Frame], NDArray[T]]) -> NDArray[T]:
        joined = np.concatenate([of(f) for f in frames])
        return joined if keep is None else joined[keep]

    def at(of: Callable[[Frame], NDArray[T]]) -> NDArray[T] | None:
        return pool(lambda f: of(f)[:, f.position[budget]]) if stored else None

    submitted, p_submitted = at(lambda f: f.submitted), at(lambda f: f.p_adv_submitted)
    boundary = at(_boundary) if all(f.boundary is not None for f in frames) else None
    p_adv, adv_clean = _drawn(frames, eps, budget, keep) if stored else (None, None)
    noisy, clean = _verified(frames, eps, submitted, boundary, p_adv, adv_clean)
    queries = pool(lambda f: f.queries)
    return Cut(
        budget, eps, frames[0].setting.votes,
        run=np.concatenate([np.full(len(f), k) for k, f in enumerate(frames)])[slice(None) if keep is None else keep],
        seed=pool(lambda f: f.seed), image=pool(lambda f: f.image), best=pool(lambda f: _best(f, budget)),
        spent=np.minimum(queries, budget), p0=pool(lambda f: f.p0), p_mis_clean=pool(lambda f: f.p_mis_clean),
        initially_wrong=pool(lambda f: f.initially_wrong), failed=pool(lambda f: f.failed),
        last=at(lambda f: f.last), noisy=noisy, clean=clean,
        as_submitted=None if submitted is None or p_submitted is None else confirmed(submitted, eps, p_submitted),
        p_adv=p_adv, p_adv_submitted=p_submitted, submitted=submitted,
        verified=pool(lambda f: least_confirmed(f, budget)) if stored else None, boundary=boundary,
        mismatches=pool(lambda f: np.where(f.budget == budget, f.mismatches, np.nan)),
        blocked=pool(lambda f: np.where(f.budget == budget, f.blocked, np.nan)),
        detected_at=pool(lambda f: np.where(f.detected_at <= budget, f.detected_at, np.inf)), queries=queries,
    )  # fmt: skip


def least_confirmed(frame: Frame, budget: int) -> Floats:
    """``[n]``: the least distance submitted at any report point so far on which at least half of fresh draws err.

    Infinite where there is none.
    """
    until = frame.position[budget] + 1
    confirmed_at = frame.p_adv_submitted[:, :until] >= HALF
    least: Floats = np.where(confirmed_at, frame.submitted[:, :until], np.inf).min(1)
    return least


def _verified(
    frames: Sequence[Frame], eps: float, submitted: Floats | None, boundary: Floats | None, p_adv: Floats | None,
    adv_clean: Flags | None,
) -> tuple[Flags | None, Flags | None]:  # fmt: skip
    """Noisy and clean success at ε: of fresh draws where the runs verified there, else of the measured boundary."""
    if submitted is None:
        return None, None
    if p_adv is not None:
        return confirmed(submitted, eps, p_adv), None if adv_clean is None else fools_bare(submitted, eps, adv_clean)
    if boundary is None or any(f.setting.eps == eps for f in frames):
        return None, None
    return within(boundary, eps), None


def _drawn(
    frames: Sequence[Frame], eps: float, budget: int, keep: Integers | None
) -> tuple[Floats | None, Flags | None]:
    """p_adv and adv_clean ``[n]`` of the points moved out to ε; None where a run did not verify there.

    adv_clean is None also where a run has no bare model.
    """
    shares: list[Floats] = []
    errs: list[Flags] = []
    for f in frames:
        p_adv, adv_clean = (f.p_adv, f.adv_clean) if eps == f.setting.eps else f.also.get(eps, (None, None))
        if p_adv is None:
            return None, None
        shares.append(p_adv[:, f.position[budget]])
        errs += [] if adv_clean is None else [adv_clean[:, f.position[budget]]]
    rows = slice(None) if keep is None else keep
    return np.concatenate(shares)[rows], np.concatenate(errs)[rows] if len(errs) == len(frames) else None


def _boundary(frame: Frame) -> Floats:
    if frame.boundary is None:
        raise ValueError(f"Expected {frame.path} to be a run that measured the boundary.")
    return frame.boundary


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


def points_of(
    members: Sequence[Frame], at: Sequence[int], eps: float | None
) -> Iterable[tuple[list[Frame], int, float]]:
    """The points (Q, ε) at which runs of one setting have figures, each with the runs that have them.

    Args:
        members: the runs.
        at: budgets instead of the stored report points; runs that do not reach one are left out of it.
        eps: a bound instead of the runs' own and the further ones that they verified at.
    """
    radii = (members[0].setting.eps, *members[0].also) if eps is None else (eps,)
    for bound in radii:
        for budget in sorted(set(at) or {b for f in members for b in f.budgets}):
            able = [f for f in members if (f.budget >= budget if at else budget in f.position)]
            if able:
                yield able, budget, bound
