"""``snd ls``: what there is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sndcli.cli import options as o

DEFENSES = {
    "none": "the bare model",
    "snd": "Small Noise Defense: Gaussian noise on every query (--sigma, --beta)",
    "rnp": "random resizing and padding, a new geometry for every query",
    "rse": "Random Self-Ensemble: noise before every convolution, five passes a query (--defense-weights)",
    "pni": "Parametric Noise Injection: learned weight noise, a draw for each query (--defense-weights)",
    "pni-shared": "the same, one draw for all queries of a forward pass, as its authors evaluate",
}


@o.guarded
def ls(
    what: Annotated[str, typer.Argument(help="attacks, defenses, models or datasets.")],
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """List attacks, defenses, models or datasets, one a line."""
    o.one_of(what, ("attacks", "defenses", "models", "datasets"), "snd ls")
    if what == "attacks":
        from sndcli import plugins
        from sndcli.attacks.registry import ATTACKS, spec_of

        for spec in [*ATTACKS.values(), *(spec_of(n) for n in plugins.names(plugins.ATTACKS) if n not in ATTACKS)]:
            usual = {preset: norm for norm, preset in spec.by_norm}
            presets = ", ".join(f"{p} (default of {usual[p]})" if p in usual else p for p in spec.presets)
            typer.echo(f"{spec.name:11} {spec.access:6} {'/'.join(spec.norms):8} {spec.summary}; presets: {presets}")
    elif what == "defenses":
        from sndcli import plugins

        for name, text in DEFENSES.items():
            typer.echo(f"{name:10}  {text}")
        for name in plugins.names(plugins.DEFENSES):
            typer.echo(f"{name:10}  of an installed package")
    elif what == "models":
        from sndcli.models import zoo
        from sndcli.models.sources import PREFIXES

        for name in zoo.available():
            typer.echo(f"{name:13} {_summary(zoo.card(name))}")
        for prefix in PREFIXES:
            typer.echo(f"{prefix}…")
    else:
        typer.echo("cifar10   the full test split with --data-dir or --download, else 1,200 shipped test images")
        typer.echo("imagenet  validation pictures in folders by synset under --data-dir, all or some of them")
        typer.echo("folder:…  any pictures, one folder a class")


def _summary(card: dict[str, Any]) -> str:
    """A card of the zoo in a line."""
    text = f"{card['arch']}, {100 * card['accuracy']['value']:.2f} % of {card['accuracy']['n']} test images"
    for robust in card["robust"]:
        text += f"; {100 * robust['value']:.1f} % under PGD {robust['pgd']}"
    return text + (f"; --defense {card['defense']}" if card["defense"] in ("rse", "pni") else "")
