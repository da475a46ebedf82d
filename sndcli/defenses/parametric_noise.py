"""Parametric Noise Injection on weights, channel-wise (PNI-W; He, Rakin and Fan, CVPR 2019, section 3).

Every convolution and the linear layer use ``Ŵ = W + α ∘ s n``: n ~ N(0, I) of W's shape, s the standard deviation of
all elements of W, α one learned factor for each output channel. Batch-norm and biases get no noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sndcli.defenses.base import fresh_generator
from sndcli.defenses.streams import NoisyNetwork, Stream
from sndcli.errors import DataError
from sndcli.models.classifier import Classifier
from sndcli.models.inference import ROW_MULTIPLE, fold_batch_norm, ready
from sndcli.streams import Rows, current_rows, normal_rows

ALPHA = 0.25  # where every α starts


class WeightNoise(nn.Module):
    """W to ``W + α ∘ s n``, a fresh n each time; no gradient through s and n."""

    def __init__(self, channels: int, stream: Stream) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((channels,), ALPHA))
        self.stream = stream

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` is ``[channels, …]``."""
        noise = normal_rows(weight.detach()[None], self.stream.generator)[0]
        return weight + per_channel(self.alpha, weight) * (weight.detach().std() * noise)


class SharedPNI(NoisyNetwork):
    """The authors' form, and the one that is trained: one draw of the weights a forward pass, for all its rows.

    Two rows of one pass see the same weights, so the difference of two scores from one batch carries less noise than
    that of two queries, and outcomes of images attacked side by side are correlated. `PNI` draws for each row.

    Args:
        model: its convolutions and linear layers get α = 0.25 and noise, in place.
        generator: source of all randomness.
    """

    per_image = False  # a draw is for a whole pass

    def __init__(self, model: Classifier, generator: torch.Generator | None = None) -> None:
        generator = generator if generator is not None else fresh_generator()
        streams = []
        for _, layer in _layers(model.network):
            streams.append(Stream(generator.device))
            noise = WeightNoise(len(layer.weight), streams[-1]).to(layer.weight.device)
            parametrize.register_parametrization(layer, "weight", noise)
        super().__init__(model, streams, generator)

    def state(self) -> dict[str, Tensor]:
        """The network's tensors under their plain names, and ``LAYER.alpha``."""
        plain = {}
        for key, value in self.network.state_dict().items():
            name = key.replace("parametrizations.weight.original", "weight")
            plain[name.replace("parametrizations.weight.0.alpha", "alpha")] = value
        return plain

    def set_alphas(self, alphas: dict[str, Tensor]) -> None:
        """Sets every layer's α from ``{"LAYER.alpha": [channels]}``.

        Raises:
            DataError: names or shapes that do not fit.
        """
        own = {key: value for key, value in self.state().items() if key.endswith(".alpha")}
        check_alphas(own, alphas)
        for name, value in own.items():
            value.data.copy_(alphas[name])


