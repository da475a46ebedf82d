"""Label attacks beside their plain one-image forms: the same draws lead to the same queries and the same point."""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from reference.ars_opt import ars_opt
from reference.boundary import boundary
from reference.boundary_art import boundary_art
from reference.cgba import cgba
from reference.decisions import Ask, Draw, OutOfBudget
from reference.geoda import geoda
from reference.hsja import hsja
from reference.hsja_na import hsja_na
from reference.popskipjump import popskipjump
from reference.rays import rays
from reference.sign_opt import sign_opt
from reference.surfree import surfree
from torch import Tensor

from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.spec import options_of
from sndcli.queries.oracle import Oracle
from sndcli.streams import ImageStreams, current_rows, drawing

SHAPE, D, SEED = (3, 8, 8), 192, 5


@dataclass
class Victim:
    """Three classes, of which 0 is right: 1 lies behind a plane, or a paraboloid, and 2 behind a plane further off.

    It remembers what each image asked. The k-th query of an image meets the same noise, whoever asks it, so that noisy
    runs can be compared too.

    Attributes:
        x0: the clean images.
        curvature: of the paraboloid.
        sigma: of the noise added to the margins.
        seed: of the noise.
    """

    x0: Tensor
    curvature: float = 0.0
    sigma: float = 0.0
    seed: int = SEED
    sent: list[list[Tensor]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.w = torch.randn(2, D, generator=generator, dtype=torch.float64)
        self.w /= self.w.norm(dim=1, keepdim=True)
        self.bend = torch.linalg.qr(torch.randn(D, 12, generator=generator, dtype=torch.float64)).Q
        self.boundary = self.values(self.x0).amax(0) + torch.tensor([0.2, 0.6])
        self.sent = [[] for _ in self.x0]
        self.labels = [[] for _ in self.x0]

    @property
    def streams(self) -> ImageStreams:
        return ImageStreams(self.seed, range(len(self.x0)), "defense")

    def values(self, z: Tensor) -> Tensor:
        centred = z.double().flatten(1) - 0.5
        planes = centred @ self.w.T
        planes[:, 0] += self.curvature * (centred @ self.bend).square().sum(1)
        return planes

    def __call__(self, z: Tensor) -> Tensor:
        rows = current_rows()
        assert rows is not None
        noise = rows.streams.normal(rows.image, torch.zeros(1, 2)).double()
        margin = self.values(z) - self.boundary + self.sigma * noise
        logits = torch.cat([torch.zeros(len(z), 1), margin], 1)
        for image, point, label in zip(rows.image.tolist(), z, logits.argmax(1).tolist(), strict=True):
            self.sent[image].append(point.clone())
            self.labels[image].append(label)
        return logits


PLANE = partial(Victim)
CURVED = partial(Victim, curvature=1.0)
NOISY = partial(Victim, curvature=1.0, sigma=0.02)


@dataclass(frozen=True)
class Case:
    """An attack with a preset, beside its plain form, which takes the published ones among its options.

    Attributes:
        tolerance: between the pixels of two queries that should be the same.
        alike: queries that must be the same, at least; a label that differs by rounding ends the comparison.
        ties: it chooses between points that rounding alone may tell apart, and the comparison may end there too: the
            closest of points on one sphere, the most probable of cells whose chances are 1 to seven digits, or one
            bisection step more or fewer where intervals are as short as float32 can tell.
        budget: of the short runs.
        dtype: of the images.
    """

    plain: Callable[..., None]
    attack: str
    preset: str
    norm: str = "l2"
    settings: tuple[str, ...] = ()
    tolerance: float = 1e-4
    alike: int = 200
    ties: bool = False
    budget: int = 300
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        double = "-float64" if self.dtype == torch.float64 else ""
        return f"{self.attack}-{self.preset}-{self.norm}{double}"

    def options(self) -> Any:
        return options_of(spec_of(self.attack), self.preset, self.settings)

    def run(self, victim: Victim, budget: int, eps: float) -> list[Tensor | None]:
        """The attack on all images at once; what it submits."""
        y = torch.zeros(len(victim.x0), dtype=torch.int64)
        oracle = Oracle(victim, victim.x0, y, budget=budget, norm=self.norm, eps=eps, streams=victim.streams)
        streams = ImageStreams(SEED, range(len(y)), "attack")
        spec_of(self.attack).run(oracle, streams, self.options())
        ledger = oracle.close()
        return [
            z if submitted else None
            for z, submitted in zip(ledger.submitted[0], ledger.has_submitted[:, 0].tolist(), strict=True)
        ]

    def run_plain(self, victim: Victim, budget: int, eps: float, seed: int = SEED) -> list[Tensor | None]:
        """The plain form on each image by itself."""
        names = inspect.signature(self.plain).parameters
        options = {k: v for k, v in {**asdict(self.options()), "eps": eps}.items() if k in names}
        noise, submitted = victim.streams, []
        for i, x in enumerate(victim.x0):

            def label(z: Tensor, i: int = i) -> int:
                with drawing(noise, torch.tensor([i])):
                    return int(victim(z[None]).argmax())

            ask = Ask(label, x, 0, budget, self.norm)
            draw = Draw(ImageStreams(seed, range(len(victim.x0)), "attack"), i, SHAPE, x.dtype)
            with suppress(OutOfBudget):
                self.plain(x, ask, draw, **options)
            submitted.append(ask.submitted)
        return submitted


AWARE = [
    Case(boundary, "ba", "na", budget=1000),
    Case(sign_opt, "sign-opt", "na", settings=("starts=8", "directions=40"), budget=1000),
    Case(geoda, "geoda", "na", settings=("sub_dim=4",), budget=1000),
    Case(geoda, "geoda", "na", "linf", settings=("sub_dim=4",), budget=1000),
    Case(rays, "rays", "na", "linf", budget=1000),
    Case(rays, "rays", "na", budget=1000),
    Case(hsja_na, "hsja-na", "majority", budget=500),
    Case(hsja_na, "hsja-na", "sequential", budget=500),
    Case(hsja_na, "hsja-na", "sequential", "linf", settings=("reduce=2", "bend=0.04", "widest=0.02"), budget=500),
    Case(hsja_na, "hsja-na", "sequential", settings=("share=0.75",), budget=500),
    Case(popskipjump, "popskipjump", "share", settings=("grid=100",), dtype=torch.float64, budget=500),
    Case(popskipjump, "popskipjump", "authors", settings=("grid=100",), dtype=torch.float64, budget=500),
]
CASES = [
    Case(hsja, "hsja", "authors"),
    Case(hsja, "hsja", "authors", "linf"),
    Case(hsja, "hsja", "art"),
    Case(hsja, "hsja", "art", "linf"),
    Case(boundary, "ba", "foolbox"),
    Case(boundary_art, "ba", "art", ties=True),
    Case(boundary_art, "ba", "art12", tolerance=1e-3),  # its steps grow without bound, and rounding with them
    Case(boundary_art, "ba", "art13"),
    Case(sign_opt, "sign-opt", "authors", settings=("starts=30",)),
    Case(sign_opt, "sign-opt", "saving", settings=("starts=30",)),
    # Its searches end at 2e-6, near what float32 can tell, and the derivative divides by 1e-3.
    Case(ars_opt, "ars-opt", "authors", settings=("starts=30", "directions=40"), tolerance=3e-3, alike=100, ties=True),
    Case(ars_opt, "ars-opt", "large", settings=("starts=30", "directions=40"), tolerance=3e-3, alike=100, ties=True),
    # On 8 x 8 pixels it bisects to 8e-7, and its probes are so short that rounding is 0.1 % of their directions.
    Case(geoda, "geoda", "authors", settings=("sub_dim=4",), tolerance=1e-3, alike=100, ties=True),
    Case(geoda, "geoda", "authors", "linf", settings=("sub_dim=4",), alike=100, ties=True),
    Case(geoda, "geoda", "raw-224", settings=("sub_dim=4",), tolerance=1e-3),  # steps of 5 lengthen what rounds
    Case(geoda, "geoda", "step1", settings=("sub_dim=4",)),
    Case(cgba, "cgba", "authors", tolerance=1e-3),
    Case(cgba, "cgba", "full", tolerance=1e-3),
    Case(cgba, "cgba", "h", tolerance=1e-3, alike=100),
    Case(surfree, "surfree", "authors"),
    Case(surfree, "surfree", "example"),
    Case(surfree, "surfree", "full"),
    Case(surfree, "surfree", "orthogonal"),
    Case(rays, "rays", "authors", "linf"),
    Case(rays, "rays", "authors"),
    # Many cells have a chance of 1 to seven digits, and in float32 the order of a sum says which has most.
    Case(popskipjump, "popskipjump", "authors", settings=("grid=100",), alike=50, ties=True),
    *AWARE,
]


def test_every_label_attack_and_norm_has_a_plain_form() -> None:
    """That of `transfer`, which asks once, stands in its own tests."""
    wanted = {(spec.name, norm) for spec in ATTACKS.values() if spec.access == "labels" for norm in spec.norms}
    assert {(case.attack, case.norm) for case in CASES} == {
        pair for pair in wanted if pair[0] not in ("null", "transfer")
    }


def clean(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (0.5 + 0.2 * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(3))).clamp(0, 1).to(dtype)


def compare(case: Case, victim: Callable[[Tensor], Victim], budget: int, eps: float = 0.5) -> None:
    together, alone = victim(clean(3, case.dtype)), victim(clean(3, case.dtype))
    found, expected = case.run(together, budget, eps), case.run_plain(alone, budget, eps)
    for i, (z, wanted) in enumerate(zip(found, expected, strict=True)):
        same = [a == b for a, b in zip(together.labels[i], alone.labels[i], strict=False)]
        differs = same.index(False) if False in same else None
        depth = len(same) if differs is None else differs + 1
        gap = torch.stack(together.sent[i][:depth]) - torch.stack(alone.sent[i][:depth])
        apart = (gap.flatten(1).abs().amax(1) > case.tolerance).nonzero().flatten().tolist()
        if apart:
            assert case.ties, f"image {i}: query {apart[0]} differs by {float(gap[apart[0]].abs().max()):.1e}"
            assert apart[0] >= case.alike, f"image {i}: query {apart[0]} differs"
            continue
        if differs is not None:
            assert differs >= case.alike, f"image {i}: answer {differs} differs"
            continue
        assert len(together.sent[i]) == len(alone.sent[i])
        assert (z is None) == (wanted is None)
        assert z is None or wanted is None or float((z - wanted).abs().max()) <= case.tolerance


SLOWER = ("ba-na-l2", "sign-opt-na-l2", "rays-na-linf", "rays-na-l2", "geoda-na-linf", "hsja-na-majority-l2")
EVERY = [pytest.param(case, marks=[pytest.mark.slow] * (str(case) in SLOWER)) for case in CASES]
UNDER_NOISE = [pytest.param(case, marks=[pytest.mark.slow] * (str(case) in SLOWER)) for case in AWARE]


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_the_same_draws_lead_to_the_same_queries(case: Case) -> None:
    compare(case, CURVED, case.budget)


@pytest.mark.parametrize("case", UNDER_NOISE, ids=str)
def test_those_that_know_of_noise_do_so_under_noise(case: Case) -> None:
    """Where votes are split, incumbents fail, and points are not confirmed."""
    compare(case, NOISY, case.budget)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("victim", [PLANE, CURVED, NOISY], ids=["plane", "curved", "noisy"])
def test_they_do_so_in_long_runs(case: Case, victim: Callable[[Tensor], Victim]) -> None:
    compare(case, victim, max(2000, 2 * case.budget))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_other_draws_lead_to_the_same_median_under_noise(case: Case) -> None:
    """Twenty seeds of the attack's and the model's draws on one image, and twenty others for the plain form."""
    x0 = clean(1, case.dtype).expand(20, *SHAPE).clone()
    together, alone = NOISY(x0), NOISY(x0, seed=SEED + 1)
    medians = []
    for submitted in (case.run(together, 1000, 0.5), case.run_plain(alone, 1000, 0.5, SEED + 1)):
        norm = torch.inf if case.norm == "linf" else 2
        far = [torch.inf if z is None else float((z - x).norm(norm)) for z, x in zip(submitted, x0, strict=True)]
        medians.append((statistics.median(far), *statistics.quantiles(far, n=4)[::2]))
    (first, low, high), (second, other_low, other_high) = medians
    assert 0.8 < first / second < 1.25 or (low <= second <= high and other_low <= first <= other_high), medians
