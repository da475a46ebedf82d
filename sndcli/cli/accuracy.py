"""``snd accuracy``: clean accuracy, mean ± std over repeats of the defense's randomness."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from typing import Annotated, Any

import typer

from sndcli.cli import options as o
from sndcli.cli.progress import progress_bar


@o.guarded
def accuracy(
    dataset: o.Dataset = "cifar10",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    skip_broken: o.SkipBroken = False,
    model: o.Model = "resnet20",
    defense: o.DefenseName = None,
    defense_weights: o.DefenseWeights = None,
    sigma: Annotated[list[float] | None, typer.Option(help="Noise of snd; repeatable, one row each.")] = None,
    beta: o.Beta = None,
    clip: o.Clip = False,
    repeats: Annotated[int, typer.Option(help="Draws of the defense's randomness.")] = 5,
    pgd: Annotated[
        list[str] | None, typer.Option(help="Also accuracy under PGD: linf:8/255:7, l2:0.5:10; repeatable.")
    ] = None,
    pgd_images: Annotated[int, typer.Option(help="PGD on the first so many images.")] = 1000,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    precision: o.PrecisionOption = "fp32",
    batch_size: o.BatchSize = "auto",
    compiled: o.Compile = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,
) -> None:
    """Measure clean accuracy with and without a defense.

    Example: snd accuracy --sigma 0 --sigma 0.01 --sigma 0.02 --repeats 5
    """
    given = locals()
    from sndcli.defenses.parse import parse, settle
    from sndcli.errors import ConfigError

    if repeats < 1:
        raise ConfigError(f"Expected `--repeats` to be at least 1 but got {repeats}.")
    sigmas: list[float | None] = [*sigma] if sigma else [None]
    specs = [parse(defense, value, beta, clip, defense_weights) for value in sigmas]

    from sndcli.analysis.statistics import mean_std
    from sndcli.defenses.trained import label
    from sndcli.models.inference import resolve_device
    from sndcli.runs.accuracy import accuracy as measure
    from sndcli.runs.victim import Victim
    from sndcli.training.robustness import PGD, robust_accuracy

    attacks = {text: PGD.parse(text) for text in pgd or ()}
    if attacks and compiled:
        raise ConfigError("`--pgd` needs gradients, which a compiled network has not: leave out --compile.")
    if pgd_images < 1:
        raise ConfigError(f"Expected `--pgd-images` to be at least 1 but got {pgd_images}.")
    victim_model, data = o.victim_and_data(given)
    place = resolve_device(device)
    rows = o.batch_rows(batch_size)
    chosen_precision = o.one_of(precision, ("fp32", "bf16"), "--precision")
    o.note(f"data: {data.source}; model: {victim_model.name} on {place}", quiet)
    found: list[dict[str, Any]] = []
    for spec in specs:
        spec = settle(spec, victim_model)  # noqa: PLW2901
        victim = Victim.prepare(victim_model, spec, place, rows, chosen_precision, compiled)
        victim.fit_to(data)
        seeds = range(seed, seed + (repeats if spec.random else 1))
        bar = o.interactive(quiet, no_progress)
        with progress_bar(len(seeds) * len(data), spec.name, bar, not (quiet or no_progress)) as update:

            def progress(done: int, update: Callable[[float, str], None] = update) -> None:
                update(done, f"{done} images")

            values = measure(victim.defended, data, seeds, progress)
        mean, std = mean_std(values)
        found.append(
            {"model": victim_model.name, "defense": spec.name, "sigma": spec.sigma, "beta": spec.beta,
             "n": len(data) - data.left_out, "accuracy": {"mean": mean, "std": std, "values": values}}
        )  # fmt: skip
        if spec.weights:
            found[-1] |= {"weights": label(spec.weights), "weights_digest": spec.weights_digest}
        if attacks:
            o.note(f"PGD on {spec.name} ...", quiet)
            asked = min(pgd_images, len(data))
            found[-1]["pgd"] = [
                {"attack": text, "n": asked, "accuracy": robust_accuracy(victim.defended.model, data, a, place, asked)}
                for text, a in attacks.items()
            ]
    if json:
        typer.echo(jsonlib.dumps({"schema": 1, "rows": found, "run": {"data": data.source, "seed": seed}}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "defense", "sigma", "n", "repeats", "accuracy %", *(f"{text}, %" for text in attacks))
    for row in found:
        figures = row["accuracy"]
        spread = f" ± {100 * figures['std']:.2f}" if len(figures["values"]) > 1 else ""
        cells = [row["model"], row["defense"], f"{row['sigma']:g}", str(row["n"]), str(len(figures["values"]))]
        under = [f"{100 * p['accuracy']:.1f}" for p in row.get("pgd", ())]
        table.add_row(*cells, f"{100 * figures['mean']:.2f}{spread}", *under)
    Console().print(table)
