"""The runs behind a table of the paper: what each takes here, and what it measures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch

from sndcli.analysis.frame import Frame
from sndcli.analysis.measures import Interval
from sndcli.analysis.statistics import mean_std, rate
from sndcli.analysis.summary import summarise
from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import options_of
from sndcli.datasets.load import choose
from sndcli.defenses.parse import DefenseSpec, parse
from sndcli.errors import ConfigError, DataError, SndError, first_line
from sndcli.paper.noise import noise_length
from sndcli.paper.published import Beside, Case, Cell, verdict
from sndcli.runs import cost
from sndcli.runs.config import PROTOCOL
from sndcli.runs.files import RunFiles
from sndcli.runs.job import Job
from sndcli.runs.listener import Listener
from sndcli.runs.prepare import prepare
from sndcli.runs.request import Request
from sndcli.runs.writing import write_text

REPEATS = 5  # draws behind an accuracy, as in Tables 1 and 7
P_MIS_IMAGES = 1000  # behind P_mis on clean images, all classified correctly, as the paper's
TRAINED = "pgd-at"

Figures = dict[tuple[str, int | None], dict[str, Any]]  # (measure, the paper's Q) -> what was measured


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
    found: list[Beside] = field(default_factory=list)

    def ready(self) -> tuple[Job, DefenseSpec]:
        """The job and its defense.

        Raises:
            ValueError: it is skipped.
        """
        if self.job is None:
            raise ValueError(f"Expected a plan that can be run but it is skipped: {self.skipped}")
        return self.job, self.job.config.defense


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a user changes of the paper's runs.

    Attributes:
        usual: a request whose machine, data, seed and output every run takes over.
        limit: paid queries, at most.
        images: a run, at most.
        model: instead of the paper's network.
        at_model: the PGD-trained network.
    """

    usual: Request
    limit: int | None = None
    images: int | None = None
    model: str | None = None
    at_model: str | None = None


def plan_of(case: Case, wanted: Wanted, listener: Listener, debug: bool = False) -> Plan:
    """What running a case takes here."""
    plan = Plan(case, ())
    parts = case.defense.split("+")
    trained = TRAINED in parts
    try:
        paid = paid_by(case)
        plan.cells = case.within(wanted.limit, paid)
        if not plan.cells:
            plan.skipped = f"no figure within {wanted.limit:,} queries"
        elif trained and wanted.at_model is None:
            plan.skipped = "needs --at-model, the PGD-trained network"
        else:
            rest = "+".join(part for part in parts if part != TRAINED) or "none"
            baseline = wanted.model or case.model
            asks_others = case.attack is not None and spec_of(case.attack).references
            points = sorted({c.budget for c in plan.cells if c.budget})
            plan.points = {paid(q): q for q in points}
            request = replace(
                wanted.usual, attack=case.attack or "null", dataset=case.dataset,
                model=wanted.at_model if trained and wanted.at_model else baseline,
                defense=parse(rest, case.sigma, case.beta, clip="snd" in rest.split("+")), votes=case.votes,
                images=min(case.images, wanted.images or case.images), eps=(case.eps,),
                norm="linf" if case.norm == "linf" else "l2", preset=case.preset,
                settings=tuple(case.settings), mismatch=case.mismatch,
                budget=max(points, default=1), budgets=tuple(points),
                references=wanted.usual.references if asks_others else None,
                select_by=baseline if trained and case.attack is not None else None,
            )  # fmt: skip
            plan.job = prepare(request, listener, debug)
    except SndError as error:
        plan.skipped = first_line(error)
    return plan


def paid_by(case: Case) -> Callable[[int], int]:
    """From a count of the paper's to paid queries; they differ where an attack's authors leave out some of theirs."""
    if case.attack is None:
        return int
    spec = spec_of(case.attack)
    options = options_of(spec, case.preset, case.settings, case.norm)
    return lambda count: spec.paid_for(options, count, case.votes)


def cost_of(plan: Plan) -> cost.Cost:
    """Of an attack, or of the figures on clean images."""
    job, _ = plan.ready()
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


def measure(plan: Plan) -> None:
    """Runs a plan, or reads what is there, and fills `found`. A defense that cannot be built skips it."""
    try:
        ours = _clean(plan) if plan.case.attack is None else _attacked(plan)
    except (ConfigError, DataError) as error:
        plan.skipped = first_line(error)
        return
    for cell in plan.cells:
        figure = ours.get((cell.measure, cell.budget))
        beside = None if figure is None else compared(cell, plan.case, figure)
        if beside is not None:
            plan.found.append(beside)


