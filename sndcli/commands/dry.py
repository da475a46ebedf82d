"""``--dry-run``: what a command would do and about how long it would take; nothing is attacked or written."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from sndcli.commands.job import Job
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.victim import Victim

PROBE_S, PROBE_BATCHES = 2.0, 5  # the probe stops after whichever comes first


def dry_run(job: Job, specs: Sequence[DefenseSpec], json: bool, accuracy_rows: int = 0) -> None:
    """Prints the resolved config of each run, its images and queries, and an estimate from a short probe.

    Args:
        job: what would run.
        specs: the defenses it would run against, one run each.
        json: one JSON object instead of lines.
        accuracy_rows: images that each run also classifies for its accuracy.

    Raises:
        ConfigError: the model, the defense or the data do not fit, or there are too few images.
    """
    from sndcli.errors import ConfigError
    from sndcli.reports.comparison import duration

    available = len(job.data)
    if job.config.images > available:
        raise ConfigError(f"Expected `--images` of at most {available} but got {job.config.images}.")
    rows = [_plan(job, spec, accuracy_rows) for spec in specs]
    if json:
        config = replace(job.config, defense=specs[0]).as_dict()
        run = {"config": config, "report_points": job.config.report_points, "available_images": available}
        typer.echo(jsonlib.dumps({"schema": 1, "dry_run": True, "rows": rows, "run": run}))
        return
    for key, value in job.config.as_dict().items():
        if key != "defense":
            shown = ", ".join(f"{name}={number}" for name, number in value.items()) if key == "options" else value
            typer.echo(f"{key:15} {shown}")
    typer.echo(f"{'report points':15} {', '.join(f'{b:,}' for b in job.config.report_points)}")
    typer.echo(f"{'images':15} {job.config.images} of {available}, {job.config.repeats} seeds")
    for row in rows:
        typer.echo(
            f"{row['defense']} {row['sigma']:g}: at most {row['queries']:,} paid queries and {row['unpaid']:,} other "
            f"passes, at {row['rows_per_s']:.0f} images/s about {duration(row['seconds'])}; "
            f"{row['path']}{' (exists)' if row['exists'] else ''}"
        )
    if len(rows) > 1:
        typer.echo(f"all {len(rows)}: about {duration(sum(row['seconds'] for row in rows))}")


def _plan(job: Job, spec: DefenseSpec, accuracy_rows: int) -> dict[str, Any]:
    from sndcli.runfiles import RunFiles
    from sndcli.verification import CLEAN_DRAWS_PER_VERIFY

    c = replace(job.config, defense=spec)
    victim = job.victim(spec)
    attacked = c.images * c.repeats
    queries = attacked * c.budget
    draws = c.verify if spec.random else 1
    clean = CLEAN_DRAWS_PER_VERIFY * c.verify if spec.random else 1
    unpaid = attacked * (len(c.report_points) * (draws + 1) + clean + 1) + (queries if c.mismatch else 0)
    unpaid += (c.images if c.select == "correct" else 0) + accuracy_rows
    rate = _rows_per_s(victim)
    path = RunFiles(job.out, c).path
    return {
        "attack": c.attack, "defense": spec.name, "sigma": spec.sigma, "beta": spec.beta, "votes": c.votes,
        "images": c.images, "repeats": c.repeats, "budget": c.budget, "queries": queries, "unpaid": unpaid,
        "rows_per_s": round(rate, 2), "seconds": round((queries + unpaid) / rate, 1), "path": str(path),
        "exists": path.exists(),
    }  # fmt: skip


def _rows_per_s(victim: Victim) -> float:
    """Images a second through the defended model, at the run's batch size; attacks add their own arithmetic."""
    import torch

    x = torch.rand(victim.defended.batch_size, *victim.classifier.input_size)
    victim.defended(x[:8])
    start, done = time.perf_counter(), 0
    for _ in range(PROBE_BATCHES):
        victim.defended(x)
        done += len(x)
        if time.perf_counter() - start > PROBE_S:
            break
    return done / (time.perf_counter() - start)
