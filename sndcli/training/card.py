"""The card of a trained network: how it was made and how well it does, measured on the file that is shipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from sndcli.datasets.base import ImageSet
from sndcli.defenses import trained
from sndcli.models.checkpoint import save_weights
from sndcli.models.inference import Forward, optimise
from sndcli.models.sources import load_model
from sndcli.models.zoo import Card, Robust, checksum
from sndcli.runs.accuracy import accuracy
from sndcli.runs.writing import replacing, write_text
from sndcli.training.loop import train_form_state
from sndcli.training.recipe import Recipe
from sndcli.training.robustness import PGD, robust_accuracy

ROBUSTNESS = ("linf:8/255:7", "l2:0.5:7")
DATA = {
    "train": "CIFAR-10, the 50,000 train images; no validation split, no choice of checkpoint",
    "proxy": "CIFAR-10, 2,000 test images outside the shipped evaluation set; no choice of checkpoint",
}


def ship(
    recipe: Recipe,
    model: nn.Module,
    path: Path,
    test_set: ImageSet,
    device: torch.device,
    pgd: Sequence[str] = ROBUSTNESS,
    pgd_images: int = 1000,
) -> Card:
    """Writes the network of `model` to `path` (safetensors) and its card beside it (``.json``); returns the card.

    Args:
        recipe: how `model` was trained.
        model: what `sndcli.training.loop.train` returned.
        path: of the weights.
        test_set: for the accuracy; PGD runs on the first `pgd_images` of it.
        device: where to compute.
        pgd: attacks, as `PGD.parse` reads them.
        pgd_images: 0 leaves robust accuracy out.
    """
    recipe = recipe.on(device.type)
    classifier, state, extra = train_form_state(recipe, model)
    with replacing(path) as temporary:
        save_weights(classifier, recipe.arch, temporary, state, extra)
    defended = reload(recipe, path, device)
    (value,) = accuracy(Forward(defended, device, 200), test_set, [0])
    robust: list[Robust] = [
        {"pgd": text, "n": min(pgd_images, len(test_set)),
         "value": robust_accuracy(defended, test_set, PGD.parse(text), device, pgd_images)}
        for text in (pgd if pgd_images else ())
    ]  # fmt: skip
    card: Card = {
        "name": path.stem, "arch": recipe.arch, "defense": recipe.defense, "sha256": checksum(path.read_bytes()),
        "data": DATA[recipe.split], "precision": "bf16" if recipe.bf16 else "fp32",
        "accuracy": {"data": test_set.source, "n": len(test_set), "value": value}, "robust": robust,
        "recipe": recipe.as_dict(),
    }  # fmt: skip
    write_text(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return card


def reload(recipe: Recipe, path: Path, device: torch.device) -> nn.Module:
    """The network of a weights file as `snd attack` would ask it, with its noise."""
    if recipe.defense in trained.NAMES:
        weights = trained.read(f"file:{path}", recipe.defense)
        return trained.defend(weights, recipe.defense, device, torch.Generator(device))
    return optimise(load_model(f"file:{path}?arch={recipe.arch}"), device)
