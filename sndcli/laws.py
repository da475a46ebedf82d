"""Laws of random draws on the CPU, and a record of what was drawn for whom, so that as much can be passed over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Law:
    """What one row is drawn from.

    Attributes:
        name: ``normal``: standard; ``uniform``: on [0, 1); ``gamma``: with scale 1.
        size: of a row.
        dtype: of its numbers.
        shape: parameter of the Gamma distribution.
    """

    name: Literal["normal", "uniform", "gamma"]
    size: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    shape: float = 1.0

    def empty(self, rows: int) -> Tensor:
        """``[rows, *size]``, not yet drawn."""
        return torch.empty(rows, *self.size, dtype=self.dtype)

    def fill(self, out: Tensor, generator: torch.Generator) -> None:
        """Draws the rows of `out` ``[any, *size]``, one after the other."""
        if self.name == "normal":
            out.normal_(generator=generator)
        elif self.name == "uniform":
            out.uniform_(generator=generator)
        else:
            out.copy_(torch._standard_gamma(torch.full_like(out, self.shape), generator=generator))


@dataclass
class Taken:
    """Rows that were drawn for each image at each site: how many, and of which laws."""

    rows: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    laws: dict[tuple[int, int], set[Law]] = field(default_factory=lambda: defaultdict(set))

    def note(self, image: int, site: int, rows: int, law: Law) -> None:
        """So many rows were drawn."""
        self.rows[image][site] += rows
        self.laws[image, site].add(law)

    def pass_over(self, image: int, made: int, more: int, generator: Callable[[int, int], torch.Generator]) -> None:
        """Draws at each site what `more` answers would, after `made` ones; only where each of these took as much."""
        for site, rows in self.rows.pop(image, {}).items():
            laws = self.laws[image, site]
            if rows % made == 0 and len(laws) == 1:
                (law,) = laws
                law.fill(law.empty(rows // made * more), generator(image, site))
