"""Small Noise Defense: Gaussian noise on every query (Byun, Go and Kim, arXiv 2101.04829, eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.errors import ConfigError
from sndcli.streams import Source


class SmallNoise(Defense):
    """``f(x + η)`` with ``η ~ N(0, σ² I)`` drawn afresh for every row, in eval mode too.

    One line protects a model: ``model = SmallNoise(model, sigma=0.01)``.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        sigma: standard deviation σ ≥ 0 of the noise, in units of the [0, 1] pixel scale. With 0 the model's
            input is not touched and no randomness is drawn.
        beta: with a number a > 0, each row's noise is multiplied by its own k ~ Beta(a, a) (paper, section 4.2,
            "Varying σ for each inference", and Appendix C).
        generator: source of the noise.
        clip: clip the noisy image to [0, 1]. The paper's eq. 2 does not, and neither does the default; its Table 7
            (noise of length 0.550 at σ = 0.01 on CIFAR-10, where unclipped it is 0.554) and the first author's public
            harness do.
        quantize: round the noisy image to 8 bits, as a deployment that stores bytes would; implies `clip`.

    Raises:
        ConfigError: a negative or non-finite `sigma`, or a `beta` that is not positive.

    Example:
        >>> import torch
        >>> from sndcli import SmallNoise
        >>> model = SmallNoise(torch.nn.Flatten(), sigma=0.01)
        >>> two = model(torch.zeros(2, 1, 4, 4))
        >>> bool((two[0] != two[1]).any())
        True
    """

    per_image = True

    def __init__(
        self,
        model: nn.Module,
        sigma: float = 0.01,
        beta: float | None = None,
        *,
        generator: torch.Generator | None = None,
        clip: bool = False,
        quantize: bool = False,
    ) -> None:
        super().__init__(model, generator)
        if not 0 <= sigma < float("inf"):
            raise ConfigError(f"Expected `sigma` to be a number >= 0 but got {sigma}.")
        if beta is not None and not 0 < beta < float("inf"):
            raise ConfigError(f"Expected `beta` to be a number > 0 but got {beta}.")
        self.sigma = float(sigma)
        self.beta = beta
        self.clip = clip or quantize
        self.quantize = quantize
        self._scales = [Source(torch.Generator()) for _ in range(2)]
        self.sources += self._scales
        self._reseed_scales(self.generator.initial_seed() % 2**62)

    @property
    def random(self) -> bool:
        """Whether two passes on one image can differ."""
        return self.sigma > 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of ``x + η``; `x` is ``[M, C, H, W]`` in [0, 1]."""
        logits: Tensor = self.model(self.perturb(x))
        return logits

    def perturb(self, x: Tensor) -> Tensor:
        """``x + k σ ξ``, clipped and quantised as asked."""
        if self.sigma > 0 and len(x):
            scale: Tensor | float = self.sigma
            if self.beta is not None:
                scale = self.sigma * self._beta_draws(len(x)).view(-1, 1, 1, 1).to(x)
            x = x + scale * self.normal(x)
        if self.clip:
            x = x.clamp(0.0, 1.0)
        if self.quantize:
            x = torch.round(x * 255.0) / 255.0
        return x

    def reseed(self, seed: int) -> None:
        """Restarts the noise and the scales; streams apart, so that none depends on how rows are batched."""
        super().reseed(seed)
        self._reseed_scales(seed)

    def _reseed_scales(self, seed: int) -> None:
        for k, scales in enumerate(self._scales, 1):
            scales.generator.manual_seed(seed + k)

    def _beta_draws(self, rows: int) -> Tensor:
        """``[rows]`` draws of Beta(a, a), a ratio of gamma variates G/(G + G').

        ``log G(a) = log G(a + 1) + log(U)/a`` keeps small a from underflow: at a = 0.01 most variates are below the
        least float32.
        """
        a, like = float(self.beta or 1.0), torch.empty(rows, 2, dtype=torch.float64)
        gammas, uniforms = self._scales
        log_g = gammas.gamma(a + 1, like).log() + uniforms.uniform(like).clamp_min(2.0**-60).log() / a
        return torch.sigmoid(log_g[:, 0] - log_g[:, 1])

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"sigma={self.sigma}, beta={self.beta}, clip={self.clip}, quantize={self.quantize}"
