"""Two small CIFAR networks of different shape, the reference models of the Subspace attack.

The attack's authors used AlexNet and VGG networks of full size; these are of the same kinds, under 1 MB each, so that
they can be shipped and trained on a laptop: a plain VGG (Simonyan and Zisserman 2015, with batch-norm) and a shallow
residual network wider than ResNet-20 (after Zagoruyko and Komodakis 2016).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sndcli.models.resnet_cifar import BasicBlock


class SmallVGG(nn.Module):
    """Pairs of conv-BN-ReLU with max-pooling between, global average, one linear layer."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96), num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage, width in enumerate(widths):
            layers += [nn.MaxPool2d(2)] if stage else []
            for _ in range(2):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(before, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, num_classes]`` of normalised images ``[M, 3, H, W]``."""
        logits: Tensor = self.linear(self.features(x).mean(dim=(2, 3)))
        return logits


class WideShallow(nn.Module):
    """A stem, two residual blocks at full size, and one at each half of it; option A shortcuts."""

    def __init__(self, width: int = 24, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2))
        self.linear = nn.Linear(4 * width, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, num_classes]`` of normalised images ``[M, 3, H, W]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits


def ref_vgg() -> SmallVGG:
    """161,000 parameters."""
    return SmallVGG()


def ref_wide() -> WideShallow:
    """177,000 parameters."""
    return WideShallow()


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
