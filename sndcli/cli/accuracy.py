"""``snd accuracy``: clean accuracy, mean ± std over repeats of the defense's randomness."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.compiling import wished
from sndcli.cli.machines import SpreadOptions
from sndcli.cli.ranges import COUNT

if TYPE_CHECKING:
    from rich.table import Table

    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener


@dataclass(frozen=True)
class Measured:
    """Accuracy behind one defense, over its draws; `pgd` is attack -> accuracy on `pgd_n` images."""

    model: str
    defense: str
    sigma: float
    beta: float | None
    n: int
    mean: float
    std: float
    values: Sequence[float]
    weights: str
    weights_digest: str
    pgd_n: int
    pgd: Mapping[str, float]

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        found: dict[str, object] = {
            "model": self.model, "defense": self.defense, "sigma": self.sigma, "beta": self.beta, "n": self.n,
            "accuracy": {"mean": self.mean, "std": self.std, "values": self.values},
        }  # fmt: skip
        if self.weights:
            found |= {"weights": self.weights, "weights_digest": self.weights_digest}
        if self.pgd:
            found["pgd"] = [{"attack": a, "n": self.pgd_n, "accuracy": share} for a, share in self.pgd.items()]
        return found


@dataclass(frozen=True, kw_only=True)
class Accuracy(o.LongTalk, SpreadOptions, o.MachineOptions, o.DefenseOptions, o.DataOptions):
    """Measure clean accuracy with and without a defense.

    Example: snd accuracy --sigma 0 --sigma 0.01 --sigma 0.02 --repeats 5
    """

    sigma: Annotated[list[float] | None, typer.Option(help="Noise of snd; repeatable, one row each.")] = None
    beta: o.Beta = None
    repeats: Annotated[int, COUNT, typer.Option(help="Draws of the defense's randomness.")] = 5
    pgd: Annotated[
        list[str] | None,
        typer.Option(
            help="Also accuracy under PGD: linf:8/255:7, l2:0.5:10, l2:1:20:eot=20 (mean gradient of 20 draws); "
            "repeatable."
        ),
    ] = None
    pgd_images: Annotated[int, COUNT, typer.Option(help="PGD on the first so many images.")] = 1000
    seed: o.Seed = 0

    def run(self, listener: "Listener") -> "Shown":
        """One row for each σ."""
        from sndcli.defenses.parse import parse, settle
        from sndcli.errors import ConfigError

        sigmas: list[float | None] = [*self.sigma] if self.sigma else [None]
        specs = [parse(self.defense, value, self.beta, self.clip, self.defense_weights) for value in sigmas]

        from sndcli.analysis.statistics import mean_std
        from sndcli.cli.output import Shown
        from sndcli.defenses.trained import label
        from sndcli.models.inference import resolve_device
        from sndcli.models.opaque import network_of
        from sndcli.models.sources import digest
        from sndcli.runs.accuracy import accuracy_by
        from sndcli.runs.executors.sent import Opened, Recipe
        from sndcli.runs.executors.spread import Load, spread
        from sndcli.runs.foreign import check_foreign
        from sndcli.runs.listener import Update
        from sndcli.runs.prepare import open_source
        from sndcli.runs.victim import Victim
        from sndcli.training.robustness import PGD, STARTED, robust_accuracy

        attacks = {text: PGD.parse(text) for text in self.pgd or ()}
        compiled = bool(wished(self.compiled))
        if attacks and compiled:
            raise ConfigError("`--pgd` needs gradients, which a compiled network has not: leave out --compile.")
        rows = o.batch_rows(self.batch_size)
        precision = self.arithmetic()
        model, data = open_source(self.source(), listener)
        if attacks:
            network_of(model)  # PGD needs gradients
        place = resolve_device(self.device)
        listener.note(f"data: {data.source}; model: {model.name} on {place}")
        found: list[Measured] = []
        source = self.source().model
        load = Load(model, source, len(data) * self.repeats * len(specs), len(data))
        with spread(self.wish(), [load], place) as executor:
            for given in specs:
                spec = settle(given, model)
                victim = Victim.prepare(model, spec, place, rows, precision, compiled)
                victim.fit_to(data)
                check_foreign(spec, victim, listener.warn)
                seeds = range(self.seed, self.seed + (self.repeats if spec.random else 1))
                with listener.progress(len(seeds) * len(data), spec.name) as update:

                    def progress(done: int, update: Update = update) -> None:
                        update(done, f"{done} images")

                    recipe = Recipe.of(victim, spec, precision, compiled)
                    values = accuracy_by(executor, victim, Opened(model, source), recipe, data, seeds, progress)
                mean, std = mean_std(values)
                n, network = min(self.pgd_images, len(data)), victim.defended.model
                if attacks:
                    listener.note(f"PGD on {spec.name} ...")
                found.append(
                    Measured(
                        model.name, spec.name, spec.sigma, spec.beta, len(data) - data.left_out, mean, std, values,
                        label(spec.weights) if spec.weights else "", spec.weights_digest, n,
                        {text: robust_accuracy(network, data, a, place, n, rows or STARTED)
                         for text, a in attacks.items()},
                    )
                )  # fmt: skip
        answer = {
            "schema": 1,
            "rows": [row.as_dict() for row in found],
            "run": {
                "data": data.source, "data_digest": data.digest(), "model_digest": digest(model), "seed": self.seed,
                "precision": precision, "device": place.type,
            },
        }  # fmt: skip
        return Shown(answer, lambda: [_table(found, attacks)])


def _table(found: Sequence[Measured], attacks: Iterable[str]) -> "Table":
    from rich.table import Table

    table = Table("model", "defense", "sigma", "n", "repeats", "accuracy %", *(f"{text}, %" for text in attacks))
    for row in found:
        spread = f" ± {100 * row.std:.2f}" if len(row.values) > 1 else ""
        cells = [row.model, row.defense, f"{row.sigma:g}", str(row.n), str(len(row.values))]
        table.add_row(*cells, f"{100 * row.mean:.2f}{spread}", *(f"{100 * share:.1f}" for share in row.pgd.values()))
    return table
