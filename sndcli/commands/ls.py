"""``snd ls``: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from sndcli.commands import options as o


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
            presets = ", ".join(spec.presets)
            typer.echo(f"{spec.name:8} {spec.access:6} {'/'.join(spec.norms):8} {spec.summary}; presets: {presets}")
    elif what == "defenses":
        typer.echo("none  the bare model\nsnd   Small Noise Defense: Gaussian noise on every query (--sigma, --beta)")
        from sndcli import plugins

        for name in plugins.names(plugins.DEFENSES):
            typer.echo(f"{name}  of an installed package")
    elif what == "models":
        from sndcli.models.sources import PREFIXES, ZOO

        for name in (*ZOO, *(f"{prefix}…" for prefix in PREFIXES)):
            typer.echo(name)
    else:
        typer.echo("cifar10  the full test split with --data-dir or --download, else 1,200 shipped test images")
