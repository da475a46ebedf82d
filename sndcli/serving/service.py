"""The defended model as a server asks it: any thread may, every row draws for itself."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sndcli.runs.victim import Victim
from sndcli.serving.settings import Answer
from sndcli.streams import ImageStreams, Streams, UnitStreams, drawing


class Unanswered(Exception):
    """The model behind the defense did not answer."""


@dataclass
class Service:
    """Answers batches of images, one at a time, with fresh randomness for each row.

    Row j of a batch draws from lane j, a stream that goes on from batch to batch: so no two rows ever share a draw,
    neither in one batch nor in two. Where a model or a defense draws in a way that could be shared by the rows of a
    pass, each row gets a pass of its own.

    Args:
        victim: bare and defended model.
        name: how clients call it.
        answer: what they get.
        lanes: rows of the largest batch.
        seed: of all draws; None: the operating system chooses.
    """

    victim: Victim
    name: str
    answer: Answer
    lanes: int
    seed: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        seeds = secrets.randbits(62) if self.seed is None else self.seed
        device = self.victim.defended.device
        self._streams: Streams = (
            ImageStreams(seeds, range(self.lanes), "defense")
            if device.type == "cpu"
            else UnitStreams(seeds, device)
        )  # fmt: skip
        self.victim.reseed(seeds)
        x = torch.full((1, *self.shape), 0.5)
        first = self.victim.undefended(x)
        draws_itself = any(bool((self.victim.undefended(x) != first).any()) for _ in range(3))
        if draws_itself:
            torch.manual_seed(seeds)  # no stream reaches its draws
        self._together = self.victim.per_image and not draws_itself
        self.classes = first.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of one image."""
        return self.victim.model.input_size

    def __call__(self, x: Tensor) -> Tensor:
        """Answers about images ``[M, C, H, W]`` in [0, 1], M at most `lanes`.

        Returns:
            float32 ``[M, K]``, probabilities or logits; int64 ``[M]`` where the answer is a label.

        Raises:
            Unanswered: the model is a remote one, and did not answer about some image.
        """
        image = torch.arange(len(x))
        with self._lock, drawing(self._streams, image.to(self.victim.defended.device)):
            logits = self.victim.defended(x) if self._together else self._apart(x, image)
        if bool(logits.isnan().any()):
            raise Unanswered
        if self.answer == "label":
            return logits.argmax(1)
        return logits.softmax(1) if self.answer == "probabilities" else logits

    def _apart(self, x: Tensor, image: Tensor) -> Tensor:
        """Logits of one pass a row."""
        rows = []
        for one, lane in zip(x.split(1), image.split(1), strict=True):
            with drawing(self._streams, lane.to(self.victim.defended.device)):
                rows.append(self.victim.defended(one))
        return torch.cat(rows)
