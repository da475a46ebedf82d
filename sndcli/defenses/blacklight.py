"""Blacklight: a defense that remembers questions and blocks those that are nearly alike.

Li, Shan, Wenger, Zhang, Zheng and Zhao, "Blacklight: Scalable Defense for Neural Networks against Query-Based Black-Box
Attacks" (USENIX Security 2022), with the constants of its code as OARS (CCS 2023) has it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts, within
from sndcli.errors import ConfigError, unknown
from sndcli.queries.call import Integers
from sndcli.queries.guard import Flags, Guard
from sndcli.streams import hashed

STEP = 50  # to which values from 0 to 255 are rounded
SALTS = 255  # a salt is one of 0 to 254
KEPT = 50  # hashes of a picture, the largest
SMALL = 32  # pixels; pictures up to this have
WINDOW, STRIDE = 20, 1  # values a hash, and values from one to the next;
LARGE_WINDOW, LARGE_STRIDE = 50, 25  # larger ones these
POLICIES = ("reject", "log", "ban")
BUCKETS = 2**16  # of the first look at hashes
AT_ONCE = 64  # candidates that are compared exactly

Hashes = NDArray[np.uint64]


def facts(policy: str = "reject", threshold: int = 25) -> Facts:
    """Of `Blacklight` with these parameters.

    Raises:
        ConfigError: an unknown policy, or a threshold that is not from 1 to 50.
    """
    bans_of(policy)
    within("threshold", threshold, 1, KEPT)
    return Facts(random=False)


def bans_of(policy: str) -> int:
    """Detections after which an attacker is banned; 0: never.

    Raises:
        ConfigError: an unknown policy.

    Example:
        >>> bans_of("reject"), bans_of("ban:3")
        (0, 3)
    """
    name, colon, count = policy.partition(":")
    if name not in POLICIES:
        raise unknown("policy of `blacklight`", name, POLICIES)
    if name != "ban":
        if colon:
            raise ConfigError(f"Expected the policy `{name}` without a number but got `{policy}`.")
        return 0
    if not count.isdecimal() or int(count) < 1:
        raise ConfigError(f"Expected `ban:k` with k detections, at least 1, as in `ban:3`, but got `{policy}`.")
    return int(count)


class Blacklight(Defense):
    """The model as it is, behind a store of fingerprints that the oracle keeps (`guard`).

    A question is a near-duplicate where at least `threshold` of its 50 hashes are those of one earlier question. It is
    paid and, by `policy`, ``reject``: blocked; ``ban:k``: blocked, and the k-th ends the image's attack; ``log``:
    answered and counted. Near-duplicates are stored too.

    Probes of a standard deviation of 0.01 or more pass at the settings for small pictures; narrower ones, and the same
    point twice, are caught. A picture of one colour has one hash and is never caught.

    `forward` asks the model: there is no store in verification, in accuracy or outside of a run. One store an image
    stands for one attacker an image, so answers to honest users are no part of it.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``.
        policy: what is done about near-duplicates.
        threshold: shared hashes, from 1 to 50.
        generator: of nothing; the salt is the deployment's, from the run's seed.

    Raises:
        ConfigError: as `facts`.
    """

    per_image = True

    def __init__(
        self,
        model: torch.nn.Module,
        policy: str = "reject",
        threshold: int = 25,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, generator)
        self.facts = facts(policy, threshold)
        self.policy, self.threshold = policy, threshold

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of `x` ``[M, C, H, W]``."""
        logits: Tensor = self.model(x)
        return logits

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"policy={self.policy}, threshold={self.threshold}"


def guard(policy: str, threshold: int, images: int, size: Sequence[int], seed: int) -> Guard:
    """The store of one deployment, and what is done about what it detects.

    Args:
        policy, threshold: as of `Blacklight`.
        images: N, one attacker each.
        size: (C, H, W).
        seed: of the run, which the salt follows from.
    """
    store = Fingerprints(images, Fingerprinter(size, seed), threshold)
    return Guard(store, images, blocks=policy != "log", bans=bans_of(policy))


