"""A reference (surrogate) model: the attacker's own network, asked for gradients. Its passes are not queries."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sndcli.errors import ConfigError
from sndcli.inference import ROW_MULTIPLE
from sndcli.models.classifier import Classifier
from sndcli.models.dropping import dropping

PIXELS = 2**20  # of a pass, which autograd keeps the activations of


class Reference:
    """Vector-Jacobian products of a classifier's logits, by plain autograd on the unfolded network in eval mode.

    Args:
        model: taken over: moved and frozen.
        device: where to compute.

    Attributes:
        rows: images a gradient was computed for, so far.
    """

    def __init__(self, model: Classifier, device: torch.device) -> None:
        self.model = model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.device = device
        height, width = model.input_size[1:]
        # Fixed, and never `--batch-size`: kernels of another size round differently.
        self.chunk = min(64, max(ROW_MULTIPLE, PIXELS // (height * width) // ROW_MULTIPLE * ROW_MULTIPLE))
        self.rows = 0

    def check(self, size: tuple[int, ...], classes: int) -> None:
        """Passes two images of `size` through.

        Raises:
            ConfigError: the network cannot take them, or has another number of classes.
        """
        try:
            found = self.vjp(torch.full((2, *size), 0.5), torch.ones(2, classes), 0.0, torch.Generator(self.device))
        except RuntimeError as error:
            text = f"Reference {self.model.name} does not fit {classes} classes of {size}: {str(error).splitlines()[0]}"
            raise ConfigError(text) from None
        if not bool(found.isfinite().all()):
            raise ConfigError(f"Reference {self.model.name} has NaN or infinite gradients: its weights are broken.")
        self.rows = 0

    def vjp(self, x: Tensor, s: Tensor, rate: float, generator: torch.Generator) -> Tensor:
        """``Jᵀ s``: the gradient with respect to `x` of ``Σ_k s_k z_k(x)``, image by image.

        Args:
            x: ``[M, C, H, W]`` in [0, 1]; resized bilinearly where the network wants another size.
            s: ``[M, K]``.
            rate: of dropped layers, see `dropping`.
            generator: of the dropped layers.

        Returns:
            ``[M, C, H, W]``.
        """
        self.rows += len(x)
        parts = []
        with dropping(self.model.network, rate, generator), torch.enable_grad():
            for piece, cotangent in zip(x.split(self.chunk), s.split(self.chunk), strict=True):
                missing = -len(piece) % ROW_MULTIPLE
                z = F.pad(piece, (0, 0, 0, 0, 0, 0, 0, missing)).to(self.device).requires_grad_(True)
                logits = self.model(self._fit(z))
                (gradient,) = torch.autograd.grad(logits, z, F.pad(cotangent, (0, 0, 0, missing)).to(logits))
                parts.append(gradient[: len(piece)].to(x))
        return torch.cat(parts) if parts else torch.zeros_like(x)

    def _fit(self, z: Tensor) -> Tensor:
        size = self.model.input_size[1:]
        if z.shape[2:] != size:
            z = F.interpolate(z, size, mode="bilinear", align_corners=False)
        return z.contiguous(memory_format=torch.channels_last)
