"""What ``snd reproduce`` is going to run: one plan for each run of a table, and the list that `--dry-run` prints."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from sndcli.cli.job import Job
    from sndcli.paper.published import Case, Cell
    from sndcli.runs.cost import Cost

REPEATS = 5  # draws behind an accuracy, as in Tables 1 and 7
P_MIS_IMAGES = 1000  # behind P_mis on clean images, all classified correctly, as the paper's
TRAINED = "pgd-at"


@dataclass
class Plan:
    """A case with what running it here takes; `skipped` says why it cannot be.

    `points` are report points of the run, in paid queries, with the paper's Q that each stands for.
    """

    case: Case
    cells: tuple[Cell, ...]
    job: Job | None = None
    skipped: str = ""
    points: dict[int, int] = field(default_factory=dict)
    found: list[dict[str, Any]] = field(default_factory=list)


def plan_of(
    case: Case, limit: int | None, images: int | None, model: str | None, at_model: str | None, given: dict[str, Any]
) -> Plan:
    """What running a case takes here."""
    from sndcli.attacks.registry import spec_of
    from sndcli.cli.runs import prepare
    from sndcli.defenses.parse import parse
    from sndcli.errors import SndError

    plan = Plan(case, ())
    parts = case.defense.split("+")
    trained = TRAINED in parts
    try:
        paid = paid_by(case)
        plan.cells = case.within(limit, paid)
        if not plan.cells:
            plan.skipped = f"no figure within {limit:,} queries"
        elif trained and at_model is None:
            plan.skipped = "needs --at-model, the PGD-trained network"
        else:
            rest = "+".join(part for part in parts if part != TRAINED) or "none"
            spec = parse(rest, case.sigma, case.beta, clip=True)
            baseline = model or case.model
            asks_others = case.attack is not None and spec_of(case.attack).references
            points = sorted({c.budget for c in plan.cells if c.budget})
            plan.points = {paid(q): q for q in points}
            wanted = given | {
                "dataset": case.dataset, "model": at_model if trained else baseline,
                "images": min(case.images, images or case.images),
                "norm": case.norm, "eps": repr(case.eps), "preset": case.preset, "mismatch": case.mismatch,
                "budget": str(max(points, default=1)), "budgets": ",".join(map(str, points)) or None,
                "reference": given["reference"] if asks_others else None, "settings": list(case.settings),
                "select_by": baseline if trained and case.attack is not None else None,
            }  # fmt: skip
            plan.job = prepare(case.attack or "null", wanted, spec, case.votes)
    except SndError as error:
        plan.skipped = str(error).splitlines()[0]
    return plan


def paid_by(case: Case) -> Callable[[int], int]:
    """From a count of the paper's to paid queries; they differ where an attack's authors leave out some of theirs."""
    from sndcli.attacks.registry import options_of, spec_of

    if case.attack is None:
        return int
    options = options_of(spec_of(case.attack), case.preset, case.settings, case.norm)
    return lambda count: options.paid(count, case.votes) if getattr(options, "authors_count", False) else count


def show(plans: Sequence[Plan], json: bool) -> None:
    """Runs, paid queries and time, nothing run."""
    from sndcli.cli.dry import Speeds
    from sndcli.errors import SndError
    from sndcli.runs.files import RunFiles

    speeds, lines, files = Speeds(), [], set()
    for plan in plans:
        c, job = plan.case, plan.job
        line: dict[str, Any] = {"table": c.table, "attack": c.attack, "defense": c.label, "dataset": c.dataset}
        line |= {"images": 0, "budget": 0, "queries": 0, "unpaid": 0, "unpaid_usual": 0, "seconds": 0.0,
                 "seconds_at_most": 0.0, "state": f"skipped: {plan.skipped}"}  # fmt: skip
        if job is not None and not plan.skipped:
            config = job.config
            path = RunFiles(job.out, config).path
            shared = path in files and c.attack is not None
            done = c.attack is not None and path.is_file()
            state = (
                "done" if done else "shared" if shared else "begun" if path.with_suffix(".parts").is_dir() else "to run"
            )
            line |= {"images": config.images, "budget": config.budget if c.attack else 0, "state": state}
            if state not in ("done", "shared"):
                try:
                    rates = speeds.of(job, config.defense)
                except SndError as error:  # a defense that does not fit the network
                    line |= {"images": 0, "budget": 0, "state": f"skipped: {str(error).splitlines()[0]}"}
                else:
                    cost = _cost(plan, job)
                    line |= {"queries": cost.most.paid, "unpaid": cost.most.unpaid, "unpaid_usual": cost.usual.unpaid,
                             "seconds": round(cost.usual.seconds(rates), 1),
                             "seconds_at_most": round(cost.most.seconds(rates), 1)}  # fmt: skip
            files.add(path)
        lines.append(line)
    total = {"queries": sum(x["queries"] for x in lines), "seconds": round(sum(x["seconds"] for x in lines), 1)}
    if json:
        typer.echo(jsonlib.dumps({"schema": 1, "runs": lines, "total": total}))
        return
    from rich.console import Console

    from sndcli.reports.published import duration, listing

    Console().print(listing(lines), f"together {total['queries']:,} queries, {duration(total['seconds'])}", sep="\n")


def _cost(plan: Plan, job: Job) -> Cost:
    """Of an attack, or of the figures on clean images."""
    from sndcli.runs import cost

    config = job.config
    if plan.case.attack is not None:
        return cost.of_run(config, len(job.data), save_points=job.save_points)
    n = min(config.images, len(job.data))
    wanted = {cell.measure for cell in plan.cells}
    rows = {"accuracy": n, "p_mis_clean": min(n, P_MIS_IMAGES)}
    figures = [cost.of_accuracy(rows[m], REPEATS, config.defense.random) for m in sorted(wanted & rows.keys())]
    if "p_mis_clean" in wanted:
        figures.append(cost.of_selection(rows["p_mis_clean"], len(job.data)))
    return cost.together(figures)
