"""What a defense says of itself, and checks of its parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sndcli.errors import ConfigError


@dataclass(frozen=True)
class Facts:
    """What is known of a defense from its parameters alone.

    Attributes:
        random: whether two passes on one image can differ.
        sigma: standard deviation per pixel of the noise that it adds to the image, where that has the covariance σ² I,
            so that any direction sees the same; 0 where it adds none, or noise of which that is not true.
    """

    random: bool = True
    sigma: float = 0.0


def within(name: str, value: float, least: float = 0.0, most: float = math.inf, *, open_end: bool = False) -> None:
    """Checks a parameter.

    Raises:
        ConfigError: it is not finite, or not from `least` (with `open_end`: above it) to `most`.
    """
    if math.isfinite(value) and (least < value if open_end else least <= value) and value <= most:
        return
    low = f"above {least:g}" if open_end else f"of at least {least:g}"
    high = "" if most == math.inf else f" and at most {most:g}"
    raise ConfigError(f"Expected `{name}` to be a number {low}{high} but got {value:g}.")
