"""Randomised features: Gaussian noise on what one layer of the network puts out, a draw for each query.

Nguyen, Nguyen-Tang, Liu, Doan and Wong, "Understanding the Robustness of Randomized Feature Defense Against Query-Based
Adversarial Attacks" (ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, fx, nn

from sndcli.defenses.base import fresh_generator
from sndcli.defenses.facts import Facts, within
from sndcli.defenses.streams import NoisyNetwork, Stream
from sndcli.errors import ConfigError, unknown
from sndcli.models.classifier import Classifier
from sndcli.models.inference import ready


def facts(nu: float, layer: str | None = None) -> Facts:  # noqa: ARG001, the signature says which parameters there are
    """Of `RandomFeatures` with these parameters.

    Raises:
        ConfigError: a negative ν.
    """
    within("nu", nu)
    return Facts(random=nu > 0)


class RandomFeatures(NoisyNetwork):
    """``f`` whose layer puts out ``h + ν ξ``, ξ ~ N(0, I) of the shape of h, a draw for each row.

    ν is absolute, in the unit of that layer, so it means another thing in every network; docs/defenses.md has how
    large h is in the shipped one. Behind the last block before an average over P places and a linear layer W this is
    noise of covariance ν²WWᵀ/P on the logits: everything below it is the same at every draw.

    Differs from the authors' code: any one layer, and no majority of further draws where the first is right.

    Args:
        model: a classifier; a copy of its network's structure is made, which shares the weights.
        nu: ν ≥ 0.
        layer: name of a module in the network; None: the last child that has weights, before the last layer.
        generator: source of the noise.

    Raises:
        ConfigError: a negative ν, no such layer, or a compiled network.
    """

    def __init__(
        self, model: Classifier, nu: float, layer: str | None = None, *, generator: torch.Generator | None = None
    ) -> None:
        self_facts = facts(nu, layer)
        generator = generator if generator is not None else fresh_generator()
        stream = Stream(generator.device)
        network = getattr(model.network, "network", model.network)  # without what pads chunks
        if not isinstance(network, nn.Module) or hasattr(network, "_orig_mod"):
            raise ConfigError(
                "`rfd` puts noise inside the network, which cannot be compiled then: leave out --compile."
            )
        chosen = layer if layer is not None else _last(network, model.name)
        noisy = _with_noise_after(network, chosen, _Noise(nu, stream), model.name) if nu else network
        super().__init__(ready(noisy, model, next(iter(_places(model)))), [stream], generator)
        self.facts, self.nu, self.layer = self_facts, nu, chosen

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"nu={self.nu}, layer={self.layer}"


class _Noise(nn.Module):
    """``h + ν ξ``."""

    def __init__(self, nu: float, stream: Stream) -> None:
        super().__init__()
        self.nu, self.stream = nu, stream

    def forward(self, h: Tensor) -> Tensor:
        return h + self.nu * self.stream.per_row(h)


def _places(model: nn.Module) -> Iterable[torch.device]:
    yield from (parameter.device for parameter in model.parameters())
    yield torch.device("cpu")


def _last(network: nn.Module, name: str) -> str:
    weighty = [child for child, module in network.named_children() if any(True for _ in module.parameters())]
    if len(weighty) < 2:
        raise ConfigError(f"{name} has no layers to choose from: name one, as in `rfd:nu=0.5,layer=…`.")
    return weighty[-2]


def _with_noise_after(network: nn.Module, layer: str, noise: _Noise, name: str) -> nn.Module:
    """The network with noise on the output of a layer; it shares the weights, and the network stays as it is."""
    if not isinstance(network, fx.GraphModule):  # one that cannot be traced
        names = [key for key, _ in network.named_modules() if key]
        if layer not in names:
            raise unknown(f"layer of {name}", layer, names)
        copied = deepcopy(network, {id(p): p for p in (*network.parameters(), *network.buffers())})
        copied.get_submodule(layer).register_forward_hook(lambda _, __, h: noise(h))
        return copied
    stacks = {node.name: tuple(_stack(node)) for node in network.graph.nodes}
    known = dict.fromkeys(key for stack in stacks.values() for key in stack)
    if layer not in known:
        raise unknown(f"layer of {name}", layer, [*known])
    graph = deepcopy(network.graph)
    last = [node for node in graph.nodes if layer in stacks[node.name]][-1]
    noisy = fx.GraphModule(network, graph)
    noisy.add_submodule("noise_after", noise)
    with graph.inserting_after(last):
        after = graph.call_module("noise_after", (last,))
    last.replace_all_uses_with(after, delete_user_cb=lambda user: user is not after)
    noisy.recompile()
    return noisy


def _stack(node: fx.Node) -> Iterable[str]:
    """Names of the modules that a node of the graph came from, outermost first."""
    found = node.meta.get("nn_module_stack")
    if isinstance(found, Mapping):
        yield from map(str, found)
    if node.op == "call_module":
        yield str(node.target)
