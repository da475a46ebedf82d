"""``snd attack NAME``: run an attack, write Parquet, print what can be claimed."""

from __future__ import annotations

import json as jsonlib
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sndcli.commands import options as o
from sndcli.commands.progress import progress_bar


@o.guarded
def attack(
    name: Annotated[str, typer.Argument(help="See `snd ls attacks`.")],
    dataset: o.Dataset = "cifar10",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    model: o.Model = "resnet20",
    defense: o.DefenseName = None,
    sigma: o.Sigma = None,
    beta: o.Beta = None,
    clip: o.Clip = False,
    quantize: Annotated[bool, typer.Option("--quantize", help="Queries are 8-bit images.")] = False,
    images: o.Images = 100,
    select: o.SelectOption = "correct",
    budget: Annotated[str, typer.Option(help="Paid queries an image, at most: 10000 or 10k.")] = "10000",
    budgets: Annotated[str | None, typer.Option(help="Report points: a,b,c. Default 2k, 5k, 10k.")] = None,
    eps: Annotated[float | None, typer.Option(help="Default 1.0 (l2) or 8/255 (linf).")] = None,
    norm: Annotated[str, typer.Option(help="l2 or linf.")] = "l2",
    engine: Annotated[str, typer.Option(help="native, or foolbox for ba and hsja.")] = "native",
    preset: Annotated[str | None, typer.Option(help="A parameter set of the attack.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the attack; repeatable.")] = None,
    verify: Annotated[int, typer.Option(help="Fresh draws for success_noisy.")] = 100,
    mismatch: Annotated[bool, typer.Option("--mismatch", help="Count P_mis (a second, unpaid forward).")] = False,
    seed: o.Seed = 0,
    repeats: o.Repeats = 1,
    unit: Annotated[int, typer.Option(help="Images that share a loop and a part file.")] = 100,
    device: o.Device = "auto",
    precision: o.PrecisionOption = "fp32",
    batch_size: o.BatchSize = "auto",
    compiled: o.Compile = False,
    out: Annotated[Path, typer.Option(help="A folder, or a .parquet file. A rerun continues.")] = Path("results"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,
) -> None:
    """Attack a (defended) classifier and report success at several query budgets.

    Example: snd attack hsja --dataset cifar10 --sigma 0.01 --budget 10000
    """
    from sndcli.attacks.registry import options_of, spec_of
    from sndcli.defenses.parse import parse

    spec = spec_of(name)
    options_of(spec, preset, tuple(settings or ()))  # a wrong setting is told before anything is loaded
    defense_spec = parse(defense, sigma, beta, clip)
    most = o.count(budget, "--budget")
    points = o.counts(budgets, "--budgets")
    o.one_of(norm, ("l2", "linf"), "--norm")

    from sndcli.datasets.load import data_dir_of, load
    from sndcli.experiment import Experiment, RunConfig, Tick, Victim
    from sndcli.inference import resolve_device
    from sndcli.models.sources import digest, load_model

    data = load(dataset, data_dir_of(data_dir), download)
    victim_model = load_model(model)
    config = RunConfig(
        attack=name, dataset=dataset, dataset_source=data.source, dataset_digest=data.digest(),
        model=victim_model.name, model_digest=digest(victim_model), defense=defense_spec, engine=engine,
        preset=preset, settings=tuple(settings or ()), norm=norm,
        eps=eps if eps is not None else (1.0 if norm == "l2" else 8 / 255), budget=most, budgets=points,
        images=images, select=o.one_of(select, ("correct", "all"), "--select"), seed=seed, repeats=repeats,
        verify=verify, unit=unit, quantize=quantize, mismatch=mismatch,
        precision=o.one_of(precision, ("fp32", "bf16"), "--precision"), compiled=compiled,
    )  # fmt: skip
    place = resolve_device(device)
    rows = o.batch_rows(batch_size, place)
    victim = Victim.prepare(victim_model, defense_spec, place, rows, config.precision, compiled)
    victim.fit_to(data)
    o.note(f"data: {data.source}; model: {victim_model.name} on {place}", quiet)

    experiment = Experiment(config, data, victim, out, warn=lambda text: o.note(f"warning: {text}"), debug=debug)
    total = float(images * repeats * most)
    start = time.perf_counter()
    bar = o.interactive(quiet, no_progress)
    with progress_bar(total, f"{name}", bar, not (quiet or no_progress)) as update:

        def progress(tick: Tick) -> None:
            rate = tick.queries / max(1e-9, time.perf_counter() - start)
            done = max(float(tick.queries), total * tick.images / tick.total)
            update(done, f"{tick.images}/{tick.total} images, {rate:.0f} queries/s, {tick.seen} seen")

        table = experiment.run(fresh, progress)
    show(table, experiment.path, json, quiet)


def show(table: Any, path: Path, json: bool, quiet: bool) -> None:
    """Prints a finished run: one JSON object, or a table on stdout and the file's name on stderr."""
    from sndcli import results
    from sndcli.reports.summary import summarise

    rows = summarise([table])
    if json:
        run = results.run_of(table)
        queries = int(sum(table.column("queries").to_pylist()))
        run |= {"path": str(path), "queries": queries, "queries_per_s": round(queries / max(1e-9, run["wall_s"]), 1)}
        typer.echo(jsonlib.dumps({"schema": 1, "rows": rows, "run": run}))
        return
    from rich.console import Console

    from sndcli.reports.tables import rich_tables

    Console().print(*rich_tables(rows), sep="\n")
    o.note(f"written: {path}", quiet)
