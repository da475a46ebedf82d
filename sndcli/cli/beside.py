"""What ``snd reproduce`` shows: our figures beside the published ones, or what would be run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from rich.console import RenderableType
from rich.text import Text

from sndcli.cli.output import Shown
from sndcli.errors import SndError
from sndcli.paper.published import assumptions, protocol
from sndcli.paper.reproduce import Plan, cost_of
from sndcli.reports import published
from sndcli.runs.estimate import Speeds
from sndcli.runs.files import RunFiles


def shown(plans: Sequence[Plan], format: str) -> Shown:
    """Our figures beside the published ones, and what was left out."""
    cells = [figure for p in plans for figure in p.found]
    skipped = [
        {"table": p.case.table, "attack": p.case.attack, "defense": p.case.label, "reason": p.skipped}
        for p in plans
        if p.skipped
    ]
    tables = list(dict.fromkeys(p.case.table for p in plans))
    assumed = {name: lines for name in tables if (lines := assumptions(name))}
    taken = {name: lines for name in tables if (lines := protocol(name))}
    answer = {"schema": 1, "cells": cells, "skipped": skipped, "assumptions": assumed, "protocol": taken}

    def body() -> Iterable[RenderableType]:
        if format == "md":
            return ["\n\n".join(published.markdown(name, cells) for name in tables)]
        parts = [part for name in tables for part in published.rich_tables(name, cells)]
        return [Text(part) if isinstance(part, str) else part for part in parts]

    return Shown(answer, body)


def listed(plans: Sequence[Plan]) -> Shown:
    """Runs, paid queries and time, nothing run."""
    speeds, files = Speeds(), set[str]()
    lines = [_line(plan, speeds, files) for plan in plans]
    queries, seconds = sum(x.queries for x in lines), round(sum(x.seconds for x in lines), 1)
    text = f"together {queries:,} queries, {published.duration(seconds)}"
    answer = {"schema": 1, "runs": [asdict(line) for line in lines], "total": {"queries": queries, "seconds": seconds}}
    return Shown(answer, lambda: [published.listing(lines), text])


def _line(plan: Plan, speeds: Speeds, files: set[str]) -> published.Line:
    """One plan; `files` are the results of those before."""
    c, job = plan.case, plan.job
    line = published.Line(c.table, c.attack, c.label, c.dataset, state=f"skipped: {plan.skipped}")
    if job is None or plan.skipped:
        return line
    path = RunFiles(job.out, job.config).path
    shared = str(path) in files and c.attack is not None
    files.add(str(path))
    done = c.attack is not None and path.is_file()
    begun = path.with_suffix(".parts").is_dir()
    state = "done" if done else "shared" if shared else "begun" if begun else "to run"
    sized = replace(line, images=job.config.images, budget=job.config.budget if c.attack else 0, state=state)
    if done or shared:
        return sized
    try:
        rates = speeds.of(job, job.config.defense)
    except SndError as error:  # a defense that does not fit the network
        return replace(line, state=f"skipped: {str(error).splitlines()[0]}")
    cost = cost_of(plan)
    return replace(
        sized, queries=cost.most.paid, unpaid=cost.most.unpaid, unpaid_usual=cost.usual.unpaid,
        seconds=round(cost.usual.seconds(rates), 1), seconds_at_most=round(cost.most.seconds(rates), 1),
    )  # fmt: skip
