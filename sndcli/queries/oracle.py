"""The oracle: the only door to the defended model. It counts, stops at the budget, votes and records.

One evaluation of one image is one query, whatever it was for. Rows beyond an image's budget are never evaluated:
they come back as `REFUSED` and the image leaves `Oracle.active`, so an attack that ignores this cannot overspend. So do
rows that the model did not answer: they were paid, but nothing is known of them, and their images' attacks end.

A stateful defense (`guard`) gives the third kind of answer: what it blocks was paid, and nothing is known of it but
that it was blocked. `Oracle.labels` says `BLOCKED`, `Oracle.scores` NaN and `Oracle.adversarial`, for attacks that know
nothing of such defenses, `REFUSED`; the image stays in `Oracle.active`. So that no attack asks for ever in vain, an
image ends as ``blocked`` after `guard.PATIENCE` such answers in a row.

Who may still ask is counted by the host: of a call, whose its rows are comes to it in one transfer before the model is
asked, and what came out in one after.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sndcli.ball import as_sent, distances, sent_inside, within
from sndcli.errors import ConfigError
from sndcli.queries import guard as guards
from sndcli.queries.call import Call, Integers, Phase
from sndcli.queries.criterion import Criterion, Misclassified
from sndcli.queries.draws import BLOCKED, UNANSWERED, Logits, labels_of, repeated, rows_within, voted
from sndcli.queries.guard import Flags, Guard
from sndcli.queries.ledger import Ledger
from sndcli.queries.stopping import CONFIRMED, Verified
from sndcli.streams import Streams

REFUSED = UNANSWERED
POINTS_AT_ONCE, BYTES_AT_ONCE = 4096, 2**28  # rows expanded for votes at a time; they bound memory, never results


class Oracle:
    """Answers label or score queries about N images under a hard budget for each.

    Args:
        defended: logits ``[M, K]`` of ``[M, C, H, W]``, fresh randomness for every row; NaN in rows it cannot answer.
        x0: clean images ``[N, C, H, W]`` in [0, 1].
        y: int64 ``[N]``, the true labels.
        budget: paid queries an image, at most.
        budgets: report points, ascending, the last at most `budget`.
        norm: ``l2`` or ``linf``; how distances are measured.
        eps: the bound ε inside which a wrong answer counts; score attacks stay inside it or stop at it.
        votes: T ≥ 1; every question is asked T times, every repeat is paid, and the most frequent label (the
            smallest of several) or the mean probability is the answer (paper, section 3.4 and Table 4). Fewer
            than T remaining queries are not spent.
        quantize: round points to 8 bits before the model and before distances, as sending a PNG would; points inside ε
            stay inside.
        undefended: logits of the bare classifier, to count mismatches with a second, unpaid forward.
        streams: where the defense draws for each image; without them it draws as it does by itself.
        criterion: which answers are adversarial; without one, all but the true label (untargeted).
        confirm: paid answers, at most, that must confirm what a score attack takes for its success; 0: none.
        verified: ends the attacks of images whose submitted point unpaid draws confirm.
        starts: ``[N, k, C, H, W]``: points that may meet the criterion, for attacks that need one to start from; with
            them no other is looked for.
        guard: a stateful defense; with votes of one query only, since a repeat is what it blocks.
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
        criterion: Criterion | None = None,
        confirm: int = 0,
        verified: Verified | None = None,
        starts: Tensor | None = None,
        guard: Guard | None = None,
    ) -> None:
        for name, value in (("budget", budget), ("votes", votes)):
            if value < 1:
                raise ConfigError(f"Expected `{name}` to be at least 1 but got {value}.")
        if guard is not None and votes > 1:
            raise ConfigError(f"Expected `votes` of 1 with a stateful defense, which blocks repeats, but got {votes}.")
        self.budgets = sorted(set(budgets or [budget]))
        if self.budgets[0] < 1 or self.budgets[-1] > budget:
            raise ConfigError(f"Expected report points between 1 and the budget {budget} but got {self.budgets}.")
        self.x0, self.y, self.budget, self.votes, self.norm, self.eps = x0, y, budget, votes, norm, eps
        self._defended, self._undefended, self._streams, self.quantize = defended, undefended, streams, quantize
        self.criterion, self.starts = criterion or Misclassified(y), starts
        self.confirm, self._verified, self._guard = confirm, verified, guard
        self._active = np.ones(len(x0), dtype=np.bool_)
        self.initially_wrong = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        self.active = ~self.initially_wrong  # bool [N]: images still under attack
        self.clean_scores = x0.new_empty(len(x0), 0)
        self.ledger = Ledger(x0, budget, self.budgets, votes)

    # -- what attacks use ------------------------------------------------------------------------------------

    @property
    def remaining(self) -> Tensor:
        """int64 ``[N]``: questions (not single queries) that can still be asked; 0 for retired images."""
        return torch.from_numpy(self._remaining()).to(self.x0.device)

    def labels(self, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        """int64 ``[M]``: the label of each row, `BLOCKED`, or `REFUSED`.

        Args:
            points: ``[M, C, H, W]``; clipped to [0, 1] before the model sees them.
            image: int64 ``[M]``: the image each row is for; M is ragged, rows of one image are in order.
            phase: what the queries are for, counted apart: one name, or ``[(name, rows), ...]`` for
                consecutive rows, so that images in different phases share a batch.
        """
        paid = self._pay(points, image, phase, scores=False)
        return (
            paid.label if paid.rows is None else torch.full_like(image, REFUSED).index_copy_(0, paid.rows, paid.label)
        )

    def scores(self, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        """float32 ``[M, K]``: (mean) probabilities of each row; NaN in rows that were blocked or refused."""
        paid = self._pay(points, image, phase, scores=True)
        if paid.rows is None:
            return paid.mean
        classes = max(paid.mean.shape[1], self.clean_scores.shape[1])  # known from before where none is evaluated
        answers = paid.mean.new_full((len(image), classes), float("nan"))
        answers[paid.rows] = paid.mean
        return answers

    def adversarial(self, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        """int64 ``[M]``: 1 where the criterion is met, 0 where it is not, `REFUSED` where blocked or not evaluated."""
        paid = self._pay(points, image, phase, scores=False)
        met = paid.met.long() if paid.answered else paid.met.long().masked_fill(paid.label < 0, REFUSED)
        return _spread(met, paid.rows, image)

    def submit(self, points: Tensor, image: Tensor) -> None:
        """Declares what the attack submits for these images from now on."""
        if self._verified is not None:  # what was confirmed is not given away again
            open_ = ~self._verified.confirmed[image]
            points, image = points[open_], image[open_]
        self.ledger.submit(self._as_sent(points, image), image)

    def hold(self, points: Tensor, image: Tensor) -> None:
        """`submit` by its name of version 0.1, for plug-ins; the next version has it no more."""
        warnings.warn("`Oracle.hold` is called `submit` now.", DeprecationWarning, stacklevel=2)
        self.submit(points, image)

    def retire(self, image: Tensor, reason: str) -> None:
        """Ends these images' attacks with a one-word reason. Images already inactive keep theirs."""
        if len(image):
            self._end(image.cpu().numpy(), reason)

    def inside(self, points: Tensor, image: Tensor) -> Tensor:
        """bool ``[M]``: whether each row lies within ε, as everything that reports it says."""
        return within(self.distance(points, image), self.eps)

    def distance(self, points: Tensor, image: Tensor) -> Tensor:
        """float64 ``[M]``: distance of each row from its clean image, after clipping, in the oracle's norm."""
        return distances(points.clamp(0.0, 1.0), self.x0, image, self.norm)

    # -- what experiments use --------------------------------------------------------------------------------

    def check(self, scores: bool = False) -> None:
        """One paid query of every clean image: where the defended model errs, it was seen at distance 0.

        Such an image is submitted as it is until the attack submits another point. With `scores`, `clean_scores` keeps
        the answers for attacks that start from them.
        """
        everyone = torch.arange(len(self.x0), device=self.x0.device)
        if scores:
            self.clean_scores = self.scores(self.x0, everyone, "check")
            self.initially_wrong = self.criterion.met_by(self.clean_scores, everyone)
        else:
            self.initially_wrong = self.adversarial(self.x0, everyone, "check") == 1
        self.submit(self.x0[self.initially_wrong], everyone[self.initially_wrong])

    def close(self) -> Ledger:
        """Fills the report points that were not reached with the final state, and returns the ledger."""
        self._verify(np.full(len(self.x0), self.budget + 1))
        self.ledger.close()
        return self.ledger

    def _verify(self, used_after: Integers) -> bool:
        """Ends the attacks that are confirmed at a report point below `used_after` ``[N]``; whether there are any."""
        if self._verified is None:
            return False
        new = self._verified(self.ledger, used_after)
        for i in new.tolist():
            self.ledger.stop_reason[i] = CONFIRMED
        self._stay(~np.isin(np.arange(len(self._active)), new))
        return len(new) > 0

    def _remaining(self) -> Integers:
        """As `remaining`, on the host."""
        left: Integers = (self.budget - self.ledger.used.numpy()) // self.votes * self._active
        return left

    def _end(self, image: Integers, reason: str) -> None:
        """As `retire`, on the host."""
        for i in set(image[self._active[image]].tolist()):
            self.ledger.stop_reason[i] = reason
        self._stay(~np.isin(np.arange(len(self._active)), image))

    def _stay(self, may: NDArray[np.bool_]) -> None:
        """Ends the attacks of the images that `may` ``[N]`` not go on."""
        stay = self._active & may
        if not np.array_equal(stay, self._active):
            self._active, self.active = stay, torch.from_numpy(stay).to(self.x0.device)

    def _pay(self, points: Tensor, image: Tensor, phase: Phase, scores: bool) -> _Paid:
        if len(points) != len(image):
            raise ValueError(f"Expected one image index a row but got {len(points)} rows and {len(image)} indices.")
        whose, total = _on_host(image, points.flatten(1).sum(1))  # a sum tells of a NaN or an infinity in one pass
        owner = whose.astype(np.int64)
        finite = np.isfinite(total)
        if not finite.all():
            self._end(owner[~finite], "non_finite")
        call = Call(owner, self._remaining())
        if self._verify(self.ledger.used.numpy() + call.asked * self.votes):
            call = Call(owner, self._remaining())
        sent, mine = self._sent(call, points, image)
        call, sent, mine, detected = self._guarded(call, sent, mine)
        self.ledger.before(call)
        label, mean = self._answered(sent, mine, scores, detected)
        met = self.criterion.met(label, mine) & (label >= 0)
        distance, found, hit = _on_host(distances(sent, self.x0, mine, self.norm), label, met)
        blocks = self._guard is not None and self._guard.blocks
        self.ledger.record(call, phase, sent, distance, hit.astype(np.bool_), detected, blocks)
        if (found == UNANSWERED).any():
            self._end(call.mine[found == UNANSWERED], "no_answer")
        if self._guard is not None and detected is not None:
            banned, stuck = self._guard.note(call, detected)
            self._end(banned, guards.BANNED)
            self._end(stuck, guards.BLOCKED)
        self._stay(self.ledger.used.numpy() + self.votes <= self.budget)
        rows = None if call.whole else torch.from_numpy(call.rows).to(image.device)
        return _Paid(rows, label, mean, met, bool((found >= 0).all()))

    def _sent(self, call: Call, points: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """The points of a call that are asked about, as they are sent, and the images that they are for."""
        if call.whole:
            return self._as_sent(points, image), image
        rows = torch.from_numpy(call.rows).to(image.device)
        return self._as_sent(points[rows], image[rows]), image[rows]

    def _guarded(self, call: Call, sent: Tensor, mine: Tensor) -> tuple[Call, Tensor, Tensor, Flags | None]:
        """A call until attackers are banned, what is sent of it for which images, and what of that is detected."""
        if self._guard is None or not len(sent):
            return call, sent, mine, None
        detected = self._guard.store.similar(sent, call.mine)
        allowed = self._guard.until_banned(call, detected)
        if (allowed < call.asked).any():
            call, kept = call.shortened(allowed)
            which = torch.from_numpy(kept).to(sent.device)
            sent, mine, detected = sent[which], mine[which], detected[kept]
        return call, sent, mine, detected

    def _answered(self, sent: Tensor, mine: Tensor, scores: bool, detected: Flags | None) -> tuple[Tensor, Tensor]:
        """As `_ask`, where what is blocked is not asked."""
        if detected is None or self._guard is None or not self._guard.blocks or not detected.any():
            return self._ask(sent, mine, scores)
        (rows,) = torch.from_numpy(~detected).to(sent.device).nonzero(as_tuple=True)
        told, means = self._ask(sent[rows], mine[rows], scores)
        label = torch.full_like(mine, BLOCKED).index_copy_(0, rows, told)
        if not scores:
            return label, means
        classes = max(means.shape[1], self.clean_scores.shape[1])  # known from before where none is evaluated
        mean = means.new_full((len(mine), classes), float("nan"))
        if len(rows):
            mean[rows] = means
        return label, mean

    def _as_sent(self, points: Tensor, image: Tensor) -> Tensor:
        """What is asked about, or submitted: in [0, 1], in 8 bits where queries are, and then still inside ε."""
        if self.quantize and math.isfinite(self.eps):
            return sent_inside(points, self.x0, image, self.eps, self.norm)
        return as_sent(points, self.quantize)

    def _ask(self, sent: Tensor, image: Tensor, scores: bool) -> tuple[Tensor, Tensor]:
        """Label ``[m]`` and, where `scores` are wanted, mean probabilities ``[m, K]`` over the votes."""
        found = []
        at_once = rows_within(BYTES_AT_ONCE, self.x0[0].numel() * self.votes, POINTS_AT_ONCE // self.votes)
        for piece, mine, logits in repeated(self._defended, sent, image, self.votes, self._streams, at_once):
            if self._undefended is not None:
                self.ledger.compare(labels_of(logits), labels_of(self._undefended(piece)), mine)
            found.append(voted(logits, scores))
        if len(found) <= 1:
            return found[0] if found else (sent.new_empty(0, dtype=torch.int64), sent.new_empty(0, 1))
        labels, means = zip(*found, strict=True)
        return torch.cat(labels), torch.cat(means)


@dataclass(frozen=True)
class _Paid:
    """What a call bought.

    Attributes:
        rows: int64 ``[m]``, the rows that were asked; None: all.
        label: int64 ``[m]``; `UNANSWERED` or `BLOCKED` where there is none.
        mean: ``[m, K]``, probabilities, where they were wanted.
        met: bool ``[m]``, whether the criterion is met.
        answered: whether all of them were answered.
    """

    rows: Tensor | None
    label: Tensor
    mean: Tensor
    met: Tensor
    answered: bool


def _spread(answer: Tensor, rows: Tensor | None, image: Tensor) -> Tensor:
    """Answers ``[m]`` of the `rows` ``[m]`` that were asked, among those of `image` ``[M]``: others are `REFUSED`."""
    return answer if rows is None else torch.full_like(image, REFUSED).index_copy_(0, rows, answer)


def _on_host(*columns: Tensor) -> list[NDArray[np.float64]]:
    """Columns ``[M]`` as numbers of the host, in one transfer."""
    if columns[0].device.type == "cpu":
        return [column.double().numpy() for column in columns]
    return list(torch.stack([column.double() for column in columns]).cpu().numpy())
