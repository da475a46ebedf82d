"""R&P: random resizing and padding (Xie, Wang, Zhang, Ren and Yuille, ICLR 2018), a new geometry for every row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sndcli.defenses.base import Defense
from sndcli.defenses.facts import Facts
from sndcli.errors import ConfigError, unknown
from sndcli.models.classifier import Classifier

SMALLEST, LARGEST = 310 / 299, 331 / 299
GREY = 0.5
BORDERS, SIZES = ("grey", "mean"), ("rounded", "whole")


def facts(border: str | None = None, sizes: str | None = None) -> Facts:
    """Of `ResizePad` with these parameters.

    Raises:
        ConfigError: an unknown border, or unknown sizes.
    """
    for name, value, known in (("border", border, BORDERS), ("sizes", sizes, SIZES)):
        if value is not None and value not in known:
            raise unknown(f"`{name}` of `rnp`", value, known)
    return Facts()


class ResizePad(Defense):
    """Each row is enlarged to its own random size r and laid at a random place on a grey canvas of side R.

    For inputs of side W: s ~ U[`smallest`, `largest`], r = round(s W), R = round(`largest` W), and the offsets of the
    top and of the left edge are independent and uniform on {0, ..., R - r}. One pass; s is that of
    arXiv 2101.04829, Appendix B.2. 224 becomes 248, 32 becomes 35, 299 becomes 331.

    Differs from the authors' code: the geometry is drawn for every row, not once for a batch; r may reach R; no flips,
    no auxiliary head, no mean over 30 passes. As there, the interpolation is nearest-neighbour, and the border is
    their zero in units of [-1, 1], which is 0.5 here.

    Others put their zero after the normalisation, and draw whole sizes alike: ``border="mean"``, which is the mean that
    the network takes off, and ``sizes="whole"``, r uniform on {round(`smallest` W), ..., R - 1}.

    Args:
        model: maps images ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]`` at side R too.
        smallest: lower end of s.
        largest: upper end of s.
        pad: value of the border.
        border: ``grey``, which is `pad`, or ``mean``, for a `Classifier` or what stands around one.
        sizes: ``rounded`` or ``whole``.
        generator: source of the geometry.

    Raises:
        ConfigError: not 1 <= smallest <= largest, an unknown border or sizes, or a model without a mean of its own.
    """

    random = True
    per_image = True

    def __init__(
        self,
        model: nn.Module,
        smallest: float = SMALLEST,
        largest: float = LARGEST,
        pad: float = GREY,
        *,
        border: str | None = None,
        sizes: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, generator)
        if not 1 <= smallest <= largest < float("inf"):
            raise ConfigError(f"Expected 1 <= `smallest` <= `largest` but got {smallest} and {largest}.")
        self.smallest, self.largest, self.pad = smallest, largest, pad
        self.facts, self.whole = facts(border, sizes), sizes == "whole"
        self.mean = _mean(model) if border == "mean" else None

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[M, K]`` of the rows of `x` ``[M, C, W, W]``, each resized and padded for itself."""
        logits: Tensor = self.model(self.perturb(x))
        return logits

    def perturb(self, x: Tensor) -> Tensor:
        """``[M, C, R, R]``: the canvases.

        Raises:
            ConfigError: images that are not square.
        """
        if x.shape[-2] != x.shape[-1]:
            raise ConfigError(f"Expected square images but got {x.shape[-2]} x {x.shape[-1]}.")
        r, top, left = (value.to(x.device)[:, None] for value in self.geometry(len(x), x.shape[-1]))
        canvas = torch.arange(self.side(x.shape[-1]), device=x.device)

        def source(offset: Tensor) -> tuple[Tensor, Tensor]:
            """The row (or column) of the image that is seen at each of the canvas, ``[M, R]``, and whether there is."""
            at = canvas - offset
            inside = (at >= 0) & (at < r)
            return torch.where(inside, at * x.shape[-1] // r, 0), inside

        (rows, high), (columns, wide) = source(top), source(left)
        m, c = torch.arange(len(x), device=x.device), torch.arange(x.shape[1], device=x.device)
        seen = x[m[:, None, None, None], c[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]
        border = self.pad if self.mean is None else self.mean.to(x)
        return torch.where((high[:, :, None] & wide[:, None, :])[:, None], seen, border)

    def geometry(self, rows: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """int64 ``[rows]`` each: size r, top and left offset.

        Three numbers a row are drawn together, so a row's geometry does not depend on how rows are batched.
        """
        u = self.sources[0].uniform(torch.empty(rows, 3, dtype=torch.float64, device=self.generator.device))
        if self.whole:
            least = round(self.smallest * side)
            r = least + (u[:, 0] * max(1, self.side(side) - least)).long()
        else:
            r = torch.round((self.smallest + (self.largest - self.smallest) * u[:, 0]) * side).long()
        offsets = (u[:, 1:] * (self.side(side) - r + 1)[:, None]).long()
        return r, offsets[:, 0], offsets[:, 1]

    def side(self, side: int) -> int:
        """R, the side of the canvas for images of this side."""
        return round(self.largest * side)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        border = self.pad if self.mean is None else "mean"
        return f"smallest={self.smallest:.4f}, largest={self.largest:.4f}, pad={border}, whole={self.whole}"


def _mean(model: nn.Module) -> Tensor:
    """``[1, C or 1, 1, 1]``: what the network inside takes off its images."""
    for module in model.modules():
        if isinstance(module, Classifier):
            return module.mean
    raise ConfigError("`rnp:border=mean` needs a model whose normalisation is known: leave out `border`.")
