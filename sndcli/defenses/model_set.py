"""A random choice among networks, a draw for each query.

The idea is that of random ensembles: "model pools" (Zhou et al., 2018) and diversity training (Kariyappa and Qureshi,
arXiv 1901.09981), here with networks that differ by nothing but the seed of their training.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.errors import ConfigError
from sndcli.models.classifier import Classifier
from sndcli.models.inference import optimise
from sndcli.models.sources import digest, load_model


def facts(models: tuple[str, ...], mean: int = 1) -> Facts:
    """Of `ModelSet` with these members.

    Raises:
        ConfigError: a member twice, or a mean of more than there are.
    """
    if len({*models}) < len(models) or not all(models):
        raise ConfigError(f"Expected `models` to be different networks but got {' | '.join(models)}.")
    within("mean", mean, 1, len(models))
    return Facts(random=mean < len(models))


class ModelSet(Defense):
    """``f_J(x)``, J uniform on the members, drawn for each row; or the mean of the softmax of j different ones.

    A query costs j passes, and there is memory for all members. With few members a point that fools one of two has
    p = 1/2 exactly: read `robust` figures of small sets with that in mind, and prefer an odd number.

    Differs from the cited works: members are not trained to disagree.

    Args:
        members: map images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``, K the same for all.
        mean: j.
        generator: source of the choice.

    Raises:
        ConfigError: no member, or a mean of more than there are.
    """

    per_image = True

    def __init__(
        self, members: Sequence[nn.Module], mean: int = 1, *, generator: torch.Generator | None = None
    ) -> None:
        if not members:
            raise ConfigError("Expected a set of at least one network.")
        super().__init__(members[0], generator)
        self.facts = facts(tuple(str(k) for k in range(len(members))), mean)
        self.members, self.mean = nn.ModuleList(members), mean

    def reseed(self, seed: int) -> None:
        """Restarts the choice, and every member that is a defense."""
        self.generator.manual_seed(seed)
        for k, member in enumerate(self.members):
            if isinstance(member, Defense):
                member.reseed(seed + 1_000 * (k + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of the chosen member; with a mean, the logarithm of the mean probabilities."""
        chosen = self.choice(len(x)).to(x.device)
        answers = [self._answers(x, chosen[:, k]) for k in range(self.mean)]
        if self.mean == 1:
            return answers[0]
        logp = torch.stack([answer.float().log_softmax(1) for answer in answers], 1)
        return logp.logsumexp(1) - math.log(self.mean)

    def choice(self, rows: int) -> Tensor:
        """int64 ``[rows, j]``: different members, every selection as likely as any other."""
        size = len(self.members)
        u = self.sources[0].uniform(torch.empty(rows, size, dtype=torch.float64, device=self.generator.device))
        return u.argsort(1)[:, : self.mean]

    def _answers(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Each row's answer of its own member."""
        order = [(chosen == k).nonzero()[:, 0] for k in range(len(self.members))]
        parts = [member(x[rows]) for member, rows in zip(self.members, order, strict=True) if len(rows) or not len(x)]
        place = torch.cat(order).argsort()
        logits: Tensor = torch.cat(parts)[place]
        return logits

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"members={len(self.members)}, mean={self.mean}"


def members_of(models: Sequence[str], input_size: Sequence[int]) -> list[Classifier]:
    """The networks of a set, on the CPU.

    Raises:
        ConfigError: an unknown one, one that can only be asked, or one that takes images of another size.
        DataError: weights that are missing or broken.
    """
    found = [load_model(source) for source in models]
    for source, member in zip(models, found, strict=True):
        if member.input_size != tuple(input_size):
            raise ConfigError(
                f"Expected members of a set to take images of {tuple(input_size)} but {source} takes "
                f"{member.input_size}."
            )
    return found


def digest_of(models: Sequence[str], input_size: Sequence[int]) -> str:
    """A short hash of all members, in order.

    Raises:
        ConfigError, DataError: as `members_of`.
    """
    digests = [digest(member) for member in members_of(models, input_size)]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def assemble(
    models: Sequence[str], mean: int, input_size: Sequence[int], device: torch.device, generator: torch.Generator
) -> ModelSet:
    """The set of these networks, ready on `device`.

    Raises:
        ConfigError, DataError: as `members_of`.
    """
    members = [optimise(member, device) for member in members_of(models, input_size)]
    return ModelSet(members, mean, generator=generator).eval()
