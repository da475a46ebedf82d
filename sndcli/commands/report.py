"""``snd report FILES…``: tables over any number of result files."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from sndcli.commands import options as o


@o.guarded
def report(
    files: Annotated[list[Path], typer.Argument(help="Parquet files, or folders of them.")],
    format: Annotated[str, typer.Option("--format", help="table, md, csv or json.")] = "table",
    json: o.Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Unreadable files are errors.")] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001
) -> None:
    """Report success with 95 % intervals, grouped by attack, dataset, model and defense; budgets are columns.

    Example: snd report results/*.parquet
    """
    o.one_of(format, ("table", "md", "csv", "json"), "--format")
    from sndcli import results
    from sndcli.reports import tables
    from sndcli.reports.flags import flags
    from sndcli.reports.summary import read_all, summarise

    readable, problems = read_all(files, strict)
    for problem in problems:
        o.note(f"warning: {problem} Skipped.", quiet)
    rows = summarise(readable)
    raised = flags(rows)
    for flag in raised:
        o.note(str(flag), quiet)
    if json or format == "json":
        runs = [results.run_of(table) for table in readable]
        typer.echo(
            jsonlib.dumps(
                {"schema": 1, "rows": rows, "run": runs[0], "runs": runs, "flags": [flag.as_dict() for flag in raised]}
            )
        )
    elif format == "md":
        typer.echo(tables.markdown(rows))
    elif format == "csv":
        typer.echo(tables.csv_text(rows), nl=False)
    else:
        from rich.console import Console

        Console().print(*tables.rich_tables(rows), sep="\n")
