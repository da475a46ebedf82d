"""Rows a second behind each defense, against the bare network, at one batch size; and the cost of training steps.

python benchmarks/defenses.py --batch 100 --threads 2 [--training]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from sndcli.datasets import cifar10
from sndcli.defenses.noise_layers import RSE
from sndcli.defenses.parametric_noise import PNI, SharedPNI
from sndcli.defenses.small_noise import SmallNoise
from sndcli.models.inference import Forward, optimise
from sndcli.models.sources import load_model
from sndcli.training.loop import build, with_noise
from sndcli.training.objectives import Objective, objective_of
from sndcli.training.recipe import recipe_of

CPU = torch.device("cpu")


def best(run: Callable[[], object], rounds: int) -> float:
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def inference(batch: int, rounds: int) -> None:
    model = load_model("resnet20")
    layers = ((k, m) for k, m in model.network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    alphas = {f"{name}.alpha": torch.full((len(layer.weight),), 0.05) for name, layer in layers}
    victims: dict[str, nn.Module] = {
        "none": optimise(model, CPU),
        "snd": SmallNoise(optimise(model, CPU), 0.01),
        "pni": PNI(model, alphas),
        "rse": RSE(optimise(model, CPU)),
        "pni-shared": SharedPNI(load_model("resnet20")),
    }
    x = torch.rand(batch, 3, 32, 32)
    forwards = {name: Forward(victim.eval(), CPU, -(-batch // 8) * 8) for name, victim in victims.items()}
    for name, forward in forwards.items():
        bare, mine = best(partial(forwards["none"], x), rounds), best(partial(forward, x), rounds)
        print(f"{name:10} {batch / mine:8.0f} rows/s, {bare / mine:.2f} of the bare network")


def training(rounds: int) -> None:
    data = cifar10.load_shipped()
    x, y = data.pixels()[:128].contiguous(memory_format=torch.channels_last), data.labels[:128]
    plain = 0.0
    for defense in ("none", "rse", "pni", "at"):
        recipe = recipe_of("resnet20", defense)
        classifier = build(recipe).to(memory_format=torch.channels_last)
        model = with_noise(recipe, classifier, CPU) or classifier
        objective = objective_of(recipe)
        model.train()

        def step(model: nn.Module = model, objective: Objective = objective) -> None:
            objective(model, x, y, 0, torch.Generator())[0].backward()

        took = best(step, rounds)
        plain = plain or took
        print(f"{defense:10} {128 / took:8.0f} images/s, {took / plain:.2f} of a plain step; {recipe.pgd}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--training", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    (training(arguments.rounds) if arguments.training else inference(arguments.batch, arguments.rounds))
