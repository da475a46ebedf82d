"""Attacks that know one image only, taking turns, so that the questions of many images travel in one batch.

Each image's code runs in a thread of its own until it asks something; then the questions of all images are answered
together. Only one thread ever runs at a time, and each has its own state of the global generators of torch, numpy and
Python, from which such code draws; the caller's are restored. Code that raises ends its image alone, as a row with its
reason.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sndcli.queries.draws import BLOCKED
from sndcli.queries.oracle import REFUSED, Oracle


class Ended(BaseException):
    """Ends an image's code from inside its question: its budget is spent. No ``except Exception`` keeps it."""


@dataclass(frozen=True)
class _Randomness:
    """The state of all global generators that foreign code may draw from."""

    torch: Tensor
    numpy: object
    python: object

    @classmethod
    def now(cls) -> _Randomness:
        return cls(torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002

    def restore(self) -> None:
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)  # type: ignore[arg-type]  # noqa: NPY002
        random.setstate(self.python)  # type: ignore[arg-type]


class Turn(threading.Thread):
    """One image's code; runs only between `resume` and its next question.

    Args:
        code: called with `Turn.ask`; returns the point that it submits ``[C, H, W]``, or None.
        image: its index.
        seed: of its randomness.
    """

    def __init__(self, code: Callable[[Callable[[Tensor], Tensor]], Tensor | None], image: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.code, self.image = code, image
        self.question: Tensor | None = None
        self.answer: Tensor | None = None
        self.result: Tensor | None = None
        self.reason: str | None = None
        self._spent = False
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._seed = seed
        self._random: _Randomness | None = None

    def resume(self) -> None:
        """Lets the code run until it asks or ends; `question` is then set, or `reason`."""
        if self._random is None:
            torch.manual_seed(self._seed)
            np.random.seed(self._seed % 2**32)  # noqa: NPY002, the generator that foreign code draws from
            random.seed(self._seed)
            self.start()
        else:
            self._random.restore()
            self._go.release()
        self._paused.acquire()
        self._random = _Randomness.now()

    def run(self) -> None:
        """Thread body."""
        try:
            self.result = self.code(self.ask)
            self.reason = "budget" if self._spent else "exhausted"
        except Ended:
            self.reason = "budget"
        except Exception as error:
            text = str(error).strip().splitlines()
            self.reason = f"raised: {type(error).__name__} {text[0] if text else ''}".strip()
        self.question = None
        self._paused.release()

    def ask(self, points: Tensor) -> Tensor:
        """Called by the code: hands the turn over and comes back with the answers of all points.

        Raises:
            Ended: some of them were over the budget.
        """
        if self._spent:
            raise Ended
        self.question = points
        self._paused.release()
        self._go.acquire()
        answer, self.answer = self.answer, None
        if answer is None or _refused(answer):
            self._spent = True
            raise Ended
        return answer


def take_turns(oracle: Oracle, turns: Sequence[Turn], scores: bool = False) -> None:
    """Runs all turns to their ends.

    What an image submits is its closest paid query that was answered wrong, until its code returns a point.

    Args:
        oracle: that is asked.
        turns: of images that are active.
        scores: whether the answers are probabilities ``[n, K]``; else int64 labels ``[n]``.
    """
    before = _Randomness.now()
    try:
        live = list(turns)
        while live:
            for turn in live:
                turn.resume()
            for turn in live:
                if turn.reason is not None:
                    _end(oracle, turn, turn.reason)
            live = [turn for turn in live if turn.reason is None]
            _answer(oracle, live, scores)
    finally:
        before.restore()


def _answer(oracle: Oracle, live: list[Turn], scores: bool) -> None:
    """One batch with everybody's questions."""
    questions = [turn.question for turn in live if turn.question is not None]
    if not questions:
        return
    sizes = [len(question) for question in questions]
    device = oracle.x0.device
    image = torch.tensor([turn.image for turn in live])
    before = oracle.ledger.best[image].clone()
    rows = image.repeat_interleave(torch.tensor(sizes)).to(device)
    points = torch.cat(questions).to(device)
    answers = _as_if_clean(oracle, (oracle.scores if scores else oracle.labels)(points, rows, "attack"), rows).cpu()
    improved = image[oracle.ledger.best[image] < before].to(device)
    oracle.submit(oracle.ledger.best_point[improved], improved)
    for turn, answer in zip(live, answers.split(sizes), strict=True):
        turn.answer = answer


def _as_if_clean(oracle: Oracle, answers: Tensor, rows: Tensor) -> Tensor:
    """What code that knows of no stateful defense is told of blocked questions: that nothing was won.

    The true label, or the clean image's scores of `Oracle.check`; NaN, which ends the image, where nobody asked for
    them.
    """
    if not answers.is_floating_point():
        return torch.where(answers == BLOCKED, oracle.y[rows], answers)
    blocked = answers.isnan().any(1) & oracle.active[rows]
    if oracle.clean_scores.shape[1] == answers.shape[1]:
        answers[blocked] = oracle.clean_scores[rows[blocked]]
    return answers


def _end(oracle: Oracle, turn: Turn, reason: str) -> None:
    image = torch.tensor([turn.image], device=oracle.x0.device)
    if turn.result is not None:
        oracle.submit(turn.result[None].to(oracle.x0.device, oracle.x0.dtype), image)
    if reason != "budget":
        oracle.retire(image, reason)


def _refused(answer: Tensor) -> bool:
    """Whether a row of labels or scores was not answered."""
    return bool(answer.isnan().any() if answer.is_floating_point() else (answer == REFUSED).any())
