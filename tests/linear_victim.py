"""A classifier of CIFAR-10 that costs nothing, for tests of everything around a network.

Linear, fitted by ridge regression to the shipped images, of which it gets 93 % right; its boundary is near, and flat.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from sndcli.datasets import cifar10
from sndcli.models.classifier import Classifier, Normalisation

MODEL = "py:linear_victim:linear"


@cache
def weights() -> tuple[Tensor, Tensor]:
    """``[10, 3072]`` weights and ``[10]`` offsets."""
    data = cifar10.load_shipped()
    x = data.pixels().flatten(1).double() - 0.5
    y = nn.functional.one_hot(data.labels, 10).double()
    centre = x.mean(0)
    gram = (x - centre) @ (x - centre).T
    found = (x - centre).T @ torch.linalg.solve(gram + 20 * torch.eye(len(x)).double(), y - y.mean(0))
    return (20 * found.T).float(), (20 * (y.mean(0) - centre @ found)).float()


def linear() -> Classifier:
    """The classifier, as ``--model`` `MODEL` finds it."""
    layer = nn.Linear(3072, 10)
    w, b = weights()
    layer.load_state_dict({"weight": w, "bias": b})
    half = Normalisation((0.5,) * 3, (1.0,) * 3)
    return Classifier(nn.Sequential(nn.Flatten(), layer).eval(), half, (3, 32, 32), "linear")
