"""What a server counts, as Prometheus reads it; several workers count together."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the library's own variable: a folder that workers share


class Metrics:
    """Requests by status, images answered, and seconds a request took."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("snd_requests", "Requests by status.", ["status"], registry=self._registry)
        self.images = Counter("snd_images", "Images answered.", registry=self._registry)
        self.seconds = Histogram("snd_request_seconds", "Seconds an inference took.", registry=self._registry)

    def text(self) -> bytes:
        """All of it, of all workers."""
        if not os.environ.get(SHARED):
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
