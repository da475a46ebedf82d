"""The zoo: trained networks in the package, each with a card that says how it was made and how well it does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import NotRequired, TypedDict

from sndcli.errors import DataError

FOLDER = resources.files("sndcli.models") / "weights"


@dataclass(frozen=True)
class Entry:
    """What a name of the zoo stands for.

    Attributes:
        arch: its architecture.
        trained_as: value of ``snd train --defense`` that makes it.
        defense: the defense whose network it is; empty for a network that is a model by itself.
        split: of CIFAR-10 it is trained on.
    """

    arch: str
    trained_as: str = "none"
    defense: str = ""
    split: str = "train"


ENTRIES = {
    "resnet20": Entry("resnet20"),
    "resnet20-seed1": Entry("resnet20"),  # trained as `resnet20` is, under other seeds
    "resnet20-seed2": Entry("resnet20"),
    "resnet20-seed3": Entry("resnet20"),
    "resnet20-seed4": Entry("resnet20"),
    "vgg": Entry("ref-vgg"),
    "resnet20-rse": Entry("resnet20", "rse", "rse"),
    "resnet20-pni": Entry("resnet20", "pni", "pni"),
    "resnet20-at": Entry("resnet20", "at"),
    "resnet20-gf": Entry("resnet20", "gf"),
    "ref-vgg": Entry("ref-vgg", split="proxy"),
    "ref-wide": Entry("ref-wide", split="proxy"),
}


def available() -> list[str]:
    """Names whose weights are in this installation."""
    return [name for name in ENTRIES if (FOLDER / f"{name}.safetensors").is_file()]


def weights(name: str) -> bytes:
    """The safetensors file of `name`.

    Raises:
        DataError: the weights are not in this installation.
    """
    entry = ENTRIES[name]
    try:
        return (FOLDER / f"{name}.safetensors").read_bytes()
    except FileNotFoundError:
        made = f"runs/{name}/{name}.safetensors"
        use = f"--defense-weights file:{made}" if entry.defense else f"--model file:{made}?arch={entry.arch}"
        raise DataError(
            f"The weights of `{name}` are not in this installation.\nMake them: snd train {entry.arch} --defense "
            f"{entry.trained_as} --split {entry.split} --data-dir DIR, then {use}."
        ) from None
    except OSError as error:
        raise DataError(f"The weights of `{name}` cannot be read: {error}.\nReinstall sndcli.") from None


class Accuracy(TypedDict):
    """Share of `n` images of `data`."""

    data: str
    n: int
    value: float


class Robust(TypedDict):
    """Share of `n` images under PGD."""

    pgd: str
    n: int
    value: float


class Card(TypedDict):
    """What lies beside a network: how it was made, in which precision, and how well it does."""

    name: str
    arch: str
    defense: str
    sha256: str
    data: str
    accuracy: Accuracy
    robust: list[Robust]
    recipe: dict[str, object]
    precision: NotRequired[str]


def card(name: str) -> Card:
    """Recipe, data, accuracy, robust accuracy and checksum of a network that is in this installation.

    Raises:
        DataError: there is no readable card.
    """
    try:
        found: Card = json.loads((FOLDER / f"{name}.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"The card of `{name}` cannot be read: {error}.\nReinstall sndcli.") from None
    return found


def checksum(payload: bytes) -> str:
    """SHA-256 of a weights file, as on its card."""
    return hashlib.sha256(payload).hexdigest()
