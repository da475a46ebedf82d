"""What the noise-aware forms share (ours): the noise measured from labels, and a point that answers have confirmed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from reference.decisions import Ask, Draw, OutOfBudget, bisect, straight, uniform_start, vote


def noise_scale(x: Tensor, ask: Ask, draw: Draw, sigma_hat: str) -> float:
    """σ̂ as given, or measured where eight majorities of five end that lead from uniform noise to the boundary."""
    if sigma_hat != "estimate":
        return float(sigma_hat)
    start = uniform_start(ask, draw, 10_000)
    if start is None:
        raise OutOfBudget
    return measured(x, bisect(lambda z: vote(ask, z, 5), x, start, 1 / 256), ask, draw, 12)


def measured(x: Tensor, point: Tensor, ask: Ask, draw: Draw, pairs: int) -> float:
    """exp of the posterior mean of log σ, from how often two answers at one probe differ (see `noise.measure`)."""
    scales = [5e-4 * 200 ** (i / 55) for i in range(56)]  # 0.0005 to 0.1
    logs, a = [0.0] * len(scales), 0.01
    for _ in range(4):
        answers, reach = [], 0.0
        for _ in range(pairs):
            u = draw.normal()
            probe = (point + a * math.sqrt(x.numel()) * u / u.norm()).clamp(0, 1)
            reach += float((probe - point).norm()) ** 2 / x.numel() / pairs
            answers.append((ask(probe), ask(probe)))
        q = sum(first + second for first, second in answers) / (2 * pairs)
        differing = sum(first != second for first, second in answers)
        for i, scale in enumerate(scales):
            phi = 2 / math.pi * math.asin(reach / (reach + scale**2))
            p = 2 * q * (1 - q) * (1 - phi)
            logs[i] += differing * math.log(max(p, 1e-9)) + (pairs - differing) * math.log1p(-p)
        weights = [math.exp(value - max(logs)) for value in logs]
        a = math.exp(sum(w * math.log(s) for w, s in zip(weights, scales, strict=True)) / sum(weights))
    return a


@dataclass
class Confirmed:
    """Holds the first of three points beyond a boundary point that is confirmed, inside ε where the boundary is.

    Attributes:
        ask: who confirms.
        x: the clean image.
        eps: ε.
        votes: answers that confirm a point, at most; 0: it is submitted unasked.
        lead: of one side, which ends a vote.
        overshoot: how much further out than the boundary, as a share of its distance,
        safety: and in σ̂; twice and four times as much at the second and third try.
        reached: distance of the closest point submitted; one more than a tenth further out is not even asked about.
        share: of adversarial answers that confirms.
    """

    ask: Ask
    x: Tensor
    eps: float
    votes: int
    lead: int = 3
    overshoot: float = 0.02
    safety: float = 2.0
    reached: float = math.inf
    share: float = 0.5

    def __call__(self, found: Tensor, sigma: float) -> None:
        distance = max(self.ask.distance(found), 1e-6)
        for k in (1, 2, 4) if self.votes else (1,):
            further = 1 + k * (self.overshoot + self.safety * sigma / distance)
            if distance <= 0.999 * self.eps:
                further = min(further, 0.999 * self.eps / distance)
            sent = straight(self.x, found, further).clamp(0, 1)
            length = self.ask.distance(sent)
            try:
                sure = length <= 1.1 * self.reached and (
                    not self.votes or vote(self.ask, sent, self.votes, self.lead, self.share)
                )
            except OutOfBudget:
                return
            if sure:
                self.reached = min(self.reached, length)
                self.ask.submit(sent)
                return
