"""A classifier with its normalisation inside, so that everyone outside works on pixels in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sndcli.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation, in units of the [0, 1] pixel scale."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"Expected `mean` and `std` of one length but got {self.mean} and {self.std}")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"Expected every `std` to be positive and finite but got {self.std}")
        if not all(map(math.isfinite, self.mean)):
            raise ValueError(f"Expected every `mean` to be finite but got {self.mean}")


CIFAR10 = Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IDENTITY = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Classifier(nn.Module):
    """Maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``: ``network((x - mean) / std)``.

    Args:
        network: any module from normalised images to logits.
        normalisation: applied first, one number a channel or one for all; `IDENTITY` for networks that take [0, 1]
            pixels of three channels.
        input_size: ``(C, H, W)`` the victim is evaluated at.
        name: how results call it.
        preprocessing: how pictures are brought to `input_size`, where the model has a way of its own.
        clamp: clip to [0, 1] before the normalisation, for networks whose authors did.

    Attributes:
        dtype: what the network computes in, where that is not its images' own type (`compute_in`).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        normalisation: Normalisation,
        input_size: Sequence[int] = (3, 32, 32),
        name: str = "custom",
        preprocessing: Preprocessing | None = None,
        clamp: bool = False,
    ) -> None:
        super().__init__()
        if len(normalisation.mean) not in (1, input_size[0]):
            raise ValueError(
                f"Expected a mean and std for each of {input_size[0]} channels of {name} but got {normalisation}."
            )
        self.network = network
        self.normalisation = normalisation
        self.input_size: tuple[int, ...] = tuple(input_size)
        self.name = name
        self.preprocessing = preprocessing
        self.clamp = clamp
        self.dtype: torch.dtype | None = None
        shape = (1, len(normalisation.mean), 1, 1)
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of images ``[M, C, H, W]`` in [0, 1]."""
        x = x.clamp(0.0, 1.0) if self.clamp else x
        x = (x - self.mean) / self.std
        if self.dtype is None:
            logits: Tensor = self.network(x)
            return logits
        rounded: Tensor = self.network(x.to(self.dtype))
        return rounded.float()

    def compute_in(self, dtype: torch.dtype) -> None:
        """Casts the network's weights, once; images are cast at its door, and logits come back as float32."""
        self.network.to(dtype)
        self.dtype = dtype
