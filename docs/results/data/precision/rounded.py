"""ResNet-20 of the package with every weight and every tensor rounded to another format, computed in float32.

That is what a device does that multiplies in bfloat16 and adds in float32, at float32's speed on a CPU without such
units: ``bf16`` is the network of ``--precision bf16`` but for the order of sums. ``tf32`` rounds what is multiplied to
ten bits behind the point, as TF32 does.

    snd attack hsja --model py:rounded:bf16 --select-by resnet20
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from sndcli.models.classifier import Classifier
from sndcli.models.inference import fold_batch_norm
from sndcli.models.sources import load_model

Rounding = Callable[[Tensor], Tensor]


def to_bf16(x: Tensor) -> Tensor:
    """The nearest bfloat16, as float32."""
    return x.to(torch.bfloat16).to(torch.float32)


def to_tf32(x: Tensor) -> Tensor:
    """The nearest number with ten bits behind the point, ties to even, as float32."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class Rounded(nn.Module):
    """A layer whose weight and input are rounded, and its output where `outputs` are."""

    def __init__(self, layer: nn.Module, rounding: Rounding, outputs: bool) -> None:
        super().__init__()
        self.layer, self.rounding, self.outputs = layer, rounding, outputs
        for name, parameter in layer.named_parameters():
            if outputs or name == "weight":  # TF32 adds the bias in float32
                parameter.data = rounding(parameter.data)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for `x`."""
        out: Tensor = self.layer(self.rounding(x))
        return self.rounding(out) if self.outputs else out


def rounded(name: str, rounding: Rounding, outputs: bool) -> Classifier:
    """The network, folded as `snd` folds it, then rounded layer by layer; with `outputs`, sums and means too."""
    model = load_model("resnet20")
    folded = fold_batch_norm(model.network, model.input_size)
    assert isinstance(folded, GraphModule)
    for key, layer in list(folded.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            folded.set_submodule(key, Rounded(layer, rounding, outputs))
    exact = ("placeholder", "get_attr", "call_module", "output")
    for node in [node for node in folded.graph.nodes if outputs and node.op not in exact]:
        with folded.graph.inserting_after(node):
            after = folded.graph.call_function(rounding, (node,))
        node.replace_all_uses_with(after)
        after.args = (node,)
    folded.recompile()
    return Classifier(folded, model.normalisation, model.input_size, name)


def bf16() -> Classifier:
    """Everything in bfloat16."""
    return rounded("resnet20-bf16", to_bf16, True)


def tf32() -> Classifier:
    """What is multiplied in TF32, all else in float32."""
    return rounded("resnet20-tf32", to_tf32, False)
