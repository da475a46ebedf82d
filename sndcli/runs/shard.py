"""A fixed share of a run's units: for job arrays, whose jobs know nothing of each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sndcli.errors import ConfigError

T = TypeVar("T")
LARGEST = 100_000
COUNT_OF_KUBERNETES = "JOB_COMPLETIONS"  # Kubernetes gives a pod its index, and a manifest has to give it the number


@dataclass(frozen=True)
class Shard:
    """The `number`-th of `of` shares, counted from 1.

    Example:
        >>> Shard(2, 3).part("abcdefg")
        ['b', 'e']
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """For names of files."""
        return f"{self.number}-of-{self.of}"

    def part(self, units: Sequence[T]) -> list[T]:
        """Its share: each `of`-th."""
        return [*units[self.number - 1 :: self.of]]


def parse(text: str, environment: Mapping[str, str]) -> Shard:
    """A share as it is written: ``k/n``, or ``auto`` for the one that a job array's variables say.

    Args:
        text: of ``--shard``.
        environment: variables; Slurm's and Kubernetes' are known.

    Raises:
        ConfigError: none, or ``auto`` outside of a job array.

    Example:
        >>> parse("2/8", {}), parse("auto", {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "4"})
        (Shard(number=2, of=8), Shard(number=1, of=4))
    """
    if text == "auto":
        return _of_array(environment)
    matched = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    number, of = map(int, matched.groups()) if matched else (0, 0)
    if not 1 <= number <= of <= LARGEST:
        raise ConfigError(f"Expected `--shard` to be k/n, from 1/n to n/n, or auto, but got `{text}`.")
    return Shard(number, of)


def _of_array(environment: Mapping[str, str]) -> Shard:
    """The share of this job.

    Raises:
        ConfigError: there are no such variables, or they say nonsense.
    """

    def number(name: str, default: int | None = None) -> int:
        value = environment.get(name, "")
        if not value and default is not None:
            return default
        if not value.isdecimal():
            raise ConfigError(f"`--shard auto`: expected the variable {name} to be a whole number but got `{value}`.")
        return int(value)

    if "SLURM_ARRAY_TASK_ID" in environment:
        first, step = number("SLURM_ARRAY_TASK_MIN", 0), number("SLURM_ARRAY_TASK_STEP", 1)
        index, of = (number("SLURM_ARRAY_TASK_ID") - first) // max(1, step), number("SLURM_ARRAY_TASK_COUNT")
    elif "JOB_COMPLETION_INDEX" in environment:
        index, of = number("JOB_COMPLETION_INDEX"), number(COUNT_OF_KUBERNETES)
    else:
        raise ConfigError(
            "`--shard auto` reads SLURM_ARRAY_TASK_ID and _COUNT, or JOB_COMPLETION_INDEX and "
            f"{COUNT_OF_KUBERNETES}, and none is set."
        )
    if not 0 <= index < of <= LARGEST:
        raise ConfigError(f"`--shard auto`: the variables say share {index + 1} of {of}.")
    return Shard(index + 1, of)
