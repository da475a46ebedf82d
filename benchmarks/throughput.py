"""Paid queries per second of every attack beside the raw forward rate of the same network, in one run.

usage: python benchmarks/throughput.py [--images 100] [--budget 300] [--foolbox] [--only hsja,ba] [--sigma 0.01]
       python benchmarks/throughput.py --only hsja,ba,simba,square --others
       python benchmarks/throughput.py --model torchvision:resnet50/random --images 8 --budget 100 --only hsja,geoda

Images are the shipped ones for resnet20, else random ones of the model's size, labelled by the model itself.
The raw rate is the best over a few batch sizes of the same folded network, on random images, without an oracle, a
defense or an attack; it is measured before and after each attack and the mean of the two is its reference, because
shared machines drift. Ratios are what to quote. Where an attack asks reference models of its own, their passes are
not queries: the time they take is left out of its rate, and is given beside it with their number.

``--others`` adds the attacks of Foolbox and ART by themselves (`others.py`) on the same network and images; it needs
``pip install foolbox adversarial-robustness-toolbox``.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from sndcli.attacks.registry import ATTACKS, FOOLBOX, REFERENCES, spec_of
from sndcli.attacks.spec import options_of
from sndcli.datasets import cifar10
from sndcli.defenses.parse import DefenseSpec
from sndcli.models.inference import Forward, resolve_device
from sndcli.models.reference import Reference
from sndcli.models.sources import load_model
from sndcli.queries.oracle import Oracle
from sndcli.runs.memory import keep_freed_memory
from sndcli.runs.unit import run_attack
from sndcli.runs.victim import Victim
from sndcli.streams import Streams


def raw_rate(victim: Victim, size: int, seconds: float = 2.0) -> float:
    """Rows a second of the bare network at one batch size."""
    forward = Forward(victim.undefended.model, victim.undefended.device, size)
    x = torch.rand(size, *victim.classifier.input_size, device=forward.device)
    forward(x)
    settle(forward.device)
    start, rows = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        forward(x)
        settle(forward.device)
        rows += size
    return rows / (time.perf_counter() - start)


def settle(device: torch.device) -> None:
    """Waits for what a GPU still has to do, so that a clock read afterwards means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Timed(Reference):
    """A reference model that knows how long it was busy."""

    seconds = 0.0

    def vjp(self, x: Tensor, s: Tensor, rate: float, streams: Streams, image: Tensor) -> Tensor:
        start = time.perf_counter()
        found = super().vjp(x, s, rate, streams, image)
        self.seconds += time.perf_counter() - start
        return found


def attacked(victim: Victim, images: int) -> tuple[Tensor, Tensor]:
    """Images ``[N, C, H, W]`` and their labels."""
    if victim.classifier.name == "resnet20":
        data = cifar10.load_shipped()
        return data.pixels(torch.arange(images)), data.labels[:images]
    x0 = torch.rand(images, *victim.classifier.input_size, generator=torch.Generator().manual_seed(0))
    return x0, victim.undefended(x0).argmax(1)


def attack_rate(name: str, engine: str, victim: Victim, images: int, budget: int) -> tuple[float, str]:
    """Paid queries a second of an attack on `images` images, and what its reference models did meanwhile."""
    device = victim.defended.device
    x0, y = attacked(victim, images)
    norm = ATTACKS[name].norms[0]
    eps = 0.05 if norm == "l2" else 0.5 / 255  # so small that score attacks, which stop at success, go on
    everyone, streams = torch.arange(images), victim.streams
    oracle = Oracle(
        victim.defended, x0.to(device), y.to(device), budget=budget, norm=norm, eps=eps,
        streams=streams(0, everyone, 0, "defense"),
    )  # fmt: skip
    sources = REFERENCES["cifar10"] if spec_of(name).references else ()
    references = [Timed(load_model(source), device) for source in sources]
    start = time.perf_counter()
    oracle.check(scores=ATTACKS[name].access == "scores")
    run_attack(oracle, streams(0, everyone, 0, "attack"), name, engine, options_of(spec_of(name), None), references)
    settle(device)
    elapsed, aside = time.perf_counter() - start, sum(reference.seconds for reference in references)
    passes = sum(reference.rows for reference in references)
    note = f", {passes} reference passes apart, {passes / aside:.0f}/s" if passes else ""
    return int(oracle.ledger.used.sum()) / (elapsed - aside), note


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--batches", default="32,64,128,256,512")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--sigma", type=float, default=0.0)
    parser.add_argument("--foolbox", action="store_true")
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    keep_freed_memory()  # as `snd` does
    device = resolve_device("auto")
    victim = Victim.prepare(load_model(arguments.model), DefenseSpec("snd", arguments.sigma), device, 128)
    rates = {size: raw_rate(victim, size) for size in map(int, arguments.batches.split(","))}
    best = max(rates, key=lambda size: rates[size])
    print("raw forward, rows/s by batch:", ", ".join(f"{k}: {v:.0f}" for k, v in rates.items()), flush=True)
    victim.defended.batch_size = victim.undefended.batch_size = best
    names = arguments.only.split(",") if arguments.only else [n for n in ATTACKS if n != "null"]
    jobs = [(name, "native") for name in names]
    jobs += [(name, "foolbox") for name in FOOLBOX] if arguments.foolbox else []
    print("| attack | engine | queries/s | raw rows/s | ratio |\n| --- | --- | ---: | ---: | ---: |", flush=True)
    for name, engine in jobs:
        before = raw_rate(victim, best)
        rate, note = attack_rate(name, engine, victim, arguments.images, arguments.budget)
        raw = (before + raw_rate(victim, best)) / 2
        print(f"| {name}{note} | {engine} | {rate:.0f} | {raw:.0f} | {rate / raw:.2f} |", flush=True)
    if arguments.others:
        import others

        x0, y = attacked(victim, arguments.images)
        network = victim.undefended.model
        for name in others.OTHERS:
            before = raw_rate(victim, best)
            rate = others.rate(name, network, x0, y, arguments.budget)
            raw = (before + raw_rate(victim, best)) / 2
            attack, library = name.split()
            print(f"| {attack} | {library}'s own | {rate:.0f} | {raw:.0f} | {rate / raw:.2f} |", flush=True)


if __name__ == "__main__":
    main()
