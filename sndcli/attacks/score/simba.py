"""SimBA and SimBA-DCT (Guo, Gardner, You, Wilson and Weinberger, ICML 2019), untargeted.

Walks along orthonormal directions, each visited once: a step of -ε, and if p_y did not fall one of +ε. No projection:
after m accepted steps the perturbation is ε√m long before clipping.

Differs from the authors' code: the rule of the paper (the right side is only asked where the left failed; the batch
code asks both and may prefer the right), every image has a permutation of its own, the first score is paid, and
success is read from paid answers. The DCT order is that of the authors' scripts: on images of 224 pixels shells of
growing frequency (28, then 7 more each), on small ones all frequencies in random order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sndcli.attacks.common.dct import dct_rows
from sndcli.attacks.common.geometry import active
from sndcli.attacks.common.scores import Incumbent, averaged, stop_at_success
from sndcli.attacks.ranges import Count, Positive, Side, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.errors import ConfigError
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

SMALL = 64  # pixels of the shorter side, up to which the order ``auto`` is ``rand``


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        epsilon: length of a step, in L2; with `relative`, as a share of the run's ε.
        basis: ``pixel`` or ``dct``.
        order: ``rand`` over all directions; ``strided``: low frequencies first, shell by shell; ``auto``: ``rand`` on
            images of at most 64 pixels a side, else ``strided``.
        freq_dims: side of the first square of frequencies (``rand``: the only ones); 0 means 28/224 of the shorter
            side for ``strided`` and all for ``rand``.
        stride: width of the shells; 0 means 7/224 of the shorter side.
        iterations: directions, at most; 0 means all.
        draws: answers averaged for a step (ours; for noisy models).
        requery: ask the incumbent once more before each direction and compare with its mean (ours).
        confirm: further answers, at most, most of which must be wrong before an attack ends (ours); 0 asks none.
        anywhere: end at any wrong answer, as the authors' code does, and not only at one inside ε.
        relative: `epsilon` is a share of the run's ε (ours; the authors' step fits the large ε of ImageNet).
    """

    epsilon: Positive = 0.2
    basis: Literal["pixel", "dct"] = "pixel"
    order: Literal["rand", "strided", "auto"] = "rand"
    freq_dims: Side = 0
    stride: Side = 0
    iterations: Whole = 0
    draws: Count = 1
    requery: bool = False
    confirm: Whole = 0
    anywhere: bool = False
    relative: bool = False


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until success, or its budget or its directions end.

    Raises:
        ConfigError: a step relative to an infinite ε.
    """
    x0, o = oracle.x0, options
    length = o.epsilon * (oracle.eps if o.relative else 1.0)
    if not math.isfinite(length):
        raise ConfigError("Expected a finite --eps for steps that are a share of it, or `--set relative=0`.")
    n, size = len(x0), (x0.shape[1], x0.shape[2], x0.shape[3])
    everyone = torch.arange(n, device=x0.device)
    order = directions(everyone, size, o, streams)
    axes = [(dct_rows(side) if o.basis == "dct" else torch.eye(side)).to(x0) for side in size[1:]]
    delta = torch.zeros_like(x0)
    last = Incumbent(oracle.criterion.probability(oracle.clean_scores, everyone))  # P_last; paid in phase check
    place = torch.zeros(n, dtype=torch.int64, device=x0.device)
    right = torch.zeros(n, dtype=torch.bool, device=x0.device)
    oracle.submit(x0, everyone)
    for _ in range(2 * order.shape[1] + 1):
        oracle.retire(everyone[place >= order.shape[1]], "exhausted")
        image = active(oracle)
        if o.requery and len(first := image[~right[image]]):
            again = oracle.scores((x0[first] + delta[first]).clamp(0.0, 1.0), first, "incumbent")
            last.again(first, oracle.criterion.probability(again, first))
            image = active(oracle)
        if not len(image):
            break
        step = direction(order[image, place[image]], size[0], *axes) * length
        trial = delta[image] + torch.where(right[image, None, None, None], step, -step)
        points = (x0[image] + trial).clamp(0.0, 1.0)
        scores = averaged(oracle, points, image, "step", o.draws)
        p = oracle.criterion.probability(scores, image)
        better = p < last.value(image)  # False where refused
        taken = image[better]
        delta[taken] = trial[better]
        last.replace(taken, p[better], o.draws)
        oracle.submit(points[better], taken)
        next_direction = better | right[image]
        place[image[next_direction]] += 1
        right[image] = ~next_direction
        stop_at_success(oracle, points, image, scores, o.confirm, o.anywhere)


def directions(image: Tensor, size: tuple[int, int, int], o: Options, streams: Streams) -> Tensor:
    """``[n, K]`` indices (c·H + u)·W + v, in an order of its own for each of `image` ``[n]``; `size` is (C, H, W)."""
    channels, height, width = size
    shorter, device = min(height, width), image.device
    shell = torch.maximum(torch.arange(height, device=device)[:, None], torch.arange(width, device=device)[None, :])
    if o.order == "strided" or (o.order == "auto" and shorter > SMALL):
        first, stride = o.freq_dims or max(1, 28 * shorter // 224), o.stride or max(1, 7 * shorter // 224)
        shell = torch.where(shell < first, 0, 1 + (shell - first) // stride)
        kept = torch.ones_like(shell, dtype=torch.bool)
    else:
        kept = shell < (o.freq_dims or max(height, width))
        shell = torch.zeros_like(shell)
    index = torch.arange(channels * height * width, device=device).view(size)[:, kept].flatten()
    like = torch.empty(1, len(index), device=device, dtype=torch.float64)
    key = shell[kept].repeat(channels) + streams.uniform(image, like)
    order = index[torch.argsort(key, dim=1)]
    return order[:, : o.iterations] if o.iterations else order


def direction(index: Tensor, channels: int, rows: Tensor, columns: Tensor) -> Tensor:
    """The unit image of each index: one pixel, or one DCT coefficient of the full image of one channel.

    Args:
        index: ``[n]``, from `directions`.
        channels: C.
        rows: ``[H, H]``, an orthonormal basis of columns of pixels.
        columns: ``[W, W]``, one of rows of pixels.
    """
    height, width = len(rows), len(columns)
    c, u, v = index // (height * width), index // width % height, index % width
    plane = rows[u][:, :, None] * columns[v][:, None, :]
    chosen: Tensor = torch.nn.functional.one_hot(c, channels).to(rows)
    return chosen[:, :, None, None] * plane[:, None]


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """A step, of which 1/√d is along the normal. It searches nothing."""
    return o.epsilon * (distance if o.relative else 1.0) / d**0.5, None


SOURCE = "Guo et al., ICML 2019"
FITTED = "steps of 0.05 ε"
AWARE = "proposals averaged over four answers, the incumbent is asked again, success must be confirmed"
SPEC = AttackSpec(
    name="simba",
    access="scores",
    norms=("l2",),
    presets={
        "pixel": Preset(Options(), source=SOURCE, note="steps of 0.2, no projection"),
        "fitted": Preset(Options(epsilon=0.05, relative=True), ours=True, note=FITTED),
        "na": Preset(Options(draws=4, requery=True, confirm=25), noise_aware=True, ours=True, note=AWARE),
    },
    summary="SimBA (Guo, Gardner, You, Wilson, Weinberger 2019)",
    run=run,
    targeted=True,
    scales=scales,
    wider=("epsilon=0.5",),
)
