"""``snd status DIR``: which runs are finished, what others lack, and who is at them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener
    from sndcli.runs.overview import Begun


@dataclass(frozen=True, kw_only=True)
class Status(o.Talk):
    """Show the runs in a folder: those that are finished, and of the others what is missing and who is at it.

    Example: snd status results
    """

    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of results, or the .parts of one run.")]

    def run(self, listener: "Listener") -> "Shown":  # noqa: ARG002
        """All runs under the folder; nothing is changed."""
        from sndcli.cli.output import Shown
        from sndcli.runs.overview import begun_in, finished_in

        begun, finished = begun_in(self.folder), finished_in(self.folder)
        rows: list[dict[str, object]] = [{"path": str(path), "state": "finished"} for path in finished]
        rows += [_row(run) for run in begun]

        def body() -> Iterable[str]:
            yield from (f"{path}: finished" for path in finished)
            yield from (line for run in begun for line in _lines(run))
            if not rows:
                yield f"{self.folder}: no runs"

        return Shown({"schema": 1, "rows": rows}, body)


def _row(run: "Begun") -> dict[str, object]:
    done, of = run.images
    return {
        "path": str(run.path), "state": "running" if run.held_by else "begun", "units": len(run.units),
        "missing": run.missing, "images": done, "images_of": of, "queries_kept": run.paid,
        "held_by": [{"shard": share.replace("-of-", "/") or None, "who": who} for share, who in run.held_by.items()],
    }  # fmt: skip


def _lines(run: "Begun") -> Iterable[str]:
    done, of = run.images
    if not run.units:
        yield f"{run.path}: begun; its units are not known here"
    else:
        missing = f"; missing: {', '.join(map(str, run.missing))}" if run.missing else "; snd merge makes the result"
        there = len(run.units) - len(run.missing)
        yield f"{run.path}: {there} of {len(run.units)} units, {done} of {of} images{missing}"
    for share, who in run.held_by.items():
        yield f"  {'share ' + share.replace('-of-', '/') if share else 'all of it'}: {who}"
