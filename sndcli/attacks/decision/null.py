"""The null attack: resends the clean image. What it scores is the floor of every single-answer success rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sndcli.attacks.common.geometry import active
from sndcli.attacks.spec import AttackSpec, Preset
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

BLOCK = 32


@dataclass(frozen=True)
class Options:
    """None: there is nothing to set."""


def run(oracle: Oracle, streams: Streams, options: Options) -> None:  # noqa: ARG001
    """Spends every image's whole budget on the clean image."""
    oracle.submit(oracle.x0, torch.arange(len(oracle.x0), device=oracle.x0.device))
    while len(image := active(oracle)):
        rows = image.repeat_interleave(torch.clamp(oracle.remaining[image], max=BLOCK))
        oracle.labels(oracle.x0[rows], rows, "resend")


SPEC = AttackSpec(
    name="null",
    access="labels",
    norms=("l2", "linf"),
    presets={"default": Preset(Options())},
    summary="Resends the clean image: the floor of every success rate",
    run=run,
    uses_eps=False,
)
