"""From a decoded picture to the network's input size: once, before any attack. Normalisation is the classifier's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sndcli.errors import ConfigError, unknown

if TYPE_CHECKING:
    from PIL.Image import Image

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
USUAL_CROP = 0.875  # 224 of 256: what is left of the shorter side where nothing else is said


@dataclass(frozen=True)
class Preprocessing:
    """Resize, then take the centre.

    Attributes:
        size: side of the square crop, in pixels; the network's input.
        resize: length of the shorter side before it; with `squash`, of both sides.
        interpolation: one of `INTERPOLATIONS`, as Pillow does them (always antialiased but for ``nearest``).
        squash: give up the aspect ratio.
    """

    size: int
    resize: int
    interpolation: str = "bilinear"
    squash: bool = False

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if not 1 <= self.size <= self.resize:
            raise ConfigError(f"Expected 1 <= size <= resize but got size {self.size} and resize {self.resize}.")

    def __call__(self, picture: Image) -> Tensor:
        """uint8 ``[3, size, size]`` of a picture of any mode (greyscale, palette and CMYK become RGB)."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        target: Any = [self.resize, self.resize] if self.squash else [self.resize]
        resized = F.resize(picture.convert("RGB"), target, InterpolationMode(self.interpolation))
        pixels: Tensor = F.pil_to_tensor(F.center_crop(resized, [self.size]))
        return pixels.to(torch.uint8)


def usual(size: int, interpolation: str = "bilinear") -> Preprocessing:
    """The evaluation crop of most ImageNet networks: 7/8 of the shorter side (224 of 256)."""
    return Preprocessing(size, round(size / USUAL_CROP), interpolation)


def whole(size: int) -> Preprocessing:
    """The shorter side resized to the network's own: pictures of that size stay as they are."""
    return Preprocessing(size, size)


def of_torchvision(transforms: Any) -> Preprocessing:
    """What ``weights.transforms()`` of a torchvision classifier does before it normalises."""
    (size,), (resize,) = transforms.crop_size, transforms.resize_size
    return Preprocessing(size, resize, transforms.interpolation.value)


def of_timm(config: dict[str, Any]) -> Preprocessing:
    """What timm's evaluation transform does for a data config, before it normalises.

    Raises:
        ConfigError: a crop mode or shape that has no counterpart here.
    """
    channels, height, width = config["input_size"]
    mode = config.get("crop_mode") or "center"
    if channels != 3 or height != width or mode not in ("center", "squash"):
        raise ConfigError(
            f"timm's preprocessing {config['input_size']}, crop mode `{mode}`, is not supported.\n"
            "Expected three channels, a square, and crop mode center or squash; wrap the model with `py:` instead."
        )
    resize = int(height / (config.get("crop_pct") or USUAL_CROP))
    return Preprocessing(height, resize, config["interpolation"], mode == "squash")
