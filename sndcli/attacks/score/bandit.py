"""Bandits-TD (Ilyas, Engstrom and Madry, ICLR 2019): a gradient prior carried over time, on tiles. L2 or L∞.

Differs from the authors' code: success is read from paid probes, and the label of a new iterate is paid for where one
of its probes was answered wrong (theirs asks for it every time, without counting); probes are clipped to [0, 1],
successful images stop, and the exponentiated-gradient update is written as tanh(atanh(v) + αG), which cannot
overflow. Tiles of 50 do not fit 32 x 32 images; there the prior has 20 tiles a side (a subject of its own in the
authors' files: their tile size is the prior's side, not the tile's).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sndcli.attacks.common.geometry import active, norms, per_image
from sndcli.attacks.common.scores import project, stop_at_iterate, stop_at_success
from sndcli.attacks.ranges import Positive, Side
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        fd_eta: η, L2 length of the probes.
        exploration: δ, length of the exploration of the prior.
        online_lr: step of the prior.
        image_lr: h, step of the image (L2 length, or every pixel for L∞).
        tiles: side of the prior; 0 means 50, or 20 on images whose shorter side is below 50 pixels.
        ball: radius that iterates are projected to, as a share of ε. Below 1 the probes around an iterate on its
            surface lie inside ε too, where a wrong answer counts.
    """

    fd_eta: Positive = 0.01
    exploration: Positive = 0.01
    online_lr: Positive = 0.1
    image_lr: Positive = 0.5
    tiles: Side = 0
    ball: Positive = 1.0


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until success or until fewer than two queries are left."""
    o, x = options, oracle.x0.clone()
    n, channels, size = len(x), x.shape[1], (x.shape[2], x.shape[3])
    tiles = o.tiles or (50 if min(size) >= 50 else min(*size, 20))
    prior = x.new_zeros(n, channels, tiles, tiles)
    oracle.submit(x, torch.arange(n, device=x.device))
    for _ in range(oracle.budget // 2 + 1):
        oracle.retire((oracle.remaining < 2).nonzero().squeeze(1), "budget")
        image = active(oracle)
        if not len(image):
            break
        v = prior[image]
        e = o.exploration * streams.normal(image, v) / (channels * tiles**2) ** 0.5
        plus, minus = (x[image] + o.fd_eta * _unit(upsample(q, size)) for q in (v + e, v - e))
        probes = torch.stack([plus, minus], 1).flatten(0, 1).clamp_(0.0, 1.0)
        rows = image.repeat_interleave(2)
        scores = oracle.scores(probes, rows, "probe")
        loss = oracle.criterion.cross_entropy(scores, rows).view(-1, 2)
        c = torch.nan_to_num((loss[:, 0] - loss[:, 1]) / (o.fd_eta * o.exploration))
        prior[image] = v = update(v, per_image(c, e) * e, o.online_lr, oracle.norm)
        direction = upsample(v, size)
        step = direction.sign() if oracle.norm == "linf" else _unit(direction)
        x[image] = project(x[image] + o.image_lr * step, oracle.x0[image], o.ball * oracle.eps, oracle.norm)
        oracle.submit(x[image], image)
        stop_at_success(oracle, probes, rows, scores)
        stop_at_iterate(oracle, x, rows, scores)


def upsample(v: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour tiles to pixels: source index ⌊i t / S⌋ on each axis."""
    return F.interpolate(v, size=size, mode="nearest")


def update(v: Tensor, g: Tensor, lr: float, norm: str) -> Tensor:
    """Gradient step of the prior; for L∞ exponentiated gradient on [-1, 1]."""
    if norm == "linf":
        return torch.tanh(torch.atanh(v.clamp(-1 + 1e-6, 1 - 1e-6)) + lr * g)
    return v + lr * g


def _unit(v: Tensor) -> Tensor:
    return v / per_image(norms(v).clamp_min(1e-8), v)


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """Probes of L2 length η, of which 1/√d is along the normal. It searches nothing."""
    return o.fd_eta / d**0.5, None


SOURCE = "Ilyas, Engstrom, Madry, ICLR 2019"
SPEC = AttackSpec(
    name="bandit-td",
    access="scores",
    norms=("l2", "linf"),
    presets={
        "l2": Preset(Options(), source=SOURCE),
        "linf": Preset(Options(fd_eta=0.1, exploration=1.0, online_lr=100.0, image_lr=0.01), source=SOURCE),
    },
    summary="Bandits with time and data priors (Ilyas, Engstrom, Madry 2019)",
    run=run,
    targeted=True,
    by_norm={"linf": "linf"},
    scales=scales,
    wider=("fd_eta=0.1", "fd_eta=1"),
)
