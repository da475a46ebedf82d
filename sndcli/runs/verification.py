"""Verification: what fresh draws say of a finished attack's points, unpaid and never seen by the attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.queries.criterion import Criterion
from sndcli.queries.draws import Logits, fresh_labels, labels_of, share_met
from sndcli.queries.ledger import Ledger
from sndcli.queries.oracle import Oracle
from sndcli.queries.sequential import share_that_errs
from sndcli.runs.boundary import BYTES, DRAWS, boundary_points, majority_wrong
from sndcli.runs.victim import Victim
from sndcli.streams import Purpose, Streams

CLEAN_DRAWS_PER_VERIFY = 3  # the floor needs small probabilities, so clean images get more draws


@dataclass(frozen=True)
class Verification:
    """Fresh draws of the defended model, and the answers of the bare one.

    Attributes:
        victim: whom to ask.
        verify: draws of each point, at most, where `random`.
        random: whether two answers to one question can differ.
        streams: of the images, for a purpose; those of one purpose go on from call to call.
        criterion: which answers are adversarial.
        defended: asks the defended model; the victim's by default.
    """

    victim: Victim
    verify: int
    random: bool
    streams: Callable[[Purpose], Streams]
    criterion: Criterion
    defended: Logits | None = None

    def _ask(self, x: Tensor) -> Tensor:
        """Logits of the defended model."""
        return (self.defended or self.victim.defended)(x)

    @property
    def draws(self) -> int:
        """Draws of each point submitted, at most."""
        return self.verify if self.random else 1

    @property
    def clean_draws(self) -> int:
        """Draws of each clean image."""
        return CLEAN_DRAWS_PER_VERIFY * self.verify if self.random else 1

    def points(self, points: Sequence[Tensor], has: Tensor) -> tuple[Tensor, Tensor | None]:
        """For sets of one point an image: share of fresh draws that err, and whether the bare model errs.

        Draws end where the verdict is certain (`sequential`). A point that stands in an earlier set too is asked about
        once.

        Args:
            points: P sets ``[N, C, H, W]``.
            has: bool ``[N, P]``, on the CPU, which images have a point in which set.

        Returns:
            float64 and bool ``[N, P]``, on the CPU; 0 where there is no point, NaN where no draw was answered. The
            second is None without a bare model.
        """
        n, streams, bare = len(has), self.streams("verification"), self.victim.bare
        p_adv = torch.zeros(n, len(points), dtype=torch.float64)
        adv_clean = torch.zeros(n, len(points), dtype=torch.bool)
        for k, now in enumerate(points):
            new = has[:, k].clone()
            for j in range(k):
                same = (new & has[:, j] & (now == points[j]).flatten(1).all(1).cpu()).nonzero().squeeze(1)
                p_adv[same, k], adv_clean[same, k] = p_adv[same, j], adv_clean[same, j]
                new[same] = False
            who = new.nonzero().squeeze(1).to(now.device)
            p_adv[who.cpu(), k] = share_that_errs(self._ask, now[who], who, self.draws, self.criterion, streams, BYTES)
            if len(who) and bare is not None:
                adv_clean[who.cpu(), k] = self.criterion.met(labels_of(bare(now[who])), who).cpu()
        return p_adv, None if bare is None else adv_clean

    def boundary(self, oracle: Oracle, ledger: Ledger) -> Tensor:
        """``[N, B]``: distance at which the majority flips on the ray of each point submitted; else infinite."""
        streams, draws = self.streams("boundary"), DRAWS if self.random else 1
        found = torch.full(ledger.has_submitted.shape, float("inf"), dtype=torch.float64)
        for k in range(found.shape[1]):
            who, same = _new(ledger, k)
            found[same, k] = found[same, k - 1]
            wrong = majority_wrong(self._ask, self.criterion, who, draws, streams)
            at, flips = boundary_points(wrong, oracle.x0[who], ledger.submitted[k][who])
            found[who[flips].cpu(), k] = oracle.distance(at[flips], who[flips]).cpu()
        return found

    def clean(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """For each clean image the share of draws that err, p0, and that differ from the bare model, P_mis.

        On the CPU; NaN where no draw was answered, P_mis also without a bare model.
        """
        everyone = torch.arange(len(x0), device=x0.device)
        labels = fresh_labels(self._ask, x0, everyone, self.clean_draws, self.streams("clean"))
        p0 = share_met(self.criterion.met(labels, everyone), labels).cpu()
        if self.victim.bare is None:
            return p0, torch.full_like(p0, float("nan"))
        return p0, share_met(labels != labels_of(self.victim.bare(x0))[:, None], labels).cpu()


def _new(ledger: Ledger, k: int) -> tuple[Tensor, Tensor]:
    """Images with another point at report point k than at the one before, and (on the CPU) those with the same."""
    has, now = ledger.has_submitted[:, k], ledger.submitted[k]
    same = torch.zeros_like(has)
    if k:
        same = (now == ledger.submitted[k - 1]).flatten(1).all(1).cpu() & ledger.has_submitted[:, k - 1] & has
    return (has & ~same).nonzero().squeeze(1).to(now.device), same.nonzero().squeeze(1)
