"""The CIFAR ResNets of He et al. 2016, section 4.2: 3 stages of n blocks, 16/32/64 channels, depth 6n + 2.

Shortcuts are option A of the paper: where the shape changes, every second row and column is taken and the
missing channels are zeros, half of them before and half after; there are no parameters in a shortcut.
The final average is over whatever map is left, so inputs other than 32 x 32 work (35 x 35 after resize-and-pad).
Module names (``conv1, bn1, layer1.0.conv1, ..., linear``) are those of the widely used public checkpoints.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """conv-BN-ReLU-conv-BN, plus the shortcut, then ReLU."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride = stride
        self.pad = (planes - in_planes) // 2

    def shortcut(self, x: Tensor) -> Tensor:
        """Identity, or option A where the shape changes."""
        if self.stride == 1 and self.pad == 0:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))

    def forward(self, x: Tensor) -> Tensor:
        """``[M, in_planes, H, W]`` to ``[M, planes, ceil(H / stride), ceil(W / stride)]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNetCIFAR(nn.Module):
    """A CIFAR ResNet of depth 6n + 2; ``ResNetCIFAR(3)`` is ResNet-20 with 269,722 parameters."""

    def __init__(self, blocks_per_stage: int, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks_per_stage, 1)
        self.layer2 = self._stage(16, 32, blocks_per_stage, 2)
        self.layer3 = self._stage(32, 64, blocks_per_stage, 2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(in_planes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_planes, planes, stride)
        return nn.Sequential(first, *(BasicBlock(planes, planes, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, num_classes]`` of normalised images ``[M, 3, H, W]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits


def resnet20(num_classes: int = 10) -> ResNetCIFAR:
    """ResNet-20."""
    return ResNetCIFAR(3, num_classes)


def resnet32(num_classes: int = 10) -> ResNetCIFAR:
    """ResNet-32."""
    return ResNetCIFAR(5, num_classes)


def resnet44(num_classes: int = 10) -> ResNetCIFAR:
    """ResNet-44."""
    return ResNetCIFAR(7, num_classes)


def resnet56(num_classes: int = 10) -> ResNetCIFAR:
    """ResNet-56."""
    return ResNetCIFAR(9, num_classes)


def resnet110(num_classes: int = 10) -> ResNetCIFAR:
    """ResNet-110."""
    return ResNetCIFAR(18, num_classes)
