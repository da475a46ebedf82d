"""The null attack: resends the clean image. What it scores is the floor of every single-answer success rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sndcli.attacks.common.geometry import active
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

BLOCK = 32


@dataclass(frozen=True)
class Options:
    """None: there is nothing to set."""


OPTIONS = {"default": Options()}


def run(oracle: Oracle, streams: Streams, options: Options) -> None:  # noqa: ARG001
    """Spends every image's whole budget on the clean image."""
    oracle.hold(oracle.x0, torch.arange(len(oracle.x0), device=oracle.x0.device))
    while len(owner := active(oracle)):
        rows = owner.repeat_interleave(torch.clamp(oracle.remaining[owner], max=BLOCK))
        oracle.labels(oracle.x0[rows], rows, "resend")
