"""Clean accuracy of a model, bare or defended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from sndcli.datasets.base import ImageSet
from sndcli.defenses.base import Defense
from sndcli.models.inference import Forward, reproducible_kernels
from sndcli.models.opaque import Model
from sndcli.models.sources import digest
from sndcli.queries.draws import rows_within
from sndcli.runs.executors.base import Executor, Here, Parcel
from sndcli.runs.executors.sent import Opened, Recipe, part_of
from sndcli.runs.unit import Tell
from sndcli.runs.victim import Victim
from sndcli.streams import ImageStreams, Streams, UnitStreams, drawing, hashed

PIXEL_BYTES = 2**27  # of images in float32 at a time when all are classified


def _silent(_: object) -> None:
    pass


def accuracy(
    forward: Forward, data: ImageSet, seeds: Sequence[int], progress: Callable[[int], None] = _silent
) -> list[float]:
    """Share of correct labels on the whole of `data`, once for each seed of the defense's randomness."""
    values, done = [], 0
    for seed in seeds:
        unit = UnitStreams(hashed(seed, 0, "accuracy"), forward.device)
        if isinstance(forward.model, Defense):
            forward.model.reseed(hashed(seed, 0, "defense"))
        correct = read = 0
        for block in blocks(data):
            done += len(block)
            index = data.readable(block)
            streams: Streams = unit
            if forward.device.type == "cpu":
                streams = ImageStreams(seed, data.ids[index].tolist(), "accuracy")
            correct += _correct(forward, data, index, streams)
            read += len(index)
            progress(done)
        values.append(correct / max(1, read))
    return values


def blocks(data: ImageSet, index: Tensor | None = None) -> tuple[Tensor, ...]:
    """Positions of images that are classified together: all, or those of `index`."""
    which = torch.arange(len(data)) if index is None else index
    found: tuple[Tensor, ...] = which.split(rows_within(PIXEL_BYTES, math.prod(data.size), 1024))
    return found


def _correct(forward: Forward, data: ImageSet, index: Tensor, streams: Streams) -> int:
    with reproducible_kernels(), drawing(streams, torch.arange(len(index))):
        logits = forward(data.pixels(index))
    return int((logits.argmax(1) == data.labels[index]).sum())


# -- the same by workers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """Images that are classified with one seed of the defense's randomness."""

    seed: int
    images: ImageSet


class _Blocks(Sequence[Block]):
    """Read when they are handed out, so that no more of them are in memory than workers."""

    def __init__(self, data: ImageSet, seeds: Sequence[int]) -> None:
        self._data = data
        self.keys = [(seed, block) for seed in seeds for block in blocks(data)]

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> Block: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Block]: ...

    def __getitem__(self, place: int | slice) -> Block | Sequence[Block]:
        if isinstance(place, slice):
            return [self[k] for k in range(len(self))[place]]
        seed, block = self.keys[place]
        return Block(seed, part_of(self._data, self._data.readable(block)))

    def __iter__(self) -> Iterator[Block]:
        return (self[k] for k in range(len(self)))


def counted(forward: Forward, block: Block) -> tuple[int, int]:
    """How many of a block's images are correct, and how many there are."""
    streams = ImageStreams(block.seed, block.images.ids.tolist(), "accuracy")
    everyone = torch.arange(len(block.images))
    return _correct(forward, block.images, everyone, streams), len(block.images)


@dataclass(frozen=True)
class Counting:
    """The work of an accuracy whose images all have streams of their own."""

    forward: Forward
    opened: Opened
    recipe: Recipe

    def here(self, unit: Block, tell: Tell) -> tuple[int, int]:  # noqa: ARG002
        """See `Work.here`."""
        return counted(self.forward, unit)

    def parcel(self, same_machine: bool) -> Parcel[Block, tuple[int, int]]:  # noqa: ARG002
        """See `Work.parcel`."""
        return Parcel(digest(self.opened.model), self.opened.sent(), CountThere(self.recipe))


@dataclass(frozen=True)
class CountThere:
    """Counts blocks in another process."""

    recipe: Recipe

    def __call__(self, model: Model, device: torch.device) -> Callable[[Block, Tell], tuple[int, int]]:
        """What counts a block here."""
        victim = self.recipe.victim(model, device)
        return lambda block, tell: counted(victim.defended, block)  # noqa: ARG005


def accuracy_by(
    executor: Executor,
    victim: Victim,
    opened: Opened,
    recipe: Recipe,
    data: ImageSet,
    seeds: Sequence[int],
    progress: Callable[[int], None] = _silent,
) -> list[float]:
    """As `accuracy` of the defended model, by workers where each image draws from a stream of its own.

    Args:
        executor: where images are classified.
        victim: of this process.
        opened: its undefended model.
        recipe: of the victim.
        data, seeds, progress: as of `accuracy`.
    """
    if isinstance(executor, Here) or victim.streams_are != "image":
        return accuracy(victim.defended, data, seeds, progress)
    units = _Blocks(data, seeds)
    correct, read, done = dict.fromkeys(seeds, 0), dict.fromkeys(seeds, 0), 0
    work = Counting(victim.defended, opened, recipe)
    for place, (right, rows) in executor.map(work, units, lambda _place, _told: None):
        seed, block = units.keys[place]
        correct[seed] += right
        read[seed] += rows
        done += len(block)
        progress(done)
    return [correct[seed] / max(1, read[seed]) for seed in seeds]
