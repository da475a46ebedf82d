"""Where a victim comes from: the zoo, a checkpoint, other packages, runtimes, a user's code, an address."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from torch import nn

from sndcli.errors import ConfigError, DataError, unknown
from sndcli.models import factory, foreign, hf, query, robustness, runtimes, zoo
from sndcli.models.checkpoint import header_of, load_strictly, normalisation_of, read_state
from sndcli.models.classifier import CIFAR10, IMAGENET, Classifier, Normalisation
from sndcli.models.opaque import Model, OpaqueModel
from sndcli.models.preprocessing import usual
from sndcli.models.reference_cifar import ref_vgg, ref_wide
from sndcli.models.remote.address import PREFIXES as REMOTE
from sndcli.models.remote.settings import Remote
from sndcli.models.resnet_cifar import resnet20, resnet32, resnet44, resnet56, resnet110

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
    "ref-vgg": ref_vgg,
    "ref-wide": ref_wide,
}
PREFIXES = ("file:", "torchvision:", "timm:", "hf:", "onnx:", "torchscript:", "py:", "http://", "https://")
FILE_OPTIONS = ("arch", "format", "unsafe", "classes", *query.INPUT)


def open_model(source: str, download: bool = False, remote: Remote | None = None) -> Model:
    """The model that `source` names: a torch classifier on the CPU, in eval mode, or one that can only be asked.

    Args:
        source: as of ``--model``.
        download: fetch weights that are not on this machine.
        remote: how a model at an address is asked.

    Raises:
        ConfigError: an unknown name, prefix or option.
        DataError: a checkpoint that is missing, corrupt, or does not fit its architecture.
    """
    if source.startswith("file:"):
        model: Model = _from_file(source)
    elif source.startswith("torchvision:"):
        model = foreign.from_torchvision(source, download)
    elif source.startswith("timm:"):
        model = foreign.from_timm(source, download)
    elif source.startswith("hf:"):
        model = hf.from_hf(source, download)
    elif source.startswith("onnx:"):
        model = runtimes.from_onnx(source)
    elif source.startswith("torchscript:"):
        model = runtimes.from_torchscript(source)
    elif source.startswith("py:"):
        model = factory.from_python(source)
    elif source.startswith(REMOTE):
        model = _from_address(source, remote or Remote())
    elif source in zoo.ENTRIES:
        model = _from_zoo(source)
    elif source.endswith(".onnx"):
        raise ConfigError(f"Unknown model `{source}`. An ONNX file is given as `onnx:{source}`.")
    elif "/" in source or source.endswith((".pt", ".pth", ".th", ".safetensors")):
        raise ConfigError(f"Unknown model `{source}`. A checkpoint is given as `file:{source}?arch=resnet20`.")
    else:
        known = [*zoo.available(), *(prefix + "…" for prefix in PREFIXES)]
        raise unknown("model", source, known)
    return model.eval() if isinstance(model, Classifier) else model


def load_model(source: str, download: bool = False) -> Classifier:
    """The classifier that `source` names, a torch module on [0, 1] pixels: on the CPU, in eval mode.

    Args:
        source, download: as of `open_model`.

    Raises:
        ConfigError: as `open_model`; or a model that can only be asked.
        DataError: as `open_model`.
    """
    model = open_model(source, download)
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
    unsafe = query.flag(options, "unsafe")
    try:
        header = header_of(path.read_bytes()) if path.suffix == ".safetensors" else {}
    except DataError as error:
        raise DataError(f"{path} cannot be read as safetensors: {error}") from None
    if header.get("defense"):
        raise ConfigError(
            f"{path} is the network of a defense: --defense {header['defense']} --defense-weights file:{path}."
        )
    if form == "robustness":
        state, theirs = robustness.read(path, unsafe)
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
    if not classes.isdecimal() or not 2 <= int(classes) <= query.MOST_CLASSES:
        raise ConfigError(
            f"Expected `classes` to be a whole number from 2 to {query.MOST_CLASSES} but got `{classes}`."
        )
    return models.get_model(arch, weights=None, num_classes=int(classes)), IMAGENET, 224
