"""The oracle: the only door to the defended model. It counts, stops at the budget, votes and records.

One evaluation of one image is one query, whatever it was for. Rows beyond an image's budget are never evaluated:
they come back as `REFUSED` and the image leaves `Oracle.active`, so an attack that ignores this cannot overspend.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from sndcli.ball import as_sent, length, within
from sndcli.errors import ConfigError
from sndcli.queries.ledger import Ledger
from sndcli.streams import Streams, drawing

REFUSED = -1
POINTS_AT_ONCE = 4096  # rows expanded for votes at a time, and their bytes; bound memory, never results
BYTES_AT_ONCE = 2**28
CACHED = 256  # rows measured at a time: what a CPU's cache holds

Logits = Callable[[Tensor], Tensor]
Phase = str | Sequence[tuple[str, int]]  # a name for all rows, or names for so many consecutive rows each


class Oracle:
    """Answers label or score queries about N images under a hard budget for each.

    Args:
        defended: logits ``[M, K]`` of ``[M, C, H, W]``, fresh randomness for every row.
        x0: clean images ``[N, C, H, W]`` in [0, 1].
        y: int64 ``[N]``, the true labels; a wrong label is a success (untargeted).
        budget: paid queries an image, at most.
        budgets: report points, ascending, the last at most `budget`.
        norm: ``l2`` or ``linf``; how distances are measured.
        eps: the bound ε inside which a wrong answer counts; score attacks stay inside it or stop at it.
        votes: T ≥ 1; every question is asked T times, every repeat is paid, and the most frequent label (the
            smallest of several) or the mean probability is the answer (paper, section 3.4 and Table 4). Fewer
            than T remaining queries are not spent.
        quantize: round points to 8 bits before the model and before distances, as sending a PNG would.
        undefended: logits of the bare classifier, to count mismatches with a second, unpaid forward.
        streams: where the defense draws for each image; without them it draws as it does by itself.
    """

    def __init__(
        self,
        defended: Logits,
        x0: Tensor,
        y: Tensor,
        *,
        budget: int,
        budgets: Sequence[int] | None = None,
        norm: str = "l2",
        eps: float = float("inf"),
        votes: int = 1,
        quantize: bool = False,
        undefended: Logits | None = None,
        streams: Streams | None = None,
    ) -> None:
        if budget < 1:
            raise ConfigError(f"Expected `budget` to be at least 1 but got {budget}.")
        if votes < 1:
            raise ConfigError(f"Expected `votes` to be at least 1 but got {votes}.")
        self.budgets = sorted(set(budgets or [budget]))
        if self.budgets[0] < 1 or self.budgets[-1] > budget:
            raise ConfigError(f"Expected report points between 1 and the budget {budget} but got {self.budgets}.")
        self.x0, self.y, self.budget, self.votes, self.norm, self.eps = x0, y, budget, votes, norm, eps
        self._defended, self._undefended, self._streams, self.quantize = defended, undefended, streams, quantize
        n, b, device = len(x0), len(self.budgets), x0.device
        integers = partial(torch.zeros, dtype=torch.int64, device=device)
        flags = partial(torch.zeros, dtype=torch.bool, device=device)
        numbers = partial(torch.zeros, dtype=torch.float64, device=device)
        self.active = ~flags(n)
        self.best = numbers(n) + float("inf")
        self.best_point = x0.clone()
        self.initially_wrong = flags(n)
        self.clean_scores = x0.new_empty(n, 0)
        self._held, self._holding = x0.clone(), flags(n)
        self._last, self._taken = numbers(n), flags(n, b)
        self.ledger = Ledger(
            used=integers(n),
            phases=defaultdict(lambda: integers(n)),
            last_l2=numbers(n, b),
            held=[x0.clone() for _ in self.budgets],
            has_held=flags(n, b),
            mismatches=integers(n),
            stop_reason=["budget"] * n,
        )

    # -- what attacks use ------------------------------------------------------------------------------------

    @property
    def remaining(self) -> Tensor:
        """int64 ``[N]``: questions (not single queries) that can still be asked; 0 for retired images."""
        left = (self.budget - self.ledger.used) // self.votes
        return torch.where(self.active, left, torch.zeros_like(left))

    def labels(self, points: Tensor, owner: Tensor, phase: Phase) -> Tensor:
        """int64 ``[M]``: the label of each row, or `REFUSED`.

        Args:
            points: ``[M, C, H, W]``; clipped to [0, 1] before the model sees them.
            owner: int64 ``[M]``: the image each row is for; M is ragged, rows of one image are in order.
            phase: what the queries are for, counted apart: one name, or ``[(name, rows), ...]`` for
                consecutive rows, so that images in different phases share a batch.
        """
        answers = torch.full_like(owner, REFUSED)
        rows, label, _ = self._pay(points, owner, phase, scores=False)
        answers[rows] = label
        return answers

    def scores(self, points: Tensor, owner: Tensor, phase: Phase) -> Tensor:
        """float32 ``[M, K]``: (mean) probabilities of each row; NaN in rows that were refused."""
        rows, _, probabilities = self._pay(points, owner, phase, scores=True)
        classes = max(probabilities.shape[1], self.clean_scores.shape[1])  # known from before where none is evaluated
        answers = probabilities.new_full((len(owner), classes), float("nan"))
        answers[rows] = probabilities
        return answers

    def adversarial(self, points: Tensor, owner: Tensor, phase: Phase) -> Tensor:
        """int64 ``[M]``: 1 where the label is wrong, 0 where it is right, `REFUSED` where not evaluated."""
        answer = self.labels(points, owner, phase)
        return torch.where(answer == REFUSED, REFUSED, (answer != self.y[owner]).long())

    def hold(self, points: Tensor, owner: Tensor) -> None:
        """Declares the incumbents: what the attack would hand over for these images from now on."""
        self._held[owner] = self._as_sent(points)
        self._holding[owner] = True

    def retire(self, owner: Tensor, reason: str) -> None:
        """Ends these images' attacks with a one-word reason. Images already inactive keep theirs."""
        for image in owner[self.active[owner]].tolist():
            self.ledger.stop_reason[image] = reason
        self.active[owner] = False

    def inside(self, points: Tensor, owner: Tensor) -> Tensor:
        """bool ``[M]``: whether each row lies within ε, as everything that reports it says."""
        return within(self.distance(points, owner), self.eps)

    def distance(self, points: Tensor, owner: Tensor) -> Tensor:
        """float64 ``[M]``: distance of each row from its clean image, after clipping, in the oracle's norm."""
        return self._distance_of_sent(points.clamp(0.0, 1.0), owner)

    # -- what experiments use --------------------------------------------------------------------------------

    def check(self, scores: bool = False) -> None:
        """One paid query of every clean image: where the defended model errs, it was seen at distance 0.

        Such an image is submitted as it is until the attack submits another point. With `scores`, the answer is kept in
        `clean_scores` for attacks that start from it.
        """
        everyone = torch.arange(len(self.x0), device=self.x0.device)
        if scores:
            self.clean_scores = self.scores(self.x0, everyone, "check")
            answered = ~self.clean_scores.isnan().any(1)
            self.initially_wrong = answered & (self.clean_scores.argmax(1) != self.y)
        else:
            self.initially_wrong = self.adversarial(self.x0, everyone, "check") == 1
        wrong = everyone[self.initially_wrong]
        self.hold(self.x0[wrong], wrong)

    def close(self) -> Ledger:
        """Fills the report points that were not reached with the final state, and returns the ledger."""
        self._snapshot(torch.full_like(self.ledger.used, self.budget + 1))
        return self.ledger

    # -- inside ----------------------------------------------------------------------------------------------

    def _pay(self, points: Tensor, owner: Tensor, phase: Phase, scores: bool) -> tuple[Tensor, Tensor, Tensor]:
        if len(points) != len(owner):
            raise ValueError(f"Expected one owner a row but got {len(points)} rows and {len(owner)} owners.")
        finite = points.flatten(1).sum(1).isfinite()  # one pass: no entry of an image is NaN or infinite
        if not bool(finite.all()):
            self.retire(owner[~finite].unique(), "non_finite")
        rank, count = _rank(owner, len(self.x0))
        allowed = self.remaining
        rows = (rank < allowed[owner]).nonzero().squeeze(1)
        asked = torch.minimum(count, allowed)
        used = self.ledger.used
        self._snapshot(used + asked * self.votes)

        mine = owner[rows]
        sent = self._as_sent(points if len(rows) == len(points) else points[rows])
        label, probabilities = self._ask(sent, mine, scores)
        distance = self._distance_of_sent(sent, mine)
        query = used[mine] + (rank[rows] + 1) * self.votes
        self._record(mine, query, distance, label != self.y[mine], sent)
        self._note_last(rows, owner, asked, distance)
        used += asked * self.votes
        start = 0
        for name, many in [(phase, len(owner))] if isinstance(phase, str) else phase:
            inside = mine[(rows >= start) & (rows < start + many)]
            self.ledger.phases[name].index_add_(0, inside, torch.full_like(inside, self.votes))
            start += many
        self.active &= used + self.votes <= self.budget
        return rows, label, probabilities

    def _distance_of_sent(self, sent: Tensor, owner: Tensor) -> Tensor:
        """As `distance`, of points that are clipped already."""
        pieces = zip(sent.split(CACHED), owner.split(CACHED), strict=True)
        return torch.cat([length(piece - self.x0[whose], self.norm) for piece, whose in pieces])

    def _as_sent(self, points: Tensor) -> Tensor:
        return as_sent(points, self.quantize)

    def _ask(self, sent: Tensor, owner: Tensor, scores: bool) -> tuple[Tensor, Tensor]:
        """Majority label ``[M]`` and mean probability ``[M, K]`` (empty unless wanted) over the votes."""
        if not len(sent):
            return sent.new_empty(0, dtype=torch.int64), sent.new_empty(0, 1)
        labels, means = [], []
        rows = min(POINTS_AT_ONCE, BYTES_AT_ONCE // (4 * sent[0].numel()))
        at_once = max(1, rows // self.votes)
        for piece, whose in zip(sent.split(at_once), owner.split(at_once), strict=True):
            asked, image = (piece, whose) if self.votes == 1 else (
                piece.repeat_interleave(self.votes, 0), whose.repeat_interleave(self.votes)
            )  # fmt: skip
            with drawing(self._streams, image):
                logits = self._defended(asked)
            single = logits.argmax(1).view(len(piece), self.votes)
            if self._undefended is not None:
                bare = self._undefended(piece).argmax(1)
                self.ledger.mismatches.index_add_(0, whose, (single != bare[:, None]).sum(1))
            if scores:
                mean = logits.softmax(1).view(len(piece), self.votes, -1).mean(1)
                means.append(mean)
                labels.append(mean.argmax(1))
            else:
                labels.append(single.mode(1).values)
        return torch.cat(labels), torch.cat(means) if scores else sent.new_empty(0, 1)

    def _record(self, owner: Tensor, query: Tensor, distance: Tensor, wrong: Tensor, sent: Tensor) -> None:
        """Adds the improvement events: wrong answers closer than every wrong answer before."""
        hit = (wrong & (distance < self.best[owner])).nonzero().squeeze(1)
        if not len(hit):
            return
        hit = hit[torch.argsort(owner[hit], stable=True)]
        whose, near = owner[hit], distance[hit]
        # A running minimum for each owner: owners' distances are moved apart so that one cummin serves them all.
        apart = (near.max() + 1.0) * (len(self.x0) - whose).double()
        running = torch.cummin(near + apart, 0).values - apart
        first = leads(whose)
        first[1:] |= near[1:] < running[:-1] - 1e-12
        hit, whose, near = hit[first], whose[first], near[first]
        self.ledger.events.append((whose, query[hit], near))
        last = leads(whose).roll(-1)
        self.best[whose[last]] = near[last]
        self.best_point[whose[last]] = sent[hit[last]]

    def _snapshot(self, used_after: Tensor) -> None:
        """At each report point that this call takes an image beyond, keeps what it holds now.

        A query completed exactly at the report point still counts, so the snapshot waits for the next call.
        """
        for b, point in enumerate(self.budgets):
            crossing = ~self._taken[:, b] & (used_after > point)
            if bool(crossing.any()):
                self.ledger.held[b][crossing] = self._held[crossing]
                self.ledger.has_held[crossing, b] = self._holding[crossing]
                self.ledger.last_l2[crossing, b] = self._last[crossing]
                self._taken[:, b] |= crossing

    def _note_last(self, rows: Tensor, owner: Tensor, asked: Tensor, distance: Tensor) -> None:
        """Distance of the last paid query, now and at the report points passed inside this call."""
        used = self.ledger.used
        position = torch.full_like(owner, -1)
        position[rows] = torch.arange(len(rows), device=rows.device)
        start = _starts(owner, len(self.x0))
        order = torch.argsort(owner, stable=True)
        for b, point in [*enumerate(self.budgets), (-1, self.budget)]:
            inside = torch.minimum((point - used) // self.votes, asked)
            mine = (inside > 0).nonzero().squeeze(1)
            if b >= 0:
                mine = mine[(point < used + asked * self.votes)[mine]]
            if not len(mine):
                continue
            last = distance[position[order[start[mine] + inside[mine] - 1]]]
            if b >= 0:
                self.ledger.last_l2[mine, b] = last
            else:
                self._last[mine] = last


def leads(owner: Tensor) -> Tensor:
    """bool ``[M]``: the first of each run of equal owners."""
    first = torch.ones_like(owner, dtype=torch.bool)
    first[1:] = owner[1:] != owner[:-1]
    return first


def _starts(owner: Tensor, n: int) -> Tensor:
    """Where each image's rows begin once rows are sorted by owner."""
    counts = torch.bincount(owner, minlength=n)
    return torch.cumsum(counts, 0) - counts


def _rank(owner: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """For each row its place among the rows of its image, and each image's number of rows."""
    order = torch.argsort(owner, stable=True)
    rank = torch.empty_like(owner)
    rank[order] = torch.arange(len(owner), device=owner.device) - _starts(owner, n)[owner[order]]
    return rank, torch.bincount(owner, minlength=n)
