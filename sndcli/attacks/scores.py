"""Pieces that the score attacks share: losses, projection, the end of an image's attack.

Losses are written so that the attacker maximises them. Probabilities come from the oracle; the difference of two log
probabilities is the difference of the logits, so margins need no logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sndcli.attacks.geometry import norms, per_image
from sndcli.oracle import Oracle, leads


def log_probabilities(scores: Tensor) -> Tensor:
    """Natural logarithms of probabilities ``[M, K]``, finite."""
    return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()


def cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    """``-log p_y``, ``[M]``."""
    return -log_probabilities(scores).gather(1, y[:, None]).squeeze(1)


def margin(scores: Tensor, y: Tensor) -> Tensor:
    """``max_{j≠y} z_j - z_y``, ``[M]``; positive where the label is wrong."""
    z = log_probabilities(scores)
    mine = z.gather(1, y[:, None]).squeeze(1)
    return z.scatter(1, y[:, None], -torch.inf).amax(1) - mine


def project(points: Tensor, x0: Tensor, eps: float, norm: str) -> Tensor:
    """Into the ball of radius ε around `x0` (L2 by rescaling, L∞ by clipping), then into [0, 1]."""
    difference = points - x0
    if norm == "linf":
        difference = difference.clamp(-eps, eps)
    else:
        difference = difference * per_image((eps / norms(difference).clamp_min(1e-12)).clamp(max=1.0), difference)
    return (x0 + difference).clamp_(0.0, 1.0)


def stop_at_success(oracle: Oracle, points: Tensor, owner: Tensor, scores: Tensor) -> None:
    """Hands over the points that were answered wrong inside ε and ends their images' attacks, as the authors do.

    On a randomised model one lucky answer ends an attack; `success_noisy` then says what it is worth.
    """
    answered = ~scores.isnan().any(1)
    wrong = answered & (scores.argmax(1) != oracle.y[owner]) & (oracle.distance(points, owner) <= oracle.eps)
    found = wrong.nonzero().squeeze(1)
    found = found[torch.argsort(owner[found], stable=True)]
    found = found[leads(owner[found])]
    oracle.hold(points[found], owner[found])
    oracle.retire(owner[found], "success")
