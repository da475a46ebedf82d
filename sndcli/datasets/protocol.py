"""What the published evaluations use on each data set, and so what a run uses where nothing else is said."""

from __future__ import annotations

from dataclasses import dataclass

from sndcli.errors import ConfigError


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


SMALL, LARGE = 64, 160  # sides, in pixels, up to and from which pictures are like CIFAR-10's and ImageNet's


def usual_eps(dataset: str, input_size: tuple[int, ...]) -> float:
    """The L2 bound where none is given: of the two data sets their own, of other pictures by their longer side.

    Args:
        dataset: its name.
        input_size: ``(C, H, W)`` of its images.

    Raises:
        ConfigError: the pictures are of neither's size.

    Example:
        >>> usual_eps("folder:mine", (1, 28, 28)), usual_eps("folder:mine", (3, 224, 224))
        (1.0, 5.0)
    """
    side = max(input_size[1:])
    if dataset in ("cifar10", "imagenet"):
        return protocol_of(dataset).eps
    if SMALL < side < LARGE:
        shape = " x ".join(map(str, input_size[1:]))
        raise ConfigError(
            f"Expected `--eps` for images of {shape}: there is a usual one only up to {SMALL} pixels (1.0) and from "
            f"{LARGE} (5.0)."
        )
    return CIFAR10.eps if side <= SMALL else IMAGENET.eps


def protocol_of(dataset: str) -> Protocol:
    """That of CIFAR-10, or ImageNet's, which folders of pictures share."""
    return CIFAR10 if dataset == "cifar10" else IMAGENET
