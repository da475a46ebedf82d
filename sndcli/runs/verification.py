"""Verification: what fresh draws say of a finished attack's points, unpaid and never seen by the attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.queries.ledger import Ledger
from sndcli.queries.oracle import Oracle
from sndcli.runs.boundary import DRAWS, border_points, majority_wrong
from sndcli.runs.victim import Victim
from sndcli.streams import Purpose, Streams, drawing

CLEAN_DRAWS_PER_VERIFY = 3  # the floor needs small probabilities, so clean images get more draws


@dataclass(frozen=True)
class Verification:
    """Fresh draws of the defended model, and the answers of the bare one.

    Attributes:
        victim: whom to ask.
        verify: draws of each point, where `random`.
        random: whether two answers to one question can differ.
        streams: of the images, for a purpose; those of one purpose go on from call to call.
    """

    victim: Victim
    verify: int
    random: bool
    streams: Callable[[Purpose], Streams]

    @property
    def draws(self) -> int:
        """Draws of each point submitted."""
        return self.verify if self.random else 1

    @property
    def clean_draws(self) -> int:
        """Draws of each clean image."""
        return CLEAN_DRAWS_PER_VERIFY * self.verify if self.random else 1

    def points(self, points: Sequence[Tensor], has: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """For sets of one point an image: share of fresh draws that err, and whether the bare model errs.

        A point that stands in an earlier set too is asked about once.

        Args:
            points: P sets ``[N, C, H, W]``.
            has: bool ``[N, P]``, which images have a point in which set.
            y: int64 ``[N]``.

        Returns:
            float64 and bool ``[N, P]``, on the CPU; 0 where there is no point.
        """
        n, streams = len(y), self.streams("verification")
        p_adv = torch.zeros(n, len(points), dtype=torch.float64)
        adv_clean = torch.zeros(n, len(points), dtype=torch.bool)
        for k, now in enumerate(points):
            new = has[:, k].clone()
            for j in range(k):
                same = (new & has[:, j] & (now == points[j]).flatten(1).all(1)).nonzero().squeeze(1).cpu()
                p_adv[same, k], adv_clean[same, k] = p_adv[same, j], adv_clean[same, j]
                new[same.to(new.device)] = False
            who = new.nonzero().squeeze(1)
            wrong = self.labels(now[who], who, self.draws, streams) != y[who, None]
            p_adv[who.cpu(), k] = wrong.double().mean(1).cpu()
            if len(who):
                adv_clean[who.cpu(), k] = (self.victim.undefended(now[who]).argmax(1) != y[who]).cpu()
        return p_adv, adv_clean

    def border(self, oracle: Oracle, ledger: Ledger, y: Tensor) -> Tensor:
        """``[N, B]``: distance at which the majority flips on the ray of each point submitted; else infinite."""
        streams = self.streams("boundary")
        found = torch.full(ledger.has_held.shape, float("inf"), dtype=torch.float64)

        def logits(rows: Tensor, image: Tensor) -> Tensor:
            with drawing(streams, image):
                return self.victim.defended(rows)

        for k in range(found.shape[1]):
            who, same = _new(ledger, k)
            found[same, k] = found[same, k - 1]
            wrong = majority_wrong(logits, y, who, DRAWS if self.random else 1)
            at, flips = border_points(wrong, oracle.x0[who], ledger.held[k][who])
            found[who[flips].cpu(), k] = oracle.distance(at[flips], who[flips]).cpu()
        return found

    def clean(self, x0: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """For each clean image the share of draws that err, p0, and that differ from the bare model, P_mis."""
        labels = self.labels(x0, torch.arange(len(x0), device=x0.device), self.clean_draws, self.streams("clean"))
        undefended = self.victim.undefended(x0).argmax(1)
        return (labels != y[:, None]).double().mean(1), (labels != undefended[:, None]).double().mean(1)

    def labels(self, points: Tensor, image: Tensor, draws: int, streams: Streams) -> Tensor:
        """Labels ``[n, draws]`` of the defended model, fresh randomness each, of the streams of `image` ``[n]``."""
        labels = []
        for point, which in zip(points, image, strict=True):
            with drawing(streams, which.expand(draws)):
                labels.append(self.victim.defended(point.expand(draws, *point.shape)).argmax(1))
        return torch.stack(labels) if labels else torch.empty(0, draws, dtype=torch.int64, device=points.device)


def _new(ledger: Ledger, k: int) -> tuple[Tensor, Tensor]:
    """Images with another point at report point k than at the one before, and (on the CPU) those with the same."""
    has = ledger.has_held[:, k]
    same = torch.zeros_like(has)
    if k:
        same = (ledger.held[k] == ledger.held[k - 1]).flatten(1).all(1) & ledger.has_held[:, k - 1] & has
    return (has & ~same).nonzero().squeeze(1), same.nonzero().squeeze(1).cpu()
