"""``--dry-run``: what a command would do and about how long it would take; nothing is attacked or written."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from sndcli.cli.job import Job
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.models.inference import Forward
    from sndcli.runs.cost import Cost, Rates

PROBE_S, PROBE_BATCHES = 2.0, 5  # the probe stops after whichever comes first


@dataclass
class Speeds:
    """Rows a second of models, bare and defended, each probed once.

    The width of the noise does not change the time of a pass, so settings of one defense share a probe.
    """

    _bare: dict[str, float] = field(default_factory=dict)
    _defended: dict[tuple[Any, ...], float] = field(default_factory=dict)

    def of(self, job: Job, spec: DefenseSpec) -> Rates:
        """The rates of a job's model behind a defense.

        Raises:
            ConfigError: the model, the defense or the data do not fit.
        """
        from sndcli.runs.cost import Rates

        model = job.config.model_digest
        key = (model, spec.name, spec.sigma > 0, spec.beta is None, spec.weights)
        if key not in self._defended:
            victim = job.victim(spec)
            size = victim.classifier.input_size
            self._defended[key] = _rows_per_s(victim.defended, size)
            if model not in self._bare:
                self._bare[model] = _rows_per_s(victim.undefended, size)
        return Rates(self._defended[key], self._bare[model])


@dataclass(frozen=True)
class Planned:
    """A run that would be started, what comes with it beside the run itself, and a name where the defense is none."""

    job: Job
    spec: DefenseSpec
    extra: Cost | None = None
    name: str = ""


def dry_run(runs: Sequence[Planned], json: bool) -> None:
    """Prints the resolved config, images and queries of each run, and an estimate of time from a short probe.

    Args:
        runs: what would run; the first one's config is printed.
        json: one JSON object instead of lines.

    Raises:
        ConfigError: the model, the defense or the data do not fit, or there are too few images.
    """
    from sndcli.errors import ConfigError
    from sndcli.reports.published import duration

    job = runs[0].job
    available = len(job.data)
    if job.config.images > available:
        raise ConfigError(f"Expected `--images` of at most {available} but got {job.config.images}.")
    speeds = Speeds()
    rows = [_plan(run, speeds) for run in runs]
    if json:
        config = replace(job.config, defense=runs[0].spec).as_dict()
        described = {"config": config, "report_points": job.config.report_points, "available_images": available}
        typer.echo(jsonlib.dumps({"schema": 1, "dry_run": True, "rows": rows, "run": described}))
        return
    for key, value in job.config.as_dict().items():
        if key != "defense":
            shown = ", ".join(f"{name}={number}" for name, number in value.items()) if key == "options" else value
            typer.echo(f"{key:15} {shown}")
    typer.echo(f"{'report points':15} {', '.join(f'{b:,}' for b in job.config.report_points)}")
    typer.echo(f"{'images':15} {job.config.images} of {available}, {job.config.repeats} seeds")
    for row in rows:
        name = f"{row['name']}: " if row["name"] else ""
        typer.echo(
            f"{name}{row['defense']} {row['sigma']:g}: at most {row['queries']:,} paid queries and {row['unpaid']:,} "
            f"other passes, usually {row['unpaid_usual']:,}, at {row['rows_per_s']:.0f} (bare "
            f"{row['bare_rows_per_s']:.0f}) images/s about {duration(row['seconds'])}; "
            f"{row['path']}{' (exists)' if row['exists'] else ''}"
        )
    if len(rows) > 1:
        typer.echo(f"all {len(rows)}: about {duration(sum(row['seconds'] for row in rows))}")


def _plan(run: Planned, speeds: Speeds) -> dict[str, Any]:
    from sndcli.runs.cost import of_run
    from sndcli.runs.files import RunFiles

    job, spec = run.job, run.spec
    c = replace(job.config, defense=spec)
    cost = of_run(c, len(job.data), save_points=job.save_points)
    if run.extra is not None:
        cost += run.extra
    rates = speeds.of(job, spec)
    path = RunFiles(job.out, c).path
    return {
        "name": run.name, "attack": c.attack, "preset": c.preset, "defense": spec.name, "sigma": spec.sigma,
        "beta": spec.beta, "votes": c.votes, "images": c.images, "repeats": c.repeats, "budget": c.budget,
        "queries": cost.most.paid, "unpaid": cost.most.unpaid, "unpaid_usual": cost.usual.unpaid,
        "passes": asdict(cost.most), "passes_usual": asdict(cost.usual),
        "rows_per_s": round(rates.defended, 2), "bare_rows_per_s": round(rates.bare, 2),
        "seconds": round(cost.usual.seconds(rates), 1), "seconds_at_most": round(cost.most.seconds(rates), 1),
        "path": str(path), "exists": path.exists(),
    }  # fmt: skip


def _rows_per_s(forward: Forward, size: tuple[int, ...]) -> float:
    """Images a second, at the run's batch size; attacks add their own arithmetic."""
    import torch

    x = torch.rand(forward.batch_size, *size)
    forward(x[:8])
    start, done = time.perf_counter(), 0
    for _ in range(PROBE_BATCHES):
        forward(x)
        done += len(x)
        if time.perf_counter() - start > PROBE_S:
            break
    return done / max(1e-9, time.perf_counter() - start)
