"""``snd sigma-sweep NAME``: accuracy against success for several noise settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.ranges import COUNT, POINTS

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.runs.job import Job
    from sndcli.runs.listener import Listener


@dataclass(frozen=True, kw_only=True)
class SigmaSweep(o.AttackOptions):
    """Measure accuracy and success for several noise settings, paired on the same images, and recommend one.

    A setting is recommended only where an attack that knows of the noise does worse than without it, beyond chance.

    Example: snd sigma-sweep hsja-na --sigmas 0,0.001,0.01,0.02 --budget 5000
    """

    sigmas: Annotated[str, typer.Option(help="Settings of snd; 0 is none of it.")] = "0,0.001,0.01,0.02"
    betas: Annotated[str, typer.Option(help="none, or a of Beta(a, a): none,1,2,0.5.")] = "none"
    accuracy_repeats: Annotated[int, COUNT, typer.Option(help="Draws behind each accuracy.")] = 5
    max_drop: Annotated[float, POINTS, typer.Option(help="Accuracy that may be lost, in points.")] = 1.0
    plot: Annotated[Path | None, typer.Option(help="Accuracy against success, .svg or .png.")] = None

    def run(self, listener: "Listener") -> "Shown":
        """One run for each setting, and what follows."""
        from sndcli.analysis import sweep
        from sndcli.attacks.registry import noise_aware
        from sndcli.cli.finished import results
        from sndcli.cli.shares import shared
        from sndcli.errors import ConfigError
        from sndcli.paper.sweep import measured
        from sndcli.reports import plots
        from sndcli.reports import sweep as pictures
        from sndcli.runs.accuracy import accuracy
        from sndcli.runs.estimate import Planned
        from sndcli.runs.prepare import prepare

        if self.out.suffix == ".parquet":
            raise ConfigError("`--out` of a sweep is a folder: it writes one file for each setting.")
        if self.plot is not None:
            plots.check(self.plot)
        specs = self._settings()
        self.check_rounding(specs)
        job = prepare(self.request(specs[0]), listener, self.debug)
        if self.dry_run:
            return self._planned(job, specs)
        runs, points, part = [], [], self.part()
        with self.spread(Planned(job, spec) for spec in specs) as executor:
            job = replace(job, executor=executor)
            if part is not None:
                return shared(part, [job.share(part, spec) for spec in specs])
            for spec in specs:
                made = cache(partial(job.victim, spec))
                runs.append(job.run(spec, made))
                points.append(measured(job, spec, made(), runs[-1].table, self.accuracy_repeats))
        sweep.pair(points)
        (undefended,) = accuracy(made().undefended, job.data, [0])
        advice = sweep.advise(points, undefended, self.max_drop / 100, noise_aware(self.name, self.preset))
        found = {
            "sweep": [point.as_dict() for point in points], "undefended_accuracy": undefended,
            "recommended": advice.best.label if advice.best else None, "recommendation": advice.as_dict(),
        }  # fmt: skip
        if self.plot is not None:
            pictures.draw(points, self.plot, self.name)
            listener.note(f"written: {self.plot}")
        return results(runs, listener, found, [pictures.table(points), advice.text], details=True)

    def _settings(self) -> "list[DefenseSpec]":
        """Each once.

        Raises:
            ConfigError: no numbers.
        """
        from sndcli.defenses.parse import parse
        from sndcli.errors import ConfigError

        def numbers(text: str, option: str) -> list[float]:
            try:
                return [float(part) for part in text.split(",")]
            except ValueError:
                raise ConfigError(f"Expected `{option}` to be numbers separated by commas but got `{text}`.") from None

        noise = numbers(self.sigmas, "--sigmas")
        scales = [None if part == "none" else numbers(part, "--betas")[0] for part in self.betas.split(",")]
        settings = dict.fromkeys((s, b) for s in noise for b in (scales if s else [None]))
        return [parse(self.defense or "snd", s, b, self.clip, self.defense_weights) for s, b in settings]

    def _planned(self, job: "Job", specs: "Sequence[DefenseSpec]") -> "Shown":
        from sndcli.cli.finished import planned
        from sndcli.paper.sweep import MARGIN_DRAWS
        from sndcli.runs import cost
        from sndcli.runs.estimate import Planned

        n = len(job.data)
        extra = [
            cost.of_accuracy(n, self.accuracy_repeats, spec.random) + cost.of_margin(job.config.images, MARGIN_DRAWS)
            for spec in specs
        ]
        extra[0] += cost.of_reference(n)
        return planned([Planned(job, spec, more) for spec, more in zip(specs, extra, strict=True)])
