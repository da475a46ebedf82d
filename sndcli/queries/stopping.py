"""What ends an image's attack: ``--stop seen``, ``confirmed`` or ``verified``.

* ``seen``: the attack's own rule, as its authors have it. A score attack ends with the first wrong answer inside ε.
* ``confirmed``: where answers are random, a score attack goes on until most of `VOTES` further, paid answers about the
  point are wrong too, or the wrong ones lead (`attacks.common.scores.stop_at_success`).
* ``verified``: besides, unpaid draws decide. At the points of `grid` the point that is submitted by then, moved out to
  ε, is asked about `FIRST` times; where at least `PROMISING` are wrong, `MORE` times more. With at least `ENOUGH`
  wrong answers of all an attack ends as ``confirmed``. A point of p = 0.5 passes 3 times in a hundred, one of 0.7 99
  times. An image whose clean picture is wrong in half of the draws is not attacked (``clean_wrong``).
  These draws have a purpose of their own: no attack sees them, and they count no success.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sndcli.ball import distances, moved_out, within
from sndcli.queries.call import Integers
from sndcli.queries.criterion import Criterion
from sndcli.queries.draws import UNANSWERED, Logits, fresh_labels
from sndcli.queries.ledger import Ledger
from sndcli.streams import Streams

Stop = Literal["seen", "confirmed", "verified"]
STOPS: tuple[Stop, ...] = ("seen", "confirmed", "verified")
VOTES = 25  # paid, at most, of ``confirmed``
FIRST_POINT = 50  # queries
FIRST, PROMISING, MORE, ENOUGH = 20, 8, 80, 60
AT_ONCE = 2**10  # rows a pass, about
CONFIRMED, CLEAN_WRONG = "confirmed", "clean_wrong"  # reasons for which such an attack ends


def grid(budget: int) -> list[int]:
    """Queries at which ``verified`` looks: 50·2^(j/2) below `budget`, and `budget`.

    Example:
        >>> grid(250)
        [50, 71, 100, 141, 200, 250]
    """
    steps = (round(FIRST_POINT * 2 ** (j / 2)) for j in range(2 * max(1, budget.bit_length())))
    return [*(step for step in steps if step < budget), budget]


class Verified:
    """Confirms what N images have submitted.

    Args:
        logits: of the defended model.
        x0: clean images ``[N, C, H, W]``.
        criterion: which answers are adversarial.
        eps, norm: the bound.
        quantize: whether points are sent in 8 bits.
        budget: queries, at most.
        streams: of the draws; None: as the defense draws by itself.
        random: whether two answers to one question can differ; else one draw decides.

    Attributes:
        confirmed: bool ``[N]``.
    """

    def __init__(
        self,
        logits: Logits,
        x0: Tensor,
        criterion: Criterion,
        *,
        eps: float,
        norm: str,
        quantize: bool,
        budget: int,
        streams: Streams | None,
        random: bool = True,
    ) -> None:
        self._logits, self._x0, self._criterion, self._streams, self._random = logits, x0, criterion, streams, random
        self._eps, self._norm, self._quantize = eps, norm, quantize
        self._grid = np.array(grid(budget), dtype=np.int64)
        self._next = np.zeros(len(x0), dtype=np.int64)  # the point of the grid that an image comes to
        self._seen = x0.clone()  # what was asked about last
        self._any = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
        self.confirmed = torch.zeros_like(self._any)

    def __call__(self, ledger: Ledger, used_after: Integers) -> Integers:
        """The images that are confirmed now: asked about where they come to a point of the grid with another point.

        Args:
            ledger: with what is submitted by now.
            used_after: int64 ``[N]``; points of the grid below it are passed. A query completed exactly there counts.
        """
        come = np.maximum(self._next, np.searchsorted(self._grid, used_after))
        due = torch.from_numpy(come > self._next).to(self._x0.device)
        self._next = come
        new = due & ledger.has_submitted_now & ~self.confirmed
        new &= ~self._any | (ledger.submitted_now != self._seen).flatten(1).any(1)
        who = new.nonzero().squeeze(1)
        if not len(who):
            return np.empty(0, dtype=np.int64)
        points = ledger.submitted_now[who]
        self._seen[who], self._any[who] = points, True
        inside = within(distances(points, self._x0, who, self._norm), self._eps)
        who, points = who[inside], points[inside]
        if not len(who):
            return np.empty(0, dtype=np.int64)
        points = moved_out(self._x0[who], points, self._eps, self._norm, self._quantize)
        who = who[self._hold(points, who)]
        self.confirmed[who] = True
        found: Integers = who.cpu().numpy()
        return found

    def decided(self, image: Tensor) -> None:
        """These images are confirmed by what was known before."""
        self.confirmed[image] = True

    def _hold(self, points: Tensor, who: Tensor) -> Tensor:
        """bool ``[n]``: whether draws confirm these points of the images `who` ``[n]``."""
        if not self._random:
            return self._wrong(points, who, 1) == 1
        wrong = self._wrong(points, who, FIRST)
        promising = (wrong >= PROMISING).nonzero().squeeze(1)
        wrong[promising] += self._wrong(points[promising], who[promising], MORE)
        return wrong >= ENOUGH

    def _wrong(self, points: Tensor, who: Tensor, draws: int) -> Tensor:
        """int64 ``[n]``: how many of so many fresh answers are adversarial."""
        labels = fresh_labels(self._logits, points, who, draws, self._streams, max(1, AT_ONCE // draws))
        return (self._criterion.met(labels, who) & (labels != UNANSWERED)).sum(1)
