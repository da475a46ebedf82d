"""What a command shows that ran a share of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sndcli.cli.output import Shown
from sndcli.runs.files import parts_of
from sndcli.runs.job import Shared
from sndcli.runs.shard import Shard


def shared(shard: Shard, done: Sequence[Shared]) -> Shown:
    """How far each run is, and what makes the results."""
    rows = [
        {"path": str(one.path), "parts": str(parts_of(one.path)), "finished": one.share is None,
         "units_of_share": one.share.units if one.share else 0,
         "units_finished": one.share.finished if one.share else 0, "units": one.share.of if one.share else 0}
        for one in done
    ]  # fmt: skip

    def body() -> Iterable[str]:
        for one in done:
            if one.share is None:
                yield f"{one.path}: finished"
            else:
                s = one.share
                yield f"{parts_of(one.path)}: share {shard} is finished; {s.finished} of {s.of} units are there"
        if any(one.share is not None for one in done):
            yield f"When all shares are finished, `snd merge {done[0].path.parent}` makes the results."

    return Shown({"schema": 1, "shard": str(shard), "rows": rows}, body)
