"""What a run costs: rows through the defended and the bare network, for every ``--dry-run``.

Two figures stand beside each other: what a run takes *at most*, and what it *typically* takes. Paid queries are exact
bounds that most attacks reach, so the two agree there; a majority is certain, and where it flips on a ray is found,
sooner than the worst case allows, and images that qualify are found before the whole data set is looked through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sndcli.datasets.load import block_of
from sndcli.queries.sequential import expected
from sndcli.queries.stopping import FIRST, MORE, grid
from sndcli.runs.boundary import DRAWS, HALVINGS, STEPS
from sndcli.runs.fingerprint import IMAGES
from sndcli.runs.verification import CLEAN_DRAWS_PER_VERIFY
from sndcli.runs.victim import ANSWERS

if TYPE_CHECKING:
    from sndcli.runs.config import RunConfig

USUAL_STEPS = 2  # outward, before the majority errs
USUAL_SHARE = 0.2  # of answers that are in the minority, which says how soon a verdict is certain
SELF_TEST = 16  # passes that show whether a defense is on


@dataclass(frozen=True)
class Passes:
    """Rows that a network evaluates.

    Attributes:
        paid: queries; defended.
        verification: fresh draws at submitted points; defended.
        boundary: draws of the majorities along the rays of submitted points; defended.
        clean: fresh draws at clean images, and σ̂; defended.
        accuracy: images classified for an accuracy; defended.
        mismatch: paid questions that the bare model answers too; bare.
        answers: the bare model's answers at submitted points and clean images; bare.
        selection: images classified to choose those that are right; bare.
        reference: images classified for the accuracy without the defense; bare.
        fingerprint: images that tell which arithmetic a machine has; bare.
    """

    paid: int = 0
    verification: int = 0
    boundary: int = 0
    clean: int = 0
    accuracy: int = 0
    mismatch: int = 0
    answers: int = 0
    selection: int = 0
    reference: int = 0
    fingerprint: int = 0

    @property
    def defended(self) -> int:
        """Rows of the defended model."""
        return self.paid + self.verification + self.boundary + self.clean + self.accuracy

    @property
    def bare(self) -> int:
        """Rows of the undefended model."""
        return self.mismatch + self.answers + self.selection + self.reference + self.fingerprint

    @property
    def total(self) -> int:
        """All rows."""
        return self.defended + self.bare

    @property
    def unpaid(self) -> int:
        """All rows but paid queries."""
        return self.total - self.paid

    def __add__(self, other: Passes) -> Passes:
        return Passes(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def seconds(self, rates: Rates) -> float:
        """Time of the passes alone."""
        return self.defended / rates.defended + self.bare / rates.bare


@dataclass(frozen=True)
class Rates:
    """Rows a second through the defended and the bare model."""

    defended: float
    bare: float


@dataclass(frozen=True)
class Cost:
    """What something takes at most, and what it typically takes."""

    most: Passes = Passes()
    usual: Passes = Passes()

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.most + other.most, self.usual + other.usual)


def together(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    return sum(costs, Cost())


def of_run(
    config: RunConfig,
    available: int,
    *,
    save_points: bool = False,
    draws: bool = False,
) -> Cost:
    """The passes of a run from its beginning.

    Args:
        config: of the run, with its defense.
        available: images of the data set.
        save_points: whether the final points are kept, with the bare model's labels of them and of their pictures.
        draws: whether the model draws by itself; it is verified as a defense is, and a majority of its answers names
            an image.
    """
    random, images = config.defense.random or draws, config.images * config.repeats
    points = images * len(config.report_points)
    each = config.verify if random else 1
    paid = images * config.budget
    rays = points if config.boundary else 0
    verified = points * (2 + len(config.eps_also))  # as submitted, and moved out along its ray to each ε
    right = config.select == "correct"
    asked = images * len(grid(config.budget)) if config.stop == "verified" else 0  # at most so often, of points so far

    def passes(questions: int, looked_at: int, needed: Callable[[int], float], confirming: int) -> Passes:
        return Passes(
            paid=paid,
            verification=round(verified * needed(each)) + asked * (confirming if random else 1),
            boundary=round(rays * questions * needed(DRAWS if random else 1)),
            clean=images * (CLEAN_DRAWS_PER_VERIFY * each if random else 1) + SELF_TEST * config.defense.random,
            mismatch=paid // config.votes if config.mismatch else 0,
            answers=(0 if draws else verified + images)
            + (2 * images * (ANSWERS if draws else 1) if save_points else 0),
            selection=looked_at * (ANSWERS if draws else 1) if right else 0,
            fingerprint=0 if draws else IMAGES,
        )

    chosen = of_selection(config.images, available)
    return Cost(
        passes(1 + STEPS + HALVINGS, chosen.most.selection, float, FIRST + MORE),
        passes(1 + USUAL_STEPS + HALVINGS, chosen.usual.selection, lambda n: expected(n, USUAL_SHARE), FIRST),
    )


def of_selection(images: int, available: int) -> Cost:
    """Looking for images that the bare model classifies correctly, block after block."""
    block = block_of(images)
    usual = min(available, -(-(images + 1) // block) * block)  # one of ten does not qualify
    return Cost(Passes(selection=available), Passes(selection=usual))


def of_accuracy(rows: int, repeats: int, random: bool) -> Cost:
    """Clean accuracy of the defended model on `rows` images; without randomness once is enough."""
    passes = Passes(accuracy=rows * (repeats if random else 1))
    return Cost(passes, passes)


def of_margin(images: int, draws: int) -> Cost:
    """σ̂ of `images` images, and the bare model's answers beside it."""
    passes = Passes(clean=images * draws, answers=images)
    return Cost(passes, passes)


def of_reference(rows: int) -> Cost:
    """The bare model on `rows` images."""
    passes = Passes(reference=rows)
    return Cost(passes, passes)
