"""Attacks of Foolbox and ART by themselves, as their own documentation runs them, for `throughput.py --others`.

Nothing of ours is between them and the network but a count of rows. Every attack begins at an image of another class,
so that none spends queries on a start, and is stopped at the same number of rows, or ends by itself.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn

CLASSES = 10


class Enough(Exception):
    """So many rows were asked."""


class Counted(nn.Module):
    """Probabilities of a network; counts rows and ends the attack after `most`."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.rows = network, most, 0
        self.eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """``[M, K]`` of ``[M, C, H, W]``."""
        if self.rows >= self.most:
            raise Enough
        self.rows += len(x)
        probabilities: Tensor = self.network(x.float()).softmax(1)  # ART sends float64
        return probabilities


Attack = Callable[[Counted, Tensor, Tensor, Tensor], object]  # of network, images, labels, starts


def foolbox_hsja(network: Counted, x: Tensor, y: Tensor, start: Tensor) -> object:
    """HopSkipJumpAttack on all images at once."""
    import foolbox

    model = foolbox.PyTorchModel(network, bounds=(0, 1), device=x.device)
    attack = foolbox.attacks.HopSkipJumpAttack(steps=10_000)
    return attack.run(model, x, foolbox.criteria.Misclassification(y), starting_points=start)


def foolbox_ba(network: Counted, x: Tensor, y: Tensor, start: Tensor) -> object:
    """BoundaryAttack on all images at once."""
    import foolbox

    model = foolbox.PyTorchModel(network, bounds=(0, 1), device=x.device)
    attack = foolbox.attacks.BoundaryAttack(steps=25_000)
    return attack.run(model, x, foolbox.criteria.Misclassification(y), starting_points=start)


def _art(network: Counted, x: Tensor, classes: int) -> object:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        network, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0.0, 1.0), device_type="cpu"
    )


def art_hsja(network: Counted, x: Tensor, y: Tensor, start: Tensor) -> object:
    """HopSkipJump, which takes one image after the other."""
    from art.attacks.evasion import HopSkipJump

    attack = HopSkipJump(_art(network, x, CLASSES), norm=2, max_iter=1000, verbose=False)
    return attack.generate(x.numpy(), y.numpy(), x_adv_init=start.numpy())


def art_ba(network: Counted, x: Tensor, y: Tensor, start: Tensor) -> object:
    """BoundaryAttack, which takes one image after the other."""
    from art.attacks.evasion import BoundaryAttack

    attack = BoundaryAttack(_art(network, x, CLASSES), targeted=False, max_iter=5000, verbose=False)
    return attack.generate(x.numpy(), y.numpy(), x_adv_init=start.numpy())


def art_simba(network: Counted, x: Tensor, y: Tensor, _: Tensor) -> object:
    """SimBA in pixels, which takes one image after the other and ends where one is misclassified."""
    from art.attacks.evasion import SimBA

    attack = SimBA(_art(network, x, CLASSES), attack="px", epsilon=1e-3, max_iter=3072, verbose=False)
    return attack.generate(x.numpy(), np.eye(CLASSES, dtype=np.float32)[y.numpy()])


def art_square(network: Counted, x: Tensor, y: Tensor, _: Tensor) -> object:
    """SquareAttack on all images that still hold, with an ε so small that they all do."""
    from art.attacks.evasion import SquareAttack

    attack = SquareAttack(_art(network, x, CLASSES), norm=2, eps=0.05, max_iter=100_000, batch_size=256, verbose=False)
    return attack.generate(x.numpy(), y.numpy())


OTHERS: Mapping[str, Attack] = {
    "hsja foolbox": foolbox_hsja, "ba foolbox": foolbox_ba,
    "hsja art": art_hsja, "ba art": art_ba, "simba art": art_simba, "square art": art_square,
}  # fmt: skip


def starts(x: Tensor, y: Tensor) -> Tensor:
    """For each image the next one of another class."""
    found = []
    for k in range(len(x)):
        following = [(k + j) % len(x) for j in range(1, len(x))]
        found.append(next(j for j in following if y[j] != y[k]))
    return x[found]


def rate(name: str, network: nn.Module, x: Tensor, y: Tensor, budget: int) -> float:
    """Rows a second of one of `OTHERS` on images ``[N, C, H, W]`` and labels ``[N]``, with N times `budget` rows."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (ART draws from it)
    counted, start = Counted(network, len(x) * budget), time.perf_counter()
    with suppress(Enough):
        OTHERS[name](counted, x, y, starts(x, y))
    return counted.rows / (time.perf_counter() - start)
