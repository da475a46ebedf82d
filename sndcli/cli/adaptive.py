"""``snd adaptive NAME``: the attacker asks every question T times and pays for every answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sndcli.cli import options as o
from sndcli.cli.attack import attack

if TYPE_CHECKING:
    from sndcli.defenses.parse import DefenseSpec


@o.guarded
@o.extends(attack)
def adaptive(
    name: str,
    votes: Annotated[int, typer.Option(help="T: answers to a question; all are paid.")] = 10,
    per_vote_budget: Annotated[
        bool, typer.Option("--per-vote-budget", help="Budgets are questions, as the paper's Q x T; T times are paid.")
    ] = False,
    ladder: Annotated[
        bool,
        typer.Option("--ladder", help="Run every rung at the same paid budget: votes, probes, floor, noise-aware."),
    ] = False,
    sigma_hat: Annotated[
        str, typer.Option("--sigma-hat", help="What --ladder's noise-aware rungs know of σ: a number, or estimate.")
    ] = "estimate",
    **given: Any,
) -> None:
    """Attack with T answers to each question: the most frequent label, or the mean probability.

    Budgets count paid queries; 2kx10 is 20,000 of them.

    With --ladder, the votes are T = 1, 5 and 10 beside wider probes, coarser searches and the noise-aware attacks,
    all at the same number of paid queries, and the worst case over the rungs stands beside each.

    Example: snd adaptive hsja --sigma 0.01 --votes 10 --budget 10kx10
    """
    from sndcli.cli.runs import finish, prepare
    from sndcli.datasets.protocol import protocol_of
    from sndcli.defenses.parse import parse
    from sndcli.errors import ConfigError

    if votes < 1:
        raise ConfigError(f"Expected `--votes` to be at least 1 but got {votes}.")
    if per_vote_budget:
        usual = protocol_of(given["dataset"])
        given["budget"] = str(o.count(given["budget"] or str(usual.budget), "--budget") * votes)
        points = o.counts(given["budgets"], "--budgets") or usual.budgets
        points = tuple(b * votes for b in points if b * votes <= int(given["budget"]))
        given["budgets"] = ",".join(map(str, points)) or None
    spec = parse(given["defense"], given["sigma"], given["beta"], given["clip"], given["defense_weights"])
    if ladder:
        _climb(name, given, spec, sigma_hat)
        return
    finish(prepare(name, given, spec, votes), spec, given)


def _climb(name: str, given: dict[str, Any], spec: DefenseSpec, sigma_hat: str) -> None:
    """One run and one file for each rung, and their table."""
    from sndcli.analysis.frame import frame_of
    from sndcli.analysis.ladder import Climb, ladder
    from sndcli.attacks.common.noise import ESTIMATE, check_scale
    from sndcli.attacks.ladder import rungs
    from sndcli.attacks.registry import spec_of
    from sndcli.cli.runs import prepare, show
    from sndcli.errors import ConfigError
    from sndcli.reports import ladder as report

    if given["out"].suffix == ".parquet":
        raise ConfigError("`--out` of a ladder is a folder: it writes one file for each rung.")
    if given["engine"] != "native":
        raise ConfigError("A ladder runs the native engine.")
    sigma = spec.sigma if check_scale(sigma_hat) == ESTIMATE else float(sigma_hat)
    norm = given["norm"] or spec_of(name).norms[0]
    climbs = rungs(name, given["preset"], tuple(given["settings"] or ()), norm, sigma_hat, sigma)
    job = prepare(name, given, spec)
    jobs = [
        replace(job, config=replace(
            job.config, attack=rung.attack, preset=rung.preset, settings=rung.settings, votes=rung.votes, norm=norm
        ))
        for rung in climbs
    ]  # fmt: skip
    if given.get("dry_run"):
        from sndcli.cli.dry import Planned, dry_run

        dry_run([Planned(j, spec, name=rung.name) for j, rung in zip(jobs, climbs, strict=True)], given["json"])
        return
    victim = cache(partial(job.victim, spec))
    runs = [j.run(spec, victim) for j in jobs]
    found = ladder([Climb(rung, frame_of(table)) for rung, (table, _) in zip(climbs, runs, strict=True)])
    show(runs, given["json"], given["quiet"], {"ladder": found})
    if not given["json"]:
        from rich.console import Console

        Console().print(*report.table(found), sep="\n")
