"""NES (Ilyas, Engstrom, Athalye and Lin, ICML 2018) as a black-box gradient estimator, untargeted, L2 or L∞.

``G = Σ (L(x + c u) - L(x - c u)) u`` over q antithetic pairs, then a step along G (its sign for L∞), projected.
Differs from common ports: probes leave the ball but not [0, 1]; success is read from every paid probe, and the label
of the new iterate is paid for only where one of them was answered wrong; the last block shrinks to the budget.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sndcli.attacks.geometry import active, per_image, unit
from sndcli.attacks.scores import margin, project, stop_at_iterate, stop_at_success
from sndcli.oracle import Oracle
from sndcli.streams import Streams


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        pairs: q, antithetic pairs a gradient.
        probe: c, scale of the probes in every pixel.
        lr: step: its L2 length, or for L∞ the change of every pixel.
        iterations: gradients, at most.
    """

    pairs: int = 15
    probe: float = 0.01
    lr: float = 0.1
    iterations: int = 10_000


OPTIONS = {"l2": Options(), "linf": Options(lr=0.01)}


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until success or the end of its budget."""
    o, x = options, oracle.x0.clone()
    oracle.hold(x, torch.arange(len(x), device=x.device))
    for _ in range(o.iterations):
        pairs = (oracle.remaining // 2).clamp(max=o.pairs)
        oracle.retire((pairs == 0).nonzero().squeeze(1), "budget")
        owner = active(oracle)
        if not len(owner):
            break
        image = owner.repeat_interleave(pairs[owner])
        u = streams.normal(image, x)
        center, both = x[image], u.new_empty(len(u), 2, *u.shape[1:])
        torch.add(center, u, alpha=o.probe, out=both[:, 0])
        torch.sub(center, u, alpha=o.probe, out=both[:, 1])
        probes, rows = both.flatten(0, 1).clamp_(0.0, 1.0), image.repeat_interleave(2)
        scores = oracle.scores(probes, rows, "probe")
        loss = margin(scores, oracle.y[rows]).view(-1, 2)
        weight = torch.nan_to_num(loss[:, 0] - loss[:, 1])
        g = torch.zeros_like(x).index_add_(0, image, u.mul_(per_image(weight, u)))[owner]
        step = g.sign() if oracle.norm == "linf" else unit(g)
        x[owner] = project(x[owner] + o.lr * step, oracle.x0[owner], oracle.eps, oracle.norm)
        oracle.hold(x[owner], owner)
        stop_at_success(oracle, probes, rows, scores)
        stop_at_iterate(oracle, x, rows, scores)
    oracle.retire(active(oracle), "exhausted")