class PNI(NoisyNetwork):
    """PNI-W with fresh weights for every row: each query meets an independent draw.

    A row's convolution with its own weights is one group of a grouped convolution, so a batch stays one pass.
    Batch-norms are folded into the convolutions first, and the noise with them.

    Args:
        model: the network without noise; left unchanged.
        alphas: ``{"LAYER.alpha": [channels]}`` for every convolution and linear layer.
        device: where the copy goes.
        generator: source of all randomness.

    Raises:
        DataError: `alphas` do not fit the network.
    """

    def __init__(
        self,
        model: Classifier,
        alphas: dict[str, Tensor],
        device: torch.device | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        generator = generator if generator is not None else fresh_generator()
        folded = fold_batch_norm(model.network, model.input_size)
        scales = noise_scales(model.network, folded, alphas)
        layers = []
        for name, layer in list(_layers(folded)):
            layers.append(RowNoise(layer, scales[name], Stream(generator.device)))
            folded.set_submodule(name, layers[-1])
        fast = ready(folded, model, device or torch.device("cpu"))
        super().__init__(fast, [layer.stream for layer in layers], generator)
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of `x` ``[M, C, H, W]`` in [0, 1]; row j is computed with its own weights."""
        threads = min(torch.get_num_threads(), len(self.layers)) if self.generator.device.type == "cpu" else 1
        rows = current_rows()  # not known in other threads
        if threads > 1:  # a generator draws on one thread, so the layers' streams share the cores
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda layer: layer.draw(len(x), rows), self.layers))
        else:
            for layer in self.layers:
                layer.draw(len(x), rows)
        return super().forward(x)


class RowNoise(nn.Module):
    """A convolution or linear layer with its own draw of the weights for each row.

    Args:
        layer: holds W and the bias.
        scale: ``[channels]``, standard deviation of the noise.
        stream: source of the draws.
    """

    scale: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear, scale: Tensor, stream: Stream) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("scale", per_channel(scale, layer.weight).to(layer.weight))
        self.stream = stream
        self.drawn: Tensor | None = None

    def draw(self, rows: int, whose: Rows | None = None) -> None:
        """Draws the weights ``[rows, *W]`` of the next pass, and zeros for what it is padded with."""
        w = self.layer.weight.detach()
        noise = self.stream.normal(w.expand(rows, *w.shape), whose)
        full = noise
        if rows % ROW_MULTIPLE:  # rows of padding follow
            full = noise.new_empty(rows + -rows % ROW_MULTIPLE, *w.shape)
            full[rows:] = 0
        torch.addcmul(w, noise, self.scale, out=full[:rows])
        self.drawn = full

    def forward(self, h: Tensor) -> Tensor:
        """`h` is ``[M, …]``, of which the first rows have weights and the others are padding."""
        assert self.drawn is not None
        weight, self.drawn = self.drawn[: len(h)], None
        if len(weight) < len(h):
            weight = torch.cat([weight, weight.new_zeros(len(h) - len(weight), *weight.shape[1:])])
        layer, m = self.layer, len(h)
        if isinstance(layer, nn.Linear):
            out = torch.bmm(weight, h[:, :, None])[:, :, 0]
            return out + layer.bias
        bias = None if layer.bias is None else layer.bias.repeat(m)
        one = h.reshape(1, -1, *h.shape[2:])  # the rows side by side as channels
        out = F.conv2d(
            one, weight.flatten(0, 1), bias, layer.stride, layer.padding, layer.dilation, layer.groups * m
        )  # fmt: skip
        return out.view(m, -1, *out.shape[2:])


def noise_scales(network: nn.Module, folded: nn.Module, alphas: dict[str, Tensor]) -> dict[str, Tensor]:
    """``|α_c| s`` of each layer in the units of `folded`, a copy of `network` whose batch-norms may be folded.

    Folding multiplies filter c by some g_c, and so must the noise be; ``|g_c|`` is the ratio of the filters' norms.
    (A filter that is zero loses its noise.)

    Raises:
        DataError: `alphas` do not fit the network.
    """
    own = {f"{name}.alpha": layer.weight.detach().flatten(1)[:, 0] for name, layer in _layers(network)}
    check_alphas(own, alphas)
    other = dict(folded.named_modules())
    scales = {}
    for name, layer in _layers(network):
        w, after = layer.weight.detach(), other[name].weight.detach()
        g = after.flatten(1).norm(dim=1) / w.flatten(1).norm(dim=1)
        scales[name] = alphas[f"{name}.alpha"].abs() * w.std() * g.nan_to_num(0.0, 0.0)
    return scales


def check_alphas(own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Raises DataError unless names and shapes are the same."""
    shapes, theirs = ({k: tuple(v.shape) for k, v in d.items()} for d in (own, given))
    wrong = sorted(k for k in shapes.keys() | theirs.keys() if shapes.get(k) != theirs.get(k))
    if wrong:
        raise DataError(
            f"The factors α do not fit the network: {', '.join(wrong[:4])} missing, extra or of another shape."
        )


def per_channel(values: Tensor, weight: Tensor) -> Tensor:
    """``[channels]`` as ``[channels, 1, …]``, to be multiplied with `weight`."""
    return values.view(-1, *(1,) * (weight.ndim - 1))


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module
