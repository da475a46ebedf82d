"""A job: everything a run needs but the defense, and how it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch

from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import DefenseSpec, settle
from sndcli.errors import ConfigError
from sndcli.models.opaque import Model, OpaqueModel
from sndcli.models.reference import Reference
from sndcli.runs import results
from sndcli.runs.accuracy import accuracy_by
from sndcli.runs.config import RunConfig
from sndcli.runs.executors.base import Executor, Here
from sndcli.runs.executors.sent import Opened, Recipe
from sndcli.runs.experiment import Experiment, Share
from sndcli.runs.files import RunFiles
from sndcli.runs.foreign import check_foreign
from sndcli.runs.listener import Listener
from sndcli.runs.meter import Tick
from sndcli.runs.rounding import check_rounding
from sndcli.runs.shard import Shard
from sndcli.runs.victim import Victim


@dataclass(frozen=True)
class Run:
    """A finished run: its rows and where they lie."""

    table: pa.Table
    path: Path


@dataclass(frozen=True)
class Shared:
    """A share of a run that was done: where the result will be, and how far the run is; None: it is finished."""

    path: Path
    share: Share | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs but the defense, which may change from run to run.

    Attributes:
        data: the images, at the model's input size.
        model: the undefended one.
        config: of the run.
        device: where it computes.
        batch_rows: rows a forward pass; 0: measured.
        out: a folder, or the path of the result.
        fresh: start anew.
        debug: let an attack's exception through.
        references: the attacker's own models.
        save_points: keep the final points.
        chooser: data and model that choose the images in the attacked model's place.
        listener: told how it goes.
        allow_rounding: a reduced precision is allowed without a defense.
        executor: where units are done.
        source: of the model, from which workers open it where it cannot be sent; None: they cannot.
    """

    data: ImageSet
    model: Model
    config: RunConfig
    device: torch.device
    batch_rows: int
    out: Path
    fresh: bool = False
    debug: bool = False
    references: Sequence[Reference] = ()
    save_points: bool = False
    chooser: tuple[ImageSet, Model] | None = None
    listener: Listener = Listener()  # noqa: RUF009 (it has no state)
    allow_rounding: bool = False
    executor: Executor = Here()  # noqa: RUF009 (it has none either)
    source: str | None = None

    def victim(self, defense: DefenseSpec) -> Victim:
        """The job's model behind one defense, fit to the data."""
        return self._fit(self.model, settle(defense, self.model), self.data)

    def run(self, defense: DefenseSpec, victim: Callable[[], Victim] | None = None) -> Run:
        """Runs the job's attack against one defense, or reads the run where it is finished.

        `victim` makes, or has made, the model behind that defense; it is called only where there is something to run.
        """
        check_rounding(self.config.precision, defense, self.allow_rounding)
        c = replace(self.config, defense=settle(defense, self.model))
        files = RunFiles(self.out, c, self.save_points)
        done = None if self.fresh else files.finished()
        if done is not None:  # nothing to fold, measure or compile
            self.listener.note(f"already there, {_origin(done)}, not run again (--fresh): {files.path}")
            return Run(done, files.path)
        experiment = self._experiment(c, victim() if victim else self.victim(defense))
        with self._telling(c) as progress:
            table = experiment.run(self.fresh, progress)
        if unpaid := experiment.chooser[1].answers_to_name:
            self.listener.note(f"images were chosen by a majority of 9 answers each: {unpaid:,} unpaid answers")
        if isinstance(self.model, OpaqueModel) and (sent := self.model.sent()):
            self.listener.note(
                f"{self.model.name} was sent {sent['requests']:,} requests about {sent['images']:,} images; "
                f"{sent['retries']:,} retries, {sent['failed']:,} failed"
            )
        self.listener.note(f"written: {files.path}")
        return Run(table, files.path)

    def share(self, shard: Shard, defense: DefenseSpec, victim: Callable[[], Victim] | None = None) -> Shared:
        """Runs a share of the units of the job's attack against one defense; `merge` puts shares together.

        Raises:
            ConfigError: ``--fresh``, which would take away what the other shares have.
        """
        if self.fresh:
            raise ConfigError("`--shard` goes on with what other shares began: no --fresh. To start anew, remove the "
                              "folder.")  # fmt: skip
        c = replace(self.config, defense=settle(defense, self.model))
        files = RunFiles(self.out, c, self.save_points)
        if files.finished() is not None:
            self.listener.note(f"already there and whole, not run again: {files.path}")
            return Shared(files.path, None)
        experiment = self._experiment(c, victim() if victim else self.victim(defense))
        with self._telling(c, f", share {shard}") as progress:
            return Shared(files.path, experiment.share(shard, progress))

    def settled(self, defense: DefenseSpec) -> DefenseSpec:
        """A defense that says which weights it has with the job's model."""
        return settle(defense, self.model)

    def accuracy(self, victim: Victim, defense: DefenseSpec, data: ImageSet, seeds: Sequence[int]) -> list[float]:
        """Share of correct labels of `data` behind a defense, for each seed of its randomness."""
        recipe = Recipe.of(victim, settle(defense, self.model), self.config.precision, self.config.compiled)
        return accuracy_by(self.executor, victim, Opened(self.model, self.source), recipe, data, seeds)

    def _experiment(self, config: RunConfig, victim: Victim) -> Experiment:
        return Experiment(
            config, self.data, victim, self.out, self.listener.warn, self.debug, self.references, self.save_points,
            self._chooser(), self.executor, Opened(self.model, self.source),
        )  # fmt: skip

    @contextmanager
    def _telling(self, config: RunConfig, which: str = "") -> Iterator[Callable[[Tick], None]]:
        """While inside, ticks are shown."""
        start = time.perf_counter()
        with self.listener.progress(1.0, f"{config.attacked} against {config.defended}{which}") as update:

            def progress(tick: Tick) -> None:
                rate = tick.queries / max(1e-9, time.perf_counter() - start)
                text = f"{tick.provisional}, {rate:.0f} queries/s"
                update(tick.share, text + (", verifying" if tick.phase == "verification" else ""))

            yield progress

    def _chooser(self) -> tuple[ImageSet, Victim] | None:
        if self.chooser is None:
            return None
        data, model = self.chooser
        return data, self._fit(model, DefenseSpec(), data)

    def _fit(self, model: Model, defense: DefenseSpec, data: ImageSet) -> Victim:
        c = self.config
        if c.compiled:
            self.listener.note(f"{model.name} is compiled, which takes up to a minute (--no-compile: it is not)")
        victim = Victim.prepare(model, defense, self.device, self.batch_rows, c.precision, c.compiled)
        victim.fit_to(data)
        check_foreign(defense, victim, self.listener.warn)
        if victim.draws_itself:
            self.listener.note(
                f"{model.name} answers the same question differently: it is verified with {c.verify} draws, as a "
                "defense is, and what the undefended model says is not known"
            )
        if c.mismatch and victim.bare is None:
            raise ConfigError(f"`--mismatch` compares with the undefended model, which {model.name} does not show.")
        return victim


def _origin(table: pa.Table) -> str:
    """Which version made a result, and when."""
    run = results.run_of(table)
    return f"made by snd {run['versions']['sndcli']} on {run['made'][:10]}"
