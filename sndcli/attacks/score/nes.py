"""NES (Ilyas, Engstrom, Athalye and Lin, ICML 2018) as a black-box gradient estimator, untargeted, L∞ or L2.

``g = Σ (L(x + c u) - L(x - c u)) u / (2 q c)`` over q antithetic pairs, then a step along the running mean of these
estimates (its sign for L∞), projected. Preset ``authors``: the query-limited attack with the constants of the authors'
code (its c, 2q and step are the paper's too). They publish it for L∞; the L2 step is ours.

Differs from the authors' code: probes leave the ball but not [0, 1]; success is read from every paid probe, and the
label of the new iterate is paid for only where one of them was answered wrong; the last block shrinks to the budget.
Their step halves where the cross-entropy rose over five estimates. That suits a target that one approaches; untargeted
it would halve the step of an attack that gets on, so here it halves where the loss fell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import active, per_image, unit
from sndcli.attacks.common.scores import project, stop_at_iterate, stop_at_success
from sndcli.attacks.ranges import Count, NonNegative, Positive, Rate, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

STEPS = {"linf": 0.01, "l2": 0.1}
HALVED = 200  # the step ends at its two-hundredth


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        pairs: q, antithetic pairs a gradient.
        probe: c, scale of the probes in every pixel.
        lr: step: its L2 length, or for L∞ the change of every pixel; 0 means 0.01 for L∞ and 0.1 for L2.
        iterations: gradients, at most.
        momentum: weight of the estimates before in the running mean.
        loss: ``cross-entropy`` or ``margin``.
        plateau: estimates over which the loss has to rise, or the step halves; 0 keeps the step.
    """

    pairs: Count = 25
    probe: Positive = 0.001
    lr: NonNegative = 0.0
    iterations: Count = 10_000
    momentum: Rate = 0.9
    loss: Literal["cross-entropy", "margin"] = "cross-entropy"
    plateau: Whole = 5


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until success or the end of its budget."""
    o, x, criterion = options, oracle.x0.clone(), oracle.criterion
    loss_of = criterion.margin if o.loss == "margin" else criterion.cross_entropy
    mean, steps = torch.zeros_like(x), _Steps(x, o.lr or STEPS[oracle.norm], o.plateau)
    oracle.submit(x, torch.arange(len(x), device=x.device))
    for _ in range(o.iterations):
        pairs = (oracle.remaining // 2).clamp(max=o.pairs)
        oracle.retire((pairs == 0).nonzero().squeeze(1), "budget")
        image = active(oracle)
        if not len(image):
            break
        whose = image.repeat_interleave(pairs[image])
        u = streams.normal(whose, x)
        center, both = x[whose], u.new_empty(len(u), 2, *u.shape[1:])
        torch.add(center, u, alpha=o.probe, out=both[:, 0])
        torch.sub(center, u, alpha=o.probe, out=both[:, 1])
        probes, rows = both.flatten(0, 1).clamp_(0.0, 1.0), whose.repeat_interleave(2)
        scores = oracle.scores(probes, rows, "probe")
        loss = loss_of(scores, rows).view(-1, 2)
        weight = torch.nan_to_num(loss[:, 0] - loss[:, 1]) / (2 * o.probe * pairs[whose])
        mean.mul_(o.momentum).index_add_(0, whose, u.mul_(per_image((1 - o.momentum) * weight, u)))
        g = mean[image]
        told = loss.new_zeros(len(x)).index_add_(0, whose, loss.mean(1) / pairs[whose])
        step = (g.sign() if oracle.norm == "linf" else unit(g)) * per_image(steps.after(image, told[image]), g)
        x[image] = project(x[image] + step, oracle.x0[image], oracle.eps, oracle.norm)
        oracle.submit(x[image], image)
        stop_at_success(oracle, probes, rows, scores)
        stop_at_iterate(oracle, x, rows, scores)
    oracle.retire(active(oracle), "exhausted")


class _Steps:
    """The step of each image: halved where the loss is lower than it was `plateau` estimates before."""

    def __init__(self, x0: Tensor, lr: float, plateau: int) -> None:
        self.lr, self.least, self.plateau = x0.new_full((len(x0),), lr), lr / HALVED, plateau
        self.losses = x0.new_zeros(len(x0), max(1, plateau))
        self.count = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)

    def after(self, image: Tensor, loss: Tensor) -> Tensor:
        """``[n]``: the steps of these images now that their losses ``[n]`` are known."""
        if not self.plateau:
            return self.lr[image]
        losses = torch.cat([self.losses[image, 1:], loss.to(self.losses)[:, None]], 1)
        count = self.count[image] + 1
        fell = (count >= self.plateau) & (losses[:, -1] < losses[:, 0])
        self.losses[image], self.count[image] = losses, torch.where(fell, 0, count)
        self.lr[image] = torch.where(fell, (self.lr[image] / 2).clamp_min(self.least), self.lr[image])
        return self.lr[image]


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """White probes. It searches nothing."""
    return o.probe, None


SPEC = AttackSpec(
    name="nes",
    access="scores",
    norms=("l2", "linf"),
    presets={
        "authors": Preset(
            Options(),
            source="Ilyas, Engstrom, Athalye, Lin, ICML 2018",
            note="their code: 50 probes of scale 0.001 a gradient, momentum 0.9, cross-entropy",
        ),
        "margin": Preset(
            Options(pairs=15, probe=0.01, momentum=0.0, loss="margin", plateau=0),
            ours=True,
            note="30 probes of scale 0.01, margin, no momentum",
        ),
    },
    summary="Natural evolution strategies (Ilyas, Engstrom, Athalye, Lin 2018)",
    run=run,
    targeted=True,
    scales=scales,
    wider=("probe=0.03", "probe=0.1"),
    relatives={"nes-na": None},
)
