"""Subspace attack (Guo, Yan and Zhang, NeurIPS 2019): bandits along gradients of reference models. L∞ or L2.

Each iteration a reference model, some of its layers dropped, proposes a direction r; two probes of the victim tell on
which side of the prior v it lies; the prior takes it up, and the image moves a step along the prior.

An iteration costs three queries: the two probes, and the new iterate, whose answer says whether the attack succeeded
and which classes the next direction is about. The authors pay for that third forward but do not count it. With the
preset ``authors`` budgets are theirs: Q means Q/2 iterations, for which 1 + 3Q/2 queries are paid and reported.

Differs from the authors' code: every image draws its own reference model and dropped layers; probes are clipped to
[0, 1]; successful images stop; success is also read from probes inside ε; the prior always has the image's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import active, per_image, unit
from sndcli.attacks.common.scores import project, stop_at_success
from sndcli.attacks.ranges import NonNegative, Positive, Rate, Whole
from sndcli.attacks.spec import AttackSpec, Preset
from sndcli.models.reference import Reference
from sndcli.queries.criterion import log_probabilities
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams


@dataclass(frozen=True)
class Options:
    """Hyper-parameters (the authors' command-line defaults).

    Attributes:
        image_lr: step of the image: the change of every pixel, or for L2 its length.
        fd_eta: η, L2 length of the probes.
        exploration: δ, how far the probes' directions lie from the prior along r (a unit vector).
        prior_lr: L1 length of a step of the prior.
        max_drop: rate of dropped layers that the schedule tends to.
        drop_start: iterations before layers are dropped.
        drop_gamma: 1/iterations, how fast the rate rises then.
        authors_count: budgets are the authors' count, two an iteration.
    """

    image_lr: Positive = 1 / 255
    fd_eta: Positive = 0.1
    exploration: Positive = 0.1
    prior_lr: Positive = 1.0
    max_drop: Rate = 0.5
    drop_start: Whole = 10
    drop_gamma: NonNegative = 0.01
    authors_count: bool = False

    def paid(self, budget: int, votes: int = 1) -> int:
        """Answers to pay for where the authors count `budget`, the clean image and each iterate included."""
        return votes + budget + budget // (2 * votes) * votes if self.authors_count else budget


def drop_rate(iteration: int, o: Options) -> float:
    """p_t: 0 for `drop_start` iterations, then ``p_max (1 - exp(-γ (t - t_0)))``."""
    return -o.max_drop * math.expm1(-o.drop_gamma * max(0, iteration - o.drop_start))


def run(oracle: Oracle, streams: Streams, options: Options, references: Sequence[Reference] = ()) -> None:
    """Attacks every active image until success or until fewer than two queries are left.

    Args:
        oracle: asked for scores.
        generator: of all draws.
        options: hyper-parameters.
        references: the attacker's own models; without any, directions are Gaussian (the authors' ablation).
    """
    o, x, scores = options, oracle.x0.clone(), oracle.clean_scores.clone()
    prior = torch.zeros_like(x)
    oracle.submit(x, torch.arange(len(x), device=x.device))
    for iteration in range(oracle.budget // 3 + 1):
        oracle.retire((oracle.remaining < 2).nonzero().squeeze(1), "budget")
        image = active(oracle)
        if not len(image):
            break
        s = cotangent(scores[image], oracle.y[image])
        r = unit(directions(x[image], s, references, drop_rate(iteration, o), streams, image))
        v = prior[image]
        plus, minus = (x[image] + o.fd_eta * unit(q) for q in (v + o.exploration * r, v - o.exploration * r))
        probes = torch.stack([plus, minus], 1).flatten(0, 1).clamp_(0.0, 1.0)
        rows = image.repeat_interleave(2)
        answers = oracle.scores(probes, rows, "probe")
        loss = oracle.criterion.margin(answers, rows).view(-1, 2)
        prior[image] = v = update(v, r, loss[:, 0] - loss[:, 1], o.prior_lr)
        step = v.sign() if oracle.norm == "linf" else unit(v)
        x[image] = project(x[image] + o.image_lr * step, oracle.x0[image], oracle.eps, oracle.norm)
        oracle.submit(x[image], image)
        stop_at_success(oracle, probes, rows, answers)
        image = active(oracle)
        if not len(image):
            break
        scores[image] = answers = oracle.scores(x[image], image, "iterate")
        stop_at_success(oracle, x[image], image, answers)


def cotangent(scores: Tensor, y: Tensor) -> Tensor:
    """``[M, K]``: ∂/∂z of the margin: 1 at the best wrong class, -1 at `y`, 0 elsewhere."""
    best = log_probabilities(scores).scatter(1, y[:, None], -torch.inf).argmax(1)
    s = torch.zeros_like(scores)
    return s.scatter_(1, best[:, None], 1.0).scatter_(1, y[:, None], -1.0)


def directions(
    x: Tensor, s: Tensor, references: Sequence[Reference], rate: float, streams: Streams, image: Tensor
) -> Tensor:
    """``[M, C, H, W]``: for each image ``Jᵀ s`` of a reference model drawn uniformly, layers dropped at `rate`."""
    if not references:
        return streams.normal(image, x)
    chosen = (streams.uniform(image, x.new_empty(1)) * len(references)).long()
    found = torch.zeros_like(x)
    for k, reference in enumerate(references):
        mine = (chosen == k).nonzero().squeeze(1)
        found[mine] = reference.vjp(x[mine], s[mine], rate, streams, image[mine])
    return found


def update(v: Tensor, r: Tensor, difference: Tensor, lr: float) -> Tensor:
    """``v + lr g / ‖g‖₁`` with ``g = (ℓ₊ - ℓ₋) / (η δ) r``: of the difference only the sign is left.

    Where a probe was refused (NaN) or both answer alike, `v` stays.
    """
    length = r.flatten(1).abs().sum(1).clamp_min(1e-8)
    return v + per_image(lr * torch.nan_to_num(difference).sign() / length, r) * r


SOURCE = "Guo, Yan, Zhang, NeurIPS 2019"
SPEC = AttackSpec(
    name="subspace",
    access="scores",
    norms=("linf", "l2"),
    presets={
        "linf": Preset(Options(), source=SOURCE),
        "l2": Preset(Options(image_lr=0.1), ours=True, note="their code with a step of ours"),
        "authors": Preset(Options(authors_count=True), source=SOURCE, note="budgets by the authors' count, see below"),
    },
    summary="Subspace attack with reference models (Guo, Yan, Zhang 2019)",
    run=run,
    references=True,
    by_norm={"l2": "l2"},
    paid=Options.paid,
)
