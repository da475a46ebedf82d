"""What a worker does: it is sent a model and a work, keeps them, and does unit after unit."""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from sndcli.errors import first_line
from sndcli.models.opaque import Model
from sndcli.runs.memory import keep_freed_memory
from sndcli.runs.meter import Tick

PAUSE_S = 0.1  # between two ticks that are sent


@dataclass(frozen=True)
class Order:
    """A unit to do.

    Attributes:
        key: of its model.
        work: tells its work from all others.
        model: pickled, makes the model; None where the worker has it.
        there: pickled, makes what does a unit (see `base.There`); None where the worker has it.
        unit: pickled.
    """

    key: str
    work: str
    model: bytes | None
    there: bytes | None
    unit: bytes


@dataclass(frozen=True)
class Ready:
    """A worker has started."""


@dataclass(frozen=True)
class Told:
    """How far its unit is, or a warning."""

    told: Tick | str


@dataclass(frozen=True)
class Done:
    """What came of its unit, pickled."""

    result: bytes


@dataclass(frozen=True)
class Failed:
    """Its unit raised. The error is pickled; where it cannot be, it is one that says the same."""

    error: bytes
    trace: str

    def again(self) -> Exception:
        """The error, with the worker's traceback as a note."""
        error: Exception = pickle.loads(self.error)
        error.add_note(f"In a worker:\n{self.trace}")
        return error


Message = Ready | Told | Done | Failed


class Desk:
    """A worker's model and work, the last ones it was sent.

    Args:
        device: where it computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._key: str | None = None
        self._work: str | None = None
        self._model: Model | None = None
        self._do: Callable[..., Any] | None = None

    def do(self, order: Order, tell: Callable[[Tick | str], None]) -> Done | Failed:
        """Does a unit."""
        try:
            if order.model is not None and order.key != self._key:
                self._model, self._key = pickle.loads(order.model)(), order.key
            if order.there is not None and order.work != self._work:
                self._do, self._work = pickle.loads(order.there)(self._model, self._device), order.work
            assert self._do is not None
            return Done(pickle.dumps(self._do(pickle.loads(order.unit), tell)))
        except (Exception, SystemExit) as error:
            return _failed(error)


def _failed(error: BaseException) -> Failed:
    trace = "".join(traceback.format_exception(error))
    known = error if isinstance(error, Exception) else RuntimeError(f"code of a model or plug-in: {first_line(error)}")
    try:
        told = pickle.dumps(known)
        pickle.loads(told)
    except Exception:  # of a library whose errors cannot be sent
        told = pickle.dumps(RuntimeError(f"{type(error).__name__}: {first_line(error)}"))
    return Failed(told, trace)


def main(line: Connection, device: str, threads: int) -> None:
    """A worker's process: does what comes along the line until nobody is at its other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of whoever started it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory()
    torch.set_num_threads(threads)
    desk, talker = Desk(torch.device(device)), _Talker(line)
    try:
        talker.send(Ready())
        while True:
            order: Order = pickle.loads(line.recv_bytes())
            talker.send(desk.do(order, talker.tell))
    except (EOFError, OSError):  # the other end is gone
        os._exit(0)


class _Talker:
    """Sends messages, and ticks not too often."""

    def __init__(self, line: Connection) -> None:
        self._line, self._last = line, 0.0

    def send(self, message: Message) -> None:
        self._line.send_bytes(pickle.dumps(message))

    def tell(self, told: Tick | str) -> None:
        now = time.monotonic()
        if isinstance(told, str) or now - self._last >= PAUSE_S:
            self._last = now if not isinstance(told, str) else self._last
            self.send(Told(told))
