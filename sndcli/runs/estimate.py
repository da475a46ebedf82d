"""``--dry-run``: what runs would take, by the cost model and a short probe of the networks' speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError
from sndcli.models.inference import Forward
from sndcli.runs.config import RunConfig
from sndcli.runs.cost import Cost, Rates, of_run
from sndcli.runs.executors.base import Executor
from sndcli.runs.files import RunFiles
from sndcli.runs.job import Job

PROBE_S, PROBE_BATCHES = 2.0, 5  # the probe stops after whichever comes first


@dataclass
class Speeds:
    """Rows a second of models, bare and defended, each probed once.

    The width of the noise does not change the time of a pass, so settings of one defense share a probe.
    """

    _bare: dict[str, float] = field(default_factory=dict)
    _defended: dict[tuple[object, ...], float] = field(default_factory=dict)
    _random: dict[str, bool] = field(default_factory=dict)

    def random(self, job: Job) -> bool:
        """Whether a probed model draws by itself."""
        return self._random[job.config.model_digest]

    def of(self, job: Job, spec: DefenseSpec) -> Rates:
        """The rates of a job's model behind a defense.

        Raises:
            ConfigError: the model, the defense or the data do not fit.
        """
        model = job.config.model_digest
        key = (model, spec.name, spec.sigma > 0, spec.beta is None, spec.weights)
        if key not in self._defended:
            victim = replace(job, config=replace(job.config, compiled=False)).victim(spec)  # compiling takes longer
            size = victim.model.input_size
            self._random[model] = victim.random
            self._defended[key] = _rows_per_s(victim.defended, size)
            if model not in self._bare:
                self._bare[model] = _rows_per_s(victim.undefended, size)
        return Rates(self._defended[key], self._bare[model])


@dataclass(frozen=True)
class Planned:
    """A run that would be started, what comes with it beside the run itself, and a name where the defense is none."""

    job: Job
    spec: DefenseSpec
    extra: Cost | None = None
    name: str = ""

    @property
    def config(self) -> RunConfig:
        """Of the run, with its defense."""
        return replace(self.job.config, defense=self.spec)

    def by(self, executor: Executor) -> Planned:
        """The same, with its units done elsewhere."""
        return replace(self, job=replace(self.job, executor=executor))


@dataclass(frozen=True)
class Estimate:
    """What a planned run takes.

    Attributes:
        name: of the plan.
        config: of the run.
        cost: rows at most, and usually.
        rates: measured.
        path: of the result.
        exists: whether it is there.
    """

    name: str
    config: RunConfig
    cost: Cost
    rates: Rates
    path: Path
    exists: bool

    @property
    def seconds(self) -> float:
        """Usual time of the passes alone."""
        return round(self.cost.usual.seconds(self.rates), 1)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        c, cost = self.config, self.cost
        return {
            "name": self.name, "attack": c.attack, "preset": c.preset, "defense": c.defense.name,
            "sigma": c.defense.sigma, "beta": c.defense.beta, "votes": c.votes, "images": c.images,
            "repeats": c.repeats, "budget": c.budget,
            "queries": cost.most.paid, "unpaid": cost.most.unpaid, "unpaid_usual": cost.usual.unpaid,
            "passes": asdict(cost.most), "passes_usual": asdict(cost.usual),
            "rows_per_s": round(self.rates.defended, 2), "bare_rows_per_s": round(self.rates.bare, 2),
            "seconds": self.seconds, "seconds_at_most": round(cost.most.seconds(self.rates), 1),
            "path": str(self.path), "exists": self.exists,
        }  # fmt: skip


def estimates(runs: Sequence[Planned]) -> list[Estimate]:
    """What runs of the same model and data would take; nothing is attacked or written.

    Raises:
        ConfigError: the model, the defense or the data do not fit, or there are too few images.
    """
    for job in (run.job for run in runs):
        if job.config.images > len(job.data):
            raise ConfigError(f"Expected `--images` of at most {len(job.data)} but got {job.config.images}.")
    speeds = Speeds()
    return [_estimate(run, speeds) for run in runs]


def _estimate(run: Planned, speeds: Speeds) -> Estimate:
    job = run.job
    c = run.config
    rates = speeds.of(job, run.spec)
    cost = of_run(c, len(job.data), save_points=job.save_points, draws=speeds.random(job))
    if run.extra is not None:
        cost += run.extra
    path = RunFiles(job.out, c).path
    return Estimate(run.name, c, cost, rates, path, path.exists())


def _rows_per_s(forward: Forward, size: tuple[int, ...]) -> float:
    """Images a second, at the run's batch size; attacks add their own arithmetic."""
    x = torch.rand(forward.batch_size, *size)
    forward(x[:8])
    start, done = time.perf_counter(), 0
    for _ in range(PROBE_BATCHES):
        forward(x)
        done += len(x)
        if time.perf_counter() - start > PROBE_S:
            break
    return done / max(1e-9, time.perf_counter() - start)
