"""Projected gradient descent (Madry et al., ICLR 2018), the white-box attack of adversarial training.

It sees gradients, so it is no attack of `snd attack`; here it makes training images and figures for model cards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sndcli.datasets.base import ImageSet
from sndcli.errors import ConfigError
from sndcli.models.inference import reproducible_kernels

TINY = 1e-12
EOT = "eot="  # before the draws
STARTED = 200  # images whose random starts are drawn together, so that they depend on no batch size


@dataclass(frozen=True)
class PGD:
    """``x ← Π(x + s · direction(∇_x CE))`` from a random start, projected on the ball around x0 and on [0, 1].

    The direction is the gradient's sign (L∞) or the gradient over its norm (L2), for each image. On a network that
    draws noise every step meets fresh draws, and with `draws` the mean gradient over so many (expectation over
    transformation, Athalye et al., ICML 2018).

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: radius, in units of the [0, 1] pixel scale.
        steps: gradients.
        step: s; 0 means ``min(1.25, 2.5 / steps) · eps``: the rule of Madry et al., and for one or two steps that of
            Wong, Rice and Kolter ("Fast is better than free", ICLR 2020).
        draws: of a random network behind each gradient, and answers that `robust_accuracy` counts.

    Raises:
        ConfigError: an unknown norm, or numbers that are not positive.
    """

    norm: str
    eps: float
    steps: int
    step: float = 0.0
    draws: int = 1

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ConfigError(f"Expected the norm of PGD to be linf or l2 but got `{self.norm}`.")
        steps = self.steps >= 1 and self.draws >= 1
        if not (0 < self.eps < float("inf") and steps and 0 <= self.step < float("inf")):
            raise ConfigError(f"Expected PGD with a positive radius, steps and draws but got {self}.")

    @classmethod
    def parse(cls, text: str) -> PGD:
        """From ``linf:8/255:7``, ``l2:0.5:7:0.1`` or ``l2:1:20:eot=20``: norm, radius, steps; step size and draws.

        Raises:
            ConfigError: none of these.

        Example:
            >>> PGD.parse("l2:1:20:eot=20")
            PGD(norm='l2', eps=1.0, steps=20, step=0.0, draws=20)
        """
        try:
            norm, eps, steps, *rest = text.split(":")
            draws = int(rest.pop().removeprefix(EOT)) if rest and rest[-1].startswith(EOT) else 1
            (step,) = rest or ["0"]
            return cls(norm, _number(eps), int(steps), _number(step), draws)
        except (ValueError, TypeError, ZeroDivisionError):
            raise ConfigError(f"Expected NORM:EPS:STEPS such as linf:8/255:7 or l2:0.5:10 but got `{text}`.") from None

    def perturb(self, model: Callable[[Tensor], Tensor], x0: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Images in the ball with a higher cross-entropy.

        Args:
            model: maps ``[M, C, H, W]`` in [0, 1] to logits; differentiable, in eval mode.
            x0: ``[M, C, H, W]`` in [0, 1].
            y: ``[M]`` labels to move away from.
            generator: of the random start; on the CPU.
        """
        return self.climb(model, self.start(x0, generator), x0, y)

    def start(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """Random images in the balls around `x0`, where `perturb` begins."""
        return self._project(x0 + self._start(x0, generator), x0)

    def climb(self, model: Callable[[Tensor], Tensor], x: Tensor, x0: Tensor, y: Tensor) -> Tensor:
        """The steps of `perturb` from `x`."""
        step = self.step or min(1.25, 2.5 / self.steps) * self.eps
        for _ in range(self.steps):
            x.requires_grad_()
            with torch.enable_grad():
                losses = (F.cross_entropy(model(x).float(), y, reduction="sum") for _ in range(self.draws))
                g = sum((torch.autograd.grad(loss, x)[0] for loss in losses), torch.zeros_like(x))
            direction = g.sign() if self.norm == "linf" else g / _length(g)
            x = self._project(x.detach() + step * direction, x0)
        return x

    def _start(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        if self.norm == "linf":
            u = torch.rand(x0.shape, generator=generator).to(x0)
            return self.eps * (2 * u - 1)
        direction = torch.randn(x0.shape, generator=generator)
        radius = self.eps * torch.rand(len(x0), 1, 1, 1, generator=generator)
        return (radius * direction / _length(direction)).to(x0)

    def _project(self, x: Tensor, x0: Tensor) -> Tensor:
        d = x - x0
        d = d.clamp(-self.eps, self.eps) if self.norm == "linf" else d * (self.eps / _length(d)).clamp(max=1.0)
        return (x0 + d).clamp(0.0, 1.0)


def robust_accuracy(
    model: nn.Module, images: ImageSet, pgd: PGD, device: torch.device, count: int = 1000, batch_size: int = STARTED
) -> float:
    """Share of the first `count` images that `model` classifies correctly after PGD against their labels.

    For a random model the attack's steps and the final answers meet fresh draws: `PGD.draws` answers an image, of which
    the share that is right counts. With one draw PGD follows single draws of the gradient, so on a strongly random
    model the figure flatters.

    Passes have at most `batch_size` images; where memory runs out, half as many from there on.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(min(count, len(images)))
    correct = 0.0
    for part in index.split(STARTED):
        x, y = images.pixels(part), images.labels[part]
        begun = pgd.start(x, generator)
        done = 0
        while done < len(part):
            rows = slice(done, done + batch_size)
            try:
                correct += _withstood(model, pgd, *(t[rows].to(device) for t in (begun, x, y)))
            except torch.cuda.OutOfMemoryError:
                if batch_size == 1:
                    raise
                batch_size = max(1, batch_size // 2)
                torch.cuda.empty_cache()
                continue
            done += batch_size
    return correct / len(index)


def _withstood(model: nn.Module, pgd: PGD, begun: Tensor, x: Tensor, y: Tensor) -> float:
    """How many of `x` are classified correctly after the steps from `begun`; the mean over `PGD.draws` answers."""
    with reproducible_kernels():
        adversarial = pgd.climb(model, begun, x, y)
        with torch.no_grad():
            right = sum(int((model(adversarial).argmax(1) == y).sum()) for _ in range(pgd.draws))
        return right / pgd.draws


def _length(d: Tensor) -> Tensor:
    return cast(Tensor, d.flatten(1).norm(dim=1).clamp(min=TINY).view(-1, 1, 1, 1))


def _number(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)
