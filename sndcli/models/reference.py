"""A reference (surrogate) model: the attacker's own network, asked for gradients. Its passes are not queries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sndcli.errors import ConfigError, first_line
from sndcli.models.classifier import Classifier
from sndcli.models.dropping import dropping
from sndcli.models.inference import ROW_MULTIPLE
from sndcli.streams import Streams, UnitStreams

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
            found = self.vjp(
                torch.full((2, *size), 0.5), torch.ones(2, classes), 0.0, UnitStreams(0, self.device), torch.arange(2)
            )
        except RuntimeError as error:
            text = f"Reference {self.model.name} does not fit {classes} classes of {size}: {first_line(error)}"
            raise ConfigError(text) from None
        if not bool(found.isfinite().all()):
            raise ConfigError(f"Reference {self.model.name} has NaN or infinite gradients: its weights are broken.")
        self.rows = 0

    def vjp(self, x: Tensor, s: Tensor, rate: float, streams: Streams, image: Tensor) -> Tensor:
        """``Jᵀ s``: the gradient with respect to `x` of ``Σ_k s_k z_k(x)``, image by image.

        Args:
            x: ``[M, C, H, W]`` in [0, 1]; resized bilinearly where the network wants another size.
            s: ``[M, K]``.
            rate: of dropped layers, see `dropping`.
            streams: of the dropped layers.
            image: ``[M]``, whose streams.

        Returns:
            ``[M, C, H, W]``.
        """
        parts = []
        for piece, cotangent, whose in zip(*(t.split(self.chunk) for t in (x, s, image)), strict=True):
            with dropping(self.model.network, rate, partial(_coins, streams, whose)):
                parts.append(self._gradient(piece, partial(_weighted, cotangent)))
        return torch.cat(parts) if parts else torch.zeros_like(x)

    def loss_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """``[M, C, H, W]``: the gradient of each row's cross-entropy with its label.

        Args:
            x: ``[M, C, H, W]`` in [0, 1].
            y: int64 ``[M]``.
        """
        parts = [
            self._gradient(piece, partial(_cross_entropy, label))
            for piece, label in zip(x.split(self.chunk), y.split(self.chunk), strict=True)
        ]
        return torch.cat(parts) if parts else torch.zeros_like(x)

    def _gradient(self, piece: Tensor, objective: Callable[[Tensor], Tensor]) -> Tensor:
        """The gradient of an `objective` of the logits with respect to at most `chunk` images ``[m, C, H, W]``."""
        self.rows += len(piece)
        with torch.enable_grad():
            z = F.pad(piece, (0, 0, 0, 0, 0, 0, 0, -len(piece) % ROW_MULTIPLE)).to(self.device).requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(self.model(self._fit(z))[: len(piece)]), z)
        return gradient[: len(piece)].to(piece)

    def _fit(self, z: Tensor) -> Tensor:
        size = self.model.input_size[1:]
        if z.shape[2:] != size:
            z = F.interpolate(z, size, mode="bilinear", align_corners=False)
        return z.contiguous(memory_format=torch.channels_last)


def _weighted(s: Tensor, logits: Tensor) -> Tensor:
    return (logits * s.to(logits)).sum()


def _cross_entropy(y: Tensor, logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, y.to(logits.device), reduction="sum")


def _coins(streams: Streams, image: Tensor, like: Tensor, place: int) -> Tensor:
    """Uniform draws of the images' rows for a place that drops; zeros for the rows of padding that follow."""
    drawn = streams.uniform(image, like, 1 + place)  # the attack itself draws at site 0
    return F.pad(drawn, (0, 0) * (like.ndim - 1) + (0, len(like) - len(image)))
