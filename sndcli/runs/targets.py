"""Targeted runs: which label each image is to be given, and the images of that label that label attacks start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.registry import ATTACKS, AnyAttack, spec_of
from sndcli.datasets.base import ImageSet
from sndcli.datasets.cifar10 import CLASSES, load_pool, pool_ids
from sndcli.errors import ConfigError, unknown
from sndcli.queries.criterion import TargetedMisclassified
from sndcli.streams import hashed

NEXT, RANDOM = "next", "random"


def check_target(target: str, spec: AnyAttack, dataset: str) -> str:
    """What ``--target`` says, a class by its name.

    Args:
        target: ``next``, ``random``, or a class's name or number; empty: untargeted.
        spec: of the attack.
        dataset: its name.

    Raises:
        ConfigError: an unknown class; or an attack or a data set that has no targeted form.
    """
    if not target:
        return ""
    if not spec.targeted:
        able = [name for name in ATTACKS if spec_of(name).targeted]
        raise ConfigError(f"`{spec.name}` has no targeted form: no --target. {', '.join(able)} have one.")
    if dataset != "cifar10":
        raise ConfigError(f"`--target` is for cifar10, whose images it starts from, not for {dataset}.")
    if target.isdecimal() and int(target) < len(CLASSES):
        return CLASSES[int(target)]
    if target not in (NEXT, RANDOM, *CLASSES):
        raise unknown("target", target, [NEXT, RANDOM, *CLASSES])
    return target


def attackable(data: ImageSet, target: str) -> ImageSet:
    """The images that may be attacked: neither those to start from nor those that have the label already."""
    data = data.without(pool_ids(), "the images that targeted attacks start from")
    if target in (NEXT, RANDOM):
        return data
    return data.without(data.ids[data.labels == CLASSES.index(target)], f"those of class {target}")


def labels_wanted(target: str, y: Tensor, ids: Sequence[int], seed: int) -> Tensor:
    """int64 ``[N]``: ``next`` is the label after the true one, ``random`` any other, drawn for seed and image."""
    k = len(CLASSES)
    if target == NEXT:
        return (y + 1) % k
    if target == RANDOM:
        further = [1 + hashed(seed, image, "target") % (k - 1) for image in ids]
        return (y + torch.tensor(further, device=y.device)) % k
    return torch.full_like(y, CLASSES.index(target))


@dataclass(frozen=True)
class Goal:
    """What a unit's images are to become.

    Attributes:
        labels: int64 ``[N]``.
        starts: ``[N, k, C, H, W]``, images of these labels, in the order in which they are offered.
        first: ids of those that are offered first.
    """

    labels: Tensor
    starts: Tensor
    first: tuple[int, ...]

    @property
    def criterion(self) -> TargetedMisclassified:
        """Which answers are adversarial."""
        return TargetedMisclassified(self.labels)


def goal_of(
    target: str, y: Tensor, ids: Sequence[int], seed: int, right: Callable[[Tensor, Tensor], Tensor] | None
) -> Goal:
    """The goal of images with the true labels `y` ``[N]``: the same for every attack and every defense.

    The order of the starts is drawn for seed and image; those that the bare model gets right come first.

    Args:
        target: as `check_target` returns it.
        y: on the device of the attack.
        ids: of the images.
        seed: of the run.
        right: whether the bare model gives images ``[M, C, H, W]`` their labels ``[M]``; None: nobody knows.
    """
    pool, labels = load_pool(), labels_wanted(target, y, ids, seed)
    pixels = pool.pixels().to(y.device)
    fits = torch.ones(len(pool), dtype=torch.bool) if right is None else right(pixels, pool.labels.to(y.device)).cpu()
    offered = []
    for label, image in zip(labels.tolist(), ids, strict=True):
        own = (pool.labels == label).nonzero().squeeze(1)
        order = torch.randperm(len(own), generator=torch.Generator().manual_seed(hashed(seed, image, "start")))
        own = own[order]
        offered.append(own[(~fits[own]).long().argsort(stable=True)])
    index = torch.stack(offered)
    return Goal(labels, pixels[index.to(y.device)], tuple(pool.ids[index[:, 0]].tolist()))
