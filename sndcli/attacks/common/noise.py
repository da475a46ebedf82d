"""Pieces of the noise-aware attacks (ours): majorities that stop early, and the noise measured from labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import overload

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import (
    Ask,
    Draw,
    after_one,
    bisect,
    first_start,
    gaussian,
    norms,
    per_image,
    uniform_start,
    unit,
)
from sndcli.errors import ConfigError
from sndcli.queries.call import Phase
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

Jitter = Callable[[Tensor, Tensor], Tensor]  # moves points [M, C, H, W] about images [M] a little, each otherwise

ESTIMATE = "estimate"
ROUNDS, PAIRS = 4, 12  # of `measure`: 96 queries
FIRST_PROBE = 0.01
ROUNDING = 1e-9
START_VOTES, START_WIDTH = 5, 1 / 256
GROWTH, LARGEST = 1.1, 0.5  # of `growing_start`
LATE = (0.12, 0.24, 0.48, 0.96)
# Of σ, in steps of 10 %: a defense with more noise would lose its accuracy, and less hardly matters.
SCALES = torch.logspace(math.log10(5e-4), math.log10(0.1), 56, dtype=torch.float64)


def check_scale(text: str) -> str:
    """Raises ConfigError unless `text` is ``estimate`` or a number ≥ 0."""
    try:
        fine = text == ESTIMATE or 0 <= float(text) < math.inf
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(f"Expected `sigma_hat` to be a number >= 0 or {ESTIMATE} but got `{text}`.")
    return text


def known_scale(text: str, sigma: float) -> float:
    """σ̂ of an attack that is told `text`, where the noise is σ: an estimate is taken to be right."""
    return sigma if text == ESTIMATE else float(text)


def jittered(streams: Streams, scale: float) -> Jitter | None:
    """Gaussian noise of this standard deviation on every question that would be asked again; None: 0, none.

    For attacks that know of a stateful defense: they never ask about the same point twice.
    """
    if not scale:
        return None
    return lambda points, image: (points + scale * streams.normal(image, points)).clamp_(0.0, 1.0)


def majority(
    oracle: Oracle,
    points: Tensor,
    image: Tensor,
    phase: Phase,
    votes: int,
    lead: int = 0,
    ask: Ask = Oracle.adversarial,
    share: float = 0.5,
    jitter: Jitter | None = None,
) -> Tensor:
    """int64 ``[M]``: 1 where most of `votes` answers are adversarial, 0 where not, `REFUSED` where undecided.

    A row is asked no more once the rest cannot change its majority, or, with ``lead > 0``, once one side leads by
    `lead` answers (Wald's sequential test with symmetric bounds). The first rule saves queries and changes nothing.
    A row of which a stateful defense blocked a question is asked no more, unless with `jitter`, where each question is
    another; the answers that there were decide.

    With another `share` than ½, 1 where at least that share is adversarial. An answer then counts for 2(1 - share)
    towards 1, or for 2 share towards 0, so that both sides are even where that share of the answers is adversarial.

    Args:
        oracle: every answer is paid.
        points: ``[M, C, H, W]``.
        image: ``[M]``.
        phase: as for `Oracle.labels`.
        votes: odd, answers at most.
        lead: 0, or the lead that ends a row.
        ask: answers rows once each.
        share: of adversarial answers, in (0, 1).
        jitter: moves every question; None: all are about the same point.
    """
    if votes == 1:
        return ask(oracle, jitter(points, image) if jitter else points, image, phase)
    parts = [(phase, len(image))] if isinstance(phase, str) else list(phase)
    part = torch.repeat_interleave(torch.tensor([length for _, length in parts])).to(image.device)
    ones, asked, spent = (torch.zeros_like(image) for _ in range(3))
    verdict, blocked = torch.full_like(image, REFUSED), torch.zeros_like(image, dtype=torch.bool)
    of_ones = whole(share * votes)  # make it 1 for sure
    of_zeros = votes - of_ones + 1
    for _ in range(votes):
        again = (verdict == REFUSED) & (spent < votes) if jitter else (verdict == REFUSED) & ~blocked
        pending = (again & oracle.active[image]).nonzero().squeeze(1)
        if not len(pending):
            break
        need = torch.minimum(of_ones - ones, of_zeros - (asked - ones))[pending]
        if lead:
            ahead = (2 * (ones - share * asked.double()))[pending]
            need = torch.minimum(need, whole((lead - ahead) / (2 * (1 - share))))
            need = torch.minimum(need, whole((lead + ahead) / (2 * share)))
        need = torch.minimum(need, votes - spent[pending])
        rows = pending.repeat_interleave(need)
        spent[pending] += need
        counts = torch.bincount(part[rows], minlength=len(parts)).tolist()
        names = [(name, count) for (name, _), count in zip(parts, counts, strict=True)]
        reply = ask(oracle, jitter(points[rows], image[rows]) if jitter else points[rows], image[rows], names)
        told = reply != REFUSED
        blocked[rows[~told & oracle.active[image[rows]]]] = True  # those of a spent budget are active no more
        ones.index_add_(0, rows[told], reply[told])
        asked.index_add_(0, rows[told], torch.ones_like(reply[told]))
        ahead = 2 * (ones - share * asked.double())
        decided = (ones >= of_ones) | (asked - ones >= of_zeros)
        if lead:
            decided |= ahead.abs() >= lead - ROUNDING
        verdict = torch.where(decided & (verdict == REFUSED), (ahead > -ROUNDING).long(), verdict)
    left = blocked & (verdict == REFUSED) & (asked > 0)
    return torch.where(left, (ones - share * asked.double() > -ROUNDING).long(), verdict)


@overload
def whole(number: float) -> int: ...
@overload
def whole(number: Tensor) -> Tensor: ...
def whole(number: float | Tensor) -> int | Tensor:
    """Rounded up, but for what is rounding itself."""
    return (number - ROUNDING).ceil().long() if isinstance(number, Tensor) else math.ceil(number - ROUNDING)


def voted_but_first(
    oracle: Oracle, points: Tensor, image: Tensor, phases: Sequence[tuple[str, int]], votes: int
) -> Tensor:
    """As `majority`, but the rows of the first phase (a gradient's probes) are asked once each."""
    if votes == 1:
        return oracle.adversarial(points, image, phases)
    k = phases[0][1]
    probes = oracle.adversarial(points[:k], image[:k], phases[0][0])
    return torch.cat([probes, majority(oracle, points[k:], image[k:], phases[1:], votes)])


def measure(
    oracle: Oracle, x: Tensor, image: Tensor, streams: Streams, pairs: int = PAIRS, jitter: Jitter | None = None
) -> Tensor:
    """σ̂ ``[n]`` of input noise, from labels alone: how often two answers at one probe agree.

    At a boundary point, a probe whose standard deviation along the normal is a gives two answers whose latent
    margins are correlated by ρ = a²/(a² + σ²), whatever the normal is. Two answers then have the phi coefficient
    (2/π) arcsin ρ (exact on a half-space, at the boundary), so they differ with probability 2q(1 - q)(1 - φ), q being
    the share of adversarial answers. log σ̂ is the posterior mean of log σ, all of `SCALES` being equally likely at
    first (the likelihood of a few pairs often has its maximum at an end); each round probes at the σ̂ so far. 0 where no
    pair had two answers: nothing is known then, and no noise assumed.

    Args:
        oracle: paid in the phase ``estimate``, `ROUNDS` · `pairs` · 2 queries an image.
        x: ``[n, C, H, W]``, points near the boundary.
        image: ``[n]``.
        streams: of the probes.
        pairs: probes asked twice, in each round.
        jitter: moves every question; it is then measured with the noise, and votes see both.
    """
    scales = SCALES.to(x.device)
    likelihood = torch.zeros(len(image), len(scales), dtype=torch.float64, device=x.device)
    a = torch.full((len(image),), FIRST_PROBE, dtype=torch.float64, device=x.device)
    known = torch.zeros_like(image)
    nth = torch.arange(len(image), device=x.device).repeat_interleave(pairs)
    root = math.sqrt(oracle.x0[0].numel())
    for _ in range(ROUNDS):
        u = unit(streams.normal(image[nth], x))
        probe = (x[nth] + per_image(a[nth] * root, x) * u).clamp_(0.0, 1.0)
        reach = (norms(probe - x[nth]).view(-1, pairs).double() / root).square().mean(1, keepdim=True)  # after clipping
        rows, twice = image[nth].repeat_interleave(2), probe.repeat_interleave(2, 0)
        twice = jitter(twice, rows) if jitter else twice
        answers = oracle.adversarial(twice, rows, "estimate").view(-1, pairs, 2)
        told = (answers != REFUSED).all(2)
        known += told.sum(1)
        answered = told.sum(1).clamp_min(1)
        q = ((answers == 1).sum(2) * told).sum(1) / (2.0 * answered)
        phi = torch.asin(reach / (reach + scales**2)) * 2 / math.pi
        differ = (2 * q * (1 - q))[:, None] * (1 - phi)
        differing = ((answers[:, :, 0] != answers[:, :, 1]) & told).sum(1)[:, None]
        agreeing = told.sum(1)[:, None] - differing
        likelihood += differing * differ.clamp_min(1e-9).log() + agreeing * torch.log1p(-differ)
        a = (likelihood.softmax(1) @ scales.log()).exp()
    return torch.where(known > 0, a, 0.0)


def growing_start(
    oracle: Oracle,
    streams: Streams,
    scale: float,
    tries: int,
    ask: Ask,
    draw: Draw = gaussian,
    begun: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Gaussian noise around the clean images, larger by a tenth at every try, until its answer is adversarial.

    Fresh directions at a slowly growing distance find one along which the boundary is near: on the ResNet-20 the
    median boundary lies at 2.7 along the directions found so, and at 4.0 along those to uniform noise images. An image
    of the class that the network sees in noise resists until the end of the growth; it then gets the scales of `LATE`
    in turn, of plain noise and of `draw`'s alternately.

    Args:
        oracle: every answer is paid, in the phase ``start``.
        streams: of the noise.
        scale: standard deviation of the first noise on the [0, 1] pixel scale; it grows to 0.5.
        tries: at most; images that find none are retired as ``init_failed``.
        ask: confirms an adversarial answer.
        draw: directions of unit variance.
        begun: points ``[N, C, H, W]``, and bool ``[N]``: where they are starts already.

    Returns:
        as `uniform_start`.
    """
    growing = max(0, math.ceil(math.log(LARGEST / scale, GROWTH)))

    def drawn(kth: int, image: Tensor) -> Tensor:
        k = kth - 1
        late, turn = (k - growing) % len(LATE), (k - growing) // len(LATE)
        length, direction = (scale * GROWTH**k, draw) if k < growing else (LATE[late], (gaussian, draw)[turn % 2])
        return (oracle.x0[image] + length * direction(streams, image, oracle.x0)).clamp_(0.0, 1.0)

    return first_start(oracle, drawn, tries, after_one(ask), begun)


def noise_scale(oracle: Oracle, streams: Streams, text: str) -> Tensor:
    """σ̂ ``[N]``: the number in `text`, or, with ``estimate``, measured at a boundary point found for it.

    The measurement costs a uniform start, a bisection of 8 voted steps and `measure`; it is paid by each image.
    """
    n, device = len(oracle.x0), oracle.x0.device
    if check_scale(text) != ESTIMATE:
        return torch.full((n,), float(text), dtype=torch.float64, device=device)
    found = torch.zeros(n, dtype=torch.float64, device=device)
    z, image = uniform_start(oracle, streams, 10_000)
    x = bisect(oracle, z[image], image, START_WIDTH, "estimate", ask=voted(START_VOTES))
    found[image] = measure(oracle, x, image, streams)
    return found


def votes_expected(votes: int, lead: int, share: float = 0.5) -> float:
    """Answers that a decision of `majority` takes on average along a bisection towards the boundary.

    Away from it all answers agree, and the first `lead` (or the first half of `votes`) decide. At it a lead of 2 takes
    4 tosses of a fair coin, and half of 9 votes about 7; a bisection has both kinds of decisions.
    """
    if votes == 1:
        return 1.0
    return 0.75 * (fewest(votes, lead, share) + fewest(votes, lead, 1 - share)) if lead else 0.75 * votes


def fewest(votes: int, lead: int, share: float) -> int:
    """Answers, all adversarial, that end a vote."""
    of_ones = whole(share * votes)
    return min(of_ones, whole(lead / (2 * (1 - share)))) if lead else of_ones


def voted(votes: int, lead: int = 0, share: float = 0.5, jitter: Jitter | None = None) -> Ask:
    """A function that asks as `Oracle.adversarial` does, by `majority`."""

    def ask(oracle: Oracle, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        return majority(oracle, points, image, phase, votes, lead, share=share, jitter=jitter)

    return ask
