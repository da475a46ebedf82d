"""The command tree. Only names and help live here: nothing at module level imports torch."""

from __future__ import annotations

import typer

from sndcli import __version__
from sndcli.cli.accuracy import Accuracy
from sndcli.cli.adaptive import Adaptive
from sndcli.cli.attack import Attack
from sndcli.cli.audit import Audit
from sndcli.cli.command import Program, Runner
from sndcli.cli.compare import Compare
from sndcli.cli.doctor import Doctor
from sndcli.cli.evidence import Evidence
from sndcli.cli.explain import Explain
from sndcli.cli.league import League
from sndcli.cli.ls import Ls
from sndcli.cli.merge import Merge
from sndcli.cli.panels import Panelled
from sndcli.cli.report import Report, Spreading
from sndcli.cli.reproduce import Reproduce
from sndcli.cli.serve import Serve
from sndcli.cli.sigma_sweep import SigmaSweep
from sndcli.cli.status import Status
from sndcli.cli.train import Train

FORMER = {"border": "boundary", "no-border": "no-boundary"}  # options by a name of before, still taken

app = typer.Typer(
    name="snd",
    cls=Program,
    help="How well does a randomised defense hold against query-based black-box attacks, and what does it cost?",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
    context_settings={"token_normalize_func": lambda name: FORMER.get(name, name)},
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


app.command("accuracy", cls=Panelled)(Accuracy)
app.command("attack", cls=Panelled)(Attack)
app.command("adaptive", cls=Panelled)(Adaptive)
app.command("sigma-sweep", cls=Panelled)(SigmaSweep)
app.command("audit", cls=Panelled)(Audit)
app.command("league", cls=Runner)(League)
app.command("report", cls=Spreading)(Report)
app.command("compare", cls=Runner)(Compare)
app.command("status", cls=Runner)(Status)
app.command("merge", cls=Runner)(Merge)
app.command("reproduce", cls=Runner)(Reproduce)
app.command("evidence", cls=Runner)(Evidence)
app.command("train", cls=Runner)(Train)
app.command("serve", cls=Runner)(Serve)
app.command("ls", cls=Runner)(Ls)
app.command("explain", cls=Runner)(Explain)
app.command("doctor", cls=Runner)(Doctor)
