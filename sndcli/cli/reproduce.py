"""``snd reproduce TABLE``: the runs behind a table of the paper, and our figures beside the published ones."""

from __future__ import annotations

import inspect
import json as jsonlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sndcli.cli import options as o
from sndcli.cli.attack import attack
from sndcli.cli.plans import P_MIS_IMAGES, REPEATS, Plan, plan_of, show

if TYPE_CHECKING:
    from sndcli.cli.job import Job
    from sndcli.defenses.parse import DefenseSpec


@o.guarded
def reproduce(
    table: Annotated[str, typer.Argument(help="table1 to table8, or all.")],
    images: Annotated[int | None, typer.Option(help="Images a run, at most; default as in the paper.")] = None,
    budget: Annotated[str | None, typer.Option(help="Paid queries an image, at most; default as in the paper.")] = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    model: Annotated[str | None, typer.Option(help="Instead of the paper's network (resnet20, resnet50).")] = None,
    at_model: Annotated[str | None, typer.Option(help="The PGD-trained network of Tables 1, 3 and 8.")] = None,
    reference: o.References = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only runs with key=value, as attack=hsja or sigma=0.01; repeatable.")
    ] = None,
    mismatch: Annotated[
        bool, typer.Option("--mismatch/--no-mismatch", help="Count P_mis where a table has it: a second forward pass.")
    ] = True,
    verify: Annotated[int, typer.Option(help="Fresh draws for success_noisy.")] = 100,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    precision: o.PrecisionOption = "fp32",
    batch_size: o.BatchSize = "auto",
    compiled: o.Compile = False,
    out: Annotated[Path, typer.Option(help="A folder. What is there is not run again.")] = Path("results/reproduce"),
    run: Annotated[bool, typer.Option("--run/--no-run", help="Or only show what is there.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list runs, queries and time.")] = False,
    format: Annotated[str, typer.Option("--format", help="table or md.")] = "table",
    json: o.Json = False,
    quiet: o.Quiet = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,
) -> None:
    """Run what a table of the paper was made of and print our figures beside the published ones.

    Example: snd reproduce table2 --images 50 --budget 2000 --dry-run
    """
    from sndcli.analysis import gates
    from sndcli.errors import ConfigError, DataError
    from sndcli.paper import published

    o.one_of(format, ("table", "md"), "--format")
    names = published.table_names(table)
    limit = o.count(budget, "--budget") if budget is not None else None
    if (limit is not None and limit < 1) or (images is not None and images < 1):
        raise ConfigError("Expected `--images` and `--budget` of at least 1.")
    if out.suffix == ".parquet":
        raise ConfigError("`--out` of reproduce is a folder: it writes one file for each run.")
    given = {name: p.default for name, p in inspect.signature(attack).parameters.items()}
    given |= {
        "data_dir": data_dir, "download": download, "reference": reference, "verify": verify, "seed": seed,
        "device": device,
        "precision": precision, "batch_size": batch_size, "compiled": compiled, "out": out, "quiet": True,
        "no_progress": no_progress or quiet, "debug": debug,
    }  # fmt: skip
    pairs = gates.filters(where or (), published.KEYS)
    chosen = [case for name in names for case in published.cases(name) if gates.matches(vars(case), pairs)]
    if not chosen:
        raise ConfigError(f"No run of {table} has {' and '.join(where or ())}.")
    if not mismatch:
        chosen = [case for case in map(published.Case.without_p_mis, chosen) if case.cells]
    plans = [plan_of(case, limit, images, model, at_model, given) for case in chosen]
    if dry_run:
        show(plans, json)
        return
    if all(plan.skipped for plan in plans):
        raise DataError("\n".join(["Nothing of it can be run here:", *dict.fromkeys(p.skipped for p in plans)]))
    for plan in plans:
        if not (run or plan.skipped or _finished(plan).is_file()):
            plan.skipped = "not run yet"
        if not plan.skipped:
            o.note(f"{plan.case.table}: {plan.case.attack or 'clean images'} against {plan.case.label}", quiet)
            _measure(plan)
    _print(plans, format, json)


def _measure(plan: Plan) -> None:
    """Runs a plan, or reads what is there, and fills `found`. A defense that cannot be built skips it."""
    from sndcli.errors import ConfigError, DataError
    from sndcli.paper.published import verdict

    try:
        ours = _clean(plan) if plan.case.attack is None else _attacked(plan)
    except (ConfigError, DataError) as error:
        plan.skipped = str(error).splitlines()[0]
        return
    for cell in plan.cells:
        figure = ours.get((cell.measure, cell.budget))
        if figure is not None and figure["value"] is not None:
            told = verdict(cell, plan.case, figure["value"], figure["n"])
            plan.found.append({"measure": cell.measure, "budget": cell.budget, "published": cell.value,
                               "published_std": cell.std, **figure, "verdict": told})  # fmt: skip


