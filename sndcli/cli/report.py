"""``snd report FILES…``: tables, plots, a page and gates over any number of result files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sndcli.cli import options as o
from sndcli.cli.command import Runner
from sndcli.cli.ranges import POSITIVE

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sndcli.analysis.frame import Frame
    from sndcli.analysis.summary import Summary
    from sndcli.analysis.verdict import Verdict
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener

FORMATS = ("table", "md", "github", "csv", "latex", "json", "parquet")


class Spreading(Runner):
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


@dataclass(frozen=True, kw_only=True)
class Report(o.Talk):
    """Report success with 95 % intervals, grouped by attack, dataset, model and defense; budgets are columns.

    Example: snd report results/*.parquet --fail-if 'success_noisy@2000 > 0.25'
    """

    files: Annotated[list[Path], typer.Argument(help="Parquet files, or folders of them.")]
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="table, md (a job summary), github (annotations), csv, latex, json, or parquet "
            "(one row an image and budget).",
        ),
    ] = "table"
    at: Annotated[str | None, typer.Option("--at", help="Budgets to report instead of the stored ones: 1500,3k.")] = (
        None
    )
    eps: Annotated[float | None, POSITIVE, typer.Option(help="Bound to report instead of the runs' own.")] = None
    interval: Annotated[str, typer.Option(help="wilson or clopper-pearson.")] = "wilson"
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with key=value, as attack=hsja or run=1f2e; repeatable.")
    ] = None
    fail_if: Annotated[
        list[str] | None, typer.Option(help="Exit with 1 where it holds, as 'success_noisy@2000 > 0.25'; repeatable.")
    ] = None
    baseline: Annotated[
        list[Path] | None,
        typer.Option(help="Older results, up to the next option: exit with 1 on a significant regression."),
    ] = None
    plot: Annotated[Path | None, typer.Option(help="Write a picture, .svg or .png.")] = None
    kind: Annotated[str, typer.Option(help="Of the picture: queries, distance, eps or gallery.")] = "queries"
    out: Annotated[Path | None, typer.Option(help="The file that --format parquet writes.")] = None
    save_png: Annotated[
        Path | None,
        typer.Option(
            help="A folder for pictures of runs with --save-points: clean, attacked, difference.", metavar="DIR"
        ),
    ] = None
    junit: Annotated[Path | None, typer.Option(help="Write gates, comparisons and flags as JUnit XML.")] = None
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page.")] = None
    methods: Annotated[
        bool, typer.Option("--methods", help="Print how it was measured, for a paper: LaTeX, and BibTeX of all used.")
    ] = False
    strict: Annotated[bool, typer.Option("--strict", help="Unreadable files and gaps in gates are errors.")] = False

    def run(self, listener: "Listener") -> "Shown":
        """Reads, computes, judges."""
        from sndcli.analysis import baseline as baselines
        from sndcli.analysis import frame, gates, notes, summary, where
        from sndcli.analysis.statistics import INTERVALS
        from sndcli.analysis.verdict import judge
        from sndcli.cli.output import Shown
        from sndcli.errors import ConfigError, DataError
        from sndcli.reports import plots
        from sndcli.runs.writing import check_writable, write_text

        o.one_of(self.format, FORMATS, "--format")
        o.one_of(self.interval, INTERVALS, "--interval")
        o.one_of(self.kind, plots.KINDS, "--kind")
        points = o.counts(self.at, "--at")
        if any(point < 1 for point in points):
            raise ConfigError(f"Expected `--at` of at least 1 query but got `{self.at}`.")
        rules = [gates.parse(text, o.count) for text in self.fail_if or ()]
        pairs = where.filters(self.where or ())
        for line in gates.old_names(self.fail_if or ()):
            listener.note(f"note: {line}")
        if self.plot is not None:
            plots.check(self.plot)
        if self.methods and any((rules, self.baseline, self.plot, self.out, self.html, self.junit, self.save_png)):
            raise ConfigError("`--methods` only prints how figures were measured; gates and files need another report.")
        for path in (self.out, self.html):
            if path is not None:
                check_writable(path)
        if (self.format == "parquet") != (self.out is not None):
            raise ConfigError("`--format parquet` writes the file of `--out`; the other formats are printed.")

        def load(paths: list[Path]) -> "list[Frame]":
            found, problems = frame.load(paths, self.strict, events=bool(points or self.plot or self.html))
            for problem in problems:
                listener.warn(f"{problem} Skipped.")
            found = _finished(found, bool(rules or self.baseline), self.strict, listener)
            return where.choose(found, [pair for pair in pairs if pair[0] != "budget"])

        frames = load(self.files)
        if self.methods:
            from sndcli.reports import methods

            text = methods.methods(frames)
            return Shown({"schema": 1, "methods": text}, lambda: [text])
        rows = summary.summarise(frames, points, self.eps, self.interval)
        rows = [
            row
            for row in rows
            if where.matches({"budget": row.budget}, [pair for pair in pairs if pair[0] == "budget"])
        ]
        told = notes.recompute_notes(frames, points, self.eps)
        if not rows:
            raise DataError("\n".join(["There are no figures at this budget.", *told]))
        comparisons, unmatched = baselines.compare(frames, load(self.baseline)) if self.baseline else ([], [])
        verdict = judge(rows, rules, comparisons, [*told, *unmatched])
        for line in [*(f"note: {note}" for note in verdict.notes), *map(str, verdict.flags)]:
            listener.note(line)
        if verdict.gaps and self.strict:
            raise DataError("\n".join(verdict.gaps))
        for line in verdict.gaps:
            listener.warn(line)

        if self.plot is not None:
            plots.save(plots.draw(frames, self.kind, points[0] if points else None, self.eps), self.plot)
            listener.note(f"written: {self.plot}")
        if self.out is not None:
            from sndcli.analysis import tidy

            chosen = {row.budget for row in rows}
            found = tidy.tidy(frames, points or (), self.eps)
            tidy.write(self.out, found.filter([budget in chosen for budget in found.column("budget").to_pylist()]))
            listener.note(f"written: {self.out}")
        if self.html is not None:
            from sndcli.reports import page

            write_text(self.html, page.render(frames, rows, verdict, self.interval, self.eps))
            listener.note(f"written: {self.html}")
        if self.save_png is not None:
            from sndcli.reports import pictures

            for path in [f.path for f in frames if f.path is not None and not f.unfinished]:
                listener.note(pictures.save(path, self.save_png).text)
        if self.junit is not None:
            from sndcli.reports import junit

            write_text(self.junit, junit.junit(verdict))
            listener.note(f"written: {self.junit}")
        runs = [f.run for f in frames]
        answer = {"schema": 2, "rows": [row.as_dict() for row in rows], "run": runs[0], "runs": runs, "notes": told,
                  "flags": [flag.as_dict() for flag in verdict.flags], "failed": list(verdict.failures),
                  "verdict": verdict.as_dict()}  # fmt: skip
        answer |= {"baseline": [c.as_dict() for c in comparisons]} if comparisons else {}
        return Shown(
            answer, lambda: self._body(rows, verdict), lambda: self._aside(verdict), verdict.failures, verdict.unchecked
        )

    def _body(self, rows: "Sequence[Summary]", verdict: "Verdict") -> "Iterable[RenderableType]":
        from rich.text import Text

        from sndcli.reports import github, latex, markdown, tables

        if self.format == "md":
            return [markdown.summary(verdict, rows, self.interval)]
        if self.format == "github":
            return [github.commands(verdict)]
        if self.format == "parquet":
            return []
        if self.format == "latex":
            return [latex.latex(rows, self.interval)]
        if self.format == "csv":
            return [tables.csv_text(rows).removesuffix("\n")]
        judged = [Text(verdict.sentence)] if verdict.state != "none" else []
        return [*tables.rich_tables(rows, self.interval), *_compared(verdict), *judged]

    def _aside(self, verdict: "Verdict") -> "Iterable[RenderableType]":
        """Beside a format that a program reads, the comparison goes to where people read."""
        return [] if self.format in ("table", "md") else _compared(verdict)

    @property
    def as_json(self) -> bool:
        """Two ways to ask for it."""
        return self.json or self.format == "json"


def _finished(frames: "list[Frame]", judged: bool, strict: bool, listener: "Listener") -> "list[Frame]":
    """Says which runs are in progress; where runs are judged, those are left out.

    Raises:
        IncompleteError: nothing is left to judge, or `strict`.
    """
    from sndcli.errors import IncompleteError

    going = [f"{frame.path}: {frame.unfinished}" for frame in frames if frame.unfinished]
    if judged and going and (strict or len(going) == len(frames)):
        raise IncompleteError(
            "\n".join([*going, "Only finished runs are judged; the command that began one continues."])
        )
    for line in going:
        listener.note(f"note: {line}" + ("; not judged" if judged else ""))
    return [frame for frame in frames if not (judged and frame.unfinished)]


def _compared(verdict: "Verdict") -> "list[RenderableType]":
    from sndcli.reports import comparison

    sections = comparison.of_baseline(verdict.comparisons)
    return [comparison.rich_tables(sections, "against the baseline")] if sections else []
