"""Classifiers of torchvision and timm: ``torchvision:NAME[/WEIGHTS]``, ``timm:NAME``, ``timm:hf-hub:NAME``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sndcli.errors import ConfigError, DataError, first_line, unknown
from sndcli.models import query
from sndcli.models.checkpoint import load_strictly, read_state
from sndcli.models.classifier import IMAGENET, Classifier, Normalisation
from sndcli.models.offline import hub
from sndcli.models.preprocessing import Preprocessing, of_timm, of_torchvision, usual


def from_torchvision(source: str, download: bool = False) -> Classifier:
    """``torchvision:NAME``, ``/WEIGHTS`` or ``/random``; preprocessing and normalisation are the weights' own.

    Raises:
        ConfigError: an unknown name.
        DataError: the weights are not in torch's cache, and may or can not be downloaded.
    """
    from torchvision import models

    rest, options = query.split(source, "torchvision:", query.INPUT)
    name, _, weights_name = rest.partition("/")
    names = models.list_models(module=models)
    if name not in names:
        raise unknown("torchvision model", name, names)
    enum = models.get_model_weights(name)
    available = [weights.name for weights in enum]
    if weights_name == "random":
        network = models.get_model(name, weights=None)
        return made_of(network, options, IMAGENET, usual(224), f"{name}@random")
    if weights_name and weights_name not in available:
        raise unknown(f"weights of {name}", weights_name, [*available, "random"])
    weights = enum[weights_name] if weights_name else enum.DEFAULT
    transforms = weights.transforms()
    cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if not download and not cached.is_file():
        raise DataError(
            f"The weights {weights.name} of {name} are not on this machine: --download fetches {weights.url},\n"
            f"or put it into {cached.parent}; `torchvision:{name}/random` needs none."
        )
    try:
        network = models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"The weights {weights.name} of {name} could not be downloaded: {first_line(error)}.\n"
            f"Put the file of {weights.url} into the torch hub cache, or use `torchvision:{name}/random`."
        ) from None
    normalisation = Normalisation(tuple(transforms.mean), tuple(transforms.std))
    return made_of(network, options, normalisation, of_torchvision(transforms), f"{name}@{weights.name}")


def from_timm(source: str, download: bool = False) -> Classifier:
    """``timm:NAME`` with pretrained weights, ``timm:NAME/random`` or ``timm:NAME?checkpoint=FILE&classes=K``.

    NAME may be ``hf-hub:OWNER/NAME``, a timm model of the Hugging Face hub, or ``local-dir:DIR``, such a model that was
    saved. The data config is the model's own.

    Raises:
        ConfigError: timm is not installed, or has no such model.
        DataError: the weights are not there, may or can not be downloaded, or do not fit.
    """
    try:
        import timm
        from timm.data import resolve_model_data_config
    except ImportError:
        raise ConfigError("`timm:` needs the package timm: pip install 'sndcli[timm]'.") from None
    name, options = query.split(source, "timm:", ("pretrained", "checkpoint", "classes", "channels", *query.INPUT))
    bare, foreign = name.removesuffix("/random"), name.startswith(("hf-hub:", "local-dir:"))
    checkpoint = options.get("checkpoint")
    pretrained = query.flag(options, "pretrained", default=checkpoint is None) and bare == name
    if checkpoint is not None and pretrained:
        raise ConfigError("Expected either `pretrained` or a `checkpoint` of timm's model.")
    classes, channels = query.classes(options), query.channels(options)
    if pretrained and (classes or channels):
        raise ConfigError(f"`classes` and `channels` belong to a checkpoint: timm:{bare}?checkpoint=FILE&classes=K.")
    if not foreign and not timm.is_model(bare):
        raise unknown("timm model", bare, timm.list_models(pretrained=pretrained))
    shape = {key: value for key, value in (("num_classes", classes), ("in_chans", channels)) if value is not None}
    try:
        with hub(download):
            network = timm.create_model(bare, pretrained=pretrained, **shape)
    except Exception as error:  # huggingface_hub, httpx and torch.hub each have their own
        asks = "" if download or bare.startswith("local-dir:") else " (--download allows fetching them)"
        raise DataError(
            f"The weights of timm's {bare} could not be loaded{asks}: {first_line(error)}.\n"
            f"Fetch them where there is a network, or use `timm:{bare}/random`."
        ) from None
    made = "random"
    if checkpoint is not None:
        load_strictly(network, read_state(Path(checkpoint)), checkpoint)
        made = Path(checkpoint).stem
    config = resolve_model_data_config(network)
    normalisation = Normalisation(tuple(config["mean"]), tuple(config["std"]))
    preprocessing = query.preprocessing(options, None) if "size" in options else of_timm(config)
    called = Path(bare.partition(":")[2]).name if foreign else bare
    where = "timm" if pretrained else made
    size = (channels or 3, 224, 224)
    return made_of(network, options, normalisation, preprocessing, f"{called}@{where}", size)


def made_of(
    network: nn.Module,
    options: dict[str, str],
    normalisation: Normalisation,
    preprocessing: Preprocessing | None,
    name: str,
    size: tuple[int, ...] = (3, 224, 224),
    clamp: bool = False,
) -> Classifier:
    """A classifier whose defaults the options of its source override."""
    chosen = query.preprocessing(options, preprocessing)
    size = (size[0], chosen.size, chosen.size) if chosen else size
    return Classifier(network, query.normalisation(options, normalisation, size[0]), size, name, chosen, clamp)
