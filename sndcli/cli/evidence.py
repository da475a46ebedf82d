"""``snd evidence``: why small noise stops attacks, and which attacks it cannot stop, measured on a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.ranges import COUNT, POSITIVE, Range

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener


@dataclass(frozen=True, kw_only=True)
class Evidence(o.Talk, o.DataOptions):
    """Measure σ̂, P_mis, how well gradients can be estimated, and the error of averaging, for several σ.

    Example: snd evidence --sigmas 0.001,0.01 --images 50 --plot evidence.svg

    With --price, also what a defense makes an attacker pay: snd evidence --price snd --price aug --images 10
    """

    sigmas: Annotated[str, typer.Option(help="Noise settings, separated by commas.")] = "0.001,0.01,0.02"
    probes: Annotated[str, typer.Option(help="Probe scales a = δ/√d, a pixel.")] = "1e-5,1e-4,1e-3,3e-3,0.01,0.03,0.1"
    queries: Annotated[int, COUNT, typer.Option(help="Answers behind each estimate of a gradient.")] = 1000
    draws: Annotated[int, Range(ge=2, lt=2**31), typer.Option(help="Answers behind each rate and spread.")] = 100
    eps: Annotated[float, POSITIVE, typer.Option(help="L2 distance at which attacks' probes are compared with σ.")] = (
        1.0
    )
    images: Annotated[int, COUNT, typer.Option(help="How many images, of gradients and boundaries.")] = 20
    noise_images: Annotated[
        int,
        COUNT,
        typer.Option(help="Of σ̂ and P_mis on clean images, at most: as many as the model classifies correctly."),
    ] = 1000
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEFENSE",
            help="Measure σ_m, ρ, h and the price of this defense, as in `--defense`, beside the predicted one; may be "
            "repeated.",
        ),
    ] = None
    widths: Annotated[str, typer.Option(help="Probe scales of --price.")] = "0.01,0.02,0.03"
    seed: o.Seed = 0
    device: o.Device = "auto"
    batch_size: o.BatchSize = "auto"
    out: Annotated[Path | None, typer.Option(help="Write the table to this .parquet file.")] = None
    plot: Annotated[Path | None, typer.Option(help="Cosine against probe scale, .svg or .png.")] = None

    def run(self, listener: "Listener") -> "Shown":
        """All figures."""
        from sndcli.errors import ConfigError
        from sndcli.reports import evidence as report
        from sndcli.reports import plots
        from sndcli.runs.writing import check_writable

        widths = report.numbers(self.widths, "--widths")
        noise, scales = report.numbers(self.sigmas, "--sigmas"), report.numbers(self.probes, "--probes")
        if self.out is not None and self.out.suffix != ".parquet":
            raise ConfigError(f"Expected `--out` to end in .parquet but got {self.out}.")
        if self.out is not None:
            check_writable(self.out)
        if self.plot is not None:
            plots.check(self.plot)

        import torch

        from sndcli.cli.output import Shown
        from sndcli.datasets.load import choose
        from sndcli.defenses.parse import parse, settle
        from sndcli.models.inference import reproducible_kernels, resolve_device
        from sndcli.models.opaque import network_of
        from sndcli.paper.evidence import gather, on_clean_images
        from sndcli.paper.price import prices
        from sndcli.runs.prepare import open_source
        from sndcli.runs.victim import Victim

        priced = [parse(name, None, None) for name in self.price or []]
        (model, data), where = open_source(self.source(), listener), resolve_device(self.device)
        classifier = network_of(model)  # whose gradients are looked at
        rows = o.batch_rows(self.batch_size)
        facts = []
        victims = [Victim.prepare(classifier, parse("snd", sigma, None), where, rows) for sigma in noise]
        victims[0].fit_to(data)

        def predict(x: torch.Tensor) -> torch.Tensor:
            return victims[0].undefended(x).argmax(1)

        with reproducible_kernels():
            index = choose(data, self.images, "correct", self.seed, predict)
            many = choose(data, self.noise_images, "correct", self.seed, predict, fewer=True)
        for sigma, victim in zip(noise, victims, strict=True):
            listener.note(
                f"σ = {sigma:g}: σ̂ and P_mis of {len(many)} images; {len(index)} images, {len(scales)} probe scales, "
                f"{self.queries} queries each"
            )
            with reproducible_kernels(), torch.no_grad():
                facts += on_clean_images(victim, data, many, sigma, self.draws, self.seed)
                facts += gather(victim, data.pixels(index), data.labels[index], sigma, probes=scales,
                                queries=self.queries, draws=self.draws, eps=self.eps, seed=self.seed)  # fmt: skip
        for spec in priced:
            listener.note(f"{spec.words}: what it costs an attacker")
            victim = Victim.prepare(classifier, settle(spec, model), where, rows)
            with reproducible_kernels(), torch.no_grad():
                facts += prices(victim, data.pixels(index), data.labels[index], spec.words, widths,
                                self.queries, self.draws, self.seed)  # fmt: skip
        if self.out is not None:
            report.write(facts, self.out)
            listener.note(f"written: {self.out}")
        if self.plot is not None:
            report.draw(facts, self.plot)
            listener.note(f"written: {self.plot}")
        answer = {"schema": 1, "device": where.type, "facts": [fact.as_dict() for fact in facts]}
        return Shown(answer, lambda: report.tables(facts))
