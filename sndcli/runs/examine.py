"""What a model that can only be asked shows of itself: whether it draws, how often a label flips, how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sndcli.models.opaque import OpaqueModel
from sndcli.queries.draws import UNANSWERED, labels_of

IMAGES, REPEATS, TOGETHER = 8, 12, 64  # images, questions about each one after the other, and images at once
LESS_THAN_A_LEVEL = 0.4 / 255  # which rounding to 8 bits takes away again


@dataclass(frozen=True)
class Examined:
    """What was seen of a model.

    Attributes:
        questions: images that were sent, all unpaid.
        unanswered: of them.
        differ: whether answers to the same question differed.
        flips: share of answers whose label is not the most frequent one of the same image.
        mates_share: whether copies of an image in one request got one answer where requests differ; None: not known.
        eight_bits: whether less than a grey level makes no difference; None: not known.
        median_ms: milliseconds until one image is answered.
        slowest_ms: the 95th percentile of the same.
        per_second: images a second, sent as an attack sends them.
    """

    questions: int
    unanswered: int
    differ: bool
    flips: float
    mates_share: bool | None
    eight_bits: bool | None
    median_ms: float
    slowest_ms: float
    per_second: float


def smooth(size: tuple[int, ...], count: int) -> Tensor:
    """``[count, C, H, W]`` in [0, 1]: blurred noise of 8 bits, always the same."""
    coarse = torch.rand(count, size[0], 4, 4, generator=torch.Generator().manual_seed(0))
    fine = F.interpolate(coarse, size[1:], mode="bilinear", align_corners=False)
    return (fine * 255).round() / 255


def examine(model: OpaqueModel, x: Tensor, advance: Callable[[int], None] = lambda _: None) -> Examined:
    """Asks about images of 8 bits.

    Args:
        model: whom.
        x: ``[n, C, H, W]`` in [0, 1].
        advance: told how many questions were asked so far.
    """
    milliseconds, repeated, asked = [], [], 0
    for _ in range(REPEATS):
        row = []
        for image in x.split(1):
            start = time.perf_counter()
            row.append(model(image))
            milliseconds.append(1000 * (time.perf_counter() - start))
            asked += 1
            advance(asked)
        repeated.append(torch.cat(row))
    answers = torch.stack(repeated, 1)  # [n, REPEATS] or [n, REPEATS, K]
    labels = answers if answers.ndim == 2 else labels_of(answers)
    differ = bool((answers != answers[:, :1]).masked_select(_known(answers)).any())
    copies = x[:1].expand(TOGETHER, *x.shape[1:])
    start = time.perf_counter()
    together = model(copies)
    took = time.perf_counter() - start
    eight_bits, more = _eight_bits(model, x, answers, differ)
    waits = torch.tensor(milliseconds)
    return Examined(
        asked + TOGETHER + more, int((labels == UNANSWERED).sum()), differ, _flips(labels),
        _mates_share(model, together, differ), eight_bits, float(waits.median()), float(waits.quantile(0.95)),
        TOGETHER / max(took, 1e-9),
    )  # fmt: skip


def _known(answers: Tensor) -> Tensor:
    """bool, in the shape of `answers`: what was answered, now and the first time."""
    known = answers != UNANSWERED if not answers.is_floating_point() else ~answers.isnan()
    return known & known[:, :1]


def _flips(labels: Tensor) -> float:
    """Share of the answered labels ``[n, R]`` that are not their row's most frequent one."""
    minority = answered = 0
    for row in labels:
        known = row[row != UNANSWERED]
        if len(known):
            answered += len(known)
            minority += len(known) - int(known.bincount().max())
    return minority / answered if answered else float("nan")


def _mates_share(model: OpaqueModel, together: Tensor, differ: bool) -> bool | None:
    """Whether the copies in each request were answered alike, though answers differ from request to request."""
    batch = model.facts.rows_a_request
    if not differ or batch < 2 or not together.is_floating_point():
        return None
    requests = [piece for piece in together.split(batch) if len(piece) > 1]
    return all(bool((piece == piece[:1]).all()) for piece in requests) if requests else None


def _eight_bits(model: OpaqueModel, x: Tensor, answers: Tensor, differ: bool) -> tuple[bool | None, int]:
    """Whether less than a grey level changes nothing, and how many questions that took."""
    if model.facts.eight_bits:
        return True, 0
    if differ or not answers.is_floating_point():
        return None, 0
    signs = torch.where(torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0)
    moved = (x + LESS_THAN_A_LEVEL * signs).clamp(0.0, 1.0)
    return bool((model(moved) == answers[:, 0]).all()), len(x)
