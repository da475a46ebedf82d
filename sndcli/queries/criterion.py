"""What an attack is after: which answers count as adversarial, and how far a score is from one.

The oracle, the ledger and the verification ask a criterion and nothing else, so that another goal (a target label)
is another class here. Attacks that ask `Oracle.adversarial` need not know which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


class Criterion(ABC):
    """Which answers about N images are adversarial.

    Attributes:
        targeted: whether it wants one label and not any but one.

    Losses are written so that the attacker maximises them. Probabilities come from the oracle; the difference of two
    log probabilities is the difference of the logits, so margins need no logits.
    """

    targeted: ClassVar[bool] = False

    @abstractmethod
    def met(self, labels: Tensor, image: Tensor) -> Tensor:
        """Whether these labels are adversarial.

        Args:
            labels: int64 ``[M]``, or ``[M, T]`` for T answers about each row.
            image: int64 ``[M]``, the image each row is for.

        Returns:
            bool, in the shape of `labels`.
        """

    def met_by(self, scores: Tensor, image: Tensor) -> Tensor:
        """bool ``[M]``: whether the most probable labels of ``[M, K]`` are adversarial; not where a row is NaN."""
        return ~scores.isnan().any(1) & self.met(scores.argmax(1), image)

    @abstractmethod
    def margin(self, scores: Tensor, image: Tensor) -> Tensor:
        """Of probabilities ``[M, K]`` about `image` ``[M]`` the margin in logits ``[M]``; positive where it is met."""

    @abstractmethod
    def cross_entropy(self, scores: Tensor, image: Tensor) -> Tensor:
        """Of probabilities ``[M, K]`` about `image` ``[M]`` the cross-entropy ``[M]`` that grows towards the goal."""

    def probability(self, scores: Tensor, image: Tensor) -> Tensor:
        """Of probabilities ``[M, K]`` about `image` ``[M]`` that of the label that counts ``[M]``, falling to the goal.

        That of the true label, or the one wanted times -1.
        """
        label, towards = self.surrogate(image)
        p = scores.gather(1, label[:, None]).squeeze(1)
        return -p if towards else p

    @abstractmethod
    def surrogate(self, image: Tensor) -> tuple[Tensor, bool]:
        """For another network's gradients: labels int64 ``[M]``, and whether to go towards them or away from them."""


@dataclass(frozen=True, eq=False, repr=False)
class Misclassified(Criterion):
    """Any label but the true one (untargeted).

    Attributes:
        y: int64 ``[N]``, the true labels.

    Example:
        >>> criterion = Misclassified(torch.tensor([3, 8]))
        >>> criterion
        Misclassified(y=[3, 8])
        >>> criterion.met(torch.tensor([3, 3, 8]), torch.tensor([0, 1, 1]))
        tensor([False,  True, False])
    """

    y: Tensor

    def __repr__(self) -> str:
        return f"{type(self).__name__}(y={self.y.tolist()})"

    def met(self, labels: Tensor, image: Tensor) -> Tensor:
        """bool, in the shape of `labels`: whether they are not the true one."""
        return labels != self.y[image].view(-1, *[1] * (labels.ndim - 1))

    def margin(self, scores: Tensor, image: Tensor) -> Tensor:
        """``max_{j≠y} z_j - z_y``, ``[M]``."""
        z, y = log_probabilities(scores), self.y[image]
        mine = z.gather(1, y[:, None]).squeeze(1)
        return z.scatter(1, y[:, None], -torch.inf).amax(1) - mine

    def cross_entropy(self, scores: Tensor, image: Tensor) -> Tensor:
        """``-log p_y``, ``[M]``."""
        return -log_probabilities(scores).gather(1, self.y[image, None]).squeeze(1)

    def surrogate(self, image: Tensor) -> tuple[Tensor, bool]:
        """The true labels, away from which it goes."""
        return self.y[image], False


@dataclass(frozen=True, eq=False, repr=False)
class TargetedMisclassified(Criterion):
    """One label, chosen for each image (targeted).

    Attributes:
        t: int64 ``[N]``, the labels that are wanted.

    Example:
        >>> criterion = TargetedMisclassified(torch.tensor([3, 8]))
        >>> criterion
        TargetedMisclassified(t=[3, 8])
        >>> criterion.met(torch.tensor([3, 3, 8]), torch.tensor([0, 1, 1]))
        tensor([ True, False,  True])
    """

    t: Tensor
    targeted: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(t={self.t.tolist()})"

    def met(self, labels: Tensor, image: Tensor) -> Tensor:
        """bool, in the shape of `labels`: whether they are the wanted one."""
        return labels == self.t[image].view(-1, *[1] * (labels.ndim - 1))

    def margin(self, scores: Tensor, image: Tensor) -> Tensor:
        """``z_t - max_{j≠t} z_j``, ``[M]``."""
        return -Misclassified(self.t).margin(scores, image)

    def cross_entropy(self, scores: Tensor, image: Tensor) -> Tensor:
        """``log p_t``, ``[M]``."""
        return -Misclassified(self.t).cross_entropy(scores, image)

    def surrogate(self, image: Tensor) -> tuple[Tensor, bool]:
        """The wanted labels, towards which it goes."""
        return self.t[image], True


def log_probabilities(scores: Tensor) -> Tensor:
    """Natural logarithms of probabilities ``[M, K]``, finite."""
    return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
