"""Random Self-Ensemble: Gaussian noise before every convolution, and a vote of several passes.

Liu, Cheng, Zhang and Hsieh, "Towards Robust Neural Networks via Random Self-ensemble" (ECCV 2018), with the two
scales of the authors' later code: σ_init before the first convolution, σ_inner before all others.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sndcli.defenses.base import fresh_generator
from sndcli.defenses.streams import NoisyNetwork, Stream
from sndcli.errors import ConfigError
from sndcli.models.classifier import Classifier


class RSE(NoisyNetwork):
    """``p̄(x) = (1/n) Σ_j softmax z_j(x)`` over n passes, in each of which every convolution sees ``h + σ ξ``.

    ξ ~ N(0, I) has the shape of the convolution's input, one draw a row and pass; the linear layer and the shortcuts
    see none. An ensemble of n passes is one query. In training mode there is one pass.

    The unit of `sigma_init`. The authors' code has no normalisation, so their 0.2 is on the [0, 1] pixel scale, and so
    it is here by default; the first convolution of a network that normalises then sees σ_init / std. The other
    reading, 0.2 where that convolution sees it (about 0.05 on the pixel scale), is ``pixel_units=False``. The paper on
    SND does not say which it means; docs/results/accuracy.md has what either gives.

    Args:
        model: a classifier; its convolutions are given hooks, in place.
        sigma_init: noise before the first convolution.
        sigma_inner: noise before all others.
        passes: n.
        pixel_units: `sigma_init` is on the [0, 1] pixel scale, else on that of the normalised image.
        generator: source of all randomness.

    Raises:
        ConfigError: a negative σ, fewer than one pass, or a model without convolutions.
    """

    def __init__(
        self,
        model: Classifier,
        sigma_init: float = 0.2,
        sigma_inner: float = 0.1,
        passes: int = 5,
        *,
        pixel_units: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        for name, sigma in (("sigma_init", sigma_init), ("sigma_inner", sigma_inner)):
            if not 0 <= sigma < float("inf"):
                raise ConfigError(f"Expected `{name}` to be a number >= 0 but got {sigma}.")
        if passes < 1:
            raise ConfigError(f"Expected `passes` to be at least 1 but got {passes}.")
        generator = generator if generator is not None else fresh_generator()
        convolutions = [module for module in model.network.modules() if isinstance(module, nn.Conv2d)]
        if not convolutions:
            raise ConfigError(f"{model.name} has no convolutions, so `rse` has nowhere to put its noise.")
        first = sigma_init / model.std if pixel_units else torch.full_like(model.std, sigma_init)
        streams = [Stream(generator.device) for _ in convolutions]
        super().__init__(model, streams, generator)
        self.passes = passes
        self.settings: dict[str, Any] = {
            "sigma_init": sigma_init, "sigma_inner": sigma_inner, "passes": passes, "pixel_units": pixel_units,
        }  # fmt: skip
        for k, (convolution, stream) in enumerate(zip(convolutions, streams, strict=True)):
            _noise_before(convolution, stream, torch.full((1, 1, 1, 1), sigma_inner) if k else first)

    def forward(self, x: Tensor) -> Tensor:
        """``log p̄`` ``[M, K]``, whose softmax is p̄; the plain logits in training mode."""
        if self.training:
            return super().forward(x)
        logits = super().forward(x.repeat_interleave(self.passes, dim=0))  # the passes of a row lie together
        logp = logits.float().log_softmax(1).view(len(x), self.passes, -1)
        return logp.logsumexp(1) - math.log(self.passes)


def _noise_before(convolution: nn.Conv2d, stream: Stream, sigma: Tensor) -> None:
    """Makes `convolution` see ``h + σ ξ``; `sigma` is ``[1, C or 1, 1, 1]``."""
    if not bool(sigma.any()):
        return
    there: dict[tuple[torch.device, torch.dtype], Tensor] = {}  # one copy to a GPU, not one a pass

    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        h = inputs[0]
        key = (h.device, h.dtype)
        if key not in there:
            there[key] = sigma.to(h)
        return h + there[key] * stream.per_row(h)

    convolution.register_forward_pre_hook(add)
