"""Noise on every query, of several shapes and places: to compare them with the Gaussian of `SmallNoise`.

Byun, Go and Kim (arXiv 2101.04829) leave open which noise is best, and name salt and pepper and contrast as examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.errors import ConfigError, unknown

PIXELS = {"gauss": 0.01, "uniform": 0.01, "laplace": 0.01, "sign": 0.01, "grey": 0.01, "chroma": 0.01}
IMAGES = {"contrast": 0.2, "brightness": 0.05, "gamma": 0.3}  # one number an image
BANDS = {"low": 0.01, "high": 0.01}
SPREADS = {**PIXELS, **IMAGES, **BANDS}  # kind -> its σ where none is given
WHITE = ("gauss", "uniform", "laplace", "sign")  # kinds of which pixels are independent and alike
DENSITY, CORNER, DARKEST = 0.001, 16, 1e-4
KINDS = (*SPREADS, "salt-pepper")


def facts(kind: str = "gauss", sigma: float | None = None, p: float | None = None, f: int | None = None) -> Facts:
    """Of `InputNoise` with these parameters.

    Raises:
        ConfigError: an unknown kind, a parameter of another kind, or one out of its range.
    """
    if kind not in KINDS:
        raise unknown("kind of noise", kind, KINDS)
    for name, value, of in (("sigma", sigma, SPREADS), ("p", p, ("salt-pepper",)), ("f", f, BANDS)):
        if value is not None and kind not in of:
            raise ConfigError(f"`{name}` belongs to {', '.join(of)}, but the kind of noise is `{kind}`.")
    within("sigma", sigma or 0.0)
    within("p", p or 0.0, 0, 1)
    within("f", CORNER if f is None else f, 1)
    white = SPREADS[kind] if sigma is None and kind in WHITE else sigma or 0.0
    return Facts(random=(sigma != 0 if kind in SPREADS else p != 0), sigma=white if kind in WHITE else 0.0)


def usual(given: Mapping[str, object]) -> Mapping[str, str | int | float | tuple[str, ...]]:
    """What is taken where it is not given."""
    kind = str(given["kind"])
    if kind == "salt-pepper":
        return {"p": DENSITY}
    corner = {"f": CORNER} if kind in BANDS else {}
    return {"sigma": SPREADS[kind], **corner} if kind in SPREADS else {}


class InputNoise(Defense):
    """``f(x + η)``, or x changed otherwise, a draw for each row, not clipped.

    σ is in units of the [0, 1] pixel scale; the added noise has this root mean square per pixel, whatever its kind:

    * ``gauss`` σξ, as SND. ``uniform`` σ√3 U(-1, 1). ``laplace`` of scale σ/√2. ``sign`` ±σ.
    * ``grey``: one Gaussian field for all channels. ``chroma``: channels sum to zero.
    * ``low``, ``high``: the Gaussian field's DCT-II coefficients in the f × f corner alone, or all but these.

    Of another unit are the spreads of three kinds with one number an image:

    * ``contrast`` x̄ + (1 + c)(x - x̄) with x̄ the image's mean. ``brightness`` x + b. Here c, b ~ N(0, σ²).
    * ``gamma`` clip(x, 1e-4, 1)^exp(g), g ~ N(0, σ²).

    ``salt-pepper`` makes a pixel, all its channels, black or white with probability p.

    Differs from `SmallNoise`, which also has Beta(a, a) scales, by nothing else in ``gauss``, draws too.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        kind: of the noise.
        sigma: σ ≥ 0; None: 0.01, of contrast 0.2, of brightness 0.05, of gamma 0.3.
        p: of salt-pepper; None: 0.001.
        f: side of the corner, of low and high; None: 16.
        generator: source of the noise.

    Raises:
        ConfigError: an unknown kind, a parameter of another kind, or one out of its range.
    """

    per_image = True

    def __init__(
        self,
        model: nn.Module,
        kind: str = "gauss",
        sigma: float | None = None,
        p: float | None = None,
        f: int | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, generator)
        self.facts = facts(kind, sigma, p, f)
        self.kind = kind
        self.sigma = SPREADS.get(kind, 0.0) if sigma is None else float(sigma)
        self.p = DENSITY if p is None else p
        self.f = CORNER if f is None else f

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of the changed `x` ``[M, C, H, W]``."""
        logits: Tensor = self.model(self.perturb(x))
        return logits

    def perturb(self, x: Tensor) -> Tensor:
        """The image that the model sees; the same tensor where σ or p is 0.

        Raises:
            ConfigError: a kind that these images cannot have.
        """
        if not len(x) or not (self.sigma if self.kind in SPREADS else self.p):
            return x
        if self.kind == "salt-pepper":
            u = self._uniform(x[:, :1])
            return torch.where(u < self.p / 2, 0.0, torch.where(u < self.p, 1.0, x))
        if self.kind in IMAGES:
            number = self.sigma * self.normal(x[:, :1, :1, :1])
            if self.kind == "brightness":
                return x + number
            if self.kind == "gamma":
                return x.clamp(DARKEST, 1.0) ** number.exp()
            mean = x.mean((1, 2, 3), keepdim=True)
            return x + number * (x - mean)
        return x + self.sigma * self._field(x)

    def _field(self, x: Tensor) -> Tensor:
        """Noise of root mean square 1 in the shape of `x`."""
        if self.kind == "uniform":
            return math.sqrt(3) * (2 * self._uniform(x) - 1)
        if self.kind == "laplace":
            v = self._uniform(x) - 0.5
            inside = (1 - 2 * v.abs()).clamp_min(2.0**-24)  # 0 where the uniform draw is
            return -math.sqrt(0.5) * v.sign() * inside.log()
        if self.kind == "sign":
            return torch.where(self._uniform(x) < 0.5, -1.0, 1.0)
        if self.kind == "grey":
            return self.normal(x[:, :1]).expand_as(x)
        noise = self.normal(x)
        if self.kind == "chroma":
            channels = x.shape[1]
            if channels < 2:
                raise ConfigError("`noise:chroma` needs images of several channels.")
            return (noise - noise.mean(1, keepdim=True)) * math.sqrt(channels / (channels - 1))
        return self._band(noise) if self.kind in BANDS else noise

    def _band(self, noise: Tensor) -> Tensor:
        height, width = noise.shape[-2:]
        if not self.f < min(height, width):
            raise ConfigError(f"Expected `f` of `noise:{self.kind}` below the images' side but got {self.f}.")
        share = self.f**2 / (height * width)
        planes = noise.reshape(-1, height, width)
        down, across = (_low_pass(side, self.f).to(noise) for side in (height, width))
        low = torch.bmm(down.expand(len(planes), -1, -1), planes)  # one product a plane: no bit depends on the batch
        low = torch.bmm(low, across.expand(len(planes), -1, -1)).view_as(noise)
        return low / math.sqrt(share) if self.kind == "low" else (noise - low) / math.sqrt(1 - share)

    def _uniform(self, like: Tensor) -> Tensor:
        return self.sources[0].uniform(like)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"kind={self.kind}, sigma={self.sigma}, p={self.p}, f={self.f}"


@cache
def _low_pass(side: int, f: int) -> Tensor:
    """``[side, side]``: the projection on the first f vectors of the orthonormal DCT-II."""
    k, n = torch.arange(f, dtype=torch.float64)[:, None], torch.arange(side, dtype=torch.float64)[None]
    basis = torch.cos(math.pi * k * (2 * n + 1) / (2 * side)) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    return (basis.T @ basis).float()
