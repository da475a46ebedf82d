"""One setting of a sweep over σ: its accuracy, its noise and the outcomes of its run."""

from __future__ import annotations

import pyarrow as pa
import torch
from torch import Tensor

from sndcli.analysis.statistics import mean_std
from sndcli.analysis.summary import outcomes, summarise
from sndcli.analysis.sweep import Point
from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import DefenseSpec
from sndcli.paper.evidence import margin_std
from sndcli.paper.noise import noise_length
from sndcli.runs.job import Job
from sndcli.runs.victim import Victim

MARGIN_DRAWS = 100  # behind σ̂


def measured(job: Job, spec: DefenseSpec, victim: Victim, run: pa.Table, repeats: int) -> Point:
    """Accuracy and noise of a setting beside the summaries of its run.

    Args:
        job: that was run.
        spec: the defense it was run against.
        victim: the model behind it.
        run: the result.
        repeats: draws behind the accuracy.
    """
    seeds = range(job.config.seed, job.config.seed + (repeats if spec.random else 1))
    mean, std = mean_std(job.accuracy(victim, spec, job.data, seeds))
    index = _positions(job.data, run)
    spreads = margin_std(victim, job.data.pixels(index), job.data.labels[index], MARGIN_DRAWS)
    length = noise_length(spec, job.data, index)
    summaries = summarise([run], eps=job.config.eps)
    found = {row.budget: outcomes(run, row.budget) for row in summaries}
    label = summaries[0].setting.defended
    return Point(
        label, spec.sigma, spec.beta, mean, std, length, sum(spreads) / len(spreads), summaries, outcomes=found
    )


def _positions(data: ImageSet, run: pa.Table) -> Tensor:
    """Where a run's images are in the data."""
    position = {image: k for k, image in enumerate(data.ids.tolist())}
    return torch.tensor([position[image] for image in dict.fromkeys(run.column("image_id").to_pylist())])
