"""Where a victim comes from: the zoo, ``file:PATH?arch=…``, ``torchvision:NAME[/WEIGHTS]``, ``py:module:factory``."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import torch
from torch import nn

from sndcli.errors import ConfigError, DataError, unknown
from sndcli.models import zoo
from sndcli.models.classifier import CIFAR10, IDENTITY, IMAGENET, Classifier, Normalisation
from sndcli.models.reference_cifar import ref_vgg, ref_wide
from sndcli.models.resnet_cifar import resnet20, resnet32, resnet56

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
    "ref-vgg": ref_vgg,
    "ref-wide": ref_wide,
}
PREFIXES = ("file:", "torchvision:", "py:")
NORMALISATIONS = {"cifar10": CIFAR10, "imagenet": IMAGENET, "none": IDENTITY}


def load_model(source: str) -> Classifier:
    """The classifier that `source` names, on the CPU, in eval mode.

    Raises:
        ConfigError: an unknown name, prefix or option.
        DataError: a checkpoint that is missing, corrupt, or does not fit its architecture.
    """
    if source.startswith("file:"):
        model = _from_file(source)
    elif source.startswith("torchvision:"):
        model = _from_torchvision(source)
    elif source.startswith("py:"):
        model = _from_python(source)
    elif source in zoo.ENTRIES:
        model = _from_zoo(source)
    elif "/" in source or source.endswith((".pt", ".pth", ".th", ".safetensors")):
        raise ConfigError(f"Unknown model `{source}`. A checkpoint is given as `file:{source}?arch=resnet20`.")
    else:
        known = [*zoo.available(), *(prefix + "…" for prefix in PREFIXES)]
        raise unknown("model", source, known)
    return model.eval()


def digest(model: Classifier) -> str:
    """A short hash of all parameters and buffers, the normalisation and the input size."""
    h = hashlib.sha256(repr((model.name, model.normalisation, model.input_size)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        h.update(name.encode())
        h.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()[:16]


def _from_zoo(name: str) -> Classifier:
    from safetensors.torch import load

    entry = zoo.ENTRIES[name]
    if entry.defense:
        raise ConfigError(
            f"`{name}` is the network of a defense: --model {name.removesuffix('-' + entry.defense)} "
            f"--defense {entry.defense}."
        )
    network = ARCHITECTURES[entry.arch]()
    load_strictly(network, load(zoo.weights(name)), name)
    return Classifier(network, CIFAR10, name=name)


def _from_file(source: str) -> Classifier:
    path_text, _, query = source.removeprefix("file:").partition("?")
    path = Path(path_text)
    options = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
    for key in options:
        if key not in ("arch", "mean", "std", "norm"):
            raise unknown("option of `file:`", key, ("arch", "mean", "std", "norm"))
    if "arch" not in options:
        raise ConfigError(f"Expected `file:{path}?arch=NAME` with NAME one of {', '.join(sorted(ARCHITECTURES))}.")
    if options["arch"] not in ARCHITECTURES:
        raise unknown("architecture", options["arch"], ARCHITECTURES)
    if not path.is_file():
        raise DataError(f"Checkpoint {path} does not exist.")
    header = header_of(path.read_bytes()) if path.suffix == ".safetensors" else {}
    if header.get("defense"):
        raise ConfigError(
            f"{path} is the network of a defense: --defense {header['defense']} --defense-weights file:{path}."
        )
    network = ARCHITECTURES[options["arch"]]()
    load_strictly(network, read_state(path), str(path))
    own = {"mean", "std", "norm"} & options.keys()
    normalisation = _normalisation(options) if own else normalisation_of(header)
    return Classifier(network, normalisation, name=options["arch"] + "@" + path.stem)


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


def normalisation_of(header: Mapping[str, str]) -> Normalisation:
    """The normalisation in a header of `save_weights`; CIFAR-10's where there is none."""
    return _normalisation({key: header[key].strip("()") for key in ("mean", "std") if key in header})


def _normalisation(options: dict[str, str]) -> Normalisation:
    if "norm" in options:
        if options["norm"] not in NORMALISATIONS:
            raise unknown("normalisation", options["norm"], NORMALISATIONS)
        return NORMALISATIONS[options["norm"]]
    if ("mean" in options) != ("std" in options):
        raise ConfigError("Expected `mean` and `std` together, three numbers each: mean=r,g,b&std=r,g,b.")
    if "mean" not in options:
        return CIFAR10
    try:
        mean, std = (tuple(float(v) for v in options[key].split(",")) for key in ("mean", "std"))
        return Normalisation(mean, std)
    except ValueError as error:
        raise ConfigError(f"Expected mean=r,g,b&std=r,g,b with positive std: {error}") from None


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
        raise DataError(f"{path} cannot be read as tensors: {str(error).splitlines()[0]}") from None
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


def _from_torchvision(source: str) -> Classifier:
    from torchvision import models

    name, _, weights_name = source.removeprefix("torchvision:").partition("/")
    if name not in models.list_models(module=models):
        raise unknown("torchvision model", name, models.list_models(module=models))
    enum = models.get_model_weights(name)
    if weights_name == "random":
        return Classifier(models.get_model(name, weights=None), IMAGENET, (3, 224, 224), name + "@random")
    names = [weights.name for weights in enum]
    if weights_name and weights_name not in names:
        raise unknown(f"weights of {name}", weights_name, [*names, "random"])
    weights = enum[weights_name] if weights_name else enum.DEFAULT
    transforms = weights.transforms()
    size = transforms.crop_size[0]
    try:
        network = models.get_model(name, weights=weights)
    except OSError as error:
        raise DataError(
            f"The weights {weights.name} of {name} could not be downloaded: {error}.\n"
            f"Put the file of {weights.url} into the torch hub cache, or use `torchvision:{name}/random`."
        ) from None
    normalisation = Normalisation(tuple(transforms.mean), tuple(transforms.std))
    return Classifier(network, normalisation, (3, size, size), f"{name}@{weights.name}")


def _from_python(source: str) -> Classifier:
    """Imports a module that the user names and calls a factory in it: this runs that code."""
    module_name, _, factory_name = source.removeprefix("py:").partition(":")
    if not factory_name:
        raise ConfigError(f"Expected `py:package.module:factory` but got `{source}`.")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"`{source}` cannot be imported: {error}.") from None
    if not callable(factory):
        raise ConfigError(f"`{source}` is not callable.")
    model = factory()
    if isinstance(model, Classifier):
        return model
    if not isinstance(model, nn.Module):
        raise ConfigError(f"Expected `{source}` to return a torch module but got {type(model).__name__}.")
    size = tuple(getattr(model, "input_size", (3, 32, 32)))
    return Classifier(model, IDENTITY, size, name=factory_name)


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
