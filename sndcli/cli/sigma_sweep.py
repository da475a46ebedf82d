"""``snd sigma-sweep NAME``: what each noise setting costs and what it stops, on the same images and seeds."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sndcli.cli import options as o
from sndcli.cli.attack import attack

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from sndcli.analysis.sweep import Point
    from sndcli.cli.job import Job
    from sndcli.datasets.base import ImageSet
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.runs.victim import Victim

MARGIN_DRAWS = 100  # behind σ̂


@o.guarded
@o.extends(attack, without=("sigma", "beta"))
def sigma_sweep(
    name: str,
    sigmas: Annotated[str, typer.Option(help="Settings of snd; 0 is none of it.")] = "0,0.001,0.01,0.02",
    betas: Annotated[str, typer.Option(help="none, or a of Beta(a, a): none,1,2,0.5.")] = "none",
    accuracy_repeats: Annotated[int, typer.Option(help="Draws behind each accuracy.")] = 5,
    max_drop: Annotated[float, typer.Option(help="Accuracy that may be lost, in points.")] = 1.0,
    plot: Annotated[Path | None, typer.Option(help="Accuracy against success, .svg or .png.")] = None,
    **given: Any,
) -> None:
    """Measure accuracy and success for several noise settings, paired on the same images, and recommend one.

    A setting is recommended only where an attack that knows of the noise does worse than without it, beyond chance.

    Example: snd sigma-sweep hsja-na --sigmas 0,0.001,0.01,0.02 --budget 5000
    """
    from sndcli.analysis import sweep
    from sndcli.attacks.registry import noise_aware
    from sndcli.cli.runs import prepare, show
    from sndcli.defenses.parse import parse
    from sndcli.errors import ConfigError
    from sndcli.reports import plots
    from sndcli.reports import sweep as pictures
    from sndcli.runs.accuracy import accuracy

    try:
        noise = [float(text) for text in sigmas.split(",")]
        scales = [None if text == "none" else float(text) for text in betas.split(",")]
    except ValueError:
        raise ConfigError(f"Expected numbers separated by commas but got `{sigmas}` and `{betas}`.") from None
    if accuracy_repeats < 1:
        raise ConfigError(f"Expected `--accuracy-repeats` to be at least 1 but got {accuracy_repeats}.")
    if given["out"].suffix == ".parquet":
        raise ConfigError("`--out` of a sweep is a folder: it writes one file for each setting.")
    if plot is not None:
        plots.check(plot)
    settings = [(s, b) for s in noise for b in (scales if s else [None])]
    chosen = given["defense"] or "snd"
    specs = [parse(chosen, s, b, given["clip"], given["defense_weights"]) for s, b in dict.fromkeys(settings)]
    job = prepare(name, given, specs[0])
    if given.get("dry_run"):
        from sndcli.cli.dry import Planned, dry_run
        from sndcli.runs import cost

        n = len(job.data)
        extra = [
            cost.of_accuracy(n, accuracy_repeats, spec.random) + cost.of_margin(job.config.images, MARGIN_DRAWS)
            for spec in specs
        ]
        extra[0] += cost.of_reference(n)
        dry_run([Planned(job, spec, more) for spec, more in zip(specs, extra, strict=True)], given["json"])
        return
    runs, points = [], []
    for spec in specs:
        made = cache(partial(job.victim, spec))
        runs.append(job.run(spec, made))
        victim = made()
        points.append(_measure(job, spec, victim, runs[-1][0], accuracy_repeats))
    sweep.pair(points)
    (undefended,) = accuracy(victim.undefended, job.data, [0])
    advice = sweep.advise(points, undefended, max_drop / 100, noise_aware(name, given["preset"]))
    found = {
        "undefended_accuracy": undefended, "recommended": advice.best.label if advice.best else None,
        "recommendation": advice.as_dict(),
    }  # fmt: skip
    show(runs, given["json"], given["quiet"], {"sweep": [point.as_dict() for point in points], **found})
    if not given["json"]:
        from rich.console import Console

        Console().print(pictures.table(points))
        typer.echo(advice.text)
    if plot is not None:
        pictures.draw(points, plot, name)
        o.note(f"written: {plot}", given["quiet"])


def _measure(job: Job, spec: DefenseSpec, victim: Victim, run: pa.Table, repeats: int) -> Point:
    """Accuracy and noise of a setting beside the summaries of its run."""
    from sndcli.analysis.labels import defense_label
    from sndcli.analysis.statistics import mean_std
    from sndcli.analysis.summary import outcomes, summarise
    from sndcli.analysis.sweep import Point
    from sndcli.paper.evidence import margin_std
    from sndcli.paper.noise import noise_length
    from sndcli.runs.accuracy import accuracy

    seeds = range(job.config.seed, job.config.seed + (repeats if spec.random else 1))
    mean, std = mean_std(accuracy(victim.defended, job.data, seeds))
    index = _positions(job.data, run)
    spreads = margin_std(victim, job.data.pixels(index), job.data.labels[index], MARGIN_DRAWS)
    length = noise_length(spec, job.data, index)
    summaries = summarise([run], eps=job.config.eps)
    found = {row["budget"]: outcomes(run, row["budget"]) for row in summaries}
    label = defense_label(summaries[0]) if spec.random else "none"
    return Point(
        label, spec.sigma, spec.beta, mean, std, length, sum(spreads) / len(spreads), summaries, outcomes=found
    )


def _positions(data: ImageSet, run: pa.Table) -> Tensor:
    """Where a run's images are in the data."""
    import torch

    position = {image: k for k, image in enumerate(data.ids.tolist())}
    return torch.tensor([position[image] for image in dict.fromkeys(run.column("image_id").to_pylist())])
