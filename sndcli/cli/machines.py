"""Options on where the work of a run is done: workers of this machine, a cluster, or a share of a job array."""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.errors import ConfigError

if TYPE_CHECKING:
    from sndcli.runs.estimate import Planned
    from sndcli.runs.executors.base import Executor
    from sndcli.runs.executors.spread import Wish
    from sndcli.runs.shard import Shard

EXECUTORS = ("process", "ray")
MOST = 4096

Workers = Annotated[
    str,
    typer.Option(help="Processes that share the images: a number, or auto: one a GPU, or one a core where it pays. No "
                 "effect on results.", metavar="N|auto"),
]  # fmt: skip
ExecutorOption = Annotated[
    str,
    typer.Option("--executor", help="process: on this machine; ray: on a Ray cluster (extra ray).",
                 metavar="process|ray"),
]  # fmt: skip
Address = Annotated[
    str | None,
    typer.Option(
        help="Of the Ray cluster, as auto or ray://HOST:10001. Without it, one on this machine for the command."
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", help="Only a share of the images, as 2/8, or auto: the job array's. See snd merge.",
                 metavar="K/N|auto"),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpreadOptions:
    """Where the work of runs is done."""

    workers: Workers = "auto"
    executor: ExecutorOption = "process"
    address: Address = None

    def wish(self) -> "Wish":
        """What is asked for.

        Raises:
            ConfigError: an option of the wrong kind.
        """
        from sndcli.runs.executors.spread import Wish

        if self.executor not in EXECUTORS:
            raise ConfigError(f"Expected `--executor` to be process or ray but got `{self.executor}`.")
        if self.address is not None and self.executor != "ray":
            raise ConfigError("`--address` is of a Ray cluster: --executor ray.")
        return Wish(workers(self.workers), "ray" if self.executor == "ray" else "process", self.address)

    def spread(self, runs: "Iterable[Planned]") -> "AbstractContextManager[Executor]":
        """Workers for runs, at least one; they end with the block.

        Raises:
            ConfigError: an option of the wrong kind, or a model that belongs to one process.
        """
        from sndcli.runs.executors.spread import Load, spread

        planned = [*runs]
        loads = [Load.of(run.config, run.job.model, run.job.source) for run in planned]
        return spread(self.wish(), loads, planned[0].job.device)


@dataclass(frozen=True, kw_only=True)
class ShardOptions(SpreadOptions):
    """Where the work of runs is done, of commands whose runs can be parted."""

    shard: ShardOption = None

    def part(self) -> "Shard | None":
        """``--shard``.

        Raises:
            ConfigError: it is none.
        """
        from sndcli.runs.shard import parse

        return None if self.shard is None else parse(self.shard, os.environ)


def workers(text: str) -> int | None:
    """``--workers``: how many; None for ``auto``.

    Raises:
        ConfigError: neither.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ConfigError(f"Expected `--workers` to be auto, or a number from 1 to {MOST}, but got `{text}`.")
    return int(text)
