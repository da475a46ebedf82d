"""A league: audits of the rows of a suite, one after the other on the same images, and an index of what is there."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

from sndcli.datasets.base import ImageSet
from sndcli.errors import DataError
from sndcli.models.opaque import Model
from sndcli.runs import audited
from sndcli.runs.audit import Audit
from sndcli.runs.audited import Audited
from sndcli.runs.estimate import Planned
from sndcli.runs.executors.base import Executor
from sndcli.runs.listener import Listener
from sndcli.runs.prepare import open_source
from sndcli.runs.request import Request
from sndcli.runs.suite import Row, Suite
from sndcli.runs.writing import write_text

INDEX, RUNS = "league.json", "runs"
Spread = Callable[[Sequence[Planned]], AbstractContextManager[Executor]]


@dataclass(frozen=True)
class Entered:
    """A row of the league and its audit, None where it is not finished; whether it was run now."""

    row: Row
    audited: Audited | None
    new: bool = False


@dataclass(frozen=True, kw_only=True)
class League:
    """The audits of a suite.

    Attributes:
        suite, rows: of the file.
        request: machine, data folder and seed of all runs; its model and defense count for nothing.
        folder: of the league; results of runs lie in `RUNS` there.
        listener: told how it goes.
        debug: let an attack's exception through.
    """

    suite: Suite
    rows: tuple[Row, ...]
    request: Request
    folder: Path
    listener: Listener = Listener()  # noqa: RUF009 (it has no state)
    debug: bool = False

    def audit(self, row: Row, opened: Callable[[], tuple[Model, ImageSet]] | None = None) -> Audit:
        """The audit of a row."""
        s = self.suite
        request = replace(
            self.request, model=row.model, dataset=s.dataset, defense=row.spec, norm=s.norm,
            eps=() if s.eps is None else (s.eps,), budget=s.budget, images=s.images, seed=s.seed,
            references=None if s.reference is None else tuple(s.reference), out=self.folder / RUNS,
        )  # fmt: skip
        return Audit(
            request=request, access=s.seen, yardsticks=row.yardsticks, listener=self.listener, debug=self.debug,
            opened=opened,
        )  # fmt: skip

    def run(self, only: Sequence[str], seconds: float, spread: Spread) -> Iterator[Entered]:
        """The rows in order, with the audits that are finished by then.

        Args:
            only: names of rows that may be run; none: all.
            seconds: after which no further audit is begun.
            spread: makes workers for runs.
        """
        start, sources = time.monotonic(), cache(self._source)
        for row in self.rows:
            found, new = None if self.request.fresh else self.finished(row), False
            if found is None and (not only or row.name in only or row.family in only):
                if time.monotonic() - start > seconds:
                    self.listener.note(f"{row.name}: not begun, the time is over")
                else:
                    self.listener.note(f"audit of {row.name}")
                    found = self._run(self.audit(row, sources(row.model)), spread)
                    self._enter(row, found)
                    new = True
            yield Entered(row, found, new)

    def _source(self, model: str) -> Callable[[], tuple[Model, ImageSet]]:
        request = replace(self.request, model=model, dataset=self.suite.dataset)
        return cache(partial(open_source, request, self.listener))

    @staticmethod
    def _run(plan: Audit, spread: Spread) -> Audited:
        runs = [Planned(job, spec, name=step.name) for step, job, spec in plan.jobs()]
        with spread(runs) as executor:
            return replace(plan, executor=executor).run()

    # -- what is there ---------------------------------------------------------------------------------------

    def finished(self, row: Row) -> Audited | None:
        """The audit of a row where it is there; no model is needed."""
        name = self._index().get(self._key(row))
        if name is None:
            return None
        try:
            found = audited.read(self.folder / RUNS / audited.FOLDER / name)
            _ = found.honest
        except DataError as error:
            self.listener.warn(f"{row.name}: {error}")
            return None
        return found

    def _index(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def _enter(self, row: Row, found: Audited) -> None:
        index = self._index() | {self._key(row): found.path.name}
        write_text(self.folder / INDEX, json.dumps(index, indent=1, sort_keys=True) + "\n")

    def _key(self, row: Row) -> str:
        """What decides the figures of a row, and no more: names and citations may change."""
        s, r = self.suite, self.request
        identity = [
            s.battery, s.dataset, s.norm, s.eps, s.budget, s.images, s.seed, s.seen, s.reference, row.yardsticks,
            row.model, asdict(row.spec), str(r.data_dir), r.precision, r.device, r.compiled,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
