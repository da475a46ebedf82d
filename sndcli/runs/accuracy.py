"""Clean accuracy of a model, bare or defended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from sndcli.datasets.base import ImageSet
from sndcli.defenses.base import Defense
from sndcli.models.inference import Forward, reproducible_kernels
from sndcli.queries.draws import rows_within
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
        at_once = rows_within(PIXEL_BYTES, math.prod(data.size), 1024)
        for block in torch.arange(len(data)).split(at_once):
            done += len(block)
            index = data.readable(block)
            streams: Streams = unit
            if forward.device.type == "cpu":
                streams = ImageStreams(seed, data.ids[index].tolist(), "accuracy")
            with reproducible_kernels(), drawing(streams, torch.arange(len(index))):
                logits = forward(data.pixels(index))
            correct += int((logits.argmax(1) == data.labels[index]).sum())
            read += len(index)
            progress(done)
        values.append(correct / max(1, read))
    return values
