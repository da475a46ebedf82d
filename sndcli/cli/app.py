"""The command tree. Only names and help live here: nothing at module level imports torch."""

from __future__ import annotations

import typer

from sndcli import __version__
from sndcli.cli import accuracy, adaptive, attack, doctor, evidence, ls, report, reproduce, sigma_sweep, train

app = typer.Typer(
    name="snd",
    help="How well does a randomised defense hold against query-based black-box attacks, and what does it cost?",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"snd {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it and exit."),
) -> None:
    pass


app.command("accuracy")(accuracy.accuracy)
app.command("attack")(attack.attack)
app.command("adaptive")(adaptive.adaptive)
app.command("sigma-sweep")(sigma_sweep.sigma_sweep)
app.command("report", cls=report.Command)(report.report)
app.command("reproduce")(reproduce.reproduce)
app.command("evidence")(evidence.evidence)
app.command("train")(train.train)
app.command("ls")(ls.ls)
app.command("doctor")(doctor.doctor)
