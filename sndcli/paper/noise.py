"""How long the noise of the defense is (the paper's Table 7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import DefenseSpec
from sndcli.defenses.small_noise import SmallNoise
from sndcli.paper.closed_forms import gaussian_length

LENGTH_DRAWS = 10_000  # at least, behind the length of clipped noise
BLOCK = 128  # images in memory at a time


def noise_length(spec: DefenseSpec, data: ImageSet, index: Tensor) -> float:
    """E‖x̂ - x‖₂ of ``snd``.

    Without clipping it is known: the mean of a χ distribution, times the mean 1/2 of Beta(a, a). Clipped it depends on
    the images, and is the mean over those at `index` and at least `LENGTH_DRAWS` draws.
    """
    if not spec.clip or not spec.sigma:
        return gaussian_length(math.prod(data.size), spec.sigma) * (1.0 if spec.beta is None else 0.5)
    generator = torch.Generator().manual_seed(0)
    noise = SmallNoise(torch.nn.Identity(), spec.sigma, spec.beta, generator=generator, clip=True)
    total = rows = 0.0
    while rows < LENGTH_DRAWS:
        for block in index.split(BLOCK):
            x = data.pixels(block)
            total += float((noise.perturb(x) - x).flatten(1).norm(dim=1).double().sum())
            rows += len(block)
    return total / rows
