"""The training loop: resumable at every epoch, bit for bit on the CPU: all randomness comes from (seed, epoch)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sndcli.datasets.base import ImageSet
from sndcli.defenses import trained
from sndcli.defenses.noise_layers import RSE
from sndcli.defenses.parametric_noise import SharedPNI
from sndcli.defenses.streams import NoisyNetwork
from sndcli.errors import ConfigError
from sndcli.models.checkpoint import load_strictly
from sndcli.models.classifier import CIFAR10, Classifier
from sndcli.models.dropping import dropping
from sndcli.models.sources import ARCHITECTURES, load_model
from sndcli.runs.writing import replacing
from sndcli.training.augment import alternating_flip, cutout, jitter, random_crop
from sndcli.training.objectives import Objective, objective_of
from sndcli.training.recipe import Recipe
from sndcli.training.robustness import PGD, robust_accuracy

ROBUST_STEPS, ROBUST_IMAGES = 7, 500  # of the robust accuracy in the log


@dataclass(frozen=True)
class Progress:
    """One report of the loop, after a step or an epoch. `test_accuracy` and `robust_accuracy` where measured."""

    epoch: int
    step: int
    steps: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    images_per_s: float
    robust_accuracy: float | None = None


Report = Callable[[Progress], None]


def _silent(_: Progress) -> None:
    pass


def build(recipe: Recipe) -> Classifier:
    """The network a run begins with: fresh under the recipe's seed, or the weights of `recipe.start`.

    The caller's global random state is left as it was.

    Raises:
        DataError: the weights of `recipe.start` do not fit the architecture.
    """
    if recipe.arch not in ARCHITECTURES:
        raise ConfigError(f"Expected `arch` to be one of {sorted(ARCHITECTURES)} but got `{recipe.arch}`.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = ARCHITECTURES[recipe.arch]()
    if recipe.start:
        given = _defended_start(recipe)
        model = given.model if given is not None else load_model(recipe.start)
        load_strictly(network, model.network.state_dict(), recipe.start)
    return Classifier(network, CIFAR10, name=recipe.arch)


def with_noise(recipe: Recipe, model: Classifier, device: torch.device) -> NoisyNetwork | None:
    """`model` with the noise of the recipe's defense in its layers; None for a recipe without."""
    generator = torch.Generator(device).manual_seed(recipe.seed)
    if recipe.defense == "rse":
        units = recipe.pixel_units
        return RSE(model, recipe.sigma_init, recipe.sigma_inner, pixel_units=units, generator=generator)
    if recipe.defense != "pni":
        return None
    noisy, given = SharedPNI(model, generator), _defended_start(recipe)
    if given is not None:
        noisy.set_alphas(given.alphas)
    return noisy


def _coins(generator: torch.Generator, like: torch.Tensor, _: int) -> torch.Tensor:
    """Uniform on [0, 1), for all dropped layers from one generator."""
    return torch.rand(like.shape, generator=generator, device=like.device)


def _defended_start(recipe: Recipe) -> trained.Weights | None:
    """The weights to start from, where they are of the recipe's own defense (and bring their α along)."""
    if recipe.defense not in trained.NAMES or not recipe.start:
        return None
    try:
        return trained.read(recipe.start, recipe.defense)
    except ConfigError:  # those of a plain network
        return None


