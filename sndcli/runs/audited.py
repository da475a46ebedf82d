"""A finished audit, as it lies in files: its runs, what final draws said, and what honest users get."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sndcli.errors import DataError
from sndcli.runs import honest, results
from sndcli.runs.battery import Access, Step
from sndcli.runs.config import RunConfig
from sndcli.runs.final import SCHEMA
from sndcli.runs.honest import Honest
from sndcli.runs.outcomes import Outcome, outcomes
from sndcli.runs.writing import replacing

FOLDER = "audit"  # of what is beside the runs
FINAL, HONEST = ".final.parquet", ".honest.parquet"  # ends of the names of its files
KEY = b"audit"  # of the metadata that says what was audited


@dataclass(frozen=True)
class Facts:
    """What was audited.

    Attributes:
        model, dataset, defense: in words.
        random: whether the defense says that two answers can differ.
        norm, eps, budget, seed: of the runs.
    """

    model: str
    dataset: str
    defense: str
    random: bool
    norm: str
    eps: float
    budget: int
    seed: int

    @classmethod
    def of(cls, config: RunConfig) -> Facts:
        """Of the defended champion's run."""
        c = config
        return cls(
            c.model, c.dataset, c.defense.words, c.defense.random, c.norm, c.eps, c.budget, c.seed
        )  # fmt: skip


@dataclass(frozen=True)
class Done:
    """A finished run of the battery.

    Attributes:
        step: place in the battery.
        bare: whether it was of the bare model, and not of the defended one.
        path: of its result; None where no image was left for it.
        run_id: of the run.
        outcomes: by image.
        passes_differ: whether two answers about one image differed; None without a random defense.
    """

    step: int
    bare: bool
    path: Path | None = None
    run_id: str | None = None
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    passes_differ: bool | None = None

    @classmethod
    def of(cls, step: int, bare: bool, path: Path, table: pa.Table) -> Done:
        """Of a result."""
        run = results.run_of(table)
        c = run["config"]
        return cls(
            step, bare, path, run["id"], outcomes(table, c["budget"], c["eps"]), run.get("passes_differ")
        )  # fmt: skip


@dataclass(frozen=True)
class Audited:
    """A finished audit.

    Attributes:
        facts: what was audited.
        access: of the attacker.
        steps: of the battery.
        ids: of the images, all that were drawn, in their order.
        done: the runs, in order.
        final: what final draws say, see `final.SCHEMA`.
        path: of its file.
    """

    facts: Facts
    access: Access
    steps: tuple[Step, ...]
    ids: tuple[int, ...]
    done: tuple[Done, ...]
    final: pa.Table
    path: Path

    @cached_property
    def honest(self) -> Honest:
        """Answers about clean images.

        Raises:
            DataError: their file is gone.
        """
        found = honest.read(honest_of(self.path))
        if found is None:
            raise DataError(f"{honest_of(self.path)} is missing or damaged. The same audit makes it anew.")
        return found


def honest_of(path: Path) -> Path:
    """The file of honest answers beside that of final draws."""
    return path.with_name(path.name.removesuffix(FINAL) + HONEST)


def write(path: Path, audited: Audited) -> None:
    """Writes the final draws with what they are of, under a temporary name, then renames."""
    told = {
        "facts": asdict(audited.facts), "access": audited.access, "steps": [asdict(step) for step in audited.steps],
        "ids": audited.ids,
        "done": [
            [run.step, run.bare, run.run_id, None if run.path is None else run.path.name] for run in audited.done
        ],
    }  # fmt: skip
    table = audited.final.replace_schema_metadata({KEY: json.dumps(told).encode()})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read(path: Path) -> Audited:
    """What `write` wrote, and the runs that it is of; no model is needed.

    Raises:
        DataError: one of the files is missing, or damaged.
    """
    try:
        table = pq.read_table(path)
        told: dict[str, Any] = json.loads(table.schema.metadata[KEY])
        facts, steps = Facts(**told["facts"]), tuple(Step(**step) for step in told["steps"])
        runs = told["done"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        raise DataError(f"{path} is not the end of an audit.") from None
    folder = path.parent.parent
    done = [
        Done(step, bare) if name is None else Done.of(step, bare, folder / name, results.read(folder / name))
        for step, bare, _, name in runs
    ]
    return Audited(facts, told["access"], steps, tuple(told["ids"]), tuple(done), table.select(SCHEMA.names), path)


def same_runs(path: Path, done: Sequence[Done]) -> pa.Table | None:
    """The final draws in a file where they are of these runs; else None."""
    try:
        table = pq.read_table(path)
        runs = json.loads(table.schema.metadata[KEY])["done"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    mine = [[run.step, run.bare, run.run_id] for run in done]
    return table.select(SCHEMA.names) if [each[:3] for each in runs] == mine else None
