"""``snd evidence``: why small noise stops attacks, and which attacks it cannot stop, measured on a model."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from sndcli.cli import options as o


@o.guarded
def evidence(
    sigmas: Annotated[str, typer.Option(help="Noise settings, separated by commas.")] = "0.001,0.01,0.02",
    probes: Annotated[str, typer.Option(help="Probe scales a = δ/√d, a pixel.")] = "1e-5,1e-4,1e-3,3e-3,0.01,0.03,0.1",
    queries: Annotated[int, typer.Option(help="Answers behind each estimate of a gradient.")] = 1000,
    draws: Annotated[int, typer.Option(help="Answers behind each rate and spread.")] = 100,
    eps: Annotated[float, typer.Option(help="L2 distance at which attacks' probes are compared with σ.")] = 1.0,
    dataset: o.Dataset = "cifar10",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    model: o.Model = "resnet20",
    images: Annotated[int, typer.Option(help="How many images, of gradients and boundaries.")] = 20,
    noise_images: Annotated[
        int, typer.Option(help="Of σ̂ and P_mis on clean images, at most: as many as the model classifies correctly.")
    ] = 1000,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the table to this .parquet file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Cosine against probe scale, .svg or .png.")] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Measure σ̂, P_mis, how well gradients can be estimated, and the error of averaging, for several σ.

    Example: snd evidence --sigmas 0.001,0.01 --images 50 --plot evidence.svg
    """
    given = locals()
    from sndcli.errors import ConfigError
    from sndcli.reports import evidence as report
    from sndcli.reports import plots

    noise, scales = report.numbers(sigmas, "--sigmas"), report.numbers(probes, "--probes")
    if min(images, noise_images, queries, draws - 1) < 1 or not eps > 0:
        raise ConfigError(
            "Expected `--images`, `--noise-images`, `--queries` and `--eps` to be positive "
            "and `--draws` to be at least 2."
        )
    if out is not None and out.suffix != ".parquet":
        raise ConfigError(f"Expected `--out` to end in .parquet but got {out}.")
    if plot is not None:
        plots.check(plot)

    import torch

    from sndcli.datasets.load import choose
    from sndcli.defenses.parse import parse
    from sndcli.models.inference import reproducible_kernels, resolve_device
    from sndcli.paper.evidence import gather, on_clean_images
    from sndcli.runs.victim import Victim

    (classifier, data), where = o.victim_and_data(given), resolve_device(device)
    if where.type != "cpu":
        raise ConfigError("`snd evidence` computes on the CPU: expected `--device cpu` or auto without CUDA.")
    rows = o.batch_rows(batch_size)
    facts = []
    victims = [Victim.prepare(classifier, parse("snd", sigma, None), where, rows) for sigma in noise]
    victims[0].fit_to(data)

    def predict(x: torch.Tensor) -> torch.Tensor:
        return victims[0].undefended(x).argmax(1)

    index = choose(data, images, "correct", seed, predict)
    many = choose(data, noise_images, "correct", seed, predict, fewer=True)
    for sigma, victim in zip(noise, victims, strict=True):
        o.note(
            f"σ = {sigma:g}: σ̂ and P_mis of {len(many)} images; {len(index)} images, {len(scales)} probe scales, "
            f"{queries} queries each",
            quiet,
        )
        with reproducible_kernels(), torch.no_grad():
            facts += on_clean_images(victim, data, many, sigma, draws, seed)
            facts += gather(victim, data.pixels(index), data.labels[index], sigma, probes=scales, queries=queries,
                            draws=draws, eps=eps, seed=seed)  # fmt: skip
    if out is not None:
        report.write(facts, out)
        o.note(f"written: {out}", quiet)
    if plot is not None:
        report.draw(facts, plot)
        o.note(f"written: {plot}", quiet)
    if json:
        typer.echo(jsonlib.dumps({"schema": 1, "facts": [fact.as_dict() for fact in facts]}))
    else:
        from rich.console import Console

        Console().print(*report.tables(facts), sep="\n")
