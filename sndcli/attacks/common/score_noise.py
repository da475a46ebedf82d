"""What a noise-aware score attack learns on its way (ours): whether a point fools, and how noisy the scores are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sndcli.attacks.common.noise import Jitter, majority
from sndcli.queries.call import Phase
from sndcli.queries.criterion import Criterion, log_probabilities
from sndcli.queries.oracle import REFUSED, Oracle

Score = Callable[[Tensor, Tensor], Tensor]  # of probabilities [M, K] about images [M], growing towards success
ALIKE = 1e-4  # answers closer than that, relative to their size, are the same
KEPT = 0.9  # weight of what was measured before
LEAST_SIGNAL = 0.1  # of the spread of probes' scores
QUIET_LEAD = 2
CLIP = 2 / 0.6745  # of the median difference: two standard deviations


def score_of(criterion: Criterion, kind: str) -> Score:
    """The score that an attack follows.

    Args:
        criterion: whose margin and cross-entropy it is made of.
        kind: ``margin``, the difference of two logits; ``spread``, the same divided by the spread of all logits, which
            no common scaling of them changes (not for two classes, where it says nothing but the label); ``logit``,
            that of the true class, for answers where nothing else is given.
    """

    def spread(scores: Tensor, image: Tensor) -> Tensor:
        return criterion.margin(scores, image) / log_probabilities(scores).std(1).clamp_min(1e-9)

    def logit(scores: Tensor, image: Tensor) -> Tensor:
        return criterion.cross_entropy(scores, image).clamp_min(1e-7).expm1().log()

    return {"margin": criterion.margin, "spread": spread, "logit": logit}[kind]


def robust(odd: Tensor) -> Tensor:
    """Differences ``[n, P]``, NaN where there is none, clipped at twice their spread and divided by their rms."""
    limit = CLIP * odd.abs().nanmedian(1, keepdim=True).values
    clipped = odd.clamp(-limit, limit)
    return (clipped / clipped.square().nanmean(1, keepdim=True).sqrt().clamp_min(1e-30)).nan_to_num()


class ScoreNoise:
    """Votes by score; from the repeated answers, and the scores of probes, the noise of the input.

    A vote's answers are about one point, so their variance τ² is the noise's alone. Probes around that point differ by
    the noise and by what they are: half the differences of antithetic pairs have the variance a² gᵀCg + τ²/2, where a
    is the probes' scale, g the score's gradient and C the covariance that they are drawn with. Noise of scale σ on the
    input has τ = σ‖g‖, hence σ̂² = a² λ τ² / (a² gᵀCg) with the gain λ = gᵀCg/‖g‖². No query is spent on it.

    Args:
        oracle: every answer is paid.
        score: of the answers.
        votes: answers about a point, at most.
        lead: ends a vote earlier; `QUIET_LEAD` does where no two answers about a point have ever differed.
        gain: λ.
        share: of adversarial answers that confirms a point.
        sigma: σ̂ before anything is known.
        jitter: moves every question of a vote, and is then part of the noise that is measured.

    Attributes:
        sigma: ``[N]``, σ̂; 0 where no two answers about a point have ever differed.
    """

    def __init__(
        self,
        oracle: Oracle,
        score: Score,
        votes: int,
        lead: int,
        gain: float,
        share: float,
        sigma: float,
        jitter: Jitter | None = None,
    ) -> None:
        self.oracle, self.score, self.votes, self.lead, self.gain, self.share = oracle, score, votes, lead, gain, share
        self.jitter = jitter
        zeros = torch.zeros(len(oracle.x0), dtype=torch.float64, device=oracle.x0.device)
        self.sigma, self.quiet = zeros + sigma, zeros == 0
        self._variance, self._freedom = zeros.clone(), zeros.clone()  # of the last point asked about
        self._ratios, self._weight = zeros.clone(), zeros.clone()  # σ̂² times degrees of freedom, and these
        self._count, self._sum, self._squares = zeros.clone(), zeros.clone(), zeros.clone()

    def confirmed(self, points: Tensor, image: Tensor) -> Tensor:
        """bool ``[n]``: whether most answers about these points, one an image, are adversarial (phase ``confirm``)."""
        verdict = torch.zeros_like(image, dtype=torch.bool)
        for lead, which in ((min(QUIET_LEAD, self.lead), self.quiet[image]), (self.lead, ~self.quiet[image])):
            z, mine = points[which], image[which]
            reply = majority(self.oracle, z, mine, "confirm", self.votes, lead, self._answers, self.share, self.jitter)
            verdict[which] = reply == 1
        self._close(image)
        return verdict

    def ask(self, points: Tensor, image: Tensor, times: int, before: Tensor) -> None:
        """Asks `times` about points ``[n, C, H, W]`` that had the answers `before` ``[n, K]`` (phase ``estimate``)."""
        self._add(before, image)
        rows = image.repeat_interleave(times)
        again = points.repeat_interleave(times, 0)
        self._add(self.oracle.scores(self.jitter(again, rows) if self.jitter else again, rows, "estimate"), rows)
        self._close(image)
        self.sigma[image] = torch.where(self.quiet[image], 0.0, self.sigma[image])

    def learn(self, image: Tensor, a: Tensor, odd: Tensor) -> None:
        """Measures σ̂ where the point in the middle of these probes was just asked about more than once.

        Args:
            image: ``[n]``.
            a: ``[n]``, scale of the probes.
            odd: ``[n, P]``, half the differences of the scores of pairs; NaN where there is none.
        """
        variance, freedom = self._variance[image], self._freedom[image]
        spread = odd.square().nanmean(1)
        signal = torch.maximum(spread - variance / 2, LEAST_SIGNAL * spread)
        known = (freedom > 0) & (signal > 0)
        found = a.square() * self.gain * variance / signal
        who, freedom = image[known], freedom[known]
        self._ratios[who] = KEPT * self._ratios[who] + freedom * found[known]
        self._weight[who] = KEPT * self._weight[who] + freedom
        self.sigma[who] = torch.where(self.quiet[who], 0.0, (self._ratios[who] / self._weight[who]).sqrt())
        self._freedom[image] = 0.0

    def _answers(self, oracle: Oracle, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        """As `Oracle.adversarial`, by scores."""
        scores = oracle.scores(points, image, phase)
        self._add(scores, image)
        return torch.where(scores.isnan().any(1), REFUSED, oracle.criterion.met_by(scores, image).long())

    def _add(self, scores: Tensor, image: Tensor) -> None:
        told = ~scores.isnan().any(1)
        image, value = image[told], self.score(scores[told], image[told]).double()
        for sums, power in ((self._count, 0), (self._sum, 1), (self._squares, 2)):
            sums.index_add_(0, image, value**power)

    def _close(self, image: Tensor) -> None:
        count, mean = self._count[image].clamp_min(1), self._sum[image] / self._count[image].clamp_min(1)
        variance = (self._squares[image] - count * mean.square()).clamp_min(0) / (count - 1).clamp_min(1)
        self._variance[image], self._freedom[image] = variance, count - 1
        self.quiet[image] &= variance.sqrt() <= ALIKE * mean.abs()
        for sums in (self._count, self._sum, self._squares):
            sums[image] = 0.0
