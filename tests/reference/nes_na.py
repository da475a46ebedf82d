"""NES-NA for one image: ours, a score attack that knows of the noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from .score_common import Ask, Draw, cross_entropy, length, margin, project


def prior(draw: Draw, shape: tuple[int, ...], colour: float, window: float) -> Tensor:
    """Draws of correlated colours, larger in the middle of the image."""
    u = draw.normal(*shape)
    grey = u.mean(0)
    u = math.sqrt(1 - colour) * (u - grey) + math.sqrt(1 + (len(u) - 1) * colour) * grey
    _, height, width = shape
    out = [[((2 * i + 1) / height - 1) ** 2 + ((2 * j + 1) / width - 1) ** 2 for j in range(width)]
           for i in range(height)]  # fmt: skip
    variance = torch.exp(-torch.tensor(out) / (2 * window**2))
    return u * (variance / variance.mean()).sqrt()


def gain(channels: int, colour: float) -> float:
    """gᵀCg of a grey and unit g, plus what of g is expected across the colours."""
    grey = 1 + (channels - 1) * colour
    return (grey**2 + (channels - 1) * (1 - colour) ** 2) / channels


def wrong(p: Tensor, y: int) -> bool:
    return int(p.argmax()) != y


def score_of(p: Tensor, y: int, kind: str) -> float:
    """Larger towards success."""
    if kind == "logit":
        q = min(math.exp(-cross_entropy(p, y)), 1 - 1e-7)
        return math.log((1 - q) / q)
    return margin(p, y) / (float(p.double().clamp_min(1e-37).log().std()) if kind == "spread" else 1.0)


class Noise:
    """σ̂ from repeated answers, and votes that give them."""

    def __init__(self, ask: Ask, y: int, score: str, sigma: float) -> None:
        self.ask, self.y, self.score, self.sigma = ask, y, score, sigma
        self.differed, self.last, self.sums = False, [0.0], [0.0, 0.0]

    def repeated(self, answers: list[Tensor]) -> None:
        values = [score_of(p, self.y, self.score) for p in answers]
        mean = sum(values) / len(values)
        self.last = values
        if math.sqrt(self.variance) > 1e-4 * abs(mean):
            self.differed = True

    @property
    def variance(self) -> float:
        mean = sum(self.last) / len(self.last)
        return sum((v - mean) ** 2 for v in self.last) / max(1, len(self.last) - 1)

    def vote(self, z: Tensor, votes: int, lead: int, share: float) -> bool:
        answers: list[Tensor] = []

        def asked(z: Tensor) -> list[Tensor]:
            answers.extend(self.ask(z))
            return answers[-1:]

        told = labels(asked, self.ask, z, self.y, votes, lead if self.differed else min(2, lead), share)
        self.repeated(answers)
        return told is True

    def learn(self, odd: list[float], a: float, lam: float) -> None:
        spread, freedom = sum(w**2 for w in odd) / len(odd), len(self.last) - 1
        signal = max(spread - self.variance / 2, 0.1 * spread)
        if freedom > 0 and signal > 0:
            found = a**2 * lam * self.variance / signal
            self.sums = [0.9 * self.sums[0] + freedom * found, 0.9 * self.sums[1] + freedom]
            self.sigma = math.sqrt(self.sums[0] / self.sums[1]) if self.differed else 0.0
        self.last = [0.0]


def line(ask: Ask, x0: Tensor, z: Tensor, y: int, sigma: float, share: float) -> Tensor:
    """The adversarial end of a bisection by votes of nine that a lead of two ends."""
    lo, hi = 0.0, 1.0
    width = min(0.5, max(1 / 400, 0.6 * sigma / max(length(z - x0), 1e-6)))
    for _ in range(math.ceil(math.log2(1 / width))):
        middle = (lo + hi) / 2
        told = labels(ask, ask, (1 - middle) * x0 + middle * z, y, 9, 2, share)
        if told is None:
            break
        lo, hi = (lo, middle) if told else (middle, hi)
    return (1 - hi) * x0 + hi * z


def labels(
    answer: Callable[[Tensor], list[Tensor]], ask: Ask, z: Tensor, y: int, votes: int, lead: int, share: float
) -> bool | None:
    """Whether so many answers are wrong; None where the budget ends before that is known."""
    yes = no = 0
    ahead = 0.0
    while yes < share * votes - 1e-9 and votes - no >= share * votes - 1e-9 and abs(ahead) < lead - 1e-9:
        if not ask.left:
            return None
        if wrong(answer(z)[0], y):
            yes, ahead = yes + 1, ahead + 2 * (1 - share)
        else:
            no, ahead = no + 1, ahead - 2 * share
    return ahead >= -1e-9


def attack(
    x0: Tensor, y: int, draw: Draw, ask: Ask, eps: float, norm: str, *,
    shrink: bool = True, sigma_hat: str = "estimate", repeats: int = 3, score: str = "margin", pairs: int = 20,
    momentum: float = 0.9, late: int = 25, late_momentum: float = 0.98, votes: int = 25, lead: int = 5,
    share: float = 0.5, gate: float = 3.0, every: int = 4, blocks: int = 3, colour: float = 0.8, window: float = 0.6,
) -> Tensor:  # fmt: skip
    """Onto the surface along the gradient until that is confirmed; then nearer."""
    known, lam = sigma_hat != "estimate", gain(len(x0), colour)
    noise = Noise(ask, y, score, float(sigma_hat) if known else 0.01)
    clean = ask(x0)
    if not known and repeats and ask.left:
        noise.repeated(clean + ask(*[x0] * min(repeats, ask.left)))
        if not noise.differed:
            noise.sigma = 0.0
    x, kept, G = x0, x0, torch.zeros_like(x0)
    before, voted, broken, reached = math.inf, 0, 0, math.inf
    for t in count(1):
        P = min(pairs, ask.left // 2)
        if not P:
            return kept
        a = min(0.04, max(0.01, 0.02 * (noise.sigma / 0.01) ** (1 / 3)))
        odd: list[float] = []
        even: list[float] = []
        directions: list[Tensor] = []
        lucky = False
        for _ in range(P):
            u = a * prior(draw, x0.shape, colour, window)
            plus, minus = (x + u).clamp(0, 1), (x - u).clamp(0, 1)
            one, two = ask(plus, minus)
            lucky = lucky or wrong(one, y) or wrong(two, y)
            up, down = score_of(one, y, score), score_of(two, y, score)
            odd.append((up - down) / 2)
            even.append((up + down) / 2)
            directions.append((plus - minus) / (2 * a))
        limit = 2 * sorted(abs(w) for w in odd)[(P - 1) // 2] / 0.6745
        clipped = [max(-limit, min(limit, w)) for w in odd]
        rms = math.sqrt(sum(w**2 for w in clipped) / P)
        G = G * (late_momentum if t > late and not broken else momentum)
        for w, u in zip(clipped, directions, strict=True):
            G = G + w / max(rms, 1e-30) * u
        if not known:
            noise.learn(odd, a, lam)
        direction = G.sign() if norm == "linf" else G / max(length(G), 1e-37)
        surface = project(x0 + eps * direction, x0, eps, norm)
        now = sum(even) / P
        spread = math.sqrt(sum((e - now) ** 2 for e in even) / P)
        promising = now + max(0.0, now - before) > -gate * spread or lucky
        before = now
        if not broken:
            x = kept = surface
            if (promising or t - voted >= every) and ask.left:
                voted = t
                if noise.vote(x, votes, lead, share):
                    broken = t
                    if not shrink:
                        return kept
        if broken and (t - broken) % blocks == 0 and ask.left:
            x = line(ask, x0, surface, y, noise.sigma, share)
            distance = max(float((x - x0).abs().max()) if norm == "linf" else length(x - x0), 1e-6)
            beyond = 0.02 + 2 * noise.sigma / max(length(x - x0), 1e-6)
            for k in (1, 2, 4) if distance < 0.999 * eps else ():
                e = min(1 + k * beyond, 0.999 * eps / distance)  # not out of the ball
                z = (x0 + e * (x - x0)).clamp(0, 1)
                far = float((z - x0).abs().max()) if norm == "linf" else length(z - x0)
                if far <= 1.1 * reached and labels(ask, ask, z, y, votes, lead, share):
                    reached, kept = min(reached, far), z
                    break
            if distance <= 1e-6:
                return kept
    return kept
