"""A job: everything a run needs but the defense, and how it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sndcli.cli import options as o
from sndcli.cli.progress import progress_bar

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from sndcli.datasets.base import ImageSet
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.models.classifier import Classifier
    from sndcli.models.inference import Forward
    from sndcli.models.reference import Reference
    from sndcli.runs.config import RunConfig
    from sndcli.runs.victim import Victim


@dataclass
class Job:
    """Everything a run needs but the defense, which may change from run to run."""

    data: ImageSet
    model: Classifier
    config: RunConfig
    device: torch.device
    batch_rows: int
    out: Path
    fresh: bool
    quiet: bool
    no_progress: bool
    debug: bool
    references: Sequence[Reference] = ()
    save_points: bool = False
    chooser: tuple[ImageSet, Classifier] | None = None  # who chooses images in the attacked model's place

    def victim(self, defense: DefenseSpec) -> Victim:
        """The job's model behind one defense, fit to the data."""
        from sndcli.defenses.parse import settle
        from sndcli.runs.victim import Victim

        c = self.config
        defense = settle(defense, self.model)
        victim = Victim.prepare(self.model, defense, self.device, self.batch_rows, c.precision, c.compiled)
        victim.fit_to(self.data)
        return victim

    def run(self, defense: DefenseSpec, victim: Callable[[], Victim] | None = None) -> tuple[pa.Table, Path]:
        """Runs the job's attack against one defense, or reads the run where it is finished.

        `victim` makes, or has made, the model behind that defense; it is called only where there is something to run.
        """
        from sndcli.defenses.parse import settle
        from sndcli.runs.experiment import Experiment, Tick
        from sndcli.runs.files import RunFiles

        defense = settle(defense, self.model)
        c = replace(self.config, defense=defense)
        files = RunFiles(self.out, c, self.save_points)
        done = None if self.fresh else files.finished()
        if done is not None:  # nothing to fold, measure or compile
            o.note(f"already there, {_origin(done)}, not run again (--fresh): {files.path}", self.quiet)
            return done, files.path
        made = victim() if victim else self.victim(defense)
        experiment = Experiment(
            c, self.data, made, self.out, _warn, self.debug, self.references, self.save_points, self._chooser()
        )  # fmt: skip
        total = float(c.images * c.repeats * c.budget)
        start = time.perf_counter()
        what = f"{c.attack} {defense.name} {defense.sigma:g}" if defense.random else c.attack
        bar = o.interactive(self.quiet, self.no_progress)
        with progress_bar(total, what, bar, not (self.quiet or self.no_progress)) as update:

            def progress(tick: Tick) -> None:
                rate = tick.queries / max(1e-9, time.perf_counter() - start)
                done = max(float(tick.queries), total * tick.images / tick.total)
                update(done, f"{tick.images}/{tick.total} images, {rate:.0f} queries/s, {tick.seen} seen")

            table = experiment.run(self.fresh, progress)
        o.note(f"written: {files.path}", self.quiet)
        return table, files.path

    def _chooser(self) -> tuple[ImageSet, Forward] | None:
        from sndcli.defenses.parse import DefenseSpec
        from sndcli.runs.victim import Victim

        if self.chooser is None:
            return None
        (data, model), c = self.chooser, self.config
        victim = Victim.prepare(model, DefenseSpec(), self.device, self.batch_rows, c.precision, c.compiled)
        victim.fit_to(data)
        return data, victim.undefended


def _origin(table: pa.Table) -> str:
    """Which version made a result, and when."""
    from sndcli.runs import results

    run = results.run_of(table)
    return f"made by snd {run['versions']['sndcli']} on {run['made'][:10]}"


def _warn(text: str) -> None:
    o.note(f"warning: {text}")
