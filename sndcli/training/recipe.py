"""What is trained and how: plain data, stored with every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
        weight_decay: on convolution and linear weights only, not on batch-norm or biases.
        warmup: epochs from 0 to the peak.
        small_epochs: first epochs, trained on random `small_size` crops without padding, at the same scale.
        small_size: side of these crops; they cost (small_size / 32)^2 of a full image.
        padding: zeros around the image before the full-size crop.
        drop: rate at which layers are dropped in training, where the Subspace attack drops them (`models.dropping`).
        cutout: side of the grey square put into every image; 0 for none.
        jitter: contrast and brightness change by factors of up to 1 ± this.
        seed: initial weights, order, crops, flips.
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
    small_epochs: int = 12
    small_size: int = 24
    padding: int = 4
    drop: float = 0.0
    cutout: int = 0
    jitter: float = 0.0
    seed: int = 0

    def lr_at(self, epoch: float) -> float:
        """Learning rate at a fractional epoch in [0, epochs]."""
        if epoch < self.warmup:
            return self.lr * epoch / self.warmup
        return self.lr * max(0.0, (self.epochs - epoch) / (self.epochs - self.warmup))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def recipe_for(split: str) -> Recipe:
    """The recipe of a split: 2,000 images need many passes, small steps and strong regularisation."""
    if split != "proxy":
        return Recipe()
    return Recipe(
        split="proxy", epochs=72, batch_size=40, lr=0.08, weight_decay=3e-3, small_epochs=48,
        drop=0.05, cutout=12, jitter=0.25,
    )  # fmt: skip
