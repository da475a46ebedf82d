"""How far a run is: told while its units are attacked and verified, with what was seen so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
from torch import Tensor

from sndcli.ball import within
from sndcli.queries.draws import Logits
from sndcli.queries.ledger import Ledger
from sndcli.runs.config import RunConfig
from sndcli.runs.cost import of_run

Phase = Literal["attack", "verification"]


@dataclass(frozen=True)
class Tick:
    """How far a run is.

    Attributes:
        queries: paid so far in this process.
        images: finished, of all seeds; those of earlier processes count.
        total: of all seeds.
        seen: images on which success was seen, inside the unit that runs too.
        share: of the run's usual passes that are done, from 0 to 1.
        phase: what is going on.
        noisy: of the finished images those on which success was verified, at the last report point.
    """

    queries: int
    images: int
    total: int
    seen: int
    share: float
    phase: Phase
    noisy: int = 0

    @property
    def provisional(self) -> str:
        """The row of the result as far as it is known, in words.

        Example:
            >>> Tick(1200, 30, 60, 24, 0.6, "attack", 9).provisional
            'seen on 24 of 60 images (40 %) so far, noisy on 9 of 30 finished (30 %)'
        """
        seen = f"seen on {self.seen} of {self.total} images ({_percent(self.seen, self.total)}) so far"
        noisy = f", noisy on {self.noisy} of {self.images} finished ({_percent(self.noisy, self.images)})"
        return seen + (noisy if self.images else "")


class Meter:
    """Adds up how far a run is and tells of it.

    Args:
        config: of the run, with its defense.
        total: images, of all seeds.
        tell: is told.
    """

    def __init__(self, config: RunConfig, total: int, tell: Callable[[Tick], None]) -> None:
        usual = of_run(replace(config, images=1, image_ids=(), repeats=1, select="all"), 1).usual  # of one image
        self._paid, self._unpaid, self._eps = usual.paid, usual.defended - usual.paid, config.eps
        self._known = 0  # queries of the unit that runs whose answers are from a process before
        self._now, self._tell = Tick(0, 0, total, 0, 0.0, "attack"), tell

    def ended(self, rows: pa.Table, here: bool) -> None:
        """A unit is finished, `here` or in a process before, of which nobody is told."""
        now = self._now
        paid = sum(rows.column("queries").to_pylist()) - self._known if here else 0
        self._known = 0
        images = now.images + len(rows)
        seen, noisy = now.seen + at_the_end(rows, "seen"), now.noisy + at_the_end(rows, "noisy")
        self._now = Tick(now.queries + paid, images, now.total, seen, images / max(1, now.total), "attack", noisy)
        if here:
            self._tell(self._now)

    def attacked(self, logits: Logits, ledger: Callable[[], Ledger]) -> Logits:
        """`logits`, telling at each pass what the `ledger` of the unit that is attacked has by then."""

        self._known, first = 0, True  # of N images the ledger's counts are the host's: nobody waits for a GPU

        def told(x: Tensor) -> Tensor:
            nonlocal first
            if first:
                self._known, first = int(ledger().used.sum()), False
            found = logits(x)
            used, best = ledger().used.numpy(), ledger().best.numpy()
            queries, seen = int(used.sum()), int(within(best, self._eps).sum())
            share = queries / (self._paid + self._unpaid)
            self._tell(self._within(queries, seen, min(share, len(used) * self._before), "attack"))
            return found

        return told

    def verified(self, logits: Logits, ledger: Ledger) -> Logits:
        """`logits`, telling at each pass how far the verification of the unit that `ledger` is of has come."""
        images = len(ledger.used)
        queries, seen = int(ledger.used.sum()), int(within(ledger.best, self._eps).sum())
        rows = 0

        def told(x: Tensor) -> Tensor:
            nonlocal rows
            found = logits(x)
            rows += len(x)
            share = images * self._before + rows / (self._paid + self._unpaid)
            self._tell(self._within(queries, seen, min(share, images), "verification"))
            return found

        return told

    @property
    def _before(self) -> float:
        """Share of an image's passes that are before its verification."""
        return self._paid / (self._paid + self._unpaid)

    def _within(self, queries: int, seen: int, images: float, phase: Phase) -> Tick:
        """Inside a unit in which so much has happened, as much as so many `images` take."""
        now = self._now
        share = (now.images + images) / max(1, now.total)
        paid = now.queries + queries - self._known
        return Tick(paid, now.images, now.total, now.seen + seen, share, phase, now.noisy)


def at_the_end(rows: pa.Table, name: str) -> int:
    """On how many rows a measure that runs along the report points holds at the last one; null does not."""
    return sum(bool(along[-1]) for along in rows.column(name).to_pylist() if along)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.0f} %"
