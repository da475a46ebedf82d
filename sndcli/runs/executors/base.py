"""What all executors have in common: a work is done for each of several units, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

from sndcli.models.opaque import Model
from sndcli.runs.meter import Tick
from sndcli.runs.unit import Tell

U = TypeVar("U")  # a unit of a work
R = TypeVar("R")  # what comes of it
TRIES = 3  # of a unit whose worker dies
Hear = Callable[[int, Tick | str], None]  # of the unit in this place: how far it is, or a warning
Do = Callable[[U, Tell], R]  # does a unit
There = Callable[[Model, torch.device], Do[U, R]]  # made of a model, on a device


@dataclass(frozen=True)
class Parcel(Generic[U, R]):
    """What another process needs to do a work; all of it can be pickled.

    Attributes:
        key: tells the model from others, so that it is sent once.
        model: gives the one that is asked.
        there: makes of the model what does a unit.
    """

    key: str
    model: Callable[[], Model]
    there: There[U, R]


class Work(Protocol[U, R]):
    """Something to be done for each of several units."""

    def here(self, unit: U, tell: Tell) -> R:
        """Does it in this process."""
        ...

    def parcel(self, same_machine: bool) -> Parcel[U, R]:
        """For another process, on this machine or on one that has none of its files.

        Raises:
            ConfigError: it cannot be sent.
        """
        ...


class Executor(Protocol):
    """Does works; it keeps its workers from one to the next until it is closed."""

    @property
    def workers(self) -> int:
        """How many units it does at once."""
        ...

    def map(self, work: Work[U, R], units: Sequence[U], hear: Hear) -> Iterator[tuple[int, R]]:
        """Does `work` for all units, and yields the place of each and what came of it, as they end.

        Raises:
            IncompleteError: workers die again and again, or the cluster is lost; what was yielded stands.
        """
        ...

    def close(self) -> None:
        """Ends the workers."""
        ...


class Here:
    """One unit after the other, in this process."""

    workers = 1

    def map(self, work: Work[U, R], units: Sequence[U], hear: Hear) -> Iterator[tuple[int, R]]:
        """See `Executor.map`."""
        for place, unit in enumerate(units):

            def tell(told: Tick | str, place: int = place) -> None:
                hear(place, told)

            yield place, work.here(unit, tell)

    def close(self) -> None:
        """Nothing to end."""
