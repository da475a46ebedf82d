"""How long runs of the paper's tables take here, and how many images they may have to fit into a given time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sndcli.errors import ConfigError, SndError, first_line
from sndcli.paper.reproduce import Plan, cost_of, finished
from sndcli.runs.estimate import Speeds


def limited(plan: Plan, images: int) -> Plan:
    """The same with at most so many images; budgets stay."""
    if plan.job is None:
        return plan
    config = plan.job.config
    return replace(plan, job=replace(plan.job, config=replace(config, images=min(images, config.images))))


def most_images(plans: Sequence[Plan]) -> int:
    """Images of the largest run; 0 where none can be run."""
    return max((plan.job.config.images for plan in plans if plan.job is not None and not plan.skipped), default=0)


def seconds_of(plans: Sequence[Plan], speeds: Speeds) -> float:
    """Usual time of what is not there yet; a run that several tables have counts once.

    A plan whose defense does not fit the network is marked as skipped.
    """
    total, known = 0.0, set[str]()
    for plan in plans:
        if plan.job is None or plan.skipped:
            continue
        path = finished(plan)
        if path.is_file() or str(path) in known:
            continue
        known.add(str(path))
        try:
            total += cost_of(plan).usual.seconds(speeds.of(plan.job, plan.job.config.defense))
        except SndError as error:
            plan.skipped = first_line(error)
    return total


def fit(plans: Sequence[Plan], speeds: Speeds, within: float) -> int:
    """The most images a run may have, so that all plans together take so many seconds.

    Raises:
        ConfigError: one image is too many.
    """
    low, high = 1, most_images(plans)
    least = seconds_of([limited(plan, 1) for plan in plans], speeds)
    if least > within:
        raise ConfigError(f"Expected `--within` of at least {least / 3600:.1f}h, what one image a run takes here.")
    while low < high:
        middle = (low + high + 1) // 2
        if seconds_of([limited(plan, middle) for plan in plans], speeds) <= within:
            low = middle
        else:
            high = middle - 1
    return low
