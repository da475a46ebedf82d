"""The oracle: the only door to the defended model. It counts, stops at the budget, votes and records.

One evaluation of one image is one query, whatever it was for. Rows beyond an image's budget are never evaluated:
they come back as `REFUSED` and the image leaves `Oracle.active`, so an attack that ignores this cannot overspend. So do
rows that the model did not answer: they were paid, but nothing is known of them, and their images' attacks end.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from sndcli.ball import as_sent, distances, within
from sndcli.errors import ConfigError
from sndcli.queries.call import Call, Phase
from sndcli.queries.criterion import Criterion, Misclassified
from sndcli.queries.draws import UNANSWERED, Logits, labels_of, repeated, rows_within, voted
from sndcli.queries.ledger import Ledger
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
        quantize: round points to 8 bits before the model and before distances, as sending a PNG would.
        undefended: logits of the bare classifier, to count mismatches with a second, unpaid forward.
        streams: where the defense draws for each image; without them it draws as it does by itself.
        criterion: which answers are adversarial; without one, all but the true label (untargeted).
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
    ) -> None:
        for name, value in (("budget", budget), ("votes", votes)):
            if value < 1:
                raise ConfigError(f"Expected `{name}` to be at least 1 but got {value}.")
        self.budgets = sorted(set(budgets or [budget]))
        if self.budgets[0] < 1 or self.budgets[-1] > budget:
            raise ConfigError(f"Expected report points between 1 and the budget {budget} but got {self.budgets}.")
        self.x0, self.y, self.budget, self.votes, self.norm, self.eps = x0, y, budget, votes, norm, eps
        self._defended, self._undefended, self._streams, self.quantize = defended, undefended, streams, quantize
        self.criterion = criterion or Misclassified(y)
        self.active = torch.ones(len(x0), dtype=torch.bool, device=x0.device)
        self.initially_wrong = ~self.active
        self.clean_scores = x0.new_empty(len(x0), 0)
        self.ledger = Ledger(x0, budget, self.budgets, votes)

    # -- what attacks use ------------------------------------------------------------------------------------

    @property
    def remaining(self) -> Tensor:
        """int64 ``[N]``: questions (not single queries) that can still be asked; 0 for retired images."""
        return (self.budget - self.ledger.used) // self.votes * self.active

    def labels(self, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        """int64 ``[M]``: the label of each row, or `REFUSED`.

        Args:
            points: ``[M, C, H, W]``; clipped to [0, 1] before the model sees them.
            image: int64 ``[M]``: the image each row is for; M is ragged, rows of one image are in order.
            phase: what the queries are for, counted apart: one name, or ``[(name, rows), ...]`` for
                consecutive rows, so that images in different phases share a batch.
        """
        answers = torch.full_like(image, REFUSED)
        rows, label, _ = self._pay(points, image, phase, scores=False)
        answers[rows] = label
        return answers

    def scores(self, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        """float32 ``[M, K]``: (mean) probabilities of each row; NaN in rows that were refused."""
        rows, _, probabilities = self._pay(points, image, phase, scores=True)
        classes = max(probabilities.shape[1], self.clean_scores.shape[1])  # known from before where none is evaluated
        answers = probabilities.new_full((len(image), classes), float("nan"))
        answers[rows] = probabilities
        return answers

    def adversarial(self, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        """int64 ``[M]``: 1 where the criterion is met, 0 where it is not, `REFUSED` where not evaluated."""
        answer = self.labels(points, image, phase)
        return torch.where(answer == REFUSED, REFUSED, self.criterion.met(answer, image).long())

    def submit(self, points: Tensor, image: Tensor) -> None:
        """Declares what the attack submits for these images from now on."""
        self.ledger.submit(as_sent(points, self.quantize), image)

    def hold(self, points: Tensor, image: Tensor) -> None:
        """`submit` by its name of version 0.1, for plug-ins; the next version has it no more."""
        warnings.warn("`Oracle.hold` is called `submit` now.", DeprecationWarning, stacklevel=2)
        self.submit(points, image)

    def retire(self, image: Tensor, reason: str) -> None:
        """Ends these images' attacks with a one-word reason. Images already inactive keep theirs."""
        for i in image[self.active[image]].tolist():
            self.ledger.stop_reason[i] = reason
        self.active[image] = False

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
        self.ledger.close()
        return self.ledger

    def _pay(self, points: Tensor, image: Tensor, phase: Phase, scores: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The rows that are answered, their labels and, where `scores` are wanted, probabilities."""
        if len(points) != len(image):
            raise ValueError(f"Expected one image index a row but got {len(points)} rows and {len(image)} indices.")
        finite = points.flatten(1).sum(1).isfinite()  # one pass: no entry of an image is NaN or infinite
        self.retire(image[~finite].unique(), "non_finite")
        call = Call(image, self.remaining)
        self.ledger.before(call)
        sent = as_sent(points if len(call.rows) == len(points) else points[call.rows], self.quantize)
        label, probabilities = self._ask(sent, call.mine, scores)
        distance = distances(sent, self.x0, call.mine, self.norm)
        unanswered = label == UNANSWERED
        self.ledger.record(call, phase, sent, distance, self.criterion.met(label, call.mine) & ~unanswered)
        self.retire(call.mine[unanswered].unique(), "no_answer")
        self.active &= self.ledger.used + self.votes <= self.budget
        return call.rows, label, probabilities

    def _ask(self, sent: Tensor, image: Tensor, scores: bool) -> tuple[Tensor, Tensor]:
        """Label ``[m]`` and, where `scores` are wanted, mean probabilities ``[m, K]`` over the votes."""
        found = [(sent.new_empty(0, dtype=torch.int64), sent.new_empty(0, 1))]
        at_once = rows_within(BYTES_AT_ONCE, self.x0[0].numel() * self.votes, POINTS_AT_ONCE // self.votes)
        for piece, mine, logits in repeated(self._defended, sent, image, self.votes, self._streams, at_once):
            if self._undefended is not None:
                self.ledger.compare(labels_of(logits), labels_of(self._undefended(piece)), mine)
            found.append(voted(logits, scores))
        labels, means = zip(*(found[1:] or found), strict=True)
        return torch.cat(labels), torch.cat(means)
