"""What the commands that attack have in common: from options to finished runs, and from runs to stdout."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sndcli.commands import options as o
from sndcli.commands.progress import progress_bar

if TYPE_CHECKING:
    import pyarrow as pa

    from sndcli.config import RunConfig
    from sndcli.datasets.base import ImageSet
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.models.classifier import Classifier
    from sndcli.victim import Victim


@dataclass
class Job:
    """Everything a run needs but the defense, which may change from run to run."""

    data: ImageSet
    model: Classifier
    config: RunConfig
    device: Any
    batch_rows: int
    out: Path
    fresh: bool
    quiet: bool
    no_progress: bool
    debug: bool
    save_points: bool = False

    def victim(self, defense: DefenseSpec) -> Victim:
        """The job's model behind one defense, fit to the data."""
        from sndcli.victim import Victim

        c = self.config
        victim = Victim.prepare(self.model, defense, self.device, self.batch_rows, c.precision, c.compiled)
        victim.fit_to(self.data)
        return victim

    def run(self, defense: DefenseSpec, victim: Victim | None = None) -> tuple[pa.Table, Path]:
        """Runs the job's attack against one defense, or reads the run where it is finished."""
        from sndcli.experiment import Experiment, Tick

        c = replace(self.config, defense=defense)
        experiment = Experiment(
            c, self.data, victim or self.victim(defense), self.out, _warn, self.debug, self.save_points
        )
        total = float(c.images * c.repeats * c.budget)
        start = time.perf_counter()
        what = f"{c.attack} {defense.name} {defense.sigma:g}" if defense.random else c.attack
        bar = o.interactive(self.quiet, self.no_progress)
        with progress_bar(total, what, bar, not (self.quiet or self.no_progress)) as update:

            def progress(tick: Tick) -> None:
                rate = tick.queries / max(1e-9, time.perf_counter() - start)
                done = max(float(tick.queries), total * tick.images / tick.total)
                update(done, f"{tick.images}/{tick.total} images, {rate:.0f} queries/s, {tick.seen} seen")

            return experiment.run(self.fresh, progress), experiment.path


def prepare(name: str, given: dict[str, Any], defense: DefenseSpec, votes: int = 1) -> Job:
    """From the options of ``snd attack`` (and of the commands that extend it) to a job.

    Args:
        name: of the attack.
        given: the command's parameters by name.
        defense: of the first run.
        votes: answers to a question.

    Raises:
        ConfigError: any of them is impossible; told before anything slow is loaded.
        DataError: data or weights are missing or broken.
    """
    from sndcli.attacks.registry import options_of, spec_of

    settings = tuple(given["settings"] or ())
    spec = spec_of(name)
    options_of(spec, given["preset"], settings)  # a wrong one is told before anything slow is loaded
    budget = o.count(given["budget"], "--budget")
    budgets = o.counts(given["budgets"], "--budgets")
    norm = o.one_of(given["norm"] or spec.norms[0], ("l2", "linf"), "--norm")
    eps = given["eps"] if given["eps"] is not None else (1.0 if norm == "l2" else 8 / 255)
    select = o.one_of(given["select"], ("correct", "all"), "--select")
    precision = o.one_of(given["precision"], ("fp32", "bf16"), "--precision")

    from sndcli.config import RunConfig
    from sndcli.datasets.load import data_dir_of, load
    from sndcli.inference import resolve_device
    from sndcli.models.sources import digest, load_model

    data = load(given["dataset"], data_dir_of(given["data_dir"]), given["download"])
    model = load_model(given["model"])
    config = RunConfig(
        attack=name, dataset=given["dataset"], dataset_source=data.source, dataset_digest=data.digest(),
        model=model.name, model_digest=digest(model), defense=defense, engine=given["engine"],
        preset=given["preset"], settings=settings, votes=votes, norm=norm, eps=eps, budget=budget, budgets=budgets,
        images=given["images"], select=select, seed=given["seed"], repeats=given["repeats"], verify=given["verify"],
        unit=given["unit"], quantize=given["quantize"], mismatch=given["mismatch"], border=given["border"],
        precision=precision, compiled=given["compiled"],
    )  # fmt: skip
    device = resolve_device(given["device"])
    o.note(f"data: {data.source}; model: {model.name} on {device}", given["quiet"])
    return Job(
        data, model, config, device, o.batch_rows(given["batch_size"], device), given["out"], given["fresh"],
        given["quiet"], given["no_progress"], given["debug"], given["save_points"],
    )  # fmt: skip


def show(runs: Sequence[tuple[pa.Table, Path]], json: bool, quiet: bool, extra: dict[str, Any] | None = None) -> None:
    """Prints finished runs: one JSON object, or tables on stdout and the files' names on stderr.

    With several runs, ``run`` describes the first and ``runs`` all of them. `extra` joins the JSON object.
    """
    from sndcli.reports.flags import flags
    from sndcli.reports.summary import summarise

    rows = summarise([table for table, _ in runs])
    raised = flags(rows)
    for flag in raised:
        o.note(str(flag), quiet)
    if json:
        described = [_describe(table, path) for table, path in runs]
        answer = {"schema": 1, "rows": rows, "run": described[0], "flags": [flag.as_dict() for flag in raised]}
        answer |= {"runs": described} if len(runs) > 1 else {}
        typer.echo(jsonlib.dumps(answer | (extra or {})))
        return
    from rich.console import Console

    from sndcli.reports.tables import rich_tables

    Console().print(*rich_tables(rows), sep="\n")
    for _, path in runs:
        o.note(f"written: {path}", quiet)


def _describe(table: pa.Table, path: Path) -> dict[str, Any]:
    from sndcli import results

    run = results.run_of(table)
    queries = int(sum(table.column("queries").to_pylist()))
    return run | {"path": str(path), "queries": queries, "queries_per_s": round(queries / max(1e-9, run["wall_s"]), 1)}


def _warn(text: str) -> None:
    o.note(f"warning: {text}")
