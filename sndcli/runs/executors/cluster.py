"""Workers of a Ray cluster: rows come back as values, so that no file system need be shared.

Ray sends a unit to a worker that is free, and again to another one where that dies. Model and work are put into the
cluster's object store once.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from sndcli.errors import ConfigError, IncompleteError, first_line
from sndcli.runs.executors.base import TRIES, Hear, R, U, Work
from sndcli.runs.executors.worker import Desk, Done, Failed, Order
from sndcli.runs.meter import Tick

LOST = "The Ray cluster is lost"


@dataclass
class Cluster:
    """Units as tasks of Ray, where a worker has as many cores as it is told, and a GPU where they compute on one.

    Attributes:
        address: of the cluster; None: one of this machine, which is started when it is needed and stopped at the end.
        count: workers of that one; of a cluster, how many units are handed out at once.
        gpu: whether a worker has a GPU.
    """

    address: str | None
    count: int
    gpu: bool = False
    _ray: Any = None
    _models: dict[str, Any] = field(default_factory=dict)

    @property
    def workers(self) -> int:
        """How many units it does at once."""
        return self.count

    def map(self, work: Work[U, R], units: Sequence[U], hear: Hear) -> Iterator[tuple[int, R]]:
        """See `Executor.map`."""
        ray = self._connected()
        parcel = work.parcel(same_machine=False)
        name = uuid.uuid4().hex  # a worker may have served another command
        running: dict[Any, int] = {}
        try:
            if parcel.key not in self._models:
                self._models[parcel.key] = ray.put(pickle.dumps(parcel.model))
            there = ray.put(pickle.dumps(parcel.there))
            task = ray.remote(num_cpus=1, num_gpus=1 if self.gpu else 0, max_retries=TRIES)(_do)
            for place, unit in enumerate(units):
                made = task.remote(
                    self._models[parcel.key], there, parcel.key, name, pickle.dumps(unit), self.gpu, sys.path
                )
                running[made] = place
            while running:
                (ready,), _ = ray.wait([*running], num_returns=1)
                place = running.pop(ready)
                answer, warnings = ray.get(ready)
                for text in warnings:
                    hear(place, text)
                if isinstance(answer, Failed):
                    raise answer.again()
                yield place, pickle.loads(answer.result)
        except (ray.exceptions.RayError, ConnectionError, TimeoutError) as error:
            raise IncompleteError(
                f"{LOST}: {first_line(error)}.\nWhat was finished is saved; the same command continues."
            ) from None
        finally:
            for made in running:
                with suppress(Exception):  # of a cluster that is gone
                    ray.cancel(made, force=True)

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        if self._ray is not None:
            with suppress(Exception):
                self._ray.shutdown()
            self._ray = None
            self._models.clear()

    def _connected(self) -> Any:
        """Ray, with a cluster.

        Raises:
            ConfigError: it is not installed.
            IncompleteError: nobody answers at the address.
        """
        if self._ray is not None:
            return self._ray
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use over the network
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError(f"`--executor ray` needs the package {error.name}: pip install 'sndcli[ray]'.") from None
        try:
            with _signals_kept():
                if self.address is None:
                    ray.init(num_cpus=self.count, include_dashboard=False, **_QUIETLY)
                else:
                    ray.init(address=self.address, **_QUIETLY)
        except Exception as error:  # whatever Ray says of an address
            where = self.address or "this machine"
            raise IncompleteError(f"No Ray cluster at {where}: {first_line(error)}.") from None
        self._ray = ray
        return ray


_QUIETLY = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
_DESKS: dict[bool, Desk] = {}  # of a worker, which Ray keeps from task to task


def _do(
    model: bytes, there: bytes, key: str, work: str, unit: bytes, gpu: bool, path: list[str]
) -> tuple[Done | Failed, list[str]]:
    """A task: a unit, and the warnings it gave; `path` is where the one who asks has its modules."""
    sys.path += [folder for folder in path if folder not in sys.path]
    warnings: list[str] = []

    def tell(told: Tick | str) -> None:
        if isinstance(told, str):
            warnings.append(told)

    if gpu not in _DESKS:
        torch.set_num_threads(1)
        _DESKS[gpu] = Desk(torch.device("cuda" if gpu else "cpu"))
    return _DESKS[gpu].do(Order(key, work, model, there, unit), tell), warnings


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts handlers of its own in the place of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
