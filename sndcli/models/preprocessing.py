"""From a decoded picture to the network's input size: once, before any attack. Normalisation is the classifier's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sndcli.errors import ConfigError, unknown

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's, by number of channels
GREY_16, SCALE_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N"), 257  # 65535 / 255
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
USUAL_CROP = 0.875  # 224 of 256: what is left of the shorter side where nothing else is said


@dataclass(frozen=True, repr=False)
class Preprocessing:
    """Resize, then take the centre.

    Attributes:
        size: side of the square crop, in pixels; the network's input. With `width`, its height.
        resize: length of the shorter side before it; with `squash`, of both sides.
        interpolation: one of `INTERPOLATIONS`, as Pillow does them (always antialiased but for ``nearest``).
        squash: give up the aspect ratio.
        channels: 1 (grey), 3 (RGB), 2 and 4 (the same with alpha).
        width: of an input that is not square; the whole picture is squashed into it.
    """

    size: int
    resize: int
    interpolation: str = "bilinear"
    squash: bool = False
    channels: int = 3
    width: int | None = None

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if not 1 <= self.size <= self.resize:
            raise ConfigError(f"Expected 1 <= size <= resize but got size {self.size} and resize {self.resize}.")
        if self.channels not in MODES:
            raise ConfigError(f"Pictures have 1 to 4 channels, but the model takes {self.channels}.")
        if self.width is not None and not (self.squash and self.resize == self.size):
            raise ConfigError(f"An input of {self.size} x {self.width} takes whole pictures: no resize, no crop.")

    def __repr__(self) -> str:
        """What differs from the usual; the first four always (a data set's digest has this text in it)."""
        told = [f for k, f in enumerate(fields(self)) if k < 4 or getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in told)})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of what it makes."""
        return self.channels, self.size, self.width or self.size

    def __call__(self, picture: Image) -> Tensor:
        """uint8 ``[C, H, W]`` of a picture of any mode; 16-bit greys are scaled to 8 bits.

        Raises:
            ValueError: pixels of more than 16 bits, or floating point.
        """
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        target: Any = [self.resize, self.width or self.resize] if self.squash else [self.resize]
        plain = eight_bits(picture).convert(MODES[self.channels])
        resized = F.resize(plain, target, InterpolationMode(self.interpolation))
        pixels: Tensor = F.pil_to_tensor(F.center_crop(resized, list(self.shape[1:])))
        return pixels.to(torch.uint8)


def eight_bits(picture: Image) -> Image:
    """A picture of 8 bits a channel: 16-bit greys scaled, which Pillow's own conversion would clip.

    Raises:
        ValueError: more than 16 bits, or floating point.
    """
    import numpy as np
    from PIL import Image

    if picture.mode == "F":
        raise ValueError("its pixels are floating point; expected 8 or 16 bits")
    if picture.mode not in GREY_16:
        return picture
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 2**16 - 1:
        raise ValueError("its pixels have more than 16 bits")
    return Image.fromarray(np.round(values / SCALE_16).astype(np.uint8))


def usual(size: int, interpolation: str = "bilinear") -> Preprocessing:
    """The evaluation crop of most ImageNet networks: 7/8 of the shorter side (224 of 256)."""
    return Preprocessing(size, round(size / USUAL_CROP), interpolation)


def whole(size: int) -> Preprocessing:
    """The shorter side resized to the network's own: pictures of that size stay as they are."""
    return Preprocessing(size, size)


def fitting(input_size: tuple[int, ...]) -> Preprocessing:
    """`whole` for an input ``(C, H, W)``; where it is not square the picture is squashed into it."""
    channels, height, width = input_size
    if height == width:
        return Preprocessing(height, height, channels=channels)
    return Preprocessing(height, height, squash=True, channels=channels, width=width)


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
    if channels not in MODES or height != width or mode not in ("center", "squash"):
        raise ConfigError(
            f"timm's preprocessing {config['input_size']}, crop mode `{mode}`, is not supported.\n"
            "Expected 1 to 4 channels, a square, and crop mode center or squash; wrap the model with `py:` instead."
        )
    resize = int(height / (config.get("crop_pct") or USUAL_CROP))
    return Preprocessing(height, resize, config["interpolation"], mode == "squash", channels)
