"""``snd attack NAME``: run an attack, write Parquet, print what can be claimed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sndcli.cli import options as o


@o.guarded
def attack(
    name: Annotated[str, typer.Argument(help="See `snd ls attacks`.")],
    dataset: o.Dataset = "cifar10",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    skip_broken: o.SkipBroken = False,
    model: o.Model = "resnet20",
    defense: o.DefenseName = None,
    defense_weights: o.DefenseWeights = None,
    sigma: o.Sigma = None,
    beta: o.Beta = None,
    clip: o.Clip = False,
    quantize: Annotated[bool, typer.Option("--quantize", help="Queries are 8-bit images.")] = False,
    images: o.Images = None,
    select: o.SelectOption = "correct",
    select_by: o.SelectBy = None,
    budget: Annotated[
        str | None, typer.Option(help="Paid queries an image, at most: 10000 or 10k. Default 10k; imagenet 20k.")
    ] = None,
    budgets: Annotated[
        str | None, typer.Option(help="Report points: a,b,c. Default 2k, 5k, 10k; imagenet 5k, 10k, 20k.")
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="ε, or a,b,c: the first bounds the attack, the points are verified at all. Default 1.0 (l2; "
            "imagenet 5.0) or 8/255 (linf)."
        ),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="l2 or linf; default the attack's own.")] = None,
    engine: Annotated[str, typer.Option(help="native, or foolbox for ba and hsja.")] = "native",
    preset: Annotated[str | None, typer.Option(help="A parameter set of the attack.")] = None,
    reference: o.References = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the attack; repeatable.")] = None,
    verify: Annotated[int, typer.Option(help="Fresh draws for success_noisy.")] = 100,
    mismatch: Annotated[bool, typer.Option("--mismatch", help="Count P_mis (a second, unpaid forward).")] = False,
    border: Annotated[
        bool, typer.Option("--border/--no-border", help="Find where the majority flips (unpaid).")
    ] = True,
    seed: o.Seed = 0,
    repeats: o.Repeats = 1,
    unit: Annotated[int, typer.Option(help="Images that share a loop and a part file.")] = 100,
    device: o.Device = "auto",
    precision: o.PrecisionOption = "fp32",
    batch_size: o.BatchSize = "auto",
    compiled: o.Compile = False,
    out: Annotated[Path, typer.Option(help="A folder, or a .parquet file. A rerun continues.")] = Path("results"),
    save_points: Annotated[
        bool, typer.Option("--save-points", help="Keep the final points beside the result, for galleries.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew.")] = False,
    dry_run: o.DryRun = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,
) -> None:
    """Attack a (defended) classifier and report success at several query budgets.

    Example: snd attack hsja --dataset cifar10 --sigma 0.01 --budget 10000
    """
    given = locals()
    from sndcli.cli.runs import finish, prepare
    from sndcli.defenses.parse import parse

    spec = parse(defense, sigma, beta, clip, defense_weights)
    finish(prepare(name, given, spec), spec, given)
