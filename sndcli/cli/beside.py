"""What ``snd reproduce`` shows: our figures beside the published ones, or what would be run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from sndcli.cli.output import Shown
from sndcli.errors import SndError, first_line
from sndcli.paper.published import assumptions, protocol
from sndcli.paper.reproduce import Plan, cost_of
from sndcli.reports import published
from sndcli.runs.estimate import Speeds
from sndcli.runs.files import RunFiles


def shown(plans: Sequence[Plan], format: str) -> Shown:
    """Our figures beside the published ones, and what was left out."""
    head = ("table", "attack", "defense")
    names = [dict(zip(head, (p.case.table, p.case.attack, p.case.label), strict=True)) for p in plans]
    cells = [name | figure for name, p in zip(names, plans, strict=True) for figure in p.found]
    skipped = [name | {"reason": p.skipped} for name, p in zip(names, plans, strict=True) if p.skipped]
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
    total = {"queries": sum(x["queries"] for x in lines), "seconds": round(sum(x["seconds"] for x in lines), 1)}
    text = f"together {total['queries']:,} queries, {published.duration(total['seconds'])}"
    return Shown({"schema": 1, "runs": lines, "total": total}, lambda: [published.listing(lines), text])


def _line(plan: Plan, speeds: Speeds, files: set[str]) -> dict[str, Any]:
    """One plan; `files` are the results of those before."""
    c, job = plan.case, plan.job
    line: dict[str, Any] = {"table": c.table, "attack": c.attack, "defense": c.label, "dataset": c.dataset}
    line |= {"images": 0, "budget": 0, "queries": 0, "unpaid": 0, "unpaid_usual": 0, "seconds": 0.0,
             "seconds_at_most": 0.0, "state": f"skipped: {plan.skipped}"}  # fmt: skip
    if job is None or plan.skipped:
        return line
    path = RunFiles(job.out, job.config).path
    shared = str(path) in files and c.attack is not None
    files.add(str(path))
    done = c.attack is not None and path.is_file()
    begun = path.with_suffix(".parts").is_dir()
    line["state"] = "done" if done else "shared" if shared else "begun" if begun else "to run"
    line |= {"images": job.config.images, "budget": job.config.budget if c.attack else 0}
    if done or shared:
        return line
    try:
        rates = speeds.of(job, job.config.defense)
    except SndError as error:  # a defense that does not fit the network
        return line | {"images": 0, "budget": 0, "state": f"skipped: {first_line(error)}"}
    cost = cost_of(plan)
    return line | {
        "queries": cost.most.paid, "unpaid": cost.most.unpaid, "unpaid_usual": cost.usual.unpaid,
        "seconds": round(cost.usual.seconds(rates), 1), "seconds_at_most": round(cost.most.seconds(rates), 1),
    }  # fmt: skip
