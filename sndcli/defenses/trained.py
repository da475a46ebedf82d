"""Defenses that are networks trained for their noise (RSE, PNI): where their weights come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sndcli.defenses.noise_layers import RSE
from sndcli.defenses.parametric_noise import PNI, SharedPNI
from sndcli.defenses.streams import NoisyNetwork
from sndcli.errors import ConfigError, DataError, unknown
from sndcli.models import zoo
from sndcli.models.checkpoint import header_of, load_strictly, normalisation_of
from sndcli.models.classifier import Classifier
from sndcli.models.inference import optimise
from sndcli.models.sources import ARCHITECTURES

NAMES = ("rse", "pni", "pni-shared")


@dataclass(frozen=True)
class Weights:
    """A file of ``snd train --defense rse|pni``.

    Attributes:
        model: the network without noise.
        defense: ``rse`` or ``pni``.
        settings: arguments of the defense, as trained.
        alphas: α of every layer; empty for RSE.
        digest: a short hash of the whole file.
    """

    model: Classifier
    defense: str
    settings: dict[str, Any]
    alphas: dict[str, Tensor]
    digest: str


def default_source(defense: str, model_name: str) -> str:
    """Name in the zoo of the network that `defense` is for `model_name`."""
    return f"{model_name}-{defense.removesuffix('-shared')}"


def read(source: str, defense: str) -> Weights:
    """Weights for `defense` from a name of the zoo or ``file:PATH``.

    Raises:
        ConfigError: no such name, or the network of another defense.
        DataError: a file that is missing, corrupt, without the header of ``snd train``, or that does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if source.startswith("file:"):
        path = Path(source.removeprefix("file:"))
        if not path.is_file():
            raise DataError(f"Weights {path} do not exist.")
        payload = path.read_bytes()
    else:
        known = [name for name, entry in zoo.ENTRIES.items() if entry.defense]
        if source not in known:
            own = f"file:PATH, made by `snd train --defense {defense}`"
            raise unknown("network of a defense", source, [*known, own])
        payload = zoo.weights(source)
    try:
        header, state = header_of(payload), load(payload)
    except (SafetensorError, DataError) as error:
        raise DataError(f"{source} cannot be read as safetensors: {error}") from None
    wanted = defense.removesuffix("-shared")
    if header.get("defense") != wanted:
        has = f"of `{header['defense']}`" if header.get("defense") else "of no defense"
        raise ConfigError(f"Expected {source} to be made by `snd train --defense {wanted}` but it is a network {has}.")
    if header.get("arch") not in ARCHITECTURES:
        raise DataError(f"{source} has an unknown architecture `{header.get('arch')}`.")
    network = ARCHITECTURES[header["arch"]]()
    alphas = {key: state.pop(key) for key in list(state) if key.endswith(".alpha")}
    load_strictly(network, state, source)
    model = Classifier(network, normalisation_of(header), name=label(source)).eval()
    digest = hashlib.sha256(payload).hexdigest()[:16]
    return Weights(model, wanted, json.loads(header.get("settings", "{}")), alphas, digest)


def label(source: str) -> str:
    """How results call weights: the file's name, without its folder."""
    return Path(source).stem if source.startswith("file:") else source


def defend(weights: Weights, defense: str, device: torch.device, generator: torch.Generator) -> NoisyNetwork:
    """The network of `weights` with the noise of `defense`, ready on `device`.

    Raises:
        DataError: the factors α do not fit the network.
    """
    if defense == "rse":
        return RSE(optimise(weights.model, device), **weights.settings, generator=generator).eval()
    if defense == "pni":
        return PNI(weights.model, weights.alphas, device, generator=generator).eval()
    shared = SharedPNI(weights.model.to(device), generator)
    shared.set_alphas(weights.alphas)
    return shared.eval().requires_grad_(False)
