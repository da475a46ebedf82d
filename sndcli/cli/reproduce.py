"""``snd reproduce TABLE``: the runs behind a table of the paper, and our figures beside the published ones."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.compiling import wished
from sndcli.cli.console import Console
from sndcli.cli.machines import ShardOptions
from sndcli.cli.ranges import COUNT

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.paper.reproduce import Plan, Wanted
    from sndcli.runs.executors.base import Executor
    from sndcli.runs.job import Shared
    from sndcli.runs.listener import Listener
    from sndcli.runs.shard import Shard

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST_S = 1e9


@dataclass(frozen=True, kw_only=True)
class Reproduce(o.LongTalk, ShardOptions, o.MachineOptions):
    """Run what a table of the paper was made of and print our figures beside the published ones.

    Example: snd reproduce table2 --images 50 --budget 2000 --dry-run
    """

    table: Annotated[str, typer.Argument(help="table1 to table8, or all.")]
    images: Annotated[int | None, COUNT, typer.Option(help="Images a run, at most; default as in the paper.")] = None
    budget: Annotated[str | None, typer.Option(help="Paid queries an image, at most; default as in the paper.")] = None
    data_dir: o.DataDir = None
    download: o.Download = False
    model: Annotated[str | None, typer.Option(help="Instead of the paper's network (resnet20, resnet50).")] = None
    at_model: Annotated[str | None, typer.Option(help="The PGD-trained network of Tables 1, 3 and 8.")] = None
    reference: o.References = None
    where: Annotated[
        list[str] | None, typer.Option(help="Only runs with key=value, as attack=hsja or sigma=0.01; repeatable.")
    ] = None
    mismatch: Annotated[
        bool, typer.Option("--mismatch/--no-mismatch", help="Count P_mis where a table has it: a second forward pass.")
    ] = True
    verify: Annotated[int, COUNT, typer.Option(help="Fresh draws for success_noisy.")] = 100
    seed: o.Seed = 0
    out: Annotated[Path, typer.Option(help="A folder. What is there is not run again.")] = Path("results/reproduce")
    within: Annotated[
        str | None,
        typer.Option(help="As many images as fit into this time here: 8h, 90m, 1h30m. Budgets stay.", metavar="TIME"),
    ] = None
    finish: Annotated[
        bool,
        typer.Option(
            "--run/--no-run",
            help="Or only show what is there: runs of this command, and what other result files in the folder hold.",
        ),
    ] = True
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list runs, queries and time.")] = False
    format: Annotated[str, typer.Option("--format", help="table or md.")] = "table"

    def run(self, listener: "Listener") -> "Shown":
        """Each run of the table that can be run here."""
        from sndcli.analysis import where
        from sndcli.cli.beside import listed, shown
        from sndcli.cli.shares import shared
        from sndcli.errors import ConfigError, DataError
        from sndcli.paper import published
        from sndcli.paper.kept import fill, frames_in
        from sndcli.paper.reproduce import finished, measure, plan_of
        from sndcli.runs.estimate import Planned

        o.one_of(self.format, ("table", "md"), "--format")
        names = published.table_names(self.table)
        wanted = self._wanted()
        pairs = where.filters(self.where or (), published.KEYS)
        chosen = [case for name in names for case in published.cases(name) if where.matches(vars(case), pairs)]
        if not chosen:
            raise ConfigError(f"No run of {self.table} has {' and '.join(self.where or ())}.")
        if not self.mismatch:
            chosen = [case for case in map(published.Case.without_p_mis, chosen) if case.cells]
        part = self.part()
        if part is not None and (self.within or not self.finish):
            text = "Shares are of runs whose images are known: --shard with --images, not with --within or --no-run."
            raise ConfigError(text)
        inner = Console(quiet=True, progress=not (self.no_progress or self.quiet))
        within = None if self.within is None else duration(self.within, "--within")
        plans = [plan_of(case, wanted, inner, self.debug) for case in chosen]
        if within is not None or (self.table == "all" and self.finish and not self.dry_run):
            plans = self._fitted(plans, within, listener)
        if self.dry_run:
            return listed(plans)
        if self.finish and all(plan.skipped for plan in plans):
            reasons = dict.fromkeys(plan.skipped.rstrip(".") for plan in plans)
            raise DataError(f"Nothing of it can be run here: {'; '.join(reasons)}.")
        runs = [Planned(*plan.ready()) for plan in plans if not plan.skipped]
        with self.spread(runs) as executor:
            if part is not None:
                return shared(part, [*self._shares(plans, part, executor, listener)])
            for plan in plans:
                if not (self.finish or plan.skipped or finished(plan).is_file()):
                    plan.skipped = "not run yet"
                if not plan.skipped:
                    listener.note(f"{plan.case.table}: {plan.case.attack or 'clean images'} against {plan.case.label}")
                    plan.job = replace(plan.ready()[0], executor=executor)
                    measure(plan)
        if not self.finish and self.out.is_dir():
            there = frames_in(self.out)
            for plan in plans:
                if plan.skipped:
                    fill(plan, there, self.out)
        self._tell_skipped(plans, listener)
        return shown(plans, self.format)

    def _shares(
        self, plans: "Sequence[Plan]", part: "Shard", executor: "Executor", listener: "Listener"
    ) -> "Iterator[Shared]":
        """A share of every attack; figures about clean images, which take seconds, are left to the command without."""
        for plan in plans:
            if not plan.skipped and plan.case.attack is not None:
                listener.note(f"{plan.case.table}: {plan.case.attack} against {plan.case.label}, share {part}")
                job, spec = plan.ready()
                yield replace(job, executor=executor).share(part, spec)
        self._tell_skipped(plans, listener)

    def _fitted(self, plans: "list[Plan]", within: float | None, listener: "Listener") -> "list[Plan]":
        """Says how long all takes here; with a limit, plans with so many images that they fit.

        Raises:
            ConfigError: one image a run is too many.
        """
        from sndcli.paper.fitting import fit, limited, most_images, seconds_of
        from sndcli.reports import published
        from sndcli.runs.estimate import Speeds

        speeds = Speeds()
        needed, most = seconds_of(plans, speeds), most_images(plans)
        count = sum(not plan.skipped for plan in plans)
        listener.note(
            f"{count} runs of up to {most:,} images: about {published.duration(needed)} here, the passes alone"
        )
        if within is None or needed <= within:
            return plans
        images = fit(plans, speeds, within)
        plans = [limited(plan, images) for plan in plans]
        listener.note(
            f"--within {self.within}: at most {images:,} images a run, about "
            f"{published.duration(seconds_of(plans, speeds))}; to go on with this plan: --images {images}"
        )
        return plans

    def _wanted(self) -> "Wanted":
        from sndcli.errors import ConfigError
        from sndcli.paper.reproduce import Wanted
        from sndcli.runs.request import Request, explained

        limit = o.count(self.budget, "--budget") if self.budget is not None else None
        if limit is not None and limit < 1:
            raise ConfigError(f"Expected `--budget` to be at least 1 but got `{limit}`.")
        if self.out.suffix == ".parquet":
            raise ConfigError("`--out` of reproduce is a folder: it writes one file for each run.")
        with explained():
            usual = Request(
                attack="null", data_dir=self.data_dir, download=self.download,
                references=None if self.reference is None else tuple(self.reference), verify=self.verify,
                seed=self.seed, device=self.device,
                precision=self.arithmetic(), allow_rounding=self.allow_rounding,
                batch_rows=o.batch_rows(self.batch_size), out=self.out,
                compiled=wished(self.compiled, self.shard is not None),
            )  # fmt: skip
        return Wanted(usual=usual, limit=limit, images=self.images, model=self.model, at_model=self.at_model)

    def _tell_skipped(self, plans: "Sequence[Plan]", listener: "Listener") -> None:
        for plan in plans:
            if plan.skipped and not self.json:
                name = f"{plan.case.table} {plan.case.attack or 'clean images'}, {plan.case.label}"
                listener.note(f"skipped: {name}: {plan.skipped}")


def duration(text: str, option: str) -> float:
    """Seconds, of a time such as ``8h``, ``90m``, ``1h30m`` or ``2d``.

    Raises:
        ConfigError: no such time, or none at all.

    Example:
        >>> duration("1h30m", "--within"), duration("45s", "--within")
        (5400.0, 45.0)
    """
    from sndcli.errors import ConfigError

    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    found = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < found < MOST_S:
        raise ConfigError(f"Expected `{option}` to be a time such as 8h, 90m or 1h30m but got `{text}`.")
    return found
