"""What the published evaluations use on each data set, and so what a run uses where nothing else is said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """Defaults of a run.

    Attributes:
        images: attacked.
        budget: paid queries an image.
        budgets: report points, those up to the budget.
        eps: bound on the L2 norm, on the [0, 1] pixel scale.
    """

    images: int
    budget: int
    budgets: tuple[int, ...]
    eps: float


CIFAR10 = Protocol(100, 10_000, (2_000, 5_000, 10_000), 1.0)
IMAGENET = Protocol(250, 20_000, (5_000, 10_000, 20_000), 5.0)  # arXiv 2101.04829, section 4.1 and Table 3


def protocol_of(dataset: str) -> Protocol:
    """That of CIFAR-10, or ImageNet's, which folders of pictures share."""
    return CIFAR10 if dataset == "cifar10" else IMAGENET
