"""A tiny model, and ones that end their process, for tests of executors: in a module that workers can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn

from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import parse
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.runs.config import RunConfig
from sndcli.runs.executors.base import Executor
from sndcli.runs.executors.sent import Opened
from sndcli.runs.experiment import Experiment
from sndcli.runs.victim import Victim

SIZE = (1, 8, 8)


class Linear(nn.Module):
    """Three classes, of which the first is right on most speckled greys."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.randn(64, 3, generator=torch.Generator().manual_seed(5)) / 8

    def forward(self, z: Tensor) -> Tensor:
        return (z - 0.5).flatten(1) @ self.w + torch.tensor([0.05, 0.0, 0.0])


class Mortal(Linear):
    """Ends its process, unless that is the one that made it, in pass `passes`; only while there are `lives` files."""

    def __init__(self, lives: Path, passes: int = 3) -> None:
        super().__init__()
        self.lives, self.passes, self.maker = lives, passes, os.getpid()

    def forward(self, z: Tensor) -> Tensor:
        if bool(z.isfinite().any()) and os.getpid() != self.maker:  # the first keeps it from being traced
            self.passes -= 1
            if self.passes == 0:
                for life in self.lives.iterdir():
                    life.unlink(missing_ok=True)
                    os.kill(os.getpid(), signal.SIGKILL)
        found: Tensor = super().forward(z)
        return found


class Doomed(Linear):
    """Ends every process but the one that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = os.getpid()

    def forward(self, z: Tensor) -> Tensor:
        if bool(z.isfinite().any()) and os.getpid() != self.maker:  # the first keeps it from being traced
            os.kill(os.getpid(), signal.SIGKILL)
        found: Tensor = super().forward(z)
        return found


def images(count: int) -> ImageSet:
    pixels = torch.randint(110, 146, (count, *SIZE), generator=torch.Generator().manual_seed(4)).to(torch.uint8)
    labels = Linear()(pixels.float() / 255).argmax(1)
    return ImageSet("speckles", "made here", pixels, labels, torch.arange(count), ("a", "b", "c"))


def config(attack: str = "hsja", **changes: object) -> RunConfig:
    settings: dict[str, object] = {
        "defense": parse(None, 0.02, None), "budget": 60, "budgets": (30, 60), "images": 6, "verify": 4, "eps": 0.5,
        "boundary": False, "model_digest": "",
    }  # fmt: skip
    return RunConfig(attack, "cifar10", "made here", "", "linear", **{**settings, **changes})  # type: ignore[arg-type]


def experiment(
    out: Path, run: RunConfig, executor: Executor | None = None, network: nn.Module | None = None, **more: object
) -> Experiment:
    model = Classifier(network or Linear(), Normalisation((0.0,), (1.0,)), SIZE, "linear")
    victim = Victim.prepare(model, run.defense, torch.device("cpu"), 64)
    victim.fit_to(images(run.images))
    opened = Opened(model)
    return Experiment(run, images(run.images), victim, out, executor=executor, opened=opened, **more)  # type: ignore[arg-type]
