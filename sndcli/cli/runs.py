"""What the commands that attack have in common: from options to finished runs, and from runs to stdout."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sndcli.cli import options as o
from sndcli.cli.job import Job

if TYPE_CHECKING:
    import pyarrow as pa

    from sndcli.datasets.base import ImageSet
    from sndcli.defenses.parse import DefenseSpec
    from sndcli.models.classifier import Classifier


def prepare(name: str, given: dict[str, Any], defense: DefenseSpec, votes: int = 1) -> Job:
    """From the options of ``snd attack`` (and of the commands that extend it) to a job.

    Args:
        name: of the attack.
        given: the command's parameters by name.
        defense: of the first run.
        votes: answers to a question.

    Raises:
        ConfigError: any of them is impossible; told before anything slow is loaded.
        DataError: data or weights are missing or broken.
    """
    from sndcli.attacks.registry import REFERENCES, options_of, spec_of
    from sndcli.datasets.protocol import protocol_of
    from sndcli.errors import ConfigError

    settings = tuple(given["settings"] or ())
    spec = spec_of(name)
    sources = _reference_sources(name, given.get("reference"), given["dataset"])
    usual = protocol_of(given["dataset"])
    budget = o.count(given["budget"], "--budget") if given["budget"] is not None else usual.budget
    budgets = o.counts(given["budgets"], "--budgets")
    images = given["images"] if given["images"] is not None else usual.images
    norm = o.one_of(given["norm"] or spec.norms[0], ("l2", "linf"), "--norm")
    options = options_of(spec, given["preset"], settings, norm)  # a wrong one is told before anything slow is loaded
    if getattr(options, "authors_count", False):
        points = budgets or [b for b in usual.budgets if b <= budget]
        o.note(f"{budget} queries by the authors' count are {options.paid(budget, votes)} paid ones", given["quiet"])
        budget, budgets = options.paid(budget, votes), tuple(options.paid(b, votes) for b in points)
    eps, *eps_also = o.radii(given["eps"]) or (usual.eps if norm == "l2" else 8 / 255,)
    select = o.one_of(given["select"], ("correct", "all"), "--select")
    if select == "all" and given["select_by"]:
        raise ConfigError("`--select all` asks no model: no --select-by.")
    precision = o.one_of(given["precision"], ("fp32", "bf16"), "--precision")

    from sndcli.datasets.cifar10 import proxy_ids
    from sndcli.defenses.parse import settle
    from sndcli.models.inference import resolve_device
    from sndcli.models.reference import Reference
    from sndcli.models.sources import digest, load_model
    from sndcli.runs.config import RunConfig

    model, data = o.victim_and_data(given)
    networks = [load_model(source) for source in sources]
    if given["dataset"] == "cifar10" and set(sources) & set(REFERENCES["cifar10"]):
        data = data.without(proxy_ids(), "the images that reference models were trained on")
    select_by, chooser = _chooser(given, model, data)
    config = RunConfig(
        attack=name, dataset=data.name, dataset_source=data.source, dataset_digest=data.digest(),
        model=model.name, model_digest=digest(model), defense=settle(defense, model), engine=given["engine"],
        preset=given["preset"], settings=settings, votes=votes, norm=norm, eps=eps, budget=budget, budgets=budgets,
        eps_also=tuple(eps_also),
        images=images, select=select, seed=given["seed"], repeats=given["repeats"], verify=given["verify"],
        unit=given["unit"], quantize=given["quantize"], mismatch=given["mismatch"], border=given["border"],
        precision=precision, compiled=given["compiled"],
        references=tuple((network.name, digest(network)) for network in networks), select_by=select_by,
    )  # fmt: skip
    device = resolve_device(given["device"])
    references = [Reference(network, device) for network in networks]
    for reference in references:
        reference.check(data.size, len(data.classes))
    names = f"; references: {', '.join(network.name for network in networks)}" if networks else ""
    o.note(f"data: {data.source}; model: {model.name} on {device}{names}", given["quiet"])
    return Job(
        data, model, config, device, o.batch_rows(given["batch_size"]), given["out"], given["fresh"],
        given["quiet"], given["no_progress"], given["debug"], references, given["save_points"], chooser,
    )  # fmt: skip


def _chooser(
    given: dict[str, Any], model: Classifier, data: ImageSet
) -> tuple[str, tuple[ImageSet, Classifier] | None]:
    """Who chooses the images where ``--select-by`` names another than the attacked model, and on which pixels.

    The other sees the pictures brought to its own input, so that images are those of its own runs.

    Raises:
        ConfigError: an unknown model.
        DataError: weights are missing or broken.
    """
    from sndcli.models.sources import digest, load_model

    if not given["select_by"]:
        return "", None
    if data.name == "cifar10":  # whose images are the same for every model
        other, seen = load_model(given["select_by"]), data
    else:
        other, seen = o.victim_and_data(given | {"model": given["select_by"]})
    told = [(m.name, digest(m), d.digest()) for m, d in ((other, seen), (model, data))]
    if told[0] == told[1]:
        return "", None
    return " ".join(told[0][: 2 if told[0][2] == told[1][2] else 3]), (seen, other)


def _reference_sources(name: str, given: list[str] | None, dataset: str) -> list[str]:
    """Model sources of the attacker's own networks: those given (``none``: nothing), else the data set's.

    Raises:
        ConfigError: an attack that takes none; or a data set that has none in the package.
    """
    from sndcli.attacks.registry import REFERENCES, spec_of
    from sndcli.errors import ConfigError

    if not spec_of(name).references:
        if given:
            raise ConfigError(f"`{name}` takes no reference models: no --reference.")
        return []
    if given is None and dataset not in REFERENCES:
        raise ConfigError(f"`{name}` on {dataset} needs --reference SOURCE, e.g. torchvision:resnet18; or none.")
    return [*REFERENCES[dataset]] if given is None else [source for source in given if source != "none"]


def finish(job: Job, defense: DefenseSpec, given: dict[str, Any]) -> None:
    """Runs a job against one defense and prints it, or, with ``--dry-run``, says what it would do."""
    if given.get("dry_run"):
        from sndcli.cli.dry import Planned, dry_run

        dry_run([Planned(job, defense)], given["json"])
        return
    show([job.run(defense)], given["json"], given["quiet"])


def show(runs: Sequence[tuple[pa.Table, Path]], json: bool, quiet: bool, extra: dict[str, Any] | None = None) -> None:
    """Prints finished runs: one JSON object, or tables on stdout.

    With several runs, ``run`` describes the first and ``runs`` all of them. `extra` joins the JSON object.
    """
    from sndcli.analysis.flags import flags
    from sndcli.analysis.summary import summarise

    rows = summarise([table for table, _ in runs])
    raised = flags(rows)
    for flag in raised:
        o.note(str(flag), quiet)
    if json:
        described = [_describe(table, path) for table, path in runs]
        answer = {"schema": 1, "rows": rows, "run": described[0], "flags": [flag.as_dict() for flag in raised]}
        answer |= {"runs": described} if len(runs) > 1 else {}
        typer.echo(jsonlib.dumps(answer | (extra or {})))
        return
    from rich.console import Console

    from sndcli.reports.tables import rich_tables

    Console().print(*rich_tables(rows), sep="\n")


def _describe(table: pa.Table, path: Path) -> dict[str, Any]:
    from sndcli.runs import results

    run = results.run_of(table)
    queries = int(sum(table.column("queries").to_pylist()))
    return run | {"path": str(path), "queries": queries, "queries_per_s": round(queries / max(1e-9, run["wall_s"]), 1)}
