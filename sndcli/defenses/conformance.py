"""Whether a defense keeps its contracts: a draw for each row, from its own generator, and nothing else touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.defenses.base import Defense, settle_sources
from sndcli.errors import first_line
from sndcli.streams import ImageStreams, drawing

ROW, ANEW = "each row of a batch has a draw of its own", "each pass draws anew"


@dataclass(frozen=True)
class Check:
    """What was checked.

    Attributes:
        name: what must hold.
        good: whether it does.
        advice: what to change where it does not.
    """

    name: str
    good: bool
    advice: str


def checks_of(defended: Defense, x: Tensor) -> Iterator[Check]:
    """Of a defense around a model that draws nothing; its generator is restarted.

    Args:
        defended: in eval mode.
        x: ``[M, C, H, W]``, M >= 6 copies of one image, where the model computes.
    """
    before, state = x.clone(), torch.get_rng_state()
    try:
        with torch.no_grad():
            first, one = defended(x), defended(x[:1])
            defended.reseed(3)
            second = defended(x)
            defended.reseed(3)
            torch.manual_seed(12345)
            third = defended(x)
            torch.set_rng_state(state)
            fourth = defended(x)
    except Exception as error:  # whatever the defense does
        yield Check("answers any number of rows", False, f"it raised {type(error).__name__}: {first_line(error)}")
        return
    finally:
        torch.set_rng_state(state)
    shapes = first.ndim == one.ndim == 2 and (len(first), len(one)) == (len(x), 1) and first.shape[1] == one.shape[1]
    shapes = shapes and first.is_floating_point()
    yield Check(
        "answers any number of rows", shapes, "return one row of logits for each row of the batch, as the model does"
    )
    yield Check(
        "leaves its input as it is", torch.equal(x, before), "write to a new tensor: `x + noise`, not `x += noise`"
    )
    yield Check(
        "draws from its own generator alone", torch.equal(second, third),
        "pass `generator=self.generator` to every draw, or draw through `self.normal(like)`; no global `torch.rand`",
    )  # fmt: skip
    yield Check(
        "`reseed` restarts its randomness", torch.equal(second, third), "keep no state between passes but the generator"
    )
    if len(first.unique(dim=0)) == 1 and torch.equal(second, fourth) and torch.equal(first, second):
        yield Check("is deterministic, which is fine", True, "")
        return
    yield Check(
        ROW, len(first.unique(dim=0)) > 1,
        "draw in the shape of the batch, `torch.rand(len(x), 1, 1, 1, ...)`: a draw a batch lets an attacker cancel it",
    )  # fmt: skip
    yield Check(ANEW, not torch.equal(third, fourth), "draw in `forward`, and in eval mode too")
    if settle_sources(defended):
        yield Check(
            "an image's draws do not depend on its batch", _per_image(defended, x),
            "with `per_image = True` draw through `self.normal(like)` and other `sources` only, a row for each row",
        )  # fmt: skip


def _per_image(defended: Defense, x: Tensor) -> bool:
    """Whether image 2's answers are the same alone and among others."""
    x, image = x[:6], torch.tensor([0, 1, 2, 2, 3, 4])
    with torch.no_grad():
        with drawing(ImageStreams(5, range(6), "defense"), image):
            together = defended(x)
        with drawing(ImageStreams(5, range(6), "defense"), image[2:4]):
            alone = defended(x[2:4])
    return torch.allclose(together[2:4], alone, atol=1e-5)
