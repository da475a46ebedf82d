"""``snd adaptive NAME``: the attacker asks every question T times and pays for every answer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sndcli.commands import options as o
from sndcli.commands.attack import attack


@o.guarded
@o.extends(attack)
def adaptive(
    name: str,
    votes: Annotated[int, typer.Option(help="T: answers to a question; all are paid.")] = 10,
    per_vote_budget: Annotated[
        bool, typer.Option("--per-vote-budget", help="Budgets are questions, as the paper's Q x T; T times are paid.")
    ] = False,
    **given: Any,
) -> None:
    """Attack with T answers to each question: the most frequent label, or the mean probability.

    Budgets count paid queries; 2kx10 is 20,000 of them.

    Example: snd adaptive hsja --sigma 0.01 --votes 10 --budget 10kx10
    """
    from sndcli.commands.runs import finish, prepare
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
    finish(prepare(name, given, spec, votes), spec, given)
