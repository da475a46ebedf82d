"""Figures of the paper's tables from the result files of a folder, whoever made them: ``snd reproduce --no-run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sndcli.analysis.frame import Frame, load
from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import options_of, told
from sndcli.defenses.parse import DefenseSpec
from sndcli.paper.published import Case, Cell
from sndcli.paper.reproduce import TRAINED, Plan, clean_case, clean_figures, compared, figures_at, paid_by


def frames_in(folder: Path) -> list[Frame]:
    """Every result file in a folder and those inside, but for parts of runs."""
    paths = sorted(path for path in folder.rglob("*.parquet") if ".parts" not in path.parent.name)
    return load(paths)[0] if paths else []


def fill(plan: Plan, frames: Sequence[Frame], folder: Path) -> None:
    """Gives a plan without a result of its own the figures of runs that asked the same.

    The same attack with the same hyper-parameters against the same defense, norm and ε, on the same network, but on any
    images, to any budget, and with the noise clipped or not; on ImageNet on any network, which the figure then names.
    Of several runs the one of most images speaks for a budget.
    """
    case = plan.case
    if case.attack is None:
        _fill_clean(plan, folder)
        return
    paid = paid_by(case)
    able = [frame for frame in frames if _asks(case, frame.run["config"])]
    for cell in plan.cells or case.cells:
        point = paid(cell.budget or 0)
        holding = [frame for frame in able if point in frame.budgets and _has(frame, cell)]
        if not holding:
            continue
        frame = max(holding, key=lambda f: (len(f), f.run["config"]["defense"].get("clip", False), f.budget))
        figure = figures_at(frame, point).get(cell.measure)
        beside = None if figure is None else compared(cell, case, figure)
        if beside is not None:
            beside["file"] = str((frame.path or folder).relative_to(folder))
            if frame.run["config"]["model"] != case.model:
                beside["model"] = frame.run["config"]["model"]
            plan.found.append(beside)
    if plan.found:
        plan.skipped = ""


def _fill_clean(plan: Plan, folder: Path) -> None:
    """The same of figures on clean images."""
    case = plan.case
    for cell in plan.cells or case.cells:
        holding = []
        for path in sorted(folder.rglob("clean_*.json")):
            of, figures = clean_figures(path)
            if of == clean_case(case) and cell.measure in figures:
                holding.append((int(figures[cell.measure]["n"]), path, figures[cell.measure]))
        if holding:
            _, path, figure = max(holding, key=lambda one: one[0])
            beside = compared(cell, case, figure)
            if beside is not None:
                plan.found.append({**beside, "file": str(path.relative_to(folder))})
    if plan.found:
        plan.skipped = ""


def _has(frame: Frame, cell: Cell) -> bool:
    return cell.measure != "p_mis" or bool(frame.run["config"]["mismatch"])


def _asks(case: Case, config: Mapping[str, object]) -> bool:
    """Whether a run of this config is one of the case's."""
    assert case.attack is not None
    spec = spec_of(case.attack)
    defense = config["defense"]
    assert isinstance(defense, Mapping)
    theirs = DefenseSpec(defense["name"], defense["sigma"], defense["beta"]).effective
    ours = DefenseSpec(case.defense, case.sigma or 0.0, case.beta).effective
    return (
        (config["attack"], config["dataset"], config["norm"], config["eps"], config["votes"])
        == (case.attack, case.dataset, case.norm, case.eps, case.votes)
        and (config["model"] == case.model or case.dataset == "imagenet")
        and TRAINED not in case.defense.split("+")
        and (theirs.name, theirs.sigma, theirs.beta) == (ours.name, ours.sigma, ours.beta)
        and config["options"] == told(options_of(spec, case.preset, case.settings, case.norm))
    )
