"""``snd league SUITE.toml``: audits of many defenses, in one table and on one page."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.machines import SpreadOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sndcli.analysis.audit import Figures
    from sndcli.analysis.league import Table
    from sndcli.cli.output import Shown
    from sndcli.runs.league import League as Audits
    from sndcli.runs.listener import Listener
    from sndcli.runs.suite import Row

FORMATS = ("table", "md", "html")


@dataclass(frozen=True, kw_only=True)
class League(SpreadOptions, o.MachineOptions, o.LongTalk):
    """Audit the defenses of a suite on the same images, and rank them by what stands, with what it costs and buys.

    The same command continues; a finished audit is only read. League.parquet, league.md and league.html are written
    after each. The suites that come with snd are in suites/; docs/submit.md says how to enter a defense.

    Example: snd league suites/cifar10.toml --within 8h
    """

    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A TOML file.")]
    only: Annotated[
        list[str] | None, typer.Option(help="Run only the defense of this name; repeatable. Finished ones are shown.")
    ] = None
    within: Annotated[
        str | None, typer.Option(help="Begin no further audit after this time: 8h, 90m, 1h30m.", metavar="TIME")
    ] = None
    finish: Annotated[bool, typer.Option("--run/--no-run", help="Or only show what is finished.")] = True
    format: Annotated[str, typer.Option("--format", help="table, md or html.", metavar="table|md|html")] = "table"
    prices: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file of snd evidence --price --out about the same network, shown beside; repeatable.",
            metavar="FILE",
        ),
    ] = None
    out: Annotated[Path, typer.Option(help="A folder.")] = Path("league")
    data_dir: o.DataDir = None
    download: o.Download = False
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew.")] = False

    def run(self, listener: "Listener") -> "Shown":
        """One audit after the other."""
        from sndcli.analysis.audit import figures
        from sndcli.analysis.audit_words import sentence
        from sndcli.analysis.league import table
        from sndcli.cli.reproduce import duration
        from sndcli.errors import unknown
        from sndcli.reports.evidence import read_prices

        o.one_of(self.format, FORMATS, "--format")
        seconds = float("inf") if self.within is None else duration(self.within, "--within")
        prices = read_prices(self.prices or ())
        league = self._league(listener)
        for name in self.only or ():
            known = [each for row in league.rows for each in (row.name, row.family)]
            if name not in known:
                raise unknown(f"defense of {self.suite}", name, known)
        done: list[tuple[Row, Figures]] = []
        missing: list[str] = []
        for one in league.run(self.only or (), seconds if self.finish else -1.0, self.spread):
            if one.audited is None:
                missing.append(one.row.name)
                continue
            done.append((one.row, figures(one.audited)))
            if one.new:
                listener.note(f"{one.row.name}: {sentence(done[-1][1])}")
                self._write(table(done, league.suite.against, missing, prices))
        found = table(done, league.suite.against, missing, prices)
        if done:
            self._write(found)
            listener.note(f"written: {self.out}/league.parquet, league.md and league.html")
        return self._shown(found)

    def _write(self, found: "Table") -> None:
        """The three files."""
        import pyarrow.parquet as pq

        from sndcli.reports import league as tables
        from sndcli.runs.writing import replacing, write_text

        with replacing(self.out / "league.parquet") as temporary:
            pq.write_table(tables.rows(found), temporary, compression="zstd")
        write_text(self.out / "league.md", tables.markdown(found))
        write_text(self.out / "league.html", tables.html(found))

    def _shown(self, found: "Table") -> "Shown":
        from sndcli.cli.output import Shown
        from sndcli.reports import league as tables

        def body() -> "Iterable[RenderableType]":
            if self.format == "html":
                return [tables.html(found)]
            if self.format == "md":
                return [tables.markdown(found)]
            return [tables.brief(found).rich(), *tables.notes(found), "--format md has all columns."]

        expected = self.finish and not self.only
        told = (f"Not finished: {', '.join(found.missing)}.", "The same command continues.") if found.missing else ()
        return Shown({"schema": 2, "league": tables.as_dict(found)}, body, incomplete=told if expected else ())

    def _league(self, listener: "Listener") -> "Audits":
        from sndcli.cli.compiling import wished
        from sndcli.runs.league import League as Audits
        from sndcli.runs.request import Request, explained
        from sndcli.runs.suite import read

        suite, rows = read(self.suite)
        with explained():
            request = Request(
                attack="null", data_dir=self.data_dir, download=self.download, device=self.device,
                precision=self.arithmetic(), allow_rounding=self.allow_rounding,
                batch_rows=o.batch_rows(self.batch_size), compiled=wished(self.compiled), fresh=self.fresh,
            )  # fmt: skip
        return Audits(
            suite=suite, rows=rows, request=request, folder=self.out, listener=listener, debug=self.debug
        )  # fmt: skip
