"""What is trained and how: plain data, stored with every checkpoint."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from sndcli.errors import ConfigError, unknown

DEFENSES = ("none", "rse", "pni", "at", "gf")


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum; the learning rate rises linearly for `warmup` epochs, then falls linearly to 0.

    Attributes:
        arch: a name of `sndcli.models.sources.ARCHITECTURES`.
        split: of CIFAR-10: ``train``, or ``proxy`` for reference models (`sndcli.datasets.cifar10.proxy_ids`).
        start: a model source whose weights the training starts from (a warm restart); empty for random weights.
        epochs: passes over the train split.
        batch_size: images a step.
        lr: peak learning rate.
        momentum: Nesterov momentum.
        weight_decay: on convolution and linear weights only, not on batch-norm, biases or α.
        warmup: epochs from 0 to the peak.
        milestones: epochs after which the learning rate is divided by 10; if given, instead of the linear fall.
        cosine: after the warmup the learning rate falls to 0 along half a cosine, instead of linearly.
        small_epochs: first epochs, trained on random `small_size` crops without padding, at the same scale.
        small_size: side of these crops; they cost (small_size / 32)^2 of a full image.
        padding: zeros around the image before the full-size crop.
        drop: rate at which layers are dropped in training, where the Subspace attack drops them (`models.dropping`).
        cutout: side of the grey square put into every image; 0 for none.
        jitter: contrast and brightness change by factors of up to 1 ± this.
        seed: initial weights, order, crops, flips, noise.
        defense: ``none``, ``rse``, ``pni``, ``at`` or ``gf``.
        pgd: of ``pni`` and ``at``, as `sndcli.training.robustness.PGD.parse` reads it.
        clean_epochs: of ``pni``: first epochs without adversarial images.
        sigma_init: of ``rse``.
        sigma_inner: of ``rse``.
        sigma_max: of ``gf``: an image gets Gaussian noise of a σ of its own, uniform on [0, `sigma_max`] (pixel scale).
        pixel_units: of ``rse``: `sigma_init` is on the [0, 1] pixel scale, not on that of the normalised image.
        bf16: computed under bfloat16 autocast. On CUDA all training is, which `on` writes into the recipe.
    """

    arch: str = "resnet20"
    split: str = "train"
    start: str = ""
    epochs: int = 32
    batch_size: int = 128
    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 2.0
    milestones: tuple[int, ...] = ()
    cosine: bool = False
    small_epochs: int = 12
    small_size: int = 24
    padding: int = 4
    drop: float = 0.0
    cutout: int = 0
    jitter: float = 0.0
    seed: int = 0
    defense: str = "none"
    pgd: str = ""
    clean_epochs: int = 0
    sigma_init: float = 0.2
    sigma_inner: float = 0.1
    pixel_units: bool = False
    sigma_max: float = 0.0
    bf16: bool = False

    def lr_at(self, epoch: float) -> float:
        """Learning rate at a fractional epoch in [0, epochs]."""
        if epoch < self.warmup:
            return self.lr * epoch / self.warmup
        if self.milestones:
            return self.lr * 0.1 ** sum(epoch > milestone for milestone in self.milestones)
        left = max(0.0, (self.epochs - epoch) / (self.epochs - self.warmup))
        return self.lr * (0.5 * (1 - math.cos(math.pi * left)) if self.cosine else left)

    def lasting(self, epochs: int) -> Recipe:
        """The same recipe stretched to another number of epochs."""
        scale = epochs / self.epochs
        return replace(
            self,
            epochs=epochs,
            warmup=min(self.warmup, epochs / 2),
            small_epochs=int(self.small_epochs * scale),
            clean_epochs=int(self.clean_epochs * scale),
            milestones=tuple(round(milestone * scale) for milestone in self.milestones),
        )

    def on(self, device: str) -> Recipe:
        """The recipe as it is followed on a type of device."""
        return replace(self, bf16=self.bf16 or device == "cuda")

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)


# What two CPU cores can afford: weights of the zoo to start from, few epochs, at most three gradients an image.
AFFORDABLE: dict[str, dict[str, Any]] = {
    "none": {},
    "rse": {"start": "resnet20", "epochs": 8, "lr": 0.1, "warmup": 0.5, "small_epochs": 3, "pixel_units": True},
    "pni": {"start": "resnet20", "epochs": 10, "lr": 0.1, "warmup": 0.5, "small_epochs": 5, "weight_decay": 3e-4,
            "pgd": "linf:8/255:3"},
    "at": {"start": "resnet20", "epochs": 8, "lr": 0.1, "warmup": 0.5, "small_epochs": 4, "pgd": "l2:0.5:2"},
    "gf": {"start": "resnet20", "epochs": 10, "lr": 0.01, "warmup": 0.0, "cosine": True, "small_epochs": 5,
           "sigma_max": 1.5 * 0.05},
}  # fmt: skip
# What the papers and their code say. Nesterov momentum, augmentation and the batch of 128 stay ours.
PAPER: dict[str, dict[str, Any]] = {
    "none": {"epochs": 200, "lr": 0.1, "weight_decay": 1e-4, "warmup": 0.0, "small_epochs": 0,
             "milestones": (100, 150)},
    "rse": {"epochs": 200, "lr": 0.01, "warmup": 0.0, "small_epochs": 0, "milestones": (80, 140, 180),
            "pixel_units": True},
    "pni": {"epochs": 160, "lr": 0.1, "weight_decay": 3e-4, "warmup": 0.0, "small_epochs": 0, "milestones": (80, 120),
            "pgd": "linf:0.031:7:0.01", "clean_epochs": 5},
    # The CIFAR defaults of the robustness library (Engstrom, Ilyas, Salman, Santurkar, Tsipras 2019; robustness/
    # defaults.py, TRAINING_DEFAULTS): 150 epochs, weight decay 5e-4, lr 0.1, divided by 10 every 50 epochs.
    "at": {"epochs": 150, "lr": 0.1, "weight_decay": 5e-4, "warmup": 0.0, "small_epochs": 0,
           "milestones": (50, 100), "pgd": "l2:0.5:7"},
}  # fmt: skip
# 2,000 images need many passes, small steps and strong regularisation.
PROXY: dict[str, Any] = {
    "split": "proxy", "epochs": 72, "batch_size": 40, "lr": 0.08, "weight_decay": 3e-3, "small_epochs": 48,
    "drop": 0.05, "cutout": 12, "jitter": 0.25,
}  # fmt: skip
PRESETS = {"affordable": AFFORDABLE, "paper": PAPER}


def recipe_of(
    arch: str, defense: str = "none", preset: str = "affordable", seed: int = 0, split: str = "train"
) -> Recipe:
    """The recipe that ``snd train ARCH --defense D --preset P --split S`` begins with.

    Only ResNet-20 has weights in the package to start from; other networks start from random ones unless
    ``--from`` says otherwise.

    Raises:
        ConfigError: an unknown defense or preset, a preset without this defense, or one to train on the proxy split.
    """
    if defense not in DEFENSES:
        raise unknown("defense to train", defense, DEFENSES)
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if defense not in PRESETS[preset]:
        raise ConfigError(f"`--defense {defense}` has no recipe of a paper; leave out `--preset {preset}`.")
    if split == "proxy" and defense != "none":
        raise ConfigError("`--split proxy` is for reference models: it has no --defense.")
    given = PROXY if split == "proxy" else PRESETS[preset][defense]
    if arch != "resnet20":
        given = given | {"start": ""}
    return Recipe(arch=arch, defense=defense, seed=seed, **given)
