"""What was sent: counted always, and written down where a file is named."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sndcli.errors import ConfigError


@dataclass
class Counts:
    """Requests of a model.

    Attributes:
        requests: answered or given up; each about one or several images.
        images: in them.
        retries: further attempts, which nobody paid for.
        failed: requests that were given up; their images have no answer.
        waited_s: seconds that the endpoint or ``--rate`` asked us to wait, over all requests.
    """

    requests: int = 0
    images: int = 0
    retries: int = 0
    failed: int = 0
    waited_s: float = 0.0


class SentLog:
    """Counts attempts, and appends a JSON line for each.

    Args:
        path: of the file; None: no lines.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.counts = Counts()
        self._lock = threading.Lock()
        try:
            self._file = path.open("ab", buffering=0) if path else None
        except OSError as error:
            raise ConfigError(f"The log {path} cannot be written: {error.strerror}.") from None

    def attempt(self, rows: int, attempt: int, status: int | None, seconds: float, reason: str) -> None:
        """One attempt, the first being 0; `status` None: no answer; `reason` empty: it was answered."""
        with self._lock:
            self.counts.retries += attempt > 0
            if self._file is not None:
                line = {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "images": rows, "attempt": attempt,
                    "status": status, "ms": round(1000 * seconds, 3),
                }  # fmt: skip
                self._file.write(json.dumps(line | ({"reason": reason} if reason else {})).encode() + b"\n")

    def ended(self, rows: int, answered: bool) -> None:
        """A request has an answer that could be read, or was given up."""
        with self._lock:
            self.counts.requests += 1
            self.counts.images += rows
            self.counts.failed += not answered

    def waited(self, seconds: float) -> None:
        """Before an attempt."""
        with self._lock:
            self.counts.waited_s += seconds

    def as_dict(self) -> dict[str, int | float]:
        """The counts, for a result's file."""
        with self._lock:
            return asdict(self.counts)
