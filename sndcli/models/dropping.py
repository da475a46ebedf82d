"""Random thinning of a network, in eval mode too: dropped layers of the Subspace attack (Guo, Yan and Zhang 2019).

Residual networks skip each residual block that has no down-sampling shortcut with probability p; networks without
residual blocks get inverted dropout of rate p on the output of every convolution. Both get inverted dropout on what
enters the last linear layer. Works on any module through forward hooks.

Differs from the authors' code: each image has coins of its own (theirs shares the coin of a block over the batch), so
that an image's gradient does not depend on which others are in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Coins = Callable[[Tensor, int], Tensor]  # uniform on [0, 1) in the shape of a tensor, for the k-th place that drops
BLOCKS = ("BasicBlock", "Bottleneck")  # what ResNets call a residual block, torchvision's and ours alike


@contextmanager
def dropping(network: nn.Module, rate: float, coins: Coins) -> Iterator[None]:
    """Inside the block, `network` is thinned afresh in every forward pass.

    Args:
        network: any module; left as it was afterwards.
        rate: p in [0, 1]; nothing is drawn with 0.
        coins: draws them; places are numbered in the order of the network's modules.
    """

    def drop(x: Tensor, place: int) -> Tensor:
        kept = coins(x, place) >= rate
        return x * kept / (1 - rate) if rate < 1 else torch.zeros_like(x)

    def skip(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        (x,) = inputs
        if x.shape != output.shape:  # a shortcut that changes the shape cannot be skipped
            return None
        skipped = coins(x[:, :1, :1, :1], places[module]) < rate
        return torch.where(skipped, x, output)

    def thin(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return drop(output, places[module])

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (drop(inputs[0], places[module]),)

    modules = list(network.modules()) if rate > 0 else []
    blocks = [m for m in modules if type(m).__name__ in BLOCKS]
    hooks = [block.register_forward_hook(skip) for block in blocks]
    if not blocks:
        hooks += [m.register_forward_hook(thin) for m in modules if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(enter) for m in [m for m in modules if isinstance(m, nn.Linear)][-1:]]
    dropped = [*blocks, *(m for m in modules if isinstance(m, nn.Conv2d | nn.Linear))]
    places = {module: k for k, module in enumerate(dropped)}
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