class Fingerprinter:
    """The hashes of a picture, with a salt of its own for each value of it.

    Args:
        size: (C, H, W).
        seed: of the deployment.
    """

    def __init__(self, size: Sequence[int], seed: int) -> None:
        small = max(size[1:]) <= SMALL
        self._window, self._stride = (WINDOW, STRIDE) if small else (LARGE_WINDOW, LARGE_STRIDE)
        values = math.prod(size)
        if values < self._window:
            raise ConfigError(f"Expected pictures of at least {self._window} values for `blacklight` but got {values}.")
        self._salt = np.random.default_rng(hashed(seed, 0, "blacklight")).integers(0, SALTS, values).astype(np.float64)

    def __call__(self, point: NDArray[np.float32]) -> Hashes:
        """The distinct ones among the `KEPT` largest, ascending, at most so many, by the last 16 hexadecimal digits.

        The order is that of the digests' digits read backwards.

        Args:
            point: ``[C, H, W]`` in [0, 1].
        """
        values = np.mod(255 * point.astype(np.float64).ravel() + self._salt, 255)
        text, width = (np.round(values / STEP) * STEP).astype("<i2").tobytes(), 2 * self._window
        starts = range(0, len(text) - width + 1, 2 * self._stride)
        digests = b"".join([hashlib.sha256(text[k : k + width]).digest() for k in starts])
        last = np.frombuffer(digests, np.uint8).reshape(-1, 32)[:, :-9:-1]
        backwards = np.ascontiguousarray((last << 4) | (last >> 4))
        found: Hashes = np.unique(backwards.view(">u8").astype(np.uint64))[-KEPT:]
        return found


class Fingerprints:
    """The fingerprints of all questions about N images, apart for each.

    Args:
        images: N.
        fingerprint: of a point.
        threshold: shared hashes that make two of them alike.
    """

    def __init__(self, images: int, fingerprint: Fingerprinter, threshold: int) -> None:
        self._fingerprint = fingerprint
        self._seen = [Seen(threshold) for _ in range(images)]

    def similar(self, points: Tensor, image: Integers) -> Flags:
        """See `queries.guard.Store`."""
        rows = points.detach().cpu().float().numpy()
        found = [self._seen[i].add(self._fingerprint(row)) for row, i in zip(rows, image.tolist(), strict=True)]
        return np.array(found, dtype=np.bool_)


class Seen:
    """Fingerprints in the order in which they came.

    Hashes are compared in two steps, since most earlier questions have nothing in common with a new one: by their
    buckets, which never miss a shared hash, and then exactly.

    Args:
        threshold: shared hashes that make two of them alike.
    """

    def __init__(self, threshold: int) -> None:
        self._threshold, self._count = threshold, 0
        self._hashes = np.zeros((16, KEPT), dtype=np.uint64)
        self._buckets = np.zeros((16, KEPT), dtype=np.uint16)

    def add(self, hashes: Hashes) -> bool:
        """Stores a fingerprint; whether it is like one before."""
        alike = self.most_shared(hashes) >= self._threshold
        if self._count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._buckets = np.concatenate([self._buckets, np.zeros_like(self._buckets)])
        self._hashes[self._count, : len(hashes)] = hashes
        self._buckets[self._count, : len(hashes)] = hashes % BUCKETS
        self._count += 1
        return alike

    def most_shared(self, hashes: Hashes) -> int:
        """The most hashes shared with one earlier question, at least where these are as many as the threshold."""
        marked = np.zeros(BUCKETS, dtype=np.bool_)
        marked[hashes % BUCKETS] = True
        likely = marked[self._buckets[: self._count]].sum(1) >= self._threshold
        (which,) = likely.nonzero()
        most = 0
        for start in range(0, len(which), AT_ONCE):
            shared = np.isin(self._hashes[which[start : start + AT_ONCE]], hashes).sum(1)
            most = max(most, int(shared.max()))
            if most >= self._threshold:
                break
        return most
