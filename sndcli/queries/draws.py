"""Asking about each point several times: fresh answers, in chunks that memory holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sndcli.streams import Streams, drawing

Logits = Callable[[Tensor], Tensor]
UNANSWERED = -1  # in the place of a label: the model did not answer this row
BLOCKED = -2  # likewise: a stateful defense blocked it


def rows_within(memory: int, numbers: int, most: int = sys.maxsize) -> int:
    """Rows of so many float32 `numbers` each that fit in `memory` bytes; at least 1 and at `most` so many.

    Example:
        >>> rows_within(2**20, 3 * 32 * 32, 1024), rows_within(2**20, 3 * 1024 * 1024, 1024)
        (85, 1)
    """
    return max(1, min(most, memory // (4 * numbers)))


def repeated(
    logits: Logits, points: Tensor, image: Tensor, times: int, streams: Streams | None, at_once: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Asks about each point so many times, `at_once` points in a pass.

    Args:
        logits: ``[m, K]`` of ``[m, C, H, W]``, fresh randomness for every row; NaN where it was not answered.
        points: ``[M, C, H, W]``.
        image: int64 ``[M]``, the image each point is for.
        times: answers about each.
        streams: where a defense draws for each image; without them it draws as it does by itself.
        at_once: points in a pass, which then has ``times`` as many rows.

    Yields:
        for each pass its points ``[m, C, H, W]``, their images ``[m]`` and the answers ``[m, times, K]``.
    """
    for piece, mine in zip(points.split(at_once), image.split(at_once), strict=True):
        if len(piece):
            rows, whose = (piece, mine) if times == 1 else (
                piece.repeat_interleave(times, 0), mine.repeat_interleave(times)
            )  # fmt: skip
            with drawing(streams, whose):
                answers = logits(rows)
            yield piece, mine, answers.view(len(piece), times, -1)


def fresh_labels(
    logits: Logits, points: Tensor, image: Tensor, draws: int, streams: Streams | None = None, at_once: int = 1
) -> Tensor:
    """int64 ``[M, draws]``: labels of so many fresh draws about each of the points; arguments as of `repeated`."""
    found = [labels_of(answers) for _, _, answers in repeated(logits, points, image, draws, streams, at_once)]
    return torch.cat(found) if found else torch.empty(0, draws, dtype=torch.int64, device=points.device)


def labels_of(answers: Tensor) -> Tensor:
    """int64 ``[…]``: the largest of logits or probabilities ``[…, K]``; `UNANSWERED` where they are NaN.

    Example:
        >>> labels_of(torch.tensor([[0.1, 0.9], [float("nan"), float("nan")]]))
        tensor([ 1, -1])
    """
    return answers.argmax(-1).masked_fill(answers.isnan().any(-1), UNANSWERED)


def share_met(met: Tensor, labels: Tensor) -> Tensor:
    """float64 ``[M]``: the share of the answers `labels` ``[M, T]`` on which `met` ``[M, T]`` holds.

    What was not answered is left out; NaN where nothing was.
    """
    answered = labels != UNANSWERED
    return (met & answered).double().sum(1) / answered.sum(1)


def voted(answers: Tensor, scores: bool) -> tuple[Tensor, Tensor]:
    """What a vote of logits ``[M, T, K]`` says: labels ``[M]``, and mean probabilities where `scores` are asked for.

    The most frequent label, the smallest of several; of scores, the one whose mean probability ``[M, K]`` is largest.
    `UNANSWERED`, and NaN, where one of the T is.
    """
    once = answers.shape[1] == 1
    if scores:
        mean = answers[:, 0].softmax(1) if once else answers.softmax(2).mean(1)
        return labels_of(mean), mean
    if once:
        return labels_of(answers[:, 0]), answers.new_empty(len(answers), 0)
    labels = labels_of(answers)
    votes = labels.mode(1).values.masked_fill((labels == UNANSWERED).any(1), UNANSWERED)
    return votes, answers.new_empty(len(answers), 0)
