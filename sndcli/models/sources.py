"""Where a victim comes from: the zoo, a checkpoint (``file:PATH?arch=…``), a package (see `foreign`), an address."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sndcli.errors import ConfigError, DataError, first_line, unknown
from sndcli.models import foreign, query, robustness, zoo
from sndcli.models.classifier import CIFAR10, IMAGENET, Classifier, Normalisation
from sndcli.models.opaque import Model, OpaqueModel
from sndcli.models.preprocessing import usual
from sndcli.models.reference_cifar import ref_vgg, ref_wide
from sndcli.models.remote.address import PREFIXES as REMOTE
from sndcli.models.remote.settings import Remote
from sndcli.models.resnet_cifar import resnet20, resnet32, resnet56

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
    "ref-vgg": ref_vgg,
    "ref-wide": ref_wide,
}
PREFIXES = ("file:", "torchvision:", "timm:", "py:", "http://", "https://")
FILE_OPTIONS = ("arch", "format", "unsafe", "classes", *query.INPUT)


def open_model(source: str, remote: Remote | None = None) -> Model:
    """The model that `source` names: a torch classifier on the CPU, in eval mode, or one that can only be asked.

    Args:
        source: as of ``--model``.
        remote: how a model at an address is asked.

    Raises:
        ConfigError: an unknown name, prefix or option.
        DataError: a checkpoint that is missing, corrupt, or does not fit its architecture.
    """
    if source.startswith("file:"):
        model: Model = _from_file(source)
    elif source.startswith("torchvision:"):
        model = foreign.from_torchvision(source)
    elif source.startswith("timm:"):
        model = foreign.from_timm(source)
    elif source.startswith("py:"):
        model = foreign.from_python(source)
    elif source.startswith(REMOTE):
        model = _from_address(source, remote or Remote())
    elif source in zoo.ENTRIES:
        model = _from_zoo(source)
    elif "/" in source or source.endswith((".pt", ".pth", ".th", ".safetensors")):
        raise ConfigError(f"Unknown model `{source}`. A checkpoint is given as `file:{source}?arch=resnet20`.")
    else:
        known = [*zoo.available(), *(prefix + "…" for prefix in PREFIXES)]
        raise unknown("model", source, known)
    return model.eval() if isinstance(model, Classifier) else model


def load_model(source: str) -> Classifier:
    """The classifier that `source` names, a torch module on [0, 1] pixels: on the CPU, in eval mode.

    Raises:
        ConfigError: as `open_model`; or a model that can only be asked.
        DataError: as `open_model`.
    """
    model = open_model(source)
    if isinstance(model, OpaqueModel):
        raise ConfigError(f"Expected a torch network here, but `{source}` can only be asked (`open_model` opens it).")
    return model


def digest(model: Model) -> str:
    """A short hash of all parameters and buffers, the normalisation and the input size; or what the model states."""
    if isinstance(model, OpaqueModel):
        return model.facts.digest
    clamp = ("clamp",) if model.clamp else ()
    h = hashlib.sha256(repr((model.name, model.normalisation, model.input_size, *clamp)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        h.update(name.encode())
        h.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()[:16]


def _from_address(source: str, remote: Remote) -> OpaqueModel:
    try:
        from sndcli.models.remote.model import open_remote
    except ImportError as error:
        raise ConfigError(f"`{REMOTE[0]}` needs the package {error.name}: pip install 'sndcli[http]'.") from None
    return open_remote(source, remote)


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
    path_text, options = query.split(source, "file:", FILE_OPTIONS)
    path = Path(path_text)
    if "arch" not in options:
        raise ConfigError(
            f"Expected `file:{path}?arch=NAME` with NAME one of {', '.join(sorted(ARCHITECTURES))}, "
            "or a torchvision classifier such as resnet50."
        )
    arch, form = options["arch"], options.get("format", "plain")
    if form not in ("plain", "robustness"):
        raise unknown("format", form, ("plain", "robustness"))
    network, default, size = _architecture(arch, options)
    if not path.is_file():
        raise DataError(f"Checkpoint {path} does not exist.")
    header = header_of(path.read_bytes()) if path.suffix == ".safetensors" else {}
    if header.get("defense"):
        raise ConfigError(
            f"{path} is the network of a defense: --defense {header['defense']} --defense-weights file:{path}."
        )
    if form == "robustness":
        state, theirs = robustness.read(path, query.flag(options, "unsafe"))
        default = theirs or default
    else:
        state = read_state(path)
        default = normalisation_of(header, default)
    load_strictly(network, state, str(path))
    preprocessing = query.preprocessing(options, usual(size) if arch not in ARCHITECTURES else None)
    return Classifier(
        network, query.normalisation(options, default),
        (3, preprocessing.size, preprocessing.size) if preprocessing else (3, size, size),
        arch + "@" + path.stem, preprocessing, clamp=form == "robustness",
    )  # fmt: skip


def _architecture(arch: str, options: dict[str, str]) -> tuple[nn.Module, Normalisation, int]:
    """An untrained network of ours or of torchvision's, its usual normalisation and its input's side."""
    if arch in ARCHITECTURES:
        if "classes" in options:
            raise ConfigError(f"`classes` is for torchvision's architectures; {arch} has 10.")
        return ARCHITECTURES[arch](), CIFAR10, 32
    from torchvision import models

    names = models.list_models(module=models)
    if arch not in names:
        raise unknown("architecture", arch, [*ARCHITECTURES, *names])
    classes = options.get("classes", "1000")
    if not classes.isdecimal() or int(classes) < 2:
        raise ConfigError(f"Expected `classes` to be a whole number of at least 2 but got `{classes}`.")
    return models.get_model(arch, weights=None, num_classes=int(classes)), IMAGENET, 224


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
        raise DataError(f"{path} cannot be read as tensors: {first_line(error)}") from None
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
