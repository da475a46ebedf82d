"""``snd attack NAME``: run an attack, or several, write Parquet, print what can be claimed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sndcli.cli import options as o

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.runs.estimate import Planned
    from sndcli.runs.job import Job
    from sndcli.runs.listener import Listener
    from sndcli.runs.victim import Victim

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Attack(o.AttackOptions):
    """Attack a (defended) classifier and report success at several query budgets.

    Several attacks or σ, separated by commas, are all their combinations: each is a run with a file of its own, and
    they are shown together.

    Example: snd attack hsja --dataset cifar10 --sigma 0.01 --budget 10000
    """

    sigma: Annotated[
        str | None,
        typer.Option(help="Noise of snd on the [0, 1] pixel scale; alone it means --defense snd. Several: 0,0.01."),
    ] = None
    beta: o.Beta = None
    save_png: Annotated[
        Path | None,
        typer.Option(help="A folder for pictures of each image: clean, attacked, and their difference.", metavar="DIR"),
    ] = None
    details: o.Details = False

    def run(self, listener: "Listener") -> "Shown":
        """One run for each attack and σ."""
        from sndcli.cli.finished import planned, results
        from sndcli.cli.shares import shared
        from sndcli.errors import ConfigError
        from sndcli.reports import pictures

        part = self.part()
        if part is not None and self.save_png is not None:
            raise ConfigError("`--save-png` shows whole runs: not with --shard.")
        runs = self._planned(listener)
        if self.dry_run:
            return planned(runs)
        with self.spread(runs) as executor:
            runs = [run.by(executor) for run in runs]
            if part is not None:
                return shared(part, [*_done(runs, listener, lambda job, spec, made: job.share(part, spec, made))])
            done = [*_done(runs, listener, lambda job, spec, made: job.run(spec, made))]
        if self.save_png is not None:
            for run in done:
                listener.note(pictures.save(run.path, self.save_png).text)
        return results(done, listener, details=self.details)

    def _planned(self, listener: "Listener") -> "Sequence[Planned]":
        """Each attack with each σ, of one model and data set; checked before the first one starts."""
        from sndcli.attacks.registry import spec_of
        from sndcli.defenses.parse import parse
        from sndcli.errors import ConfigError
        from sndcli.runs.estimate import Planned
        from sndcli.runs.prepare import open_source, prepare

        sigmas = numbers(self.sigma, "--sigma") if self.sigma is not None else (None,)
        specs = [parse(self.defense, sigma, self.beta, self.clip, self.defense_weights) for sigma in sigmas]
        self.check_rounding(specs)
        names = several(self.name, "the attacks")
        for name in names:
            spec_of(name)
        if len(names) * len(specs) > 1 and self.out.suffix == ".parquet":
            raise ConfigError(f"`--out` of {len(names) * len(specs)} runs is a folder: it writes one file for each.")
        keeps = self.save_points or self.save_png is not None
        requests = [replace(self, name=name, save_points=keeps).request(specs[0]) for name in names]
        opened = cache(partial(open_source, requests[0], listener))
        jobs = [prepare(request, listener, self.debug, opened) for request in requests]
        named = len(jobs) > 1
        return [Planned(job, spec, name=job.config.attack if named else "") for spec, job in product(specs, jobs)]


def _done(
    runs: "Sequence[Planned]",
    listener: "Listener",
    do: "Callable[[Job, DefenseSpec, Callable[[], Victim]], T]",
) -> "Iterator[T]":
    """What `do` makes of the runs, one after the other; where one fails it is said which, and those before it are
    finished.
    """
    from sndcli.errors import SndError

    @lru_cache(maxsize=1)
    def victim(spec: "DefenseSpec", compiled: bool) -> "Victim":
        job = runs[0].job
        return replace(job, config=replace(job.config, compiled=compiled)).victim(spec)

    for run in runs:
        try:
            yield do(run.job, run.spec, partial(victim, run.spec, run.job.config.compiled))
        except Exception as error:
            if len(runs) == 1:
                raise
            defense = f"{run.spec.name} {run.spec.sigma:g}" if run.spec.random else run.spec.name
            which = f"{run.job.config.attack} against {defense}"
            if isinstance(error, SndError):
                raise type(error)(f"{which}: {error}") from None
            listener.warn(f"{which} failed; the runs before it are finished.")
            raise


def several(text: str, what: str) -> tuple[str, ...]:
    """What stands between commas, each once.

    Raises:
        ConfigError: nothing, somewhere.
    """
    from sndcli.errors import ConfigError

    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(parts):
        raise ConfigError(f"Expected {what} separated by commas but got `{text}`.")
    return parts


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers separated by commas, each once.

    Raises:
        ConfigError: anything else.
    """
    from sndcli.errors import ConfigError

    try:
        return tuple(dict.fromkeys(float(part) for part in several(text, f"`{option}`")))
    except ValueError:
        raise ConfigError(
            f"Expected `{option}` to be a number, or several separated by commas, but got `{text}`."
        ) from None
