"""The ledger: what an attack paid for, found and submits. It records; the oracle decides what is answered."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sndcli.queries.call import Call, Phase, leads


class Ledger:
    """What an attack on N images paid for and found, now and at each of B report points.

    Args:
        x0: clean images ``[N, C, H, W]``.
        budget: paid queries an image, at most.
        budgets: report points, ascending.
        votes: T, paid queries a question.

    Attributes:
        used: int64 ``[N]``, paid queries.
        phases: for each phase, int64 ``[N]`` queries; they add up to `used`.
        best: float64 ``[N]``, distance of the closest adversarial answer; infinite where there was none.
        best_point: ``[N, C, H, W]``, the point it was about.
        events: (image, query, distance) of every adversarial answer that was closer than all before.
        last_l2: ``[N, B]`` distance of the last paid query at each report point (norm of the oracle).
        submitted: ``[B]`` tensors ``[N, C, H, W]``: the point the attack submits at each report point.
        has_submitted: bool ``[N, B]``.
        mismatches: int64 ``[N]``, paid queries whose own label (before any vote) was not the undefended one.
        stop_reason: one word an image.
    """

    def __init__(self, x0: Tensor, budget: int, budgets: Sequence[int], votes: int = 1) -> None:
        n, b, device = len(x0), len(budgets), x0.device
        integers = partial(torch.zeros, dtype=torch.int64, device=device)
        flags = partial(torch.zeros, dtype=torch.bool, device=device)
        numbers = partial(torch.zeros, dtype=torch.float64, device=device)
        self.budget, self.budgets, self.votes = budget, budgets, votes
        self.used, self.mismatches = integers(n), integers(n)
        self.phases: dict[str, Tensor] = defaultdict(lambda: integers(n))
        self.best, self.best_point = numbers(n) + float("inf"), x0.clone()
        self.events: list[tuple[Tensor, Tensor, Tensor]] = []
        self.last_l2, self.submitted, self.has_submitted = numbers(n, b), [x0.clone() for _ in budgets], flags(n, b)
        self.stop_reason = ["budget"] * n
        self.submitted_now, self._submits, self._last = x0.clone(), flags(n), numbers(n)  # now
        self._taken = flags(n, b)

    # -- what the oracle reports -----------------------------------------------------------------------------

    def submit(self, sent: Tensor, image: Tensor) -> None:
        """From now on the attack submits `sent` ``[M, C, H, W]`` for `image` ``[M]``."""
        self.submitted_now[image] = sent
        self._submits[image] = True

    def before(self, call: Call) -> None:
        """Keeps the state at each report point that `call` takes an image beyond; before it is answered.

        A query completed exactly at the report point still counts, so the snapshot waits for the next call.
        """
        self._snapshot(self.used + call.asked * self.votes)

    def record(self, call: Call, phase: Phase, sent: Tensor, distance: Tensor, adversarial: Tensor) -> None:
        """A call that was answered.

        Args:
            call: which rows, of which images.
            phase: what they were for, as for `Oracle.labels`.
            sent: ``[m, C, H, W]``, the points that were asked about.
            distance: float64 ``[m]``.
            adversarial: bool ``[m]``, the answers.
        """
        self._note_best(call, sent, distance, adversarial)
        self._note_last(call, distance)
        self.used += call.asked * self.votes
        start, rows = 0, call.rows
        for name, many in [(phase, call.length)] if isinstance(phase, str) else phase:
            inside = call.mine[(rows >= start) & (rows < start + many)]
            self.phases[name].index_add_(0, inside, torch.full_like(inside, self.votes))
            start += many

    def compare(self, single: Tensor, undefended: Tensor, image: Tensor) -> None:
        """Counts the single answers ``[m, T]`` about `image` ``[m]`` that are not the `undefended` ``[m]`` ones."""
        self.mismatches.index_add_(0, image, (single != undefended[:, None]).sum(1))

    def close(self) -> None:
        """Fills the report points that were not reached with the final state."""
        self._snapshot(torch.full_like(self.used, self.budget + 1))

    # -- what experiments use --------------------------------------------------------------------------------

    def submit_as_it_is(self, x0: Tensor, which: Tensor) -> None:
        """Makes the clean image what is submitted at every report point for `which` ``[N]``: the model errs on it."""
        for submitted in self.submitted:
            submitted[which] = x0[which]
        self.has_submitted[which] = True

    def events_by_image(self) -> list[list[tuple[int, float]]]:
        """For each image (query, distance), in order."""
        found: list[list[tuple[int, float]]] = [[] for _ in range(len(self.used))]
        if self.events:
            columns = (torch.cat(column).tolist() for column in zip(*self.events, strict=True))
            for image, query, distance in zip(*columns, strict=True):
                found[image].append((query, distance))
        return found

    def events_of(self, image: int) -> list[tuple[int, float]]:
        """(query, distance) of one image, in order."""
        return self.events_by_image()[image]

    # -- inside ----------------------------------------------------------------------------------------------

    def _note_best(self, call: Call, sent: Tensor, distance: Tensor, adversarial: Tensor) -> None:
        """Adds the improvement events: adversarial answers closer than every one before."""
        hit = (adversarial & (distance < self.best[call.mine])).nonzero().squeeze(1)
        if not len(hit):
            return
        hit = hit[torch.argsort(call.mine[hit], stable=True)]
        image, near = call.mine[hit], distance[hit]
        # A running minimum for each image: images' distances are moved apart so that one cummin serves them all.
        apart = (near.max() + 1.0) * (len(self.used) - image).double()
        running = torch.cummin(near + apart, 0).values - apart
        first = leads(image)
        first[1:] |= near[1:] < running[:-1] - 1e-12
        hit, image, near = hit[first], image[first], near[first]
        query = self.used[image] + call.rank[hit] * self.votes
        self.events.append((image, query, near))
        last = leads(image).roll(-1)
        self.best[image[last]] = near[last]
        self.best_point[image[last]] = sent[hit[last]]

    def _note_last(self, call: Call, distance: Tensor) -> None:
        """Distance of the last paid query, now and at the report points passed inside this call."""
        for b, point in [*enumerate(self.budgets), (-1, self.budget)]:
            inside = torch.minimum((point - self.used) // self.votes, call.asked)
            mine = (inside > 0).nonzero().squeeze(1)
            if b >= 0:
                mine = mine[(point < self.used + call.asked * self.votes)[mine]]
            if not len(mine):
                continue
            last = distance[call.place(mine, inside[mine])]
            if b >= 0:
                self.last_l2[mine, b] = last
            else:
                self._last[mine] = last

    def _snapshot(self, used_after: Tensor) -> None:
        """At each report point below `used_after` ``[N]`` that is not taken yet, keeps the state of now."""
        for b, point in enumerate(self.budgets):
            crossing = ~self._taken[:, b] & (used_after > point)
            if bool(crossing.any()):
                self.submitted[b][crossing] = self.submitted_now[crossing]
                self.has_submitted[crossing, b] = self._submits[crossing]
                self.last_l2[crossing, b] = self._last[crossing]
                self._taken[:, b] |= crossing


def best_distance(events: Sequence[tuple[int, float]], budget: int) -> float:
    """Closest wrong answer within `budget`; infinite where there was none."""
    return min((distance for query, distance in events if query <= budget), default=math.inf)
