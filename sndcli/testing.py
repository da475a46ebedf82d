"""Whether an attack or a defense of your own keeps the contracts that figures of `snd` rest on.

In a test of your package::

    from sndcli.testing import check_attack, check_defense

    def test_my_attack():
        check_attack(SPEC)

    def test_my_defense():
        check_defense(MyDefense)

``snd doctor --attack NAME --defense NAME`` makes the same checks. All of it runs on victims whose answers are known, on
the CPU and in seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sndcli.attacks.registry import AnyAttack
from sndcli.attacks.spec import Options, options_of
from sndcli.defenses.base import Defense
from sndcli.defenses.conformance import Check, checks_of
from sndcli.errors import first_line
from sndcli.queries.oracle import Oracle
from sndcli.streams import ImageStreams

__all__ = ["Check", "HalfSpace", "attack_checks", "check_attack", "check_defense", "defense_checks"]

SHAPE = (3, 32, 32)
MARGIN = 0.1  # L2 distance of the half-space's boundary
EPS = {"l2": 1.0, "linf": 8 / 255}
BUDGET, LESS, FIRST = 400, 200, 60


class HalfSpace(nn.Module):
    """Two classes, the second iff ``w · (x - 1/2) > m`` with ‖w‖ = 1: from grey, the boundary is at the L2 distance m.

    Of larger images, as a defense may make them, it sees the upper left corner.

    Args:
        margin: m.

    Attributes:
        rows: rows that were evaluated.
        first: the first rows of them, as they came.
    """

    w: Tensor

    def __init__(self, margin: float = MARGIN) -> None:
        super().__init__()
        w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
        self.register_buffer("w", w / w.norm())
        self.margin, self.rows = margin, 0
        self.first: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, 2]`` of ``[M, 3, H, W]``."""
        self.first += list(x[: max(0, FIRST - self.rows)].clone())
        self.rows += len(x)
        value = ((x[..., : SHAPE[1], : SHAPE[2]] - 0.5) * self.w).flatten(1).sum(1) - self.margin
        return torch.stack([-value, value], 1)


def check_attack(spec: AnyAttack, preset: str | None = None) -> None:
    """Runs `attack_checks`.

    Raises:
        AssertionError: some do not hold; says which and what to change.
    """
    _demand(spec.name, attack_checks(spec, preset))


def check_defense(make: Callable[[nn.Module, torch.Generator], nn.Module]) -> None:
    """Runs `defense_checks`.

    Raises:
        AssertionError: some do not hold; says which and what to change.
    """
    _demand(getattr(make, "__name__", "the defense"), defense_checks(make))


def attack_checks(spec: AnyAttack, preset: str | None = None) -> list[Check]:
    """Of an attack that is asked for on a half-space, in its first norm; an attack that raises fails the first check.

    Args:
        spec: the attack. One with reference models of its own cannot be checked here.
        preset: of its options; its first by default.
    """
    if spec.references:
        return [Check("takes no reference models", False, "attacks with references are not checked; leave it out")]
    options = options_of(spec, preset, (), spec.norms[0])
    checks = []
    try:
        for budget in (1, 2, 7, 60):
            _attacked(spec, options, budget)
    except Exception as error:  # whatever the attack does
        advice = f"it raised {type(error).__name__}: {first_line(error)}; rows over the budget come back as -1 or NaN"
        return [Check("ends at any budget", False, advice)]
    checks.append(Check("ends at any budget", True, ""))
    state = torch.get_rng_state()
    whole, victim = _attacked(spec, options, BUDGET)
    untouched = torch.equal(state, torch.get_rng_state())
    ledger = whole.ledger
    paid = int(ledger.used.sum())
    spent = ledger.used.max() <= BUDGET and victim.rows == paid == int(sum(v.sum() for v in ledger.phases.values()))
    checks.append(
        Check("pays for every answer", bool(spent), "ask through the oracle only, and keep no model of your own")
    )
    idle = whole.active & (whole.remaining > 0)
    checks.append(
        Check(
            "goes on until the budget is spent, or says why not", not bool(idle.any()),
            'loop while `oracle.active.any()`; `oracle.retire(image, "exhausted")` ends one with nothing left to try',
        )
    )  # fmt: skip
    again, _ = _attacked(spec, options, BUDGET)
    same = torch.equal(ledger.submitted[-1], again.ledger.submitted[-1])
    checks.append(
        Check(
            "draws from its streams alone", same and untouched,
            "draw with `streams.normal(image, like)`; a generator of your own takes a seed of `streams.seeds(image)`",
        )
    )  # fmt: skip
    alone, long = _attacked(spec, options, BUDGET, images=1)
    apart = torch.equal(ledger.submitted[-1][:1], alone.ledger.submitted[-1])
    checks.append(
        Check(
            "an image does not depend on its batch", apart,
            "let no loop, stopping rule, mean or shuffle run over the batch; draw with each row's own image index",
        )
    )  # fmt: skip
    _, short = _attacked(spec, options, LESS, images=1)
    prefix = len(short.first) == len(long.first) and torch.equal(torch.stack(short.first), torch.stack(long.first))
    checks.append(
        Check(
            "the first queries do not depend on the budget", prefix,
            "leave `oracle.budget` out of schedules, so that a row at Q = 2,000 is the same in a run of 10,000",
        )
    )  # fmt: skip
    ledger = _attacked(spec, options, 2000)[0].ledger
    wrong = ledger.has_submitted[:, -1] & (HalfSpace()(ledger.submitted[-1]).argmax(1) == 1)
    checks.append(
        Check(
            "finds a wrong answer on a half-space in 2,000 queries, and submits it", bool(wrong.any()),
            "call `oracle.submit(points, image)` with what the attack would hand over, as soon as it has it",
        )
    )  # fmt: skip
    return checks


def defense_checks(make: Callable[[nn.Module, torch.Generator], nn.Module]) -> list[Check]:
    """Of a defense around a linear model.

    Args:
        make: called with a model and a generator, as `sndcli.defenses.parse.build` does.
    """
    model = HalfSpace()
    defended = make(model, torch.Generator().manual_seed(1))
    if not isinstance(defended, Defense):
        return [Check("is a Defense", False, "derive it from sndcli.defenses.base.Defense")]
    defended.eval()
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(2)).repeat(32, 1, 1, 1)
    return list(checks_of(defended, x))


def _attacked(spec: AnyAttack, options: Options, budget: int, images: int = 3) -> tuple[Oracle, HalfSpace]:
    """The oracle after the attack on some grey images, and the half-space that it asked."""
    x0 = torch.full((images, *SHAPE), 0.5)
    norm, victim = spec.norms[0], HalfSpace()
    oracle = Oracle(victim, x0, torch.zeros(images, dtype=torch.int64), budget=budget, norm=norm, eps=EPS[norm])
    oracle.check(scores=spec.access == "scores")
    spec.run(oracle, ImageStreams(0, range(images), "attack"), options)
    oracle.close()
    return oracle, victim


def _demand(name: str, checks: list[Check]) -> None:
    failed = [f"{check.name}: no. {check.advice}" for check in checks if not check.good]
    if failed:
        raise AssertionError(f"{name} fails {len(failed)} of {len(checks)} checks:\n" + "\n".join(failed))
