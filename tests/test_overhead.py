"""What a call of the oracle costs beside the network: operators and waits, counted, as a timing cannot hold a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from conftest import SHAPE, half_space
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.spec import options_of
from sndcli.queries import oracle as queries
from sndcli.queries.oracle import Oracle
from sndcli.runs.unit import run_attack
from sndcli.streams import ImageStreams

VIEWS = {"view", "_unsafe_view", "alias", "split", "slice", "select", "unsqueeze", "squeeze", "expand", "detach",
         "t", "transpose", "permute", "as_strided", "reshape", "_reshape_alias", "unbind"}  # fmt: skip
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "_unique2", "equal", "repeat_interleave", "masked_select"}
OPERATORS, TRANSFERS = 60, 2  # a call may cost, outside network and attack


class Counting(TorchDispatchMode):
    """Counts the operators of the regions that are open; none of the network's."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[str] = Counter()
        self.open = False

    @contextmanager
    def region(self, counted: bool) -> Iterator[None]:
        before, self.open = self.open, counted
        try:
            yield
        finally:
            self.open = before

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.open:
            name = func.overloadpacket.__name__
            self.operators[name] += name not in VIEWS
        return func(*args, **(kwargs or {}))


class Watched(Oracle):
    """Counts its calls, and what each costs beside the model."""

    counting: Counting
    calls = 0

    def _pay(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        with self.counting.region(True):
            return super()._pay(*arguments, **named)

    def submit(self, points: Tensor, image: Tensor) -> None:
        with self.counting.region(True):
            super().submit(points, image)


def cost(name: str, monkeypatch: pytest.MonkeyPatch, images: int = 8, budget: int = 150) -> tuple[float, float, float]:
    """Operators, waits and transfers a call of an attack on half-spaces, outside network and attack."""
    counting, victim = Counting(), half_space(margin=0.5)
    transfers = 0
    brought = queries._on_host

    def on_host(*columns: Tensor) -> Any:
        nonlocal transfers
        transfers += 1
        return brought(*columns)

    def network(x: Tensor) -> Tensor:
        with counting.region(False):
            return victim(x)

    monkeypatch.setattr(queries, "_on_host", on_host)
    x0, y, norm = torch.full((images, *SHAPE), 0.5), torch.zeros(images, dtype=torch.int64), ATTACKS[name].norms[0]
    oracle = Watched(network, x0, y, budget=budget, norm=norm, eps=1e-3)
    oracle.counting = counting
    with counting:
        oracle.check(scores=ATTACKS[name].access == "scores")
        run_attack(oracle, ImageStreams(0, range(images), "attack"), name, "native", options_of(spec_of(name), None))
    waits = sum(counting.operators[wait] for wait in WAITS)
    return counting.operators.total() / oracle.calls, waits / oracle.calls, transfers / oracle.calls


@pytest.mark.parametrize("name", ["hsja", "hsja-na", "ba", "square", "nes"])
def test_a_call_costs_few_operators_and_waits_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operators, waits, transfers = cost(name, monkeypatch)
    assert 5 < operators <= OPERATORS
    assert waits == 0
    assert 1 < transfers <= TRANSFERS


@pytest.mark.slow
def test_what_many_images_cost_is_what_few_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    few, _, _ = cost("square", monkeypatch)
    many, _, _ = cost("square", monkeypatch, images=64)
    assert many == pytest.approx(few, rel=0.1)


def test_the_counter_sees_waits() -> None:
    counting = Counting()
    with counting, counting.region(True):
        (torch.ones(3) > 0).nonzero()
        bool(torch.ones(1).sum() > 0)
    assert counting.operators["nonzero"] == 1
    assert counting.operators["_local_scalar_dense"] == 1
