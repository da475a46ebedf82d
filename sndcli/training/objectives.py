"""What is minimised on a batch: one function for each kind of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sndcli.errors import ConfigError
from sndcli.training.recipe import Recipe
from sndcli.training.robustness import PGD

# (network in train mode, images in [0, 1], labels, epoch, generator on the CPU) -> loss, logits
Objective = Callable[[nn.Module, Tensor, Tensor, int, torch.Generator], tuple[Tensor, Tensor]]


def natural(model: nn.Module, x: Tensor, y: Tensor, epoch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Cross-entropy on the images as they are. A network with noise (RSE) draws it once for each image."""
    logits = model(x)
    return F.cross_entropy(logits.float(), y), logits


def gaussian(sigma_max: float) -> Objective:
    """Cross-entropy on noisy images: x + σξ, ξ ~ N(0, I), with σ ~ U(0, `sigma_max`) drawn for each image.

    Gaussian augmentation as Qin et al. (NeurIPS 2021) fine-tune with; nothing is clipped, as `snd` clips nothing.
    """

    def objective(
        model: nn.Module, x: Tensor, y: Tensor, epoch: int, generator: torch.Generator  # noqa: ARG001
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        sigma = sigma_max * torch.rand(len(x), 1, 1, 1, generator=generator)
        noise = sigma * torch.randn(x.shape, generator=generator)
        logits = model(x + noise.to(x))
        return F.cross_entropy(logits.float(), y), logits

    return objective


def adversarial(pgd: PGD) -> Objective:
    """Cross-entropy on PGD images alone (Madry et al. 2018), made against y in eval mode."""

    def objective(
        model: nn.Module, x: Tensor, y: Tensor, epoch: int, generator: torch.Generator  # noqa: ARG001
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        logits = model(_attacked(model, pgd, x, y, generator))
        return F.cross_entropy(logits.float(), y), logits

    return objective


def clean_and_adversarial(pgd: PGD, clean_epochs: int) -> Objective:
    """Half the loss on clean images, half on PGD images (He, Rakin and Fan 2019, section 4.1): how PNI is trained.

    PGD runs against the network's own prediction, so that the label cannot leak into the image, with the weight noise
    on and drawn anew for each step; without it α does not settle. The first `clean_epochs` see clean images only.
    """

    def objective(
        model: nn.Module, x: Tensor, y: Tensor, epoch: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        if epoch < clean_epochs:
            return loss, logits
        attacked = model(_attacked(model, pgd, x, logits.argmax(1), generator))
        return 0.5 * loss + 0.5 * F.cross_entropy(attacked.float(), y), logits

    return objective


def objective_of(recipe: Recipe) -> Objective:
    """The objective that belongs to a recipe's defense."""
    if recipe.defense in ("none", "rse"):
        return natural
    if recipe.defense == "gf":
        return gaussian(recipe.sigma_max)
    if not recipe.pgd:
        raise ConfigError(f"A recipe for `{recipe.defense}` needs PGD.")
    pgd = PGD.parse(recipe.pgd)
    return adversarial(pgd) if recipe.defense == "at" else clean_and_adversarial(pgd, recipe.clean_epochs)


def _attacked(model: nn.Module, pgd: PGD, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """PGD images, made in eval mode, so that the batch-norm statistics stay, and without gradients of the weights."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for p in parameters:
        p.requires_grad_(False)
    try:
        return pgd.perturb(model, x, y, generator)
    finally:
        model.train()
        for p in parameters:
            p.requires_grad_(True)
