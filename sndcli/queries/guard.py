"""What a stateful defense does beside the model: it remembers an attacker's questions and blocks those it knows.

There is one store an image, that of the attacker of this image. Rows of a call are looked up in order of their
positions, each after the ones before it is stored, so what is blocked depends on an image's own questions and their
order and on nothing else. Unpaid answers (verification, boundaries, accuracy) do not pass here.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sndcli.queries.call import Call, Integers

Flags = NDArray[np.bool_]

PATIENCE = 250  # questions in a row that were blocked, after which an image's attack ends
BLOCKED, BANNED = "blocked", "banned"  # reasons for which such an attack ends; the first is a phase too


class Store(Protocol):
    """Remembers questions."""

    def similar(self, points: Tensor, image: Integers) -> Flags:
        """bool ``[m]``: whether each of `points` ``[m, C, H, W]`` is like an earlier one about its `image` ``[m]``.

        All of them are stored, those that are alike too.
        """
        ...


class Guard:
    """The policy of a stateful defense for N images.

    Args:
        store: of all of them.
        images: N.
        blocks: whether a question like an earlier one is left without an answer; else it is only counted.
        bans: detections after which an image's attacker may ask no more; 0: never.
    """

    def __init__(self, store: Store, images: int, *, blocks: bool = True, bans: int = 0) -> None:
        self.store, self.blocks, self.bans = store, blocks, bans
        self._detected, self._in_vain = np.zeros(images, dtype=np.int64), np.zeros(images, dtype=np.int64)

    def until_banned(self, call: Call, detected: Flags) -> Integers:
        """int64 ``[N]``: how many rows of each image are answered or blocked until its attacker is banned.

        Args:
            call: that is asked.
            detected: bool ``[m]``, its answered rows that are like an earlier one.
        """
        allowed = call.asked.copy()
        for i in np.unique(call.mine[detected]).tolist() if self.bans else ():
            ranks = call.rank[detected & (call.mine == i)]
            left = self.bans - int(self._detected[i])
            if len(ranks) >= left:
                allowed[i] = ranks[left - 1]
        return allowed

    def note(self, call: Call, detected: Flags) -> tuple[Integers, Integers]:
        """Counts a call that was paid.

        Returns:
            the images whose attackers are banned now, and those that got no answer in `PATIENCE` questions in a row.
        """
        self._detected += np.bincount(call.mine[detected], minlength=len(self._detected))
        last = np.zeros_like(self._in_vain)  # the rank of the last row that was not detected
        np.maximum.at(last, call.mine[~detected], call.rank[~detected])
        self._in_vain = np.where(last > 0, 0, self._in_vain) + call.asked - last
        banned = self._detected >= self.bans if self.bans else np.zeros_like(self._detected, dtype=np.bool_)
        stuck = (self._in_vain >= PATIENCE) & self.blocks & ~banned
        return banned.nonzero()[0], stuck.nonzero()[0]
