"""What is sent and what comes back, whatever the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sndcli.models.opaque import Facts


class BadAnswer(Exception):
    """An answer that cannot be read: what was expected, and what came. It is never a label."""


@dataclass(frozen=True)
class Outgoing:
    """A request.

    Attributes:
        url: where to.
        content: the body.
        content_type: of the body.
        rows: images in it.
    """

    url: str
    content: bytes
    content_type: str
    rows: int


@dataclass(frozen=True)
class Failure:
    """A request without an answer.

    Attributes:
        reason: one line.
        gone: whether the endpoint as a whole does not answer (any more), or not us; else it is about this request.
    """

    reason: str
    gone: bool


class Exchange(Protocol):
    """How images become a request of a protocol, and its answer scores or labels."""

    @property
    def facts(self) -> Facts:
        """What is known of the model."""
        ...

    @property
    def batch(self) -> int:
        """Images a request, at most."""
        ...

    def request(self, images: Tensor) -> Outgoing:
        """The request about float32 ``[M, C, H, W]``, M at most `batch`; for bytes, clipped and rounded."""
        ...

    def answers(self, content: bytes, rows: int) -> Tensor:
        """Scores float32 ``[M, K]`` or labels int64 ``[M]`` in the answer about M images.

        Raises:
            BadAnswer: they are not there.
        """
        ...