def _attacked(plan: Plan) -> dict[tuple[str, int | None], dict[str, Any]]:
    from sndcli.analysis.summary import summarise

    job, spec = _ready(plan)
    run, _ = job.run(spec)
    found: dict[tuple[str, int | None], dict[str, Any]] = {}
    for row in summarise([run]):
        beside = {name: row[name] for name in ("success_noisy", "success_clean", "floor")}
        for measure in ("success_seen", "success_seen_net", "l2_last", "p_mis"):
            figure = row[measure] if isinstance(row[measure], dict) else {"value": row[measure], "lo": None, "hi": None}
            figure |= {"n": row["n"], "paid": row["budget"]} | (beside if measure.startswith("success") else {})
            found[measure, plan.points[row["budget"]]] = figure
    return found


def _clean(plan: Plan) -> dict[tuple[str, int | None], dict[str, Any]]:
    """Accuracy, P_mis and noise length on clean images; kept in a small file, as runs are."""
    job, spec = _ready(plan)
    wanted = sorted(cell.measure for cell in plan.cells)
    path = _finished(plan)
    if path.is_file():
        kept = jsonlib.loads(path.read_text(encoding="utf-8"))
    else:
        kept = {measure: _clean_figure(measure, job, spec) for measure in wanted}
        job.out.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(jsonlib.dumps(kept), encoding="utf-8")
        os.replace(temporary, path)
    return {(measure, None): figure for measure, figure in kept.items()}


def _finished(plan: Plan) -> Path:
    """Where a plan's outcome lies once it has one."""
    import hashlib

    from sndcli.runs.config import PROTOCOL
    from sndcli.runs.files import RunFiles

    job, spec = _ready(plan)
    if plan.case.attack is not None:
        return RunFiles(job.out, job.config).path
    wanted = sorted(cell.measure for cell in plan.cells)
    what = [job.config.dataset_digest, job.config.model_digest, job.config.as_dict()["defense"] | {"name": spec.name}]
    what += [repr(spec), job.config.images, job.config.seed, job.config.compiled, job.config.precision, wanted]
    what += [P_MIS_IMAGES] if "p_mis_clean" in wanted else []
    what += [PROTOCOL]
    return job.out / f"clean_{hashlib.sha256(jsonlib.dumps(what, sort_keys=True).encode()).hexdigest()[:12]}.json"


def _clean_figure(measure: str, job: Job, spec: DefenseSpec) -> dict[str, Any]:
    import torch

    from sndcli.analysis.statistics import mean_std, rate
    from sndcli.datasets.load import choose
    from sndcli.paper.noise import noise_length
    from sndcli.runs.accuracy import accuracy

    n = min(job.config.images, len(job.data))
    data = replace(job.data, images=job.data.images[:n], labels=job.data.labels[:n], ids=job.data.ids[:n])
    if measure == "noise_l2":
        return {"value": noise_length(spec, data, torch.arange(n)), "lo": None, "hi": None, "n": n}
    victim = job.victim(spec)
    seeds = [job.config.seed + k for k in range(REPEATS if spec.random else 1)]
    if measure == "p_mis_clean":  # as accuracy, on images where right is what the undefended model says
        count, seed = min(n, P_MIS_IMAGES), job.config.seed
        right = choose(job.data, count, "correct", seed, lambda x: victim.undefended(x).argmax(1), fewer=True)
        data, n = job.data.part(right, job.data.source), len(right)
    mean, std = mean_std(accuracy(victim.defended, data, seeds))
    share = 1 - mean if measure == "p_mis_clean" else mean
    bounds = rate(round(share * n), n)
    return {"value": share, "lo": bounds.lo, "hi": bounds.hi, "std": std, "n": n}


def _ready(plan: Plan) -> tuple[Job, DefenseSpec]:
    if plan.job is None:
        raise ValueError(f"Expected a plan that can be run but it is skipped: {plan.skipped}")
    return plan.job, plan.job.config.defense


# -- what is printed ------------------------------------------------------------------------------------------


def _print(plans: Sequence[Plan], format: str, json: bool) -> None:
    """Our figures beside the published ones, and what was left out."""
    head = ("table", "attack", "defense")
    names = [dict(zip(head, (p.case.table, p.case.attack, p.case.label), strict=True)) for p in plans]
    cells = [name | figure for name, p in zip(names, plans, strict=True) for figure in p.found]
    skipped = [name | {"reason": p.skipped} for name, p in zip(names, plans, strict=True) if p.skipped]
    from sndcli.paper.published import assumptions, protocol
    from sndcli.reports import published as comparison

    tables = list(dict.fromkeys(p.case.table for p in plans))
    if json:
        assumed = {name: lines for name in tables if (lines := assumptions(name))}
        taken = {name: lines for name in tables if (lines := protocol(name))}
        answer = {"schema": 1, "cells": cells, "skipped": skipped, "assumptions": assumed, "protocol": taken}
        typer.echo(jsonlib.dumps(answer))
        return
    if format == "md":
        typer.echo("\n\n".join(comparison.markdown(name, cells) for name in tables))
    else:
        from rich.console import Console

        Console().print(*(part for name in tables for part in comparison.rich_tables(name, cells)), sep="\n")
    for line in skipped:
        o.note(f"skipped: {line['table']} {line['attack'] or 'clean images'}, {line['defense']}: {line['reason']}")
