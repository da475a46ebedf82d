"""Foolbox's own attacks, unmodified, behind the oracle (``--engine foolbox``).

Foolbox's HopSkipJump normalises its gradient over the whole batch and its loops and assertions speak for the whole
batch, so each image runs in an attack of its own, with a batch of one; they take turns (`sndcli.attacks.common.turns`).

An attack that raises (Foolbox asserts on single labels, which a random model breaks) ends that image alone, as a
row with its reason. What is submitted is the closest paid query that was answered wrong, because Foolbox does
not tell its own incumbent; for its Boundary Attack the two are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sndcli.attacks.common.geometry import active
from sndcli.attacks.common.turns import Turn, take_turns
from sndcli.errors import ConfigError
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

Ask = Callable[[Tensor], Tensor]


class _Door(nn.Module):
    """The model as Foolbox sees it: labels only, as one-hot scores."""

    def __init__(self, ask: Ask, y: Tensor) -> None:
        super().__init__()
        self.ask, self.y = ask, y
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        label = self.ask(x)
        classes = int(torch.maximum(label.max(), self.y)) + 1
        return nn.functional.one_hot(label, classes).to(x.dtype)


def build(name: str, norm: str) -> Any:
    """Foolbox's attack `name` with all its defaults.

    Raises:
        ConfigError: Foolbox is not installed.
    """
    try:
        from foolbox.attacks import BoundaryAttack, HopSkipJumpAttack
    except ImportError:
        raise ConfigError("`--engine foolbox` needs the package foolbox: pip install foolbox.") from None
    return HopSkipJumpAttack(constraint=norm) if name == "hsja" else BoundaryAttack()


def _attacked(attack: Any, x: Tensor, y: Tensor, starts: Tensor | None, ask: Ask) -> None:
    """Attacks an image away from its label `y`; with `starts` ``[k, C, H, W]`` towards the label `y`, from the first
    of them that is answered so.
    """
    import foolbox

    model = foolbox.PyTorchModel(_Door(ask, y), bounds=(0, 1), device=x.device)
    if starts is None:
        attack.run(model, x[None], foolbox.criteria.Misclassification(y[None]))
        return
    for start in starts:
        if bool(ask(start[None])[0] == y):
            attack.run(model, x[None], foolbox.criteria.TargetedMisclassification(y[None]), starting_points=start[None])
            return
    raise ValueError("no start has the label wanted")


def run(oracle: Oracle, streams: Streams, name: str) -> None:
    """Attacks every active image of the oracle with Foolbox's attack `name`."""
    attack = build(name, oracle.norm)
    seeds = streams.seeds(torch.arange(len(oracle.x0)))
    x0, given = oracle.x0.cpu(), oracle.starts
    label, towards = oracle.criterion.surrogate(torch.arange(len(x0), device=oracle.x0.device))
    y = label.cpu()
    starts = [each.cpu() for each in given] if given is not None and towards else [None] * len(x0)
    images = active(oracle).tolist()
    take_turns(oracle, [Turn(partial(_attacked, attack, x0[i], y[i], starts[i]), i, seeds[i]) for i in images])
