"""What an interrupted unit keeps: the answers that were paid for, so that the same command need not ask again.

An attack does nothing but what its streams and the answers say. A unit that begins anew therefore asks the same
questions, and as long as the log has answers to them they come from there, and no network runs. At the log's end the
defense's streams go on where they were, so an image's result is the same bits as without the interruption.

That the questions are the same is not taken for granted: each call is kept with a checksum of its points. Where one
differs (another processor rounds otherwise, say) the log is of no use, and the unit begins without it.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sndcli.queries.ledger import Ledger
from sndcli.queries.oracle import Oracle
from sndcli.runs.writing import replacing
from sndcli.streams import ImageStreams

SAVE_S = 20.0  # between two savings
PATIENCE = 20  # they are also so many times as far apart as one takes
LARGEST = 2**28  # bytes of answers; a unit with more is not kept
Answer = tuple[Tensor, Tensor]  # labels [m], and mean probabilities [m, K], [m, 0] where none were asked for


class Diverged(BaseException):
    """A unit that began anew asks other questions than those of its log. No attack may take it for its own failure."""


class AnswerLog:
    """The answers of one unit, saved now and then, and given again to the unit that begins anew.

    Args:
        path: of the file.
        identity: of the unit: run, seed, images. A file of another is as good as none.

    Attributes:
        queries: paid for the answers of an interrupted run.
        seconds: that it took until it saved them.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self._identity = path, identity
        self._checks: list[int] = []
        self._answers: list[Answer] = []
        self._bytes, self._next = 0, 0  # the call that is recalled next
        self._state: dict[str, Tensor] = {}
        self.queries, self.seconds = 0, 0.0
        self._began = self._due = time.monotonic()
        self._read()
        self._due += SAVE_S

    @property
    def recalling(self) -> bool:
        """Whether there are answers that were not asked for again yet."""
        return self._next < len(self._answers)

    def recall(self, check: int) -> Answer:
        """The next answer.

        Raises:
            Diverged: it is to another question.
        """
        if self._checks[self._next] != check:
            raise Diverged
        self._next += 1
        return self._answers[self._next - 1]

    def restore(self, streams: ImageStreams, ledger: Ledger) -> None:
        """Sets what goes on behind the answers to where it was when they were saved."""
        if self._state:
            keys = [(image, site) for image, site in self._state["place"].tolist()]
            streams.set_state(dict(zip(keys, self._state["generator"], strict=True)))
            ledger.mismatches.copy_(self._state["mismatches"])
            self._state = {}

    def keep(self, check: int, answer: Answer, streams: ImageStreams, ledger: Ledger) -> None:
        """A call that was answered by the model; saved where it is time."""
        if self._bytes > LARGEST:
            return
        self._checks.append(check)
        self._answers.append(answer)
        self._next = len(self._answers)
        self._bytes += sum(part.numel() * part.element_size() for part in answer)
        if self._bytes > LARGEST:
            self.discard()
            self._checks, self._answers, self._next = [], [], 0
        elif time.monotonic() >= self._due:
            self.save(streams, ledger)

    def save(self, streams: ImageStreams, ledger: Ledger) -> None:
        """Writes all answers, where there are any new ones."""
        if not self._answers or self.recalling or self._state:
            return
        start = time.monotonic()
        state = streams.state()
        labels, means = zip(*self._answers, strict=True)
        scored = [part for part in means if part.shape[1]]
        tensors = {
            "check": torch.tensor(self._checks, dtype=torch.int64),
            "rows": torch.tensor([len(part) for part in labels], dtype=torch.int64),
            "scored": torch.tensor([part.shape[1] > 0 for part in means]),
            "label": torch.cat(labels).to(torch.int32),
            "mean": torch.cat(scored) if scored else torch.empty(0, 0),
            "place": torch.tensor([*state], dtype=torch.int64).view(-1, 2),
            "generator": torch.stack([*state.values()]) if state else torch.empty(0, 0, dtype=torch.uint8),
            "mismatches": ledger.mismatches,
        }
        spent = self.seconds + start - self._began
        paid = len(tensors["label"]) * ledger.votes
        told = {"unit": self._identity, "queries": str(paid), "seconds": f"{spent:.3f}"}
        with replacing(self.path) as temporary:
            temporary.write_bytes(save(tensors, told))
        now = time.monotonic()
        self._due = now + max(SAVE_S, PATIENCE * (now - start))

    def discard(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        """Takes the file's answers where it is of this unit; a damaged one is as good as none."""
        try:
            with safe_open(self.path, "pt") as file:
                told = file.metadata() or {}
                if told.get("unit") != self._identity:
                    return
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            rows, scored = found["rows"].tolist(), found["scored"].tolist()
            labels = found["label"].long().split(rows)
            means = iter(found["mean"].split([n for n, has in zip(rows, scored, strict=True) if has] or [0]))
            self._answers = [
                (label, next(means) if has else torch.empty(len(label), 0))
                for label, has in zip(labels, scored, strict=True)
            ]
            self._checks = found["check"].tolist()
            self._state = {name: found[name] for name in ("place", "generator", "mismatches")}
            self._bytes = sum(found[name].numel() * found[name].element_size() for name in ("label", "mean"))
            self.queries, self.seconds = int(told["queries"]), float(told["seconds"])
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            self._answers, self._checks, self._state, self._bytes = [], [], {}, 0


class Recalling(Oracle):
    """An oracle that can keep its answers, and give those of an interrupted run before it asks the model."""

    _log: AnswerLog | None = None
    _draws: ImageStreams

    def remember(self, log: AnswerLog, draws: ImageStreams) -> None:
        """Keeps answers in `log`, after it has given those that are there; `draws` are the streams of the defense."""
        self._log, self._draws = log, draws

    def remembered(self) -> None:
        """The attack has ended: what it paid for is saved, so that its verification can be begun anew.

        Raises:
            Diverged: there are answers left that it did not ask for.
        """
        if self._log is not None:
            if self._log.recalling:
                raise Diverged
            self._log.restore(self._draws, self.ledger)
            self._log.save(self._draws, self.ledger)

    def _ask(self, sent: Tensor, image: Tensor, scores: bool) -> Answer:
        if self._log is None or not len(sent):
            return super()._ask(sent, image, scores)
        check = checksum(sent, image)
        if self._log.recalling:
            return self._log.recall(check)
        self._log.restore(self._draws, self.ledger)
        answer = super()._ask(sent, image, scores)
        self._log.keep(check, answer, self._draws, self.ledger)
        return answer


def checksum(points: Tensor, image: Tensor) -> int:
    """Of the points of a call, and which images they are for."""
    return zlib.crc32(image.contiguous().numpy().data, zlib.crc32(points.contiguous().numpy().data))


def identity_of(run_id: str, seed: int, images: Sequence[int]) -> str:
    """What tells a unit from all others."""
    return f"{run_id} {seed} {' '.join(map(str, images))}"


def path_of(part: Path) -> Path:
    """Where the answers of a unit are while it runs."""
    return part.with_suffix(".answers.safetensors")


def paid(folder: Path) -> int:
    """Queries whose answers are kept of the units that run, by the files of a folder of parts."""
    found = 0
    for path in folder.glob("*.answers.safetensors"):
        try:
            with safe_open(path, "pt") as file:
                found += int((file.metadata() or {}).get("queries", 0))
        except (OSError, SafetensorError, ValueError):
            continue
    return found
