"""``snd merge DIR``: the shares of runs become their results."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener


@dataclass(frozen=True, kw_only=True)
class Merge(o.Talk):
    """Make the results of runs whose shares (--shard) are all finished. Where units are missing it says which.

    Example: snd merge results
    """

    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of results, or the .parts of one run.")]

    def run(self, listener: "Listener") -> "Shown":
        """Each run of which no unit is missing; exit code 3 where one has holes."""
        from sndcli.cli.output import Shown
        from sndcli.errors import DataError
        from sndcli.runs.overview import begun_in, finished_in, merge

        runs = begun_in(self.folder)
        if not runs and not finished_in(self.folder):
            raise DataError(f"{self.folder} has no shares of runs and no results.")
        rows, lines, holes = list[dict[str, object]](), list[str](), list[str]()
        for run in runs:
            whole = bool(run.units) and not run.missing
            if whole:
                table = merge(run, listener.warn)
                lines.append(f"written: {run.path} ({len(table)} images)")
            elif run.units:
                holes.append(f"{run.parts}: {len(run.missing)} of {len(run.units)} units are missing: "
                             f"{', '.join(map(str, run.missing))}")  # fmt: skip
            else:
                holes.append(f"{run.parts}: no unit is finished.")
            rows.append({"path": str(run.path), "merged": whole, "units": len(run.units), "missing": run.missing})
        if not runs:
            lines.append(f"Nothing to merge: all runs in {self.folder} are finished.")
        told = (*holes, "The same command as before does what is missing.") if holes else ()
        return Shown({"schema": 1, "rows": rows}, lambda: lines, incomplete=told)
