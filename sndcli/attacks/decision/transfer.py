"""Transfer: a point made on the attacker's own networks, sent once (Dong et al., CVPR 2018: MI-FGSM). L2 or L∞.

No noise on answers can hinder it: nothing is learned from them. ``g ← μ g + ∇J / ‖∇J‖₁`` and ``x ← Π(x + α g / ‖g‖)``,
with the sign of g in L∞, Π onto the ball of radius ε, J the cross-entropy of each network in turn. What is paid is one
query about the clean image and `confirm` about the point.

Differs from the paper: networks are joined by their gradients, each of L1 length 1, and not by their logits; with no
network there is no point to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import active, per_image, unit
from sndcli.attacks.common.noise import majority
from sndcli.attacks.common.scores import project
from sndcli.attacks.ranges import Count, NonNegative, Odd, Positive
from sndcli.attacks.spec import AttackSpec, Preset
from sndcli.models.reference import Reference
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        steps: of the ascent.
        length: of all steps together, in units of ε.
        momentum: μ.
        confirm: odd, answers paid for about the point; they tell what is seen and change nothing.
    """

    steps: Count = 20
    length: Positive = 2.5
    momentum: NonNegative = 1.0
    confirm: Odd = 1


def run(oracle: Oracle, streams: Streams, options: Options, references: Sequence[Reference] = ()) -> None:  # noqa: ARG001
    """Submits one point for every active image and asks about it; images end as ``exhausted``.

    Args:
        oracle: asked for labels.
        streams: not used, the ascent is deterministic.
        options: hyper-parameters.
        references: the attacker's own models; without any, images end as ``init_failed``.
    """
    image = active(oracle)
    if not references:
        oracle.retire(image, "init_failed")
        return
    x = ascend(oracle.x0[image], oracle.y[image], references, options, oracle.eps, oracle.norm)
    oracle.submit(x, image)
    majority(oracle, x, image, "confirm", options.confirm)
    oracle.retire(image, "exhausted")


def ascend(
    x0: Tensor, y: Tensor, references: Sequence[Reference], o: Options, eps: float, norm: str, towards: bool = False
) -> Tensor:
    """The points ``[n, C, H, W]`` inside ε of `x0` that the references mistake most, as far as `o.steps` find them.

    Args:
        x0: clean images ``[n, C, H, W]``.
        y: int64 ``[n]``, their labels.
        references: the attacker's own models.
        o: hyper-parameters.
        eps: radius of the ball.
        norm: ``l2`` or ``linf``.
        towards: the points that they most take for `y` instead.
    """
    x, g, alpha = x0, torch.zeros_like(x0), o.length * eps / o.steps
    for _ in range(o.steps):
        g = o.momentum * g
        for reference in references:
            slope = reference.loss_gradient(x, y)
            slope = -slope if towards else slope
            g = g + slope / per_image(slope.flatten(1).abs().sum(1).clamp_min(torch.finfo(x.dtype).tiny), x)
        x = project(x + alpha * (g.sign() if norm == "linf" else unit(g)), x0, eps, norm)
    return x


SPEC = AttackSpec(
    name="transfer",
    access="labels",
    norms=("l2", "linf"),
    presets={
        "momentum": Preset(
            Options(), source="Dong et al., CVPR 2018", note="momentum PGD of 20 steps on the references, one query"
        ),
    },
    summary="A point made on the attacker's own networks, sent once (Dong, Liao, Pang, Su, Zhu, Hu, Li 2018)",
    run=run,
    references=True,
)
