"""What honest users get of a defended model: how often it is right, how often it contradicts itself, what it costs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from sndcli.datasets.base import ImageSet
from sndcli.defenses.base import Defense
from sndcli.models.classifier import Classifier
from sndcli.models.inference import Forward, reproducible_kernels
from sndcli.queries.draws import labels_of
from sndcli.runs.accuracy import blocks
from sndcli.runs.victim import Victim
from sndcli.runs.writing import replacing
from sndcli.streams import ImageStreams, Streams, UnitStreams, drawing, hashed

SEEDS = 5  # of the defense's randomness
ONE, MANY = 1, 128  # rows of a timed call
WARM, TIMED = 3, 20  # calls, of which the median counts


@dataclass(frozen=True)
class Speed:
    """What an answer takes.

    Attributes:
        passes: rows through the network for each row that is asked about, counted by a hook; None where there is no
            network to hook into.
        latency_ms, latency_bare_ms: of one row.
        throughput_ratio: rows a second behind the defense, of those without it, at 128 a call.
    """

    passes: float | None
    latency_ms: float
    latency_bare_ms: float
    throughput_ratio: float


@dataclass(frozen=True)
class Honest:
    """Answers about clean images.

    Attributes:
        image_id, label: int64 ``[M]``.
        bare: int64 ``[M]``, the undefended model's label; -1 where it is not known.
        answers: int64 ``[S, M]``, the defended model's, one row a seed.
        speed: of an answer.
    """

    image_id: Tensor
    label: Tensor
    bare: Tensor
    answers: Tensor
    speed: Speed


def measure(victim: Victim, data: ImageSet, seed: int) -> Honest:
    """Asks about all of `data`, with five seeds from `seed` on where the model is random."""
    index = data.readable(torch.arange(len(data)))
    answers = torch.stack([_labels(victim.defended, data, index, seed + k) for k in range(SEEDS)])
    bare = torch.full_like(data.labels[index], -1)
    if victim.bare is not None:
        bare = _labels(victim.bare, data, index, seed)
    return Honest(data.ids[index], data.labels[index], bare, answers, speed(victim, data))


def _labels(forward: Forward, data: ImageSet, index: Tensor, seed: int) -> Tensor:
    """int64 ``[M]``: the labels of the images at `index`."""
    if isinstance(forward.model, Defense):
        forward.model.reseed(hashed(seed, 0, "defense"))
    unit, found = UnitStreams(hashed(seed, 0, "accuracy"), forward.device), []
    for block in blocks(data, index):
        streams: Streams = unit
        if forward.device.type == "cpu":
            streams = ImageStreams(seed, data.ids[block].tolist(), "accuracy")
        with reproducible_kernels(), torch.random.fork_rng(devices=[]), drawing(streams, torch.arange(len(block))):
            torch.manual_seed(hashed(seed, 0, "model"))
            found.append(labels_of(forward(data.pixels(block))).cpu())
    return torch.cat(found)


def speed(victim: Victim, data: ImageSet) -> Speed:
    """Times the bare and the defended model on the first images, and counts the defended one's passes."""
    x = data.pixels(data.readable(torch.arange(min(MANY, len(data)))))
    x = x[torch.arange(MANY) % len(x)]
    bare, defended = victim.undefended, victim.defended
    with counted(defended.model) as rows:
        defended(x)
    through = rows()
    one, many = (
        [_seconds(forward, x[:count]) for forward in (defended, bare)] for count in (ONE, MANY)
    )  # fmt: skip
    return Speed(
        through / len(x) if through else None, round(1000 * one[0], 3), round(1000 * one[1], 3),
        round(many[1] / many[0], 4),
    )  # fmt: skip


@contextmanager
def counted(model: nn.Module) -> Iterator[Callable[[], int]]:
    """While inside, the rows that pass through the networks in `model` are counted; what is entered tells how many."""
    total = 0

    def count(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        nonlocal total
        total += len(given[0])

    with ExitStack() as stack:
        for network in (module for module in model.modules() if isinstance(module, Classifier)):
            stack.callback(network.register_forward_pre_hook(count).remove)
        yield lambda: total


def _seconds(forward: Forward, x: Tensor) -> float:
    """The median of some calls."""
    taken = []
    for k in range(WARM + TIMED):
        start = time.perf_counter()
        forward(x)
        if k >= WARM:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


# -- the file ------------------------------------------------------------------------------------------------


def write(path: Path, honest: Honest) -> None:
    """Writes under a temporary name, then renames."""
    table = pa.table({
        "image_id": honest.image_id.numpy(), "label": honest.label.numpy(), "bare": honest.bare.numpy(),
        "answers": honest.answers.T.tolist(),
    })  # fmt: skip
    table = table.replace_schema_metadata({b"speed": json.dumps(asdict(honest.speed)).encode()})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read(path: Path) -> Honest | None:
    """What `write` wrote; None where there is no such file that can be read."""
    try:
        table = pq.read_table(path)
        found = [torch.tensor(table.column(name).to_pylist()) for name in ("image_id", "label", "bare", "answers")]
        speed = Speed(**json.loads(table.schema.metadata[b"speed"]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return Honest(found[0], found[1], found[2], found[3].T, speed)


def agreeing(answers: Tensor) -> Tensor:
    """float64 ``[M]``: for each image the share of pairs of its answers ``[S, M]`` that agree."""
    pairs: Sequence[tuple[int, int]] = [(a, b) for a in range(len(answers)) for b in range(a)]
    return torch.stack([answers[a] == answers[b] for a, b in pairs]).double().mean(0)
