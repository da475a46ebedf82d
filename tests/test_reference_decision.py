"""Label attacks beside their plain one-image forms: the same draws lead to the same queries and the same point."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
import torch
from reference.boundary import boundary
from reference.boundary_art import boundary_art
from reference.decisions import Ask, Draw, OutOfBudget
from reference.geoda import geoda
from reference.hsja import hsja
from reference.hsja_na import hsja_na
from reference.popskipjump import popskipjump
from reference.rays import rays
from reference.sign_opt import sign_opt
from torch import Tensor

from sndcli.attacks.registry import ATTACKS, options_of
from sndcli.oracle import REFUSED, Oracle
from sndcli.streams import ImageStreams

SHAPE, D, IMAGES, SEED = (3, 8, 8), 192, 3, 5


@dataclass
class Victim:
    """Three classes, of which 0 is right; class 1 lies behind a plane, or a paraboloid, and class 2 behind a plane.

    The k-th query of an image meets its own k-th noise, whoever asks it, so that noisy runs can be compared too.
    """

    curvature: float
    sigma: float
    x0: Tensor
    seed: int = 0

    def __post_init__(self) -> None:
        self.w = torch.randn(2, D, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        self.w /= self.w.norm(dim=1, keepdim=True)
        bend = torch.randn(D, 12, generator=torch.Generator().manual_seed(self.seed + 1), dtype=torch.float64)
        self.bend = torch.linalg.qr(bend).Q
        self.border = self.values(self.x0).amax(0) + torch.tensor([0.2, 0.6])
        self.noise = [torch.Generator().manual_seed(100 * self.seed + i) for i in range(len(self.x0))]

    def values(self, z: Tensor) -> Tensor:
        centred = z.double().flatten(1) - 0.5
        planes = centred @ self.w.T
        planes[:, 0] += self.curvature * (centred @ self.bend).square().sum(1)
        return planes

    def label(self, z: Tensor, image: int) -> int:
        margin = self.values(z[None])[0] - self.border
        margin += self.sigma * torch.randn(2, generator=self.noise[image], dtype=torch.float64)
        return int(torch.cat([torch.zeros(1), margin]).argmax())


@dataclass
class Heard:
    """What an image's queries were, and what they were told."""

    sent: list[Tensor] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


class Recorder(Oracle):
    """An oracle that remembers each image's queries."""

    def __init__(self, victim: Victim, **kwargs: Any) -> None:
        n = len(victim.x0)
        super().__init__(self._answers, victim.x0, torch.zeros(n, dtype=torch.int64), **kwargs)
        self.victim, self.heard, self._whose = victim, [Heard() for _ in range(n)], list[int]()

    def labels(self, points: Tensor, owner: Tensor, phase: Any) -> Tensor:
        left, self._whose = self.remaining.tolist(), []
        for image in owner.tolist():
            left[image] -= 1
            if left[image] >= 0:
                self._whose.append(image)
        answers = super().labels(points, owner, phase)
        for row in (answers != REFUSED).nonzero().flatten().tolist():
            heard = self.heard[int(owner[row])]
            heard.sent.append(points[row].clamp(0, 1).clone())
            heard.labels.append(int(answers[row]))
        return answers

    def _answers(self, z: Tensor) -> Tensor:
        labels = [self.victim.label(row, self._whose.pop(0)) for row in z]
        return torch.nn.functional.one_hot(torch.tensor(labels), 3).float()

    def handed_over(self) -> list[Tensor | None]:
        ledger = self.close()
        return [point if bool(held[-1]) else None for point, held in zip(ledger.held[-1], ledger.has_held, strict=True)]


@dataclass(frozen=True)
class Case:
    """An attack with a preset, and its plain form, which takes those of the options that are published."""

    reference: Callable[..., None]
    attack: str
    preset: str
    norm: str = "l2"
    budget: int = 1500
    settings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.attack}-{self.preset}-{self.norm}"

    def options(self) -> Any:
        return options_of(ATTACKS[self.attack], self.preset, self.settings)

    def vectorised(self, victim: Victim, eps: float = float("inf")) -> Recorder:
        oracle = Recorder(victim, budget=self.budget, norm=self.norm, eps=eps)
        streams = ImageStreams(SEED, range(len(victim.x0)), "attack")
        importlib.import_module(ATTACKS[self.attack].module).run(oracle, streams, self.options())
        return oracle

    def plain(self, victim: Victim, image: int, seed: int = SEED, **more: Any) -> Ask:
        accepted = self.reference.__kwdefaults__ or {}
        names = set(self.reference.__annotations__)
        options = {k: v for k, v in asdict(self.options()).items() if k in names} | accepted | more
        x = victim.x0[image]
        ask = Ask(lambda z: victim.label(z, image), x, 0, self.budget, self.norm)
        draw = Draw(ImageStreams(seed, range(len(victim.x0)), "attack"), image, SHAPE)
        try:
            self.reference(x, ask, draw, **options)
        except OutOfBudget:
            pass
        return ask


CASES = [
    Case(hsja, "hsja", "authors"),
    Case(hsja, "hsja", "authors", "linf"),
    Case(hsja, "hsja", "art"),
    Case(hsja, "hsja", "art", "linf"),
    Case(boundary, "ba", "foolbox"),
    Case(boundary_art, "ba", "art"),
    Case(boundary_art, "ba", "art12"),
    Case(boundary_art, "ba", "art13"),
    Case(sign_opt, "sign-opt", "authors"),
    Case(sign_opt, "sign-opt", "saving"),
    Case(geoda, "geoda", "authors", settings=("sub_dim=4",)),
    Case(geoda, "geoda", "authors", "linf", settings=("sub_dim=4",)),
    Case(geoda, "geoda", "step1", settings=("sub_dim=4",)),
    Case(rays, "rays", "authors", "linf"),
    Case(rays, "rays", "authors", "l2"),
    Case(popskipjump, "popskipjump", "authors", settings=("grid=40",)),
    Case(hsja_na, "hsja-na", "sequential"),
    Case(hsja_na, "hsja-na", "majority"),
]


def images(n: int = IMAGES) -> Tensor:
    return (0.5 + 0.2 * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
