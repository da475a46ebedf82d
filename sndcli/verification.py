"""Verification: what fresh draws say of a finished attack's points, unpaid and never seen by the attack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.border import DRAWS, border_points, majority_wrong
from sndcli.ledger import Ledger
from sndcli.oracle import Oracle
from sndcli.victim import Victim

CLEAN_DRAWS_PER_VERIFY = 3  # the floor needs small probabilities, so clean images get more draws


@dataclass(frozen=True)
class Verification:
    """Fresh draws of the defended model, and the answers of the bare one.

    Attributes:
        victim: whom to ask; its randomness is the caller's to reseed.
        verify: draws of each point, where `random`.
        random: whether two answers to one question can differ.
    """

    victim: Victim
    verify: int
    random: bool

    @property
    def draws(self) -> int:
        """Draws of each point handed over."""
        return self.verify if self.random else 1

    @property
    def clean_draws(self) -> int:
        """Draws of each clean image."""
        return CLEAN_DRAWS_PER_VERIFY * self.verify if self.random else 1

    def held(self, ledger: Ledger, y: Tensor) -> tuple[Tensor, Tensor]:
        """At every point handed over: share of fresh draws that err ``[N, B]``, and whether the bare model errs."""
        n, b = ledger.has_held.shape
        p_adv = torch.zeros(n, b, dtype=torch.float64)
        adv_clean = torch.zeros(n, b, dtype=torch.bool)
        for k in range(b):
            who, same = _new(ledger, k)
            p_adv[same, k], adv_clean[same, k] = p_adv[same, k - 1], adv_clean[same, k - 1]
            wrong = self.labels(ledger.held[k][who], self.draws) != y[who, None]
            p_adv[who.cpu(), k] = wrong.double().mean(1).cpu()
            if len(who):
                bare = self.victim.undefended(ledger.held[k][who]).argmax(1)
                adv_clean[who.cpu(), k] = (bare != y[who]).cpu()
        return p_adv, adv_clean

    def border(self, oracle: Oracle, ledger: Ledger, y: Tensor) -> Tensor:
        """``[N, B]``: distance at which the majority flips on the ray of each point handed over; else infinite."""
        found = torch.full(ledger.has_held.shape, float("inf"), dtype=torch.float64)
        for k in range(found.shape[1]):
            who, same = _new(ledger, k)
            found[same, k] = found[same, k - 1]
            wrong = majority_wrong(self.victim.defended, y[who], DRAWS if self.random else 1)
            at, flips = border_points(wrong, oracle.x0[who], ledger.held[k][who])
            found[who[flips].cpu(), k] = oracle.distance(at[flips], who[flips]).cpu()
        return found

    def clean(self, x0: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """For each clean image the share of draws that err, p0, and that differ from the bare model, P_mis."""
        labels = self.labels(x0, self.clean_draws)
        undefended = self.victim.undefended(x0).argmax(1)
        return (labels != y[:, None]).double().mean(1), (labels != undefended[:, None]).double().mean(1)

    def labels(self, points: Tensor, draws: int) -> Tensor:
        """Labels ``[n, draws]`` of the defended model, fresh randomness each."""
        labels = [self.victim.defended(point.expand(draws, *point.shape)).argmax(1) for point in points]
        return torch.stack(labels) if labels else torch.empty(0, draws, dtype=torch.int64, device=points.device)


def _new(ledger: Ledger, k: int) -> tuple[Tensor, Tensor]:
    """Images with another point at report point k than at the one before, and (on the CPU) those with the same."""
    has = ledger.has_held[:, k]
    same = torch.zeros_like(has)
    if k:
        same = (ledger.held[k] == ledger.held[k - 1]).flatten(1).all(1) & ledger.has_held[:, k - 1] & has
    return (has & ~same).nonzero().squeeze(1), same.nonzero().squeeze(1).cpu()
