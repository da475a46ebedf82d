"""How far a run is, of the ticks of its units: those that ended and those that run, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from sndcli.runs.meter import Phase, Tick, at_the_end


class Gathered:
    """Adds up units and tells of the whole.

    Args:
        total: images, of all seeds.
        tell: is told.
        warn: is told warnings.
    """

    def __init__(self, total: int, tell: Callable[[Tick], None], warn: Callable[[str], None]) -> None:
        self._total, self._tell, self._warn = total, tell, warn
        self._ended = Tick(0, 0, total, 0, 0.0, "attack")
        self._running: dict[int, Tick] = {}

    def there(self, rows: pa.Table) -> None:
        """A unit was finished by an earlier process, of which nobody is told."""
        self._add(0, rows)

    def hear(self, place: int, told: Tick | str) -> None:
        """A unit tells how far it is, or warns."""
        if isinstance(told, str):
            self._warn(told)
            return
        self._running[place] = told
        self._tell(self._now(told.phase))

    def ended(self, place: int, rows: pa.Table) -> None:
        """A unit has ended."""
        last = self._running.pop(place, None)
        told = last is not None and last.images == len(rows)
        paid = last.queries if last is not None and told else sum(rows.column("queries").to_pylist())
        self._add(paid, rows)
        if not told:  # a worker does not tell all
            self._tell(self._now("attack"))

    def _add(self, queries: int, rows: pa.Table) -> None:
        e = self._ended
        seen, noisy = e.seen + at_the_end(rows, "seen"), e.noisy + at_the_end(rows, "noisy")
        self._ended = Tick(e.queries + queries, e.images + len(rows), e.total, seen, 0.0, "attack", noisy)

    def _now(self, phase: Phase) -> Tick:
        e, running = self._ended, self._running.values()
        images = e.images + sum(tick.share * tick.total for tick in running)
        return Tick(
            e.queries + sum(tick.queries for tick in running), e.images + sum(tick.images for tick in running),
            self._total, e.seen + sum(tick.seen for tick in running), images / max(1, self._total), phase,
            e.noisy + sum(tick.noisy for tick in running),
        )  # fmt: skip
