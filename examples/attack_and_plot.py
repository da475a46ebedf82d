"""Attack the shipped network with and without small noise, and draw how many images fall to how many queries.

    python examples/attack_and_plot.py --images 20 --budget 2000 --out success.svg

Trains nothing. Needs matplotlib (``pip install 'sndcli[plot]'``). About four minutes on two cores at the size above.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sndcli
from sndcli.datasets import cifar10

COLOURS = {"hsja": "#0072B2", "hsja-na": "#D55E00"}


def chosen(model: sndcli.Classifier, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `count` of the shipped images that the bare network classifies correctly."""
    data = cifar10.load_shipped()
    x, y = data.pixels(torch.arange(4 * count)), data.labels[: 4 * count]
    with torch.no_grad():
        right = (model(x).argmax(1) == y).nonzero().squeeze(1)[:count]
    return x[right], y[right]


def main() -> None:
    """Two attacks, each against the bare network and against noise of σ = 0.01."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--budget", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("success.svg"))
    given = parser.parse_args()

    model = sndcli.load_model("resnet20").eval()
    x, y = chosen(model, given.images)
    points = [given.budget * k // 8 for k in range(1, 9)]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name in ("hsja", "hsja-na"):
        for sigma in (0.0, 0.01):
            found = sndcli.attack(name, model, x, y, sigma=sigma, budget=given.budget, budgets=points)
            rates = [row["success_noisy"]["value"] for row in found.rows]
            last = found.rows[-1]["success_noisy"]
            print(f"{name:8} σ = {sigma:<5g} noisy {100 * last['value']:.0f} % "
                  f"[{100 * last['lo']:.0f}, {100 * last['hi']:.0f}] at {given.budget} queries")  # fmt: skip
            axes.plot(points, [100 * rate for rate in rates], color=COLOURS[name], ls="--" if sigma else "-",
                      label=f"{name}, σ = {sigma:g}")  # fmt: skip
    axes.set(xlabel="queries an image", ylabel="success, noisy, %", ylim=(0, 100))
    figure.legend(loc="outside right upper")
    figure.savefig(given.out)


if __name__ == "__main__":
    main()