def compared(cell: Cell, case: Case, figure: dict[str, Any]) -> Beside | None:
    """A figure of ours beside the paper's; None where there is none."""
    if figure["value"] is None:
        return None
    told = verdict(cell, case, figure["value"], figure["n"])
    beside = {"table": case.table, "attack": case.attack, "defense": case.label, "measure": cell.measure,
              "budget": cell.budget, "published": cell.value, "published_std": cell.std, **figure,
              "verdict": told}  # fmt: skip
    return cast(Beside, beside)


def _attacked(plan: Plan) -> Figures:
    job, spec = plan.ready()
    table = job.run(spec).table
    return {
        (measure, theirs): figure
        for paid, theirs in plan.points.items()
        for measure, figure in figures_at(table, paid).items()
    }


def figures_at(run: pa.Table | Frame, paid: int) -> dict[str, dict[str, Any]]:
    """Of a run at a report point: measure -> what was measured."""
    found: dict[str, dict[str, Any]] = {}
    for row in summarise([run], at=(paid,)):
        rates = {name: row.figures[name] for name in ("success_noisy", "success_clean", "floor")}
        beside = {name: rate.as_dict() if isinstance(rate, Interval) else rate for name, rate in rates.items()}
        for name in ("success_seen", "success_seen_net", "distance_last", "p_mis"):
            measured = row.figures[name]
            rate = measured if isinstance(measured, Interval) else None
            figure: dict[str, Any] = {"value": row.number(name), "lo": rate and rate.lo, "hi": rate and rate.hi}
            figure |= {"n": row.n, "paid": row.budget} | (beside if rate else {})
            found[name] = figure
    return found


def _clean(plan: Plan) -> Figures:
    """Accuracy, P_mis and noise length on clean images; kept in a small file, as runs are."""
    job, spec = plan.ready()
    path = finished(plan)
    if not path.is_file():
        kept = {name: _clean_figure(name, job, spec) for name in sorted(cell.measure for cell in plan.cells)}
        write_text(path, json.dumps({"of": clean_case(plan.case), "figures": kept}))
    return {(name, None): figure for name, figure in clean_figures(path)[1].items()}


def clean_case(case: Case) -> dict[str, Any]:
    """What figures on clean images are of, beside the images."""
    return {key: getattr(case, key) for key in ("dataset", "model", "defense", "sigma", "beta")}


def clean_figures(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(what the figures in a file are of, measure -> figure); older files do not say the former."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return (kept["of"], kept["figures"]) if "of" in kept else ({}, kept)


def finished(plan: Plan) -> Path:
    """Where a plan's outcome lies once it has one."""
    job, spec = plan.ready()
    if plan.case.attack is not None:
        return RunFiles(job.out, job.config).path
    wanted = sorted(cell.measure for cell in plan.cells)
    what = [job.config.dataset_digest, job.config.model_digest, job.config.as_dict()["defense"] | {"name": spec.name}]
    what += [repr(spec), job.config.images, job.config.seed, job.config.compiled, job.config.precision, wanted]
    what += [P_MIS_IMAGES] if "p_mis_clean" in wanted else []
    what += [PROTOCOL, *([job.config.device] if job.config.device != "cpu" else [])]
    return job.out / f"clean_{hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]}.json"


def _clean_figure(measure: str, job: Job, spec: DefenseSpec) -> dict[str, Any]:
    n = min(job.config.images, len(job.data))
    data = replace(job.data, images=job.data.images[:n], labels=job.data.labels[:n], ids=job.data.ids[:n])
    if measure == "noise_l2":
        return {"value": noise_length(spec, data, torch.arange(n)), "lo": None, "hi": None, "n": n}
    victim = job.victim(spec)
    seeds = [job.config.seed + k for k in range(REPEATS if spec.random else 1)]
    if measure == "p_mis_clean":  # as accuracy, on images where right is what the undefended model says
        count, seed = min(n, P_MIS_IMAGES), job.config.seed
        right = choose(job.data, count, "correct", seed, lambda x: victim.undefended(x).argmax(1), fewer=True)
        data, n = job.data.part(right, job.data.source), len(right)
    mean, std = mean_std(job.accuracy(victim, spec, data, seeds))
    share = 1 - mean if measure == "p_mis_clean" else mean
    bounds = rate(round(share * n), n)
    return {"value": share, "lo": bounds.lo, "hi": bounds.hi, "std": std, "n": n}
