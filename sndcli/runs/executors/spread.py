"""Where the units of runs are done, from what a user asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from sndcli.errors import ConfigError
from sndcli.models.opaque import Model, OpaqueModel
from sndcli.models.remote.address import PREFIXES
from sndcli.runs.config import RunConfig
from sndcli.runs.cost import of_run
from sndcli.runs.executors.base import Executor, Here
from sndcli.runs.executors.processes import Processes

Kind = Literal["process", "ray"]
PAYS = 150_000  # passes on images of 32 x 32: about a minute of a small network on two cores
PIXELS = 32 * 32
IMAGES = 16  # a worker has at least so many, or its passes are too small to be fast
LARGEST = 4096


@dataclass(frozen=True)
class Wish:
    """What a user asks for.

    Attributes:
        workers: how many; None: as many as pay (`automatic`).
        kind: ``process``: on this machine; ``ray``: on a cluster.
        address: of the cluster; None: one on this machine that ends with the command.
    """

    workers: int | None = None
    kind: Kind = "process"
    address: str | None = None


@dataclass(frozen=True)
class Load:
    """Work that is planned with one model.

    Attributes:
        model: that is asked.
        source: of it; None: it cannot be opened again.
        passes: images through it, usually.
        images: that can be worked on at once.
        own: whether it runs a user's own code, or code of others, beside the model.
    """

    model: Model
    source: str | None
    passes: int
    images: int
    own: bool = False

    @classmethod
    def of(cls, config: RunConfig, model: Model, source: str | None) -> Load:
        """Of a run."""
        own = any(name.startswith("py:") for name in (config.attack, *config.defense.names))
        passes = of_run(config, config.images).usual.total
        return cls(model, source, passes, config.images * config.repeats, own or config.engine == "foolbox")

    @property
    def of_many(self) -> bool:
        """Whether it is known what comes of it in several processes."""
        foreign = isinstance(self.model, OpaqueModel) or self.source is None or self.source.startswith("py:")
        return not (foreign or self.own)

    @property
    def small(self) -> float:
        """Its passes, as so many on images of 32 x 32."""
        height, width = self.model.input_size[1:]
        return self.passes * height * width / PIXELS


@contextmanager
def spread(wish: Wish, loads: Sequence[Load], device: torch.device) -> Iterator[Executor]:
    """An executor; its workers end with the block.

    Args:
        wish: of the user.
        loads: that are planned.
        device: where one process would compute.

    Raises:
        ConfigError: a model belongs to one process.
    """
    executor = _executor(wish, loads, device)
    try:
        yield executor
    finally:
        executor.close()


def _executor(wish: Wish, loads: Sequence[Load], device: torch.device) -> Executor:
    for model in (load.model for load in loads if wish.kind == "ray" or (wish.workers or 1) > 1):
        if isinstance(model, OpaqueModel) and model.name.startswith(PREFIXES):
            option = "--executor ray" if wish.kind == "ray" else "--workers"
            raise ConfigError(f"`{option}` is for models that run here: {model.name} has one rate and one log.")
    if wish.kind == "ray":
        from sndcli.runs.executors.cluster import Cluster

        return Cluster(wish.address, wish.workers or cores(), gpu=device.type == "cuda")
    count = wish.workers or automatic(loads, device)
    if count == 1:
        return Here()
    return Processes(devices(device, count), max(1, cores() // count))


def cores() -> int:
    """CPU cores this process computes on, as torch has it (``OMP_NUM_THREADS`` says otherwise)."""
    return torch.get_num_threads()


def devices(device: torch.device, count: int) -> list[str]:
    """Where each of so many workers computes: in turn on all GPUs, where none of them was named."""
    gpus = torch.cuda.device_count() if device.type == "cuda" and not named(device) else 0
    return [f"cuda:{k % gpus}" if gpus else str(device) for k in range(count)]


def named(device: torch.device) -> bool:
    """Whether it is one of several that a user named, as ``cuda:1``."""
    index: int | None = device.index
    return index is not None


def automatic(loads: Sequence[Load], device: torch.device) -> int:
    """How many workers pay: one a GPU; on the CPU one a core, for work of a minute and more.

    One, for models and plug-ins that are a user's own code or can only be asked, and for Foolbox: what these do in
    several processes nobody knows. It is decided from what is planned and the machine's cores, never by timing.
    """
    if not all(load.of_many for load in loads):
        return 1
    images = max((load.images for load in loads), default=0)
    if device.type == "cuda":
        return 1 if named(device) else max(1, min(images, torch.cuda.device_count()))
    return max(1, min(cores(), images // IMAGES)) if sum(load.small for load in loads) >= PAYS else 1
