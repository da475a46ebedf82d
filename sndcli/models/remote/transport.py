"""Requests over HTTP: several at a time, no more a second than allowed, again where a failure may pass.

An attempt that failed for a passing reason (no connection, no answer in time, 408, 425, 429, 5xx) is made again
after a wait that doubles, or that the endpoint names (``Retry-After``); all requests wait then. Redirections are not
followed, since they would carry credentials elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from sndcli.errors import first_line
from sndcli.models.remote.exchange import Failure, Outgoing
from sndcli.models.remote.log import SentLog
from sndcli.models.remote.settings import Remote

PASSING = {408, 425, 429, 500, 502, 503, 504}
REFUSED = {401, 403, 407}
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds; between attempts, where the endpoint names no wait
LONGEST_ASKED = 3600.0  # seconds of Retry-After that are believed


class Transport:
    """Sends requests.

    Args:
        client: of httpx, with headers and certificates.
        remote: how.
        log: told of every attempt.
        sleep: waits so many seconds; by default until this process is interrupted.
        clock: seconds.
    """

    def __init__(
        self,
        client: httpx.Client,
        remote: Remote,
        log: SentLog,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._remote, self._log, self._clock = client, remote, log, clock
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._pool = ThreadPoolExecutor(remote.concurrency, "snd-remote")
        self._lock = threading.Lock()
        self._next = self._not_before = 0.0  # clock of the next free slot of --rate; of the end of a wait for all

    def ask(self, requests: Sequence[Outgoing], retry: bool = True) -> list[bytes | Failure]:
        """The body of each request's answer, or why there is none; in order."""
        if len(requests) == 1:
            return [self._one(requests[0], retry)]
        try:
            return [*self._pool.map(lambda request: self._one(request, retry), requests)]
        except BaseException:  # interrupted: nobody waits for what threads would still try
            self._stopped.set()
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise

    def fetch(self, method: str, url: str) -> bytes | Failure:
        """The body of one answer, asked for once; what is posted is an empty JSON object."""
        content, kind = (b"", "") if method == "GET" else (b"{}", "application/json")
        found, _ = self._attempt(Outgoing(url, content, kind, 0), 0, method)
        return found

    def _one(self, request: Outgoing, retry: bool) -> bytes | Failure:
        last = self._remote.retries if retry else 0
        for attempt in range(last + 1):
            found, wait = self._attempt(request, attempt)
            if not isinstance(found, Failure) or wait is None or attempt == last or self._stopped.is_set():
                return found
            with self._lock:
                self._not_before = max(self._not_before, self._clock() + wait)
        raise AssertionError("unreachable")

    def _attempt(self, request: Outgoing, attempt: int, method: str = "POST") -> tuple[bytes | Failure, float | None]:
        """The answer or failure, and in how many seconds it may pass; None: it will not."""
        self._take_turn()
        start = time.perf_counter()
        status: int | None = None
        wait: float | None = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
        found: bytes | Failure
        try:
            headers = {"Content-Type": request.content_type} if request.content_type else {}
            response = self._client.request(method, request.url, content=request.content, headers=headers)
        except httpx.TimeoutException:
            found = Failure(f"No answer within {self._remote.timeout:g} s.", gone=True)
        except httpx.TransportError as error:
            found = Failure(f"No connection: {first_line(error)}.", gone=True)
        except httpx.HTTPError as error:  # an answer that is no HTTP
            found, wait = Failure(f"{type(error).__name__}: {first_line(error)}.", gone=False), None
        else:
            status = response.status_code
            if status == 200:
                found, wait = response.content, None
            else:
                told = f"Status {status} {response.reason_phrase}: {_said(response)}"
                found = Failure(told, gone=status in PASSING | REFUSED)
                wait = max(wait or 0.0, retry_after(response.headers.get("Retry-After"))) if status in PASSING else None
        reason = found.reason if isinstance(found, Failure) else ""
        self._log.attempt(request.rows, attempt, status, time.perf_counter() - start, reason)
        return found, wait

    def _take_turn(self) -> None:
        """Waits for a slot of ``--rate``, and for the end of a wait that the endpoint asked for."""
        waited = 0.0
        while True:
            with self._lock:
                now = self._clock()
                due = max(self._not_before, self._next if self._remote.rate else 0.0)
                if now >= due or self._stopped.is_set():
                    if self._remote.rate:
                        self._next = max(now, self._next) + 1.0 / self._remote.rate
                    break
            self._sleep(due - now)
            waited += due - now
        if waited:
            self._log.waited(waited)


def retry_after(text: str | None) -> float:
    """Seconds in a header ``Retry-After``: a number of them, or a date; 0 where it says nothing.

    Example:
        >>> retry_after("120"), retry_after("soon"), retry_after(None)
        (120.0, 0.0, 0.0)
    """
    if not text:
        return 0.0
    if text.strip().isdecimal():
        return min(LONGEST_ASKED, float(text))
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    until = (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)
    return min(LONGEST_ASKED, max(0.0, until.total_seconds()))


def _said(response: httpx.Response) -> str:
    """What an endpoint says of a failure, on one line."""
    text = " ".join(response.content[:500].decode("utf-8", "replace").split())
    return text[:200] if text else "nothing"
