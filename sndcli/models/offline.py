"""Whether weights may be fetched: the Hugging Face hub is asked only where a user says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hub(download: bool) -> Iterator[None]:
    """Inside, the hub's client reads its cache alone, unless `download` is set."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not download
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
