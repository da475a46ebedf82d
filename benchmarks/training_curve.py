"""Draws loss and accuracy of a training log, or of several that continue each other.

usage: python benchmarks/training_curve.py runs/first/log.jsonl runs/second/log.jsonl docs/results/training_resnet20.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def main(logs: list[Path], picture: Path) -> None:
    lines: list[dict[str, Any]] = []
    for log in logs:
        done = len(lines)
        for line in map(json.loads, log.read_text().splitlines()):
            lines.append(line | {"epoch": done + line["epoch"]})
    epochs = [line["epoch"] for line in lines]
    tested = [(line["epoch"], 100 * line["test_accuracy"]) for line in lines if line["test_accuracy"] is not None]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [line["loss"] for line in lines], color="#0072b2")
    left.set(xlabel="epoch", ylabel="training loss")
    right.plot(epochs, [100 * line["train_accuracy"] for line in lines], color="#0072b2", label="train (augmented)")
    right.plot(*zip(*tested, strict=True), "s--", color="#d55e00", label="test")
    robust = [(x["epoch"], 100 * x["robust_accuracy"]) for x in lines if x.get("robust_accuracy") is not None]
    if robust:
        right.plot(*zip(*robust, strict=True), "^:", color="#009e73", label="test, under PGD-7")
    right.set(xlabel="epoch", ylabel="accuracy, %")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:-1]], Path(sys.argv[-1]))
