"""What the commands that attack show: finished runs, or what runs would take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.console import RenderableType

from sndcli.analysis.conclusion import conclude
from sndcli.analysis.flags import flags
from sndcli.analysis.summary import summarise
from sndcli.cli.output import Shown
from sndcli.reports.published import duration
from sndcli.reports.tables import rich_tables
from sndcli.runs import results as files
from sndcli.runs.estimate import Estimate, Planned, estimates
from sndcli.runs.job import Run
from sndcli.runs.listener import Listener


def results(
    runs: Sequence[Run],
    listener: Listener,
    extra: Mapping[str, object] | None = None,
    below: Iterable[RenderableType] = (),
    details: bool = False,
) -> Shown:
    """Finished runs: one JSON object, or tables and what can be concluded in a sentence. Flags are notes.

    With several runs, ``run`` describes the first and ``runs`` all of them.

    Args:
        runs: what was run.
        listener: told of the flags.
        extra: joins the JSON object.
        below: what follows the tables.
        details: whether tables have all figures, and not only the four that are needed first.
    """
    rows = summarise([run.table for run in runs])
    raised = flags(rows)
    for flag in raised:
        listener.note(str(flag))
    described = [_describe(run) for run in runs]
    sentence = conclude(rows)
    answer: dict[str, object] = {
        "schema": 2, "sentence": sentence, "rows": [row.as_dict() for row in rows], "run": described[0],
        "flags": [flag.as_dict() for flag in raised],
    }  # fmt: skip
    answer |= {"runs": described} if len(runs) > 1 else {}
    return Shown(answer | dict(extra or {}), lambda: [*rich_tables(rows, details=details), *below, "", sentence])


def _describe(run: Run) -> dict[str, object]:
    queries = int(sum(run.table.column("queries").to_pylist()))
    known = files.run_of(run.table)
    rate = round(queries / max(1e-9, known["wall_s"]), 1)
    return {**known, "path": str(run.path), "queries": queries, "queries_per_s": rate}


def planned(runs: Sequence[Planned]) -> Shown:
    """The resolved config, images and queries of each run, and an estimate of time; nothing is attacked or written.

    Args:
        runs: what would run; the first one's config is shown.

    Raises:
        ConfigError: the model, the defense or the data do not fit, or there are too few images.
    """
    job, found = runs[0].job, estimates(runs)
    config = replace(job.config, defense=runs[0].spec).as_dict()
    described = {"config": config, "report_points": job.config.report_points, "available_images": len(job.data)}
    rows = [estimate.as_dict() for estimate in found]
    total = {"queries": sum(e.cost.most.paid for e in found), "seconds": round(sum(e.seconds for e in found), 1)}
    answer = {"schema": 1, "dry_run": True, "rows": rows, "run": described, "total": total}
    return Shown(answer, lambda: _lines(runs[0], found))


def _lines(first: Planned, found: Sequence[Estimate]) -> Iterator[str]:
    job = first.job
    for key, value in job.config.as_dict().items():
        if key != "defense":
            shown = ", ".join(f"{name}={number}" for name, number in value.items()) if key == "options" else value
            yield f"{key:15} {shown}"
    yield f"{'report points':15} {', '.join(f'{b:,}' for b in job.config.report_points)}"
    yield f"{'images':15} {job.config.images} of {len(job.data)}, {job.config.repeats} seeds"
    for e in found:
        name = f"{e.name}: " if e.name else ""
        yield (
            f"{name}{e.config.defended}: at most {e.cost.most.paid:,} paid queries and "
            f"{e.cost.most.unpaid:,} other passes, usually {e.cost.usual.unpaid:,}, at {e.rates.defended:.0f} (bare "
            f"{e.rates.bare:.0f}) images/s about {duration(e.seconds)}; {e.path}{' (exists)' if e.exists else ''}"
        )
    if len(found) > 1:
        paid = sum(e.cost.most.paid for e in found)
        yield f"all {len(found)}: at most {paid:,} paid queries, about {duration(sum(e.seconds for e in found))}"
