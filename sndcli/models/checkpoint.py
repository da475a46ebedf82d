"""Files of weights: read as tensors and nothing else, loaded strictly, written with a header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sndcli.errors import DataError, first_line
from sndcli.models import query
from sndcli.models.classifier import CIFAR10, Classifier, Normalisation


def header_of(payload: bytes) -> dict[str, str]:
    """What `save_weights` wrote into a safetensors file beside the tensors.

    Raises:
        DataError: not such a file.
    """
    try:
        length = int.from_bytes(payload[:8], "little")  # eight bytes of length, then JSON
        header: dict[str, str] = json.loads(payload[8 : 8 + length]).get("__metadata__", {})
    except (ValueError, AttributeError) as error:
        raise DataError(f"No safetensors header: {error}.") from None
    return header


def normalisation_of(header: Mapping[str, str], default: Normalisation = CIFAR10) -> Normalisation:
    """The normalisation in a header of `save_weights`, where there is one."""
    return query.normalisation({key: header[key].strip("()") for key in ("mean", "std") if key in header}, default)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file or of a torch file, which is never unpickled beyond tensors.

    A wrapper ``{"state_dict": …}`` or ``{"model": …}`` and a DataParallel prefix ``module.`` are taken off.

    Raises:
        DataError: not such a file.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        hint = f" It may be a model for `torchscript:{path}`." if "TorchScript" in str(error) else ""
        raise DataError(f"{path} cannot be read as tensors: {first_line(error)}{hint}") from None
    for wrapper in ("state_dict", "model", "network"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise DataError(f"{path} holds no state dict of tensors.")
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    tensors: dict[str, torch.Tensor] = state
    return tensors


def load_strictly(network: nn.Module, state: dict[str, torch.Tensor], what: str) -> None:
    """Loads tensors whose names and shapes all fit; batch-norm step counters may be absent.

    Raises:
        DataError: names the keys and shapes that differ.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        f"{title}: {', '.join(keys[:4])}{f' and {len(keys) - 4} more' if len(keys) > 4 else ''}"
        for title, keys in (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise DataError(f"{what} does not fit the architecture; {'; '.join(problems)}.")
    network.load_state_dict(state, strict=False)


def save_weights(
    model: Classifier,
    arch: str,
    path: Path,
    state: dict[str, torch.Tensor] | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Writes a network's tensors as safetensors, with architecture and normalisation in the header.

    Args:
        model: whose normalisation it is.
        arch: name of its architecture.
        path: of the file.
        state: the tensors; by default the network's own.
        extra: more of the header.
    """
    from safetensors.torch import save_file

    tensors = {
        key: value.detach().cpu().contiguous()
        for key, value in (state if state is not None else model.network.state_dict()).items()
        if not key.endswith("num_batches_tracked")
    }
    header = {"arch": arch, "mean": str(model.normalisation.mean), "std": str(model.normalisation.std)}
    save_file(tensors, path, metadata=header | dict(extra or {}))
