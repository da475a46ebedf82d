"""``snd adaptive NAME``: the attacker asks every question T times and pays for every answer."""

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.ranges import COUNT

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.runs.listener import Listener
    from sndcli.runs.request import Request


@dataclass(frozen=True, kw_only=True)
class Adaptive(o.NoiseOptions, o.AttackOptions):
    """Attack with T answers to each question: the most frequent label, or the mean probability.

    Budgets count paid queries; 2kx10 is 20,000 of them.

    With --ladder, the votes are T = 1, 5 and 10 beside wider probes, coarser searches and the noise-aware attacks,
    all at the same number of paid queries, and the worst case over the rungs stands beside each.

    Example: snd adaptive hsja --sigma 0.01 --votes 10 --budget 10kx10
    """

    votes: Annotated[int, COUNT, typer.Option(help="T: answers to a question; all are paid.")] = 10
    per_vote_budget: Annotated[
        bool, typer.Option("--per-vote-budget", help="Budgets are questions, as the paper's Q x T; T times are paid.")
    ] = False
    ladder: Annotated[
        bool,
        typer.Option("--ladder", help="Run every rung at the same paid budget: votes, probes, floor, noise-aware."),
    ] = False
    sigma_hat: Annotated[
        str, typer.Option("--sigma-hat", help="What --ladder's noise-aware rungs know of σ: a number, or estimate.")
    ] = "estimate"
    details: o.Details = False

    def run(self, listener: "Listener") -> "Shown":
        """One run, or with --ladder one for each rung."""
        from sndcli.cli.finished import planned, results
        from sndcli.cli.shares import shared
        from sndcli.defenses.parse import parse
        from sndcli.runs.estimate import Planned
        from sndcli.runs.prepare import prepare

        defense = parse(self.defense, self.sigma, self.beta, self.clip, self.defense_weights)
        request = self.request(defense, 1 if self.ladder else self.votes)
        if self.per_vote_budget:
            request = self._of_questions(request)
        if self.ladder:
            return self._climb(request, defense, listener)
        job = prepare(request, listener, self.debug)
        run = Planned(job, defense)
        if self.dry_run:
            return planned([run])
        with self.spread([run]) as executor:
            job = replace(job, executor=executor)
            if (part := self.part()) is not None:
                return shared(part, [job.share(part, defense)])
            return results([job.run(defense)], listener, details=self.details)

    def _of_questions(self, request: "Request") -> "Request":
        """Budgets in paid queries, where they were given in questions."""
        from sndcli.datasets.protocol import protocol_of
        from sndcli.runs.request import explained

        usual, t = protocol_of(request.dataset), self.votes
        budget = (request.budget if request.budget is not None else usual.budget) * t
        points = request.budgets or usual.budgets
        with explained():
            return replace(request, budget=budget, budgets=tuple(b * t for b in points if b * t <= budget))

    def _climb(self, request: "Request", defense: "DefenseSpec", listener: "Listener") -> "Shown":
        """One run and one file for each rung, and their table."""
        from sndcli.analysis.frame import frame_of
        from sndcli.analysis.ladder import Climb, ladder
        from sndcli.attacks.common.noise import ESTIMATE, check_scale
        from sndcli.attacks.ladder import rungs
        from sndcli.attacks.registry import spec_of
        from sndcli.cli.finished import planned, results
        from sndcli.cli.shares import shared
        from sndcli.errors import ConfigError
        from sndcli.reports.ladder import table
        from sndcli.runs.estimate import Planned
        from sndcli.runs.prepare import prepare

        if request.out.suffix == ".parquet":
            raise ConfigError("`--out` of a ladder is a folder: it writes one file for each rung.")
        if request.engine != "native":
            raise ConfigError("A ladder runs the native engine.")
        sigma = defense.noise if check_scale(self.sigma_hat) == ESTIMATE else float(self.sigma_hat)
        norm = request.norm or spec_of(self.name).norms[0]
        climbs = rungs(self.name, request.preset, request.settings, norm, self.sigma_hat, sigma)
        job = prepare(request, listener, self.debug)
        jobs = [
            replace(job, config=replace(
                job.config, attack=rung.attack, preset=rung.preset, settings=rung.settings, votes=rung.votes, norm=norm
            ))
            for rung in climbs
        ]  # fmt: skip
        climb = [Planned(j, defense, name=rung.name) for j, rung in zip(jobs, climbs, strict=True)]
        if self.dry_run:
            return planned(climb)
        victim, part = cache(partial(job.victim, defense)), self.part()
        with self.spread(climb) as executor:
            jobs = [replace(j, executor=executor) for j in jobs]
            if part is not None:
                return shared(part, [j.share(part, defense, victim) for j in jobs])
            runs = [j.run(defense, victim) for j in jobs]
        found = ladder([Climb(rung, frame_of(run.table)) for rung, run in zip(climbs, runs, strict=True)])
        return results(runs, listener, {"ladder": found.as_dict()}, table(found), self.details)
