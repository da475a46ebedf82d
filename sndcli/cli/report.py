"""``snd report FILES…``: tables, plots, a page and gates over any number of result files."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sndcli.cli import options as o

if TYPE_CHECKING:
    from sndcli.analysis.baseline import Comparison
    from sndcli.analysis.frame import Frame
    from sndcli.analysis.gates import Gate

FORMATS = ("table", "md", "csv", "latex", "json")


class Command(TyperCommand):
    """Lets ``--baseline old/*.parquet`` take all files up to the next option, as a shell expands it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the option before each of its files."""
        spread: list[str] = []
        inside = False
        for argument in args:
            if argument.startswith("-"):
                inside = argument == "--baseline"
                spread += [] if inside else [argument]
            else:
                spread += ["--baseline", argument] if inside else [argument]
        if args and args[-1] == "--baseline":
            spread.append("--baseline")
        rest: list[str] = super().parse_args(ctx, spread)
        return rest


@o.guarded
def report(
    files: Annotated[list[Path], typer.Argument(help="Parquet files, or folders of them.")],
    format: Annotated[str, typer.Option("--format", help="table, md, csv, latex or json.")] = "table",
    json: o.Json = False,
    at: Annotated[
        str | None, typer.Option("--at", help="Budgets to report instead of the stored ones: 1500,3k.")
    ] = None,
    eps: Annotated[float | None, typer.Option(help="Bound to report instead of the runs' own.")] = None,
    interval: Annotated[str, typer.Option(help="wilson or clopper-pearson.")] = "wilson",
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with key=value, as attack=hsja; repeatable.")
    ] = None,
    fail_if: Annotated[
        list[str] | None, typer.Option(help="Exit with 1 where it holds, as 'success_noisy@2000 > 0.25'; repeatable.")
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(help="Older results, up to the next option: exit with 1 on a significant regression."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture, .svg or .png.")] = None,
    kind: Annotated[str, typer.Option(help="Of the picture: queries, distance, eps or gallery.")] = "queries",
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Unreadable files and gaps in gates are errors.")] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Report success with 95 % intervals, grouped by attack, dataset, model and defense; budgets are columns.

    Example: snd report results/*.parquet --fail-if 'success_noisy@2000 > 0.25'
    """
    from sndcli.analysis import baseline as baselines
    from sndcli.analysis import flags, frame, gates, summary
    from sndcli.analysis.statistics import INTERVALS
    from sndcli.errors import ConfigError, DataError
    from sndcli.reports import plots

    o.one_of(format, FORMATS, "--format")
    o.one_of(interval, INTERVALS, "--interval")
    o.one_of(kind, plots.KINDS, "--kind")
    if eps is not None and not eps > 0:
        raise ConfigError(f"Expected `--eps` to be positive but got {eps}.")
    points = o.counts(at, "--at")
    if any(point < 1 for point in points):
        raise ConfigError(f"Expected `--at` of at least 1 query but got `{at}`.")
    rules = [gates.parse(text, o.count) for text in fail_if or ()]
    pairs = gates.filters(where or ())
    if plot is not None:
        plots.check(plot)

    def load(paths: list[Path]) -> list[Frame]:
        found, problems = frame.load(paths, strict, events=bool(points or plot or html))
        for problem in problems:
            o.note(f"warning: {problem} Skipped.", quiet)
        wanted = [(key, value) for key, value in pairs if key != "budget"]
        kept = [f for f in found if gates.matches(f.setting | {"preset": f.run["config"].get("preset")}, wanted)]
        if not kept:
            raise DataError(f"No result has {' and '.join(where or ())}.")
        return kept

    frames = load(files)
    rows = summary.summarise(frames, points, eps, interval)
    rows = [row for row in rows if gates.matches(row, [pair for pair in pairs if pair[0] == "budget"])]
    notes = summary.recompute_notes(frames, points, eps)
    if not rows:
        raise DataError("\n".join(["There are no figures at this budget.", *notes]))
    comparisons, unmatched = baselines.compare(frames, load(baseline)) if baseline else ([], [])
    raised = flags.flags(rows)
    for line in [*(f"note: {note}" for note in (*notes, *unmatched)), *map(str, raised)]:
        o.note(line, quiet)
    failures, gaps = _judge(rules, rows, comparisons)
    if gaps and strict:
        raise DataError("\n".join(gaps))
    for line in gaps:
        o.note(f"warning: {line}", quiet)

    told = {"notes": notes, "flags": [flag.as_dict() for flag in raised], "failed": failures}
    _print(format if not json else "json", frames, rows, comparisons, interval, told)
    if plot is not None:
        plots.save(plots.draw(frames, kind, points[0] if points else None, eps), plot)
        o.note(f"written: {plot}", quiet)
    if html is not None:
        from sndcli.reports import page

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page.render(frames, rows, [*notes, *unmatched], comparisons, interval, eps), encoding="utf-8")
        o.note(f"written: {html}", quiet)
    for line in failures:
        typer.echo(line, err=True)
    if failures:
        raise typer.Exit(1)


def _judge(
    rules: Sequence[Gate], rows: Sequence[dict[str, Any]], comparisons: Sequence[Comparison]
) -> tuple[list[str], list[str]]:
    """A line for each failure, and a line for each setting that a gate leaves out."""
    from sndcli.analysis import gates

    failures, gaps = [], []
    for rule in rules:
        failed, missed = gates.check(rule, rows)
        failures += [gates.offence(rule, row) for row in failed]
        gaps += missed
    return failures + [c.line() for c in comparisons if c.regression], gaps


def _print(
    format: str,
    frames: Sequence[Frame],
    rows: Sequence[dict[str, Any]],
    comparisons: Sequence[Comparison],
    interval: str,
    extra: dict[str, Any],
) -> None:
    from sndcli.reports import comparison, tables

    if format == "json":
        runs = [f.run for f in frames]
        answer = {"schema": 1, "rows": rows, "run": runs[0], "runs": runs} | extra
        answer |= {"baseline": [c.as_dict() for c in comparisons]} if comparisons else {}
        typer.echo(jsonlib.dumps(answer))
    elif format == "md":
        typer.echo(tables.markdown(rows, interval))
    elif format == "latex":
        typer.echo(tables.latex(rows, interval))
    elif format == "csv":
        typer.echo(tables.csv_text(rows), nl=False)
    else:
        from rich.console import Console

        Console().print(*tables.rich_tables(rows, interval), sep="\n")
    if comparisons and format != "json":
        from rich.console import Console

        # beside a format that a program reads, the comparison goes to where people read
        Console(stderr=format != "table").print(comparison.table(comparisons))