def train(
    recipe: Recipe,
    train_set: ImageSet,
    test_set: ImageSet,
    out: Path,
    device: torch.device,
    compiled: bool = False,
    report: Report = _silent,
) -> Classifier | NoisyNetwork:
    """Trains, writing ``last.pt`` and a line of ``log.jsonl`` in `out` after every epoch; continues what is there.

    The last epoch's weights are returned: no checkpoint is chosen by its test accuracy.

    Raises:
        ConfigError: `out` holds a run of another recipe, or a network with noise shall be compiled.
    """
    recipe = recipe.on(device.type)
    classifier = build(recipe).to(device).to(memory_format=torch.channels_last)
    noisy = with_noise(recipe, classifier, device)
    if noisy is not None and compiled:
        raise ConfigError(f"`--compile` cannot follow the noise of {recipe.defense}; leave it out.")
    out.mkdir(parents=True, exist_ok=True)
    model = noisy if noisy is not None else classifier
    optimizer, objective = _optimizer(model, recipe), objective_of(recipe)
    first = _resume(out, recipe, classifier, optimizer, device.type)
    forward = cast(nn.Module, torch.compile(model)) if compiled else model
    for epoch in range(first, recipe.epochs):
        start = time.perf_counter()
        if noisy is not None:
            noisy.reseed(recipe.seed * 1_000_003 + epoch)
        model.train()
        generator = torch.Generator(device).manual_seed(recipe.seed * 1_000_003 + epoch)
        with dropping(classifier.network, recipe.drop, partial(_coins, generator)):
            loss, accuracy = _epoch(recipe, objective, epoch, forward, optimizer, train_set, device, report)
        seconds = time.perf_counter() - start
        measured = evaluate(model, test_set, device) if _measure(recipe, epoch) else None
        robust = _robust(recipe, model, test_set, device) if _measure(recipe, epoch) else None
        _save(out, recipe, classifier, optimizer, epoch + 1)
        line = {"epoch": epoch + 1, "loss": loss, "train_accuracy": accuracy, "test_accuracy": measured}
        line |= {"robust_accuracy": robust} if recipe.pgd else {}
        line |= {"lr": recipe.lr_at(epoch + 1), "seconds": round(seconds, 1)}
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        steps = -(-len(train_set) // recipe.batch_size)
        report(Progress(epoch + 1, steps, steps, loss, accuracy, measured, len(train_set) / seconds, robust))
    model.eval()
    return model


@torch.no_grad()
def evaluate(model: nn.Module, images: ImageSet, device: torch.device, batch_size: int = 200) -> float:
    """Share of `images` that the model in eval mode classifies correctly."""
    model.eval()
    correct = 0
    for index in torch.arange(len(images)).split(batch_size):
        x = images.pixels(index).to(device).contiguous(memory_format=torch.channels_last)
        correct += int((model(x).argmax(1).cpu() == images.labels[index]).sum())
    return correct / len(images)


def _robust(recipe: Recipe, model: nn.Module, images: ImageSet, device: torch.device) -> float | None:
    """Accuracy under PGD in the recipe's ball, for the log."""
    if not recipe.pgd:
        return None
    ball = PGD.parse(recipe.pgd)
    return robust_accuracy(model, images, PGD(ball.norm, ball.eps, ROBUST_STEPS), device, ROBUST_IMAGES)


def _epoch(
    recipe: Recipe,
    objective: Objective,
    epoch: int,
    forward: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: ImageSet,
    device: torch.device,
    report: Report,
) -> tuple[float, float]:
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    batches = torch.randperm(len(data), generator=generator).split(recipe.batch_size)
    seen, correct, total, start = 0, 0, 0.0, time.perf_counter()
    for step, index in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(epoch + (step + 1) / len(batches))
        x = augment(recipe, epoch, data.images[index], index, generator).to(device)
        y = data.labels[index].to(device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
            pixels = x.to(torch.float32).div_(255.0).contiguous(memory_format=torch.channels_last)
            loss, logits = objective(forward, pixels, y, epoch, generator)
        loss.backward()
        optimizer.step()
        seen += len(index)
        total += float(loss.detach()) * len(index)
        correct += int((logits.detach().argmax(1) == y).sum())
        rate = seen / (time.perf_counter() - start)
        if step + 1 < len(batches):
            report(Progress(epoch, step + 1, len(batches), total / seen, correct / seen, None, rate))
    return total / seen, correct / seen


def augment(recipe: Recipe, epoch: int, images: Tensor, ids: Tensor, generator: torch.Generator) -> Tensor:
    """Crop and flip of a uint8 batch: small unpadded crops in the first epochs, padded full-size ones after."""
    if epoch < recipe.small_epochs:
        cropped = random_crop(images, recipe.small_size, 0, generator)
    else:
        cropped = random_crop(images, images.shape[-1], recipe.padding, generator)
    if recipe.jitter:
        cropped = jitter(cropped, recipe.jitter, generator)
    if recipe.cutout:
        cropped = cutout(cropped, recipe.cutout, generator)
    return alternating_flip(cropped, ids, epoch, recipe.seed)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)


def _measure(recipe: Recipe, epoch: int) -> bool:
    return (epoch + 1) % 5 == 0 or epoch + 1 == recipe.epochs


def _save(out: Path, recipe: Recipe, model: Classifier, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    state = {
        "recipe": recipe.as_dict(),
        "epoch": epoch,
        "network": model.network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replacing(out / "last.pt") as temporary:
        torch.save(state, temporary)


def _resume(out: Path, recipe: Recipe, model: Classifier, optimizer: torch.optim.Optimizer, device: str) -> int:
    path = out / "last.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if Recipe(**state["recipe"]).on(device) != recipe:  # older ones do not say what CUDA makes of them
        raise ConfigError(f"{out} holds a run of another recipe: {state['recipe']}.\nChoose another --out.")
    model.network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"])


def train_form_state(recipe: Recipe, model: nn.Module) -> tuple[Classifier, dict[str, Tensor], dict[str, str]]:
    """What a trained model's file holds: the classifier, tensors under their plain names, header entries."""
    classifier = model.model if isinstance(model, NoisyNetwork) else model
    assert isinstance(classifier, Classifier)
    state = model.state() if isinstance(model, SharedPNI) else classifier.network.state_dict()
    if not isinstance(model, NoisyNetwork):
        return classifier, state, {}
    settings = model.settings if isinstance(model, RSE) else {}
    return classifier, state, {"defense": recipe.defense, "settings": json.dumps(settings)}
