"""An audit: the battery as ordinary runs, then one test an image of the points that won, and what honest users get.

Every attack writes an ordinary result file, so that an audit that was ended goes on, and attacks are done by workers
or in shares. What is measured beside them lies in the folder ``audit`` there. `analysis.audit` computes the figures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import pyarrow as pa
import torch

from sndcli.attacks.registry import REFERENCES
from sndcli.datasets.base import ImageSet
from sndcli.datasets.load import choose
from sndcli.datasets.protocol import protocol_of
from sndcli.defenses.parse import DefenseSpec
from sndcli.models.opaque import Model
from sndcli.runs import honest, points
from sndcli.runs.audited import FINAL, FOLDER, Audited, Done, Facts, honest_of, same_runs, write
from sndcli.runs.battery import BATTERY, VERIFY, YARDSTICK_IMAGES, Access, Step, battery, before, claims
from sndcli.runs.config import RunConfig
from sndcli.runs.executors.base import Executor, Here
from sndcli.runs.final import Attacked, judge
from sndcli.runs.job import Job, Shared
from sndcli.runs.listener import Listener
from sndcli.runs.prepare import not_trained_on, open_source, prepare
from sndcli.runs.request import Request
from sndcli.runs.shard import Shard
from sndcli.runs.victim import Victim
from sndcli.runs.words import slug

BARE = DefenseSpec()


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is to be audited.

    Attributes:
        request: model, data, bound, budget, images, seed and machine of all runs; its attack counts for nothing.
        access: of the attacker.
        yardsticks: whether published attacks are run too.
        listener: told how it goes.
        debug: let an attack's exception through.
        opened: gives model and data, each time the same; None: they are opened here.
        executor: where units are done.
    """

    request: Request
    access: Access = "both"
    yardsticks: bool = True
    listener: Listener = Listener()  # noqa: RUF009 (it has no state)
    debug: bool = False
    opened: Callable[[], tuple[Model, ImageSet]] | None = None
    executor: Executor = Here()  # noqa: RUF009 (it has none either)

    @cached_property
    def _open(self) -> Callable[[], tuple[Model, ImageSet]]:
        return self.opened or cache(partial(open_source, self.request, self.listener))

    @property
    def references(self) -> tuple[str, ...]:
        """Sources of networks of the attacker's own: those given, else the data set's where it has some."""
        given = self.request.references
        if given is None:
            return tuple(REFERENCES.get(self.request.dataset, ()))
        return tuple(source for source in given if source != "none")

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Of the battery."""
        return battery(self.request.norm or "l2", self.access, bool(self.references), self.yardsticks)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The images: any of the data set, right or not, drawn once by the seed; the same for every defense."""
        r, usual = self.request, protocol_of(self.request.dataset)
        if r.image_ids:
            return r.image_ids
        data = not_trained_on(self._open()[1], self.references)
        index = choose(data, r.images or usual.images, "all", r.seed, lambda x: torch.zeros(len(x)))
        return tuple(data.ids[index].tolist())

    def _request(self, step: Step, spec: DefenseSpec, ids: Sequence[int]) -> Request:
        return replace(
            self.request, attack=step.attack, preset=step.preset, settings=(), engine="native", defense=spec, votes=1,
            references=self.references if step.references else None, norm=self.request.norm or "l2", budgets=(),
            images=None, select="correct", select_by=None, image_ids=tuple(ids), stop="verified", repeats=1,
            verify=VERIFY, quantize=True, mismatch=False, boundary=False, save_points=True,
        )  # fmt: skip

    def _job(self, step: Step, spec: DefenseSpec, ids: Sequence[int]) -> Job:
        """A run of a step."""
        made = prepare(self._request(step, spec, ids), _Quiet(self.listener), self.debug, self._open)
        return replace(made, executor=self.executor, listener=self.listener)

    def images_of(self, step: Step, done: Sequence[Done]) -> tuple[int, ...]:
        """Those that a step gets, given the runs before it."""
        if step.role == "yardstick":
            return self.ids[:YARDSTICK_IMAGES]
        if not step.survivors:
            return self.ids
        counted = {self.steps.index(other) for other in before(self.steps, step)}
        broken = {
            image for run in done if not run.bare and run.step in counted
            for image, outcome in run.outcomes.items() if outcome.broken
        }  # fmt: skip
        return tuple(image for image in self.ids if image not in broken)

    # -- runs ------------------------------------------------------------------------------------------------

    def jobs(self) -> list[tuple[Step, Job, DefenseSpec]]:
        """The runs that are known before any was done: those that get all images, or the first of all."""
        spec, found = self.request.defense, []
        for step in self.steps:
            if step.survivors:
                continue
            for each in self._arms(step, spec):
                found.append((step, self._job(step, each, self.images_of(step, ())), each))
        return found

    @staticmethod
    def _arms(step: Step, spec: DefenseSpec) -> list[DefenseSpec]:
        """The victims of a step: a champion's are the bare model too."""
        return [spec, BARE] if step.role == "champion" and spec.effective.name != "none" else [spec]

    def share(self, shard: Shard) -> list[Shared]:
        """Does a share of the runs that are known from the start."""
        return [job.share(shard, spec, partial(self._victim, job, spec)) for _, job, spec in self.jobs()]

    def run(self) -> Audited:
        """Runs what is missing.

        Raises:
            ConfigError: something that cannot be.
            IncompleteError: another process is at a run, or the machine failed.
        """
        spec, done = self.request.defense, list[Done]()
        for place, step in enumerate(self.steps):
            ids = self.images_of(step, done)
            if not ids:
                done.append(Done(place, bare=False))
                continue
            for each in self._arms(step, spec):
                job = self._job(step, each, ids)
                run = job.run(each, partial(self._victim, job, each))
                bare = each is BARE and spec.effective.name != "none"
                done.append(Done.of(place, bare, run.path, run.table))
        return self._finish(done)

    def _victim(self, job: Job, spec: DefenseSpec) -> Victim:
        """The model behind a defense, made once."""
        key = spec, job.config.compiled
        if key not in self._victims:
            self._victims[key] = job.victim(spec)
        return self._victims[key]

    @cached_property
    def _victims(self) -> dict[tuple[DefenseSpec, bool], Victim]:
        return {}

    # -- what is beside the runs -----------------------------------------------------------------------------

    def _finish(self, done: Sequence[Done]) -> Audited:
        spec = self.request.defense
        champion = next(step for step in self.steps if step.role == "champion")
        job = self._job(champion, spec, self.ids)
        config = replace(job.config, defense=job.settled(spec))
        path = self.request.out / FOLDER / (self._name(config) + FINAL)
        final = None if self.request.fresh else same_runs(path, done)
        found = Audited(
            Facts.of(config), self.access, self.steps, self.ids, tuple(done),
            self._final(job, spec, done) if final is None else final, path,
        )  # fmt: skip
        if final is None:
            write(path, found)
        if self.request.fresh or honest.read(honest_of(path)) is None:
            honest.write(honest_of(path), honest.measure(self._victim(job, spec), job.data, self.request.seed))
        return found

    def _name(self, config: RunConfig) -> str:
        """A readable name that no other audit has."""
        identity = [BATTERY, self.access, self.yardsticks, self.references, config.as_dict()]
        short = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        model, defended = slug(config.model.split("/")[-1]), slug(config.defense.words)
        return "_".join((BATTERY, slug(config.dataset), model, defended, self.access, f"q{config.budget}", short))

    def _final(self, job: Job, spec: DefenseSpec, done: Sequence[Done]) -> pa.Table:
        """The final draws."""
        index = job.data.positions(self.ids)
        x0, y = job.data.pixels(index), job.data.labels[index]
        tables = []
        for access in claims(self.access):
            for arm, each in {"defended": spec, "bare": BARE}.items():
                mine = [*self._attacked(done, access, arm == "bare" and spec.effective.name != "none")]
                if arm == "bare":
                    mine = [run for run in mine if self.steps[run.step].role == "champion"]
                if mine:
                    config = replace(job.config, defense=job.settled(each))
                    tables.append(judge(arm, access, mine, self.ids, x0, y, self._victim(job, each), config))
        return pa.concat_tables(tables)

    def _attacked(self, done: Sequence[Done], access: Access, bare: bool) -> Iterator[Attacked]:
        for run in done:
            if run.path is not None and run.bare == bare and self.steps[run.step].serves(access):
                yield Attacked(run.step, run.outcomes, partial(points.read, points.path_of(run.path)))


class _Quiet(Listener):
    """Lets through what went wrong: each of many runs would tell of the same data and model."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def warn(self, text: str) -> None:
        """See `Listener.warn`."""
        self._listener.warn(text)
