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
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sndcli.attacks.registry import REFERENCES
from sndcli.datasets.base import ImageSet
from sndcli.datasets.load import choose
from sndcli.datasets.protocol import protocol_of
from sndcli.defenses.parse import DefenseSpec
from sndcli.models.opaque import Model
from sndcli.runs import honest, points
from sndcli.runs.battery import BATTERY, FINAL, VERIFY, YARDSTICK_IMAGES, Access, Step, battery, before, claims
from sndcli.runs.config import RunConfig
from sndcli.runs.executors.base import Executor, Here
from sndcli.runs.final import SCHEMA, Attacked, judge
from sndcli.runs.honest import Honest
from sndcli.runs.job import Job, Run, Shared
from sndcli.runs.listener import Listener
from sndcli.runs.outcomes import Outcome, outcomes
from sndcli.runs.prepare import not_trained_on, open_source, prepare
from sndcli.runs.request import Request
from sndcli.runs.shard import Shard
from sndcli.runs.victim import Victim
from sndcli.runs.words import slug
from sndcli.runs.writing import replacing

FOLDER = "audit"  # of what is beside the runs
BARE = DefenseSpec()


@dataclass(frozen=True)
class Done:
    """A finished run of the battery.

    Attributes:
        step: place in the battery.
        bare: whether it was of the bare model.
        run: its rows and its file; None where no image was left for it.
        outcomes: of its images.
    """

    step: int
    bare: bool
    run: Run | None
    outcomes: dict[int, Outcome]

    @property
    def run_id(self) -> str | None:
        """Of the run."""
        return None if self.run is None else str(self.run.table.column("run_id")[0].as_py())


@dataclass(frozen=True)
class Audited:
    """A finished audit.

    Attributes:
        access: of the attacker.
        config: of the defended champion's run.
        steps: of the battery.
        ids: of the images, all that were drawn.
        done: the runs, in order.
        final: what final draws say, see `final.SCHEMA`.
        honest: answers about clean images.
        passes_differ: whether two answers about one image differed; None without a random defense.
        path: of the file of `final`.
    """

    access: Access
    config: RunConfig
    steps: tuple[Step, ...]
    ids: tuple[int, ...]
    done: tuple[Done, ...]
    final: pa.Table
    honest: Honest
    passes_differ: bool | None
    path: Path


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
                done.append(Done(place, False, None, {}))
                continue
            for each in self._arms(step, spec):
                job = self._job(step, each, ids)
                run = job.run(each, partial(self._victim, job, each))
                found = dict(outcomes(run.table, job.config.budget, job.config.eps))
                done.append(Done(place, each is BARE and spec.effective.name != "none", run, found))
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
        champion = next(k for k, step in enumerate(self.steps) if step.role == "champion")
        job = self._job(self.steps[champion], self.request.defense, self.ids)
        spec = self.request.defense
        config = replace(job.config, defense=job.settled(spec))
        stem = self.request.out / FOLDER / self._name(config)
        final = self._final(stem.with_name(stem.name + ".final.parquet"), job, spec, done)
        path = stem.with_name(stem.name + ".honest.parquet")
        told = None if self.request.fresh else honest.read(path)
        if told is None:
            told = honest.measure(self._victim(job, spec), job.data, self.request.seed)
            honest.write(path, told)
        first = next(run for run in done if run.step == champion and not run.bare)
        assert first.run is not None
        differ = json.loads(first.run.table.schema.metadata[b"run"]).get("passes_differ")
        return Audited(
            self.access, config, self.steps, self.ids, tuple(done), final, told, differ,
            stem.with_name(stem.name + ".final.parquet"),
        )  # fmt: skip

    def _name(self, config: RunConfig) -> str:
        """A readable name that no other audit has."""
        identity = [BATTERY, self.access, self.yardsticks, self.references, config.as_dict()]
        short = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        model, defended = slug(config.model.split("/")[-1]), slug(config.defense.words)
        return "_".join((BATTERY, slug(config.dataset), model, defended, self.access, f"q{config.budget}", short))

    def _final(self, path: Path, job: Job, spec: DefenseSpec, done: Sequence[Done]) -> pa.Table:
        """The final draws; those that are there of the same runs."""
        runs = json.dumps([FINAL, *((run.step, run.bare, run.run_id) for run in done)]).encode()
        if not self.request.fresh and (there := _read(path, runs)) is not None:
            return there
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
                    victim = self._victim(job, each)
                    tables.append(judge(arm, access, mine, self.ids, x0, y, victim, config))
        table = pa.concat_tables(tables).replace_schema_metadata({b"runs": runs})
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return table

    def _attacked(self, done: Sequence[Done], access: Access, bare: bool) -> Iterator[Attacked]:
        for run in done:
            if run.run is not None and run.bare == bare and self.steps[run.step].serves(access):
                yield Attacked(run.step, run.outcomes, partial(points.read, points.path_of(run.run.path)))


class _Quiet(Listener):
    """Lets through what went wrong: each of many runs would tell of the same data and model."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def warn(self, text: str) -> None:
        """See `Listener.warn`."""
        self._listener.warn(text)


def _read(path: Path, runs: bytes) -> pa.Table | None:
    """The final draws in a file where they are of these runs."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return None
    same = table.schema.metadata is not None and table.schema.metadata.get(b"runs") == runs
    return table.cast(SCHEMA) if same and table.schema.names == SCHEMA.names else None
