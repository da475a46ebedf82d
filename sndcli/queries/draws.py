"""Asking about each point several times: fresh answers, in chunks that memory holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sndcli.streams import Streams, drawing

Logits = Callable[[Tensor], Tensor]


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
        logits: ``[m, K]`` of ``[m, C, H, W]``, fresh randomness for every row.
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
    found = [answers.argmax(2) for _, _, answers in repeated(logits, points, image, draws, streams, at_once)]
    return torch.cat(found) if found else torch.empty(0, draws, dtype=torch.int64, device=points.device)


def voted(answers: Tensor, scores: bool) -> tuple[Tensor, Tensor]:
    """What a vote of logits ``[M, T, K]`` says: labels ``[M]``, and mean probabilities where `scores` are asked for.

    The most frequent label, the smallest of several; of scores, the one whose mean probability ``[M, K]`` is largest.
    """
    if scores:
        mean = answers.softmax(2).mean(1)
        return mean.argmax(1), mean
    return answers.argmax(2).mode(1).values, answers.new_empty(len(answers), 0)
