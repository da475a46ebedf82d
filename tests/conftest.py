"""Analytic victims whose optimum is known (half-spaces and linear classifiers), and small data."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import linear_victim
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer.testing
from hypothesis import settings
from torch import Tensor

from sndcli.analysis.summary import Summary
from sndcli.queries.oracle import Oracle
from sndcli.runs import columns, results
from sndcli.streams import ImageStreams

torch.set_num_threads(1)  # two workers share the machine, and the tensors here are small
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same in the processes that tests start
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
SMALL = {"SND_BATCH_SIZE": "64", "SND_VERIFY": "20"}  # of runs whose options do not say: no size is measured, few draws
settings.register_profile("snd", deadline=None, max_examples=50)
settings.load_profile("snd")

CPU = torch.device("cpu")
SHAPE = (3, 32, 32)
D = 3072


@dataclass
class HalfSpace:
    """Label 1 (wrong) iff ``w · (z - x) > m``; the minimal L2 distance is m. Optional noise on the margin."""

    w: Tensor
    margin: float = 0.1
    sigma: float = 0.0
    generator: torch.Generator | None = None
    rows: int = 0

    def __call__(self, z: Tensor) -> Tensor:
        self.rows += len(z)
        value = (z - 0.5).flatten(1) @ self.w - self.margin
        if self.sigma:
            value = value + self.sigma * torch.randn(len(z), generator=self.generator)
        return torch.stack([-value, value], 1)


def half_space(
    seed: int = 0, margin: float = 0.1, sigma: float = 0.0, shape: tuple[int, int, int] = SHAPE
) -> HalfSpace:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(math.prod(shape), generator=generator)
    return HalfSpace(w / w.norm(), margin, sigma, generator)


def oracle_on(
    victim: Callable[[Tensor], Tensor], n: int = 4, budget: int = 1000, shape: tuple[int, int, int] = SHAPE,
    **kwargs: object,
) -> Oracle:  # fmt: skip
    x0 = torch.full((n, *shape), 0.5)
    return Oracle(victim, x0, torch.zeros(n, dtype=torch.int64), budget=budget, **kwargs)  # type: ignore[arg-type]


def streams(seed: int = 0, images: int = 5000) -> ImageStreams:
    """A stream of draws for each of many images."""
    return ImageStreams(seed, range(images), "attack")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def submitted_distance(oracle: Oracle) -> Tensor:
    """[N, B] distance of the point submitted at each report point; infinite where there is none."""
    ledger = oracle.close()
    everyone = torch.arange(len(oracle.x0))
    distance = torch.stack([oracle.distance(points, everyone) for points in ledger.submitted], 1)
    return torch.where(ledger.has_submitted, distance, torch.inf)


OLDEST = ("distance_boundary", "p_adv_submitted", "adv_clean_submitted", "eps_also", "p_adv_also", "adv_clean_also")
SCHEMA_1 = ("attack", "engine", "dataset", "model", "defense", "sigma", "beta", "votes", "norm", "eps", "eps_also")


def write_as_schema_1(path: Path, table: pa.Table, without: Sequence[str] = ()) -> None:
    """The same rows as version 0.2.0 first wrote them, `without` what older files lacked."""
    derived = ("seen", "noisy", "as_submitted", "clean")
    new = {*(column.name for column in columns.OF_RUN)} - {*SCHEMA_1}
    old = {now: before for before, now in results.RENAMED["schema 1"].items()}
    kept = [name for name in table.column_names if name not in (*new, *derived, *without)]
    named = table.select(kept).rename_columns([old.get(name, name) for name in kept])
    pq.write_table(named.replace_schema_metadata({**table.schema.metadata, b"schema_version": b"1"}), path)


def plain(rows: Iterable[Summary]) -> list[dict[str, Any]]:
    """Summaries as the JSON has them."""
    return [row.as_dict() for row in rows]


@dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@cache
def commands(app: typer.Typer) -> Any:
    """The tree of commands."""
    from typer.main import get_command

    return get_command(app)


@pytest.fixture(autouse=True)
def _cheap_victim(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that name no model have a linear one, so a run costs a tenth; but for slow tests, and where asked."""
    if not any(map(request.node.get_closest_marker, ("slow", "default_model"))):
        monkeypatch.setenv("SND_MODEL", linear_victim.MODEL)


@pytest.fixture
def snd() -> Callable[..., Done]:
    """Runs the command line inside this process (an import of torch costs seconds)."""
    from typer.testing import CliRunner

    from sndcli.cli.app import app

    vars(typer.testing)["_get_command"] = commands  # or the tree of commands is made anew for each call

    def run(*arguments: object, env: dict[str, str] | None = None) -> Done:
        result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", **SMALL, **(env or {})})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def snd_process() -> Callable[..., Done]:
    """Runs the command line as a user's shell does."""

    def run(*arguments: object) -> Done:
        command = [sys.executable, "-m", "sndcli", *map(str, arguments)]
        small = {**os.environ, **SMALL}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=small)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a shell that finds `snd`."""
    programs = tmp_path_factory.mktemp("bin")
    (programs / "snd").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sndcli "$@"\n')
    (programs / "snd").chmod(0o755)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
