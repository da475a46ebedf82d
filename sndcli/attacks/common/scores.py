"""Pieces that the score attacks share: projection, averages, the end of an image's attack.

What is a success, and the losses that grow towards it, are the criterion's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import per_image
from sndcli.attacks.common.noise import majority
from sndcli.ball import length
from sndcli.queries.call import leads
from sndcli.queries.oracle import Oracle

CONFIRM_LEAD = 5


def project(points: Tensor, x0: Tensor, eps: float, norm: str) -> Tensor:
    """Into the ball of radius ε around `x0` (L2 by rescaling, L∞ by clipping), then into [0, 1]."""
    difference = points - x0
    if norm == "linf":
        difference = difference.clamp(-eps, eps)
    else:
        shrink = eps / length(difference, norm).clamp_min(1e-12)
        difference = difference * per_image(shrink.clamp(max=1.0), difference)
    return (x0 + difference).clamp_(0.0, 1.0)


def averaged(oracle: Oracle, points: Tensor, image: Tensor, phase: str, draws: int) -> Tensor:
    """``[M, K]``: mean probabilities over `draws` paid answers to each row; NaN where one of them was refused."""
    if draws == 1:
        return oracle.scores(points, image, phase)
    answers = oracle.scores(points.repeat_interleave(draws, 0), image.repeat_interleave(draws), phase)
    return answers.view(len(image), draws, -1).mean(1)


def stop_at_success(
    oracle: Oracle, points: Tensor, image: Tensor, scores: Tensor, confirm: int = 0, anywhere: bool = False
) -> None:
    """Submits the points that were answered wrong inside ε and ends their images' attacks, as the authors do.

    On a randomised model one lucky answer ends an attack; `success_noisy` then says what it is worth. With
    ``confirm > 0`` (ours) an attack ends only when most of at most that many further paid answers are wrong too, or the
    wrong ones lead by `CONFIRM_LEAD`. (Their mean is not asked: a network that is sure when it errs moves it alone.)
    Where the oracle says that success must be confirmed (``--stop confirmed``) that is the least for all attacks.
    With `anywhere` a wrong answer ends an attack outside ε too, where it is no success.
    """
    confirm = confirm or oracle.confirm
    found = oracle.criterion.met_by(scores, image).nonzero().squeeze(1)
    found = found[anywhere | oracle.inside(points[found], image[found])]
    found = found[torch.argsort(image[found], stable=True)]
    found = found[leads(image[found])]
    if confirm and len(found):
        found = found[majority(oracle, points[found], image[found], "confirm", confirm, CONFIRM_LEAD) == 1]
    oracle.submit(points[found], image[found])
    oracle.retire(image[found], "misclassified" if anywhere else "success")


def stop_at_iterate(oracle: Oracle, x: Tensor, image: Tensor, scores: Tensor) -> None:
    """Asks about the iterates of those images that have a wrong answer among `scores`, and ends on success.

    Probes around an iterate on the surface of the ball mostly lie outside ε, where a wrong answer is no success, so
    that an iterate that is adversarial would never be seen. Authors' codes look at every iterate's label, uncounted.

    Args:
        oracle: paid in the phase ``iterate``, at most one query an image.
        x: ``[N, C, H, W]``, iterates of all images.
        image: ``[M]``, images that the rows of `scores` were about.
        scores: ``[M, K]``, answers to probes.
    """
    who = image[oracle.criterion.met_by(scores, image) & oracle.active[image]].unique()
    stop_at_success(oracle, x[who], who, oracle.scores(x[who], who, "iterate"))


class Incumbent:
    """The mean loss of each image's incumbent over all answers about it.

    A stored best of noisy scores is a lucky one, and no honest proposal beats it; asked again, it is forgotten.
    """

    def __init__(self, loss: Tensor) -> None:
        self.sum, self.count = loss.clone(), torch.ones_like(loss)

    def value(self, image: Tensor) -> Tensor:
        """``[n]``."""
        return self.sum[image] / self.count[image]

    def replace(self, image: Tensor, loss: Tensor, draws: int) -> None:
        """New incumbents, whose `loss` is a mean over `draws` answers."""
        self.sum[image], self.count[image] = loss * draws, torch.full_like(loss, float(draws))

    def again(self, image: Tensor, loss: Tensor) -> None:
        """One more answer about the incumbents; NaN where it was refused."""
        told = ~loss.isnan()
        self.sum[image[told]] += loss[told]
        self.count[image[told]] += 1
