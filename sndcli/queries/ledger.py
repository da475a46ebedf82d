"""The ledger: what an attack paid for, found and submits. It records; the oracle decides what is answered.

Counts and distances are the host's, in numpy behind tensors on the CPU; only points stay where the model computes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sndcli.queries.call import Call, Integers, Phase
from sndcli.queries.guard import BLOCKED

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Ledger:
    """What an attack on N images paid for and found, now and at each of B report points.

    Tensors without a shape of points are on the CPU.

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
        blocked: int64 ``[N]``, paid queries that a stateful defense detected; blocked ones are the phase ``blocked``.
        detected_at: int64 ``[N]``, the first of them, counted from 1; 0: none.
        mismatches: int64 ``[N]``, paid queries whose own label (before any vote) was not the undefended one.
        stop_reason: one word an image.
    """

    def __init__(self, x0: Tensor, budget: int, budgets: Sequence[int], votes: int = 1) -> None:
        n, b, device = len(x0), len(budgets), x0.device
        integers, flags = partial(torch.zeros, dtype=torch.int64), partial(torch.zeros, dtype=torch.bool)
        numbers = partial(torch.zeros, dtype=torch.float64)
        self.budget, self.budgets, self.votes = budget, budgets, votes
        self.used, self.mismatches, self.blocked, self.detected_at = (integers(n) for _ in range(4))
        self.phases: dict[str, Tensor] = defaultdict(lambda: integers(n))
        self.best, self.best_point = numbers(n) + float("inf"), x0.clone()
        self.events: list[tuple[Integers, Integers, Numbers]] = []
        self.last_l2, self.submitted, self.has_submitted = numbers(n, b), [x0.clone() for _ in budgets], flags(n, b)
        self.stop_reason = ["budget"] * n
        self.submitted_now = x0.clone()
        self._submits = torch.zeros(n, dtype=torch.bool, device=device)  # beside the points: read at report points only
        self._last, self._taken = np.zeros(n), np.zeros((n, b), dtype=np.bool_)

    # -- what the oracle reports -----------------------------------------------------------------------------

    def submit(self, sent: Tensor, image: Tensor) -> None:
        """From now on the attack submits `sent` ``[M, C, H, W]`` for `image` ``[M]``."""
        self.submitted_now[image] = sent
        self._submits[image] = True

    def before(self, call: Call) -> None:
        """Keeps the state at each report point that `call` takes an image beyond; before it is answered.

        A query completed exactly at the report point still counts, so the snapshot waits for the next call.
        """
        self._snapshot(self.used.numpy() + call.asked * self.votes)

    def record(
        self,
        call: Call,
        phase: Phase,
        sent: Tensor,
        distance: Numbers,
        adversarial: Flags,
        detected: Flags | None = None,
        blocks: bool = False,
    ) -> None:
        """A call that was answered.

        Args:
            call: which rows, of which images.
            phase: what they were for, as for `Oracle.labels`.
            sent: ``[m, C, H, W]``, the points that were asked about.
            distance: float64 ``[m]``.
            adversarial: bool ``[m]``, the answers.
            detected: bool ``[m]``, what a stateful defense detected; None: nothing.
            blocks: whether it blocked that.
        """
        self._note_best(call, sent, distance, adversarial)
        self._note_last(call, distance)
        if detected is not None and detected.any():
            self._note_detected(call, detected)
            if blocks:
                self._pay_phases(call, BLOCKED, detected)
                self._pay_phases(call, phase, ~detected)
                self.used += torch.from_numpy(call.asked * self.votes)
                return
        self._pay_phases(call, phase)
        self.used += torch.from_numpy(call.asked * self.votes)

    def _pay_phases(self, call: Call, phase: Phase, which: Flags | None = None) -> None:
        """Counts the answered rows of a call, or `which` ``[m]`` of them, for what they were asked."""
        if isinstance(phase, str):
            paid = call.asked if which is None else np.bincount(call.mine[which], minlength=len(self.used))
            self.phases[phase] += torch.from_numpy(paid * self.votes)
            return
        start, rows = 0, call.rows
        for name, many in phase:
            these = (rows >= start) & (rows < start + many)
            inside = call.mine[these if which is None else these & which]
            self.phases[name] += torch.from_numpy(np.bincount(inside, minlength=len(self.used)) * self.votes)
            start += many

    def compare(self, single: Tensor, undefended: Tensor, image: Tensor) -> None:
        """Counts the single answers ``[m, T]`` about `image` ``[m]`` that are not the `undefended` ``[m]`` ones."""
        self.mismatches.index_add_(0, image.cpu(), (single != undefended[:, None]).sum(1).cpu())

    def close(self) -> None:
        """Fills the report points that were not reached with the final state."""
        self._snapshot(np.full(len(self.used), self.budget + 1))

    @property
    def has_submitted_now(self) -> Tensor:
        """bool ``[N]``, where the points are: whether the attack submits one now."""
        return self._submits

    # -- what experiments use --------------------------------------------------------------------------------

    def submit_as_it_is(self, x0: Tensor, which: Tensor) -> None:
        """Makes the clean image what is submitted at every report point for `which` ``[N]``: the model errs on it.

        `which` is on the CPU.
        """
        for submitted in self.submitted:
            submitted[which] = x0[which]
        self.has_submitted[which] = True

    def events_by_image(self) -> list[list[tuple[int, float]]]:
        """For each image (query, distance), in order."""
        found: list[list[tuple[int, float]]] = [[] for _ in range(len(self.used))]
        if self.events:
            image, query, distance = (np.concatenate(column).tolist() for column in zip(*self.events, strict=True))
            for i, when, far in zip(image, query, distance, strict=True):
                found[i].append((when, far))
        return found

    def events_of(self, image: int) -> list[tuple[int, float]]:
        """(query, distance) of one image, in order."""
        return self.events_by_image()[image]

    # -- inside ----------------------------------------------------------------------------------------------

    def _note_best(self, call: Call, sent: Tensor, distance: Numbers, adversarial: Flags) -> None:
        """Adds the improvement events: adversarial answers closer than every one before."""
        best = self.best.numpy()
        (hit,) = (adversarial & (distance < best[call.mine])).nonzero()
        if not len(hit):
            return
        hit = hit[np.argsort(call.mine[hit], kind="stable")]
        image, near = call.mine[hit], distance[hit]
        # A running minimum for each image: images' distances are moved apart so that one accumulation serves them all.
        apart = (near.max() + 1.0) * (len(self.used) - image).astype(np.float64)
        running = np.minimum.accumulate(near + apart) - apart
        first = np.append(True, image[1:] != image[:-1])
        first[1:] |= near[1:] < running[:-1] - 1e-12
        hit, image, near = hit[first], image[first], near[first]
        self.events.append((image, self.used.numpy()[image] + call.rank[hit] * self.votes, near))
        last = np.append(image[1:] != image[:-1], True)
        best[image[last]] = near[last]
        which, where = torch.from_numpy(np.stack((image[last], hit[last]))).to(sent.device)
        self.best_point[which] = sent[where]

    def _note_detected(self, call: Call, detected: Flags) -> None:
        """Counts what was detected, and when first."""
        image, rank = call.mine[detected], call.rank[detected]
        self.blocked += torch.from_numpy(np.bincount(image, minlength=len(self.used)) * self.votes)
        first = np.full(len(self.used), call.length + 1)
        np.minimum.at(first, image, rank)
        at = self.detected_at.numpy()
        new = (first <= call.length) & (at == 0)
        at[new] = (self.used.numpy() + first * self.votes)[new]

    def _note_last(self, call: Call, distance: Numbers) -> None:
        """Distance of the last paid query, now and at the report points passed inside this call."""
        used, last_l2 = self.used.numpy(), self.last_l2.numpy()
        after = used + call.asked * self.votes
        for b, point in enumerate(self.budgets):
            (mine,) = ((point - used >= self.votes) & (point < after)).nonzero()
            if len(mine):
                last_l2[mine, b] = distance[call.place(mine, (point - used[mine]) // self.votes)]
        (mine,) = call.asked.nonzero()
        self._last[mine] = distance[call.place(mine, call.asked[mine])]

    def _snapshot(self, used_after: Integers) -> None:
        """At each report point below `used_after` ``[N]`` that is not taken yet, keeps the state of now."""
        for b, point in enumerate(self.budgets):
            crossing = ~self._taken[:, b] & (used_after > point)
            if crossing.any():
                (which,) = crossing.nonzero()
                here = torch.from_numpy(which).to(self.submitted_now.device)
                self.submitted[b][here] = self.submitted_now[here]
                self.has_submitted.numpy()[which, b] = self._submits[here].cpu().numpy()
                self.last_l2.numpy()[which, b] = self._last[which]
                self._taken[:, b] |= crossing


def best_distance(events: Sequence[tuple[int, float]], budget: int) -> float:
    """Closest wrong answer within `budget`; infinite where there was none."""
    return min((distance for query, distance in events if query <= budget), default=math.inf)
