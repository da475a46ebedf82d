"""Spawned processes of one machine; one that dies is replaced, and its unit done again."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from sndcli.errors import IncompleteError
from sndcli.runs.executors.base import TRIES, Hear, R, U, Work
from sndcli.runs.executors.worker import Done, Failed, Message, Order, Ready, Told, main

STOP_S = 5.0  # that a worker is given to end when it is told to


@dataclass
class _Worker:
    """A process.

    Attributes:
        process: itself.
        line: to it.
        device: where it computes.
        place: of the unit it does; None: idle.
        ready: whether it has started.
        key, work: of the model and the work it has.
    """

    process: BaseProcess
    line: Connection
    device: str
    place: int | None = None
    ready: bool = False
    key: str | None = None
    work: str | None = None


@dataclass
class Processes:
    """Workers that are started when there is something to do.

    Attributes:
        devices: where each worker computes.
        threads: of each worker.
    """

    devices: Sequence[str]
    threads: int
    _crew: list[_Worker] = field(default_factory=list)
    _works: int = 0

    @property
    def workers(self) -> int:
        """How many units it does at once."""
        return len(self.devices)

    def map(self, work: Work[U, R], units: Sequence[U], hear: Hear) -> Iterator[tuple[int, R]]:
        """See `Executor.map`."""
        parcel = work.parcel(same_machine=True)
        order = _Order(parcel.key, str(self._works), pickle.dumps(parcel.model), pickle.dumps(parcel.there))
        self._works += 1
        waiting, deaths = deque(range(len(units))), [0] * len(units)
        try:
            while waiting or any(worker.place is not None for worker in self._crew):
                self._start(len(waiting))
                for worker in self._crew:
                    if worker.ready and worker.place is None and waiting:
                        worker.place = waiting.popleft()
                        with suppress(OSError):  # it has died, which is noticed below
                            order.send(worker, pickle.dumps(units[worker.place]))
                lines = {worker.line: worker for worker in self._crew}
                for line in wait([*lines]):
                    worker = lines[line]  # type: ignore[index]
                    message = _received(worker)
                    if message is None:
                        self._mourn(worker, waiting, deaths, hear)
                    elif isinstance(message, Ready):
                        worker.ready = True
                    elif worker.place is not None and isinstance(message, Told):
                        hear(worker.place, message.told)
                    elif isinstance(message, Failed):
                        raise message.again()
                    elif worker.place is not None and isinstance(message, Done):
                        place, worker.place = worker.place, None
                        yield place, pickle.loads(message.result)
        finally:
            self._end([worker for worker in self._crew if worker.place is not None])

    def close(self) -> None:
        """Ends all workers."""
        self._end(self._crew)

    def _start(self, wanted: int) -> None:
        """Starts workers up to the number that there is work for."""
        idle = sum(worker.place is None for worker in self._crew)
        free = [*self.devices]
        for worker in self._crew:
            free.remove(worker.device)
        context = multiprocessing.get_context("spawn")
        for device in free[: max(0, wanted - idle)]:
            ours, theirs = context.Pipe()
            process = context.Process(target=main, args=(theirs, device, self.threads), daemon=True)
            with _unheard():
                process.start()
            theirs.close()
            self._crew.append(_Worker(process, ours, device))

    def _mourn(self, worker: _Worker, waiting: deque[int], deaths: list[int], hear: Hear) -> None:
        """A worker has died: its unit is to be done again.

        Raises:
            IncompleteError: for the third time.
        """
        place, began = worker.place, worker.ready
        self._end([worker])
        code = worker.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        if not began:
            raise IncompleteError(f"A worker ended before it began ({how}). --workers 1 runs without.")
        if place is None:
            return
        deaths[place] += 1
        if deaths[place] >= TRIES:
            raise IncompleteError(
                f"Workers died {TRIES} times at the same images ({how}{_why(code)}).\n"
                "What was finished is saved; the same command continues, with --workers 1 in one process."
            )
        waiting.appendleft(place)
        hear(place, f"a worker died ({how}{_why(code)}); its images are done again")

    def _end(self, workers: Sequence[_Worker]) -> None:
        workers = [*workers]
        for worker in workers:
            self._crew.remove(worker)
            worker.line.close()
            if worker.process.is_alive():
                worker.process.terminate()
        for worker in workers:
            worker.process.join(STOP_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


@dataclass(frozen=True)
class _Order:
    """What every order of a work has."""

    key: str
    work: str
    model: bytes
    there: bytes

    def send(self, worker: _Worker, unit: bytes) -> None:
        model = None if worker.key == self.key else self.model
        there = None if worker.work == self.work else self.there
        worker.key, worker.work = self.key, self.work
        worker.line.send_bytes(pickle.dumps(Order(self.key, self.work, model, there, unit)))


def _received(worker: _Worker) -> Message | None:
    """The next message; None from a worker that has died."""
    try:
        message: Message = pickle.loads(worker.line.recv_bytes())
        return message
    except (EOFError, OSError):
        return None


def _why(code: int | None) -> str:
    return ", as when the memory is full" if code == -signal.SIGKILL else ""


@contextmanager
def _unheard() -> Iterator[None]:
    """A process that is started inside never hears Ctrl-C, not even while it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
