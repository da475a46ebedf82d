"""A machine's arithmetic, in a word: results are the same bits among CPUs of one kind only.

Kernels for AVX2, AVX-512 or SSE sum in different orders, and so do those of other versions of torch. Attacks sit so
close to a boundary that the last bit of a logit can change which image succeeds. So every part of a run says which
arithmetic it was computed with, and who puts parts together says where they differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from sndcli.datasets.cifar10 import load_shipped
from sndcli.models.opaque import OpaqueModel
from sndcli.models.remote.address import PREFIXES
from sndcli.runs.victim import Victim

IMAGES = 16
UNKNOWN = ""  # of a model that costs something to ask, or that draws by itself


def fingerprint_of(victim: Victim) -> str:
    """A short hash of the undefended logits of 16 images, those of the package where they are of the model's size.

    `UNKNOWN` for a model at an address, whose arithmetic is not this machine's, and for one that draws by itself.
    """
    model = victim.model
    if victim.draws_itself or (isinstance(model, OpaqueModel) and model.name.startswith(PREFIXES)):
        return UNKNOWN
    logits = victim.undefended(images_of(model.input_size)).cpu()
    return hashlib.sha256(logits.contiguous().numpy().tobytes()).hexdigest()[:12]


def images_of(size: tuple[int, ...]) -> Tensor:
    """float32 ``[16, C, H, W]`` in [0, 1], always the same: the first ones of the package, or random ones."""
    shipped = load_shipped()
    if shipped.size == size:
        return shipped.pixels(torch.arange(IMAGES))
    return torch.rand(IMAGES, *size, generator=torch.Generator().manual_seed(0))


def told_apart(fingerprints: Iterable[str]) -> str | None:
    """What to say of parts with these fingerprints; None where they agree, as far as they are known.

    Example:
        >>> told_apart(["a", "", "a"]) is None, "a and b" in str(told_apart(["b", "a"]))
        (True, True)
    """
    known = sorted({each for each in fingerprints if each})
    if len(known) < 2:
        return None
    return (
        f"parts of this run were computed with arithmetic that differs (fingerprints {' and '.join(known)}): the last "
        "bits, and so single images, may differ from a run on one kind of machine"
    )
