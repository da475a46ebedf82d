"""The end of an audit: one test an image, with draws that nothing else has seen, of the point that won.

The point with which an image is claimed is chosen before: one that was confirmed, else the one that erred most often in
its run's own draws. Then it is asked about `battery.FINAL` times, once. So no maximum over attacks is counted as a
success: with six attacks that each err in 45 % of answers, "any of them at least half" would count 70 % of the images,
one test counts 9 %. What fails here is not attacked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import pyarrow as pa
import torch
from torch import Tensor

from sndcli.ball import length, moved_out
from sndcli.models.inference import reproducible_kernels
from sndcli.queries.criterion import Misclassified
from sndcli.queries.draws import fresh_labels, share_met
from sndcli.runs.battery import FINAL, Access
from sndcli.runs.boundary import DRAWS, boundary_points, majority_wrong
from sndcli.runs.config import RunConfig
from sndcli.runs.outcomes import Outcome
from sndcli.runs.points import Points
from sndcli.runs.success import HALF
from sndcli.runs.victim import Victim

AT_ONCE = 4  # points in a pass, each with all of its draws
NOBODY = -1
SCHEMA = pa.schema([
    ("arm", pa.string()),  # defended, or bare: the champions on the bare model
    ("access", pa.string()),  # of the claim
    ("image_id", pa.int64()), ("label", pa.int32()),
    ("step", pa.int32()),  # whose point it is, by its place in the battery; -1: no step has one inside ε
    ("confirmed", pa.bool_()),
    ("p0", pa.float64()),  # share of draws that err on the clean image
    ("p_chosen", pa.float64()),  # share of draws by which the point was chosen; null without a point
    ("p_final", pa.float64()),  # of the final draws; null without a point
    ("draws", pa.int32()),
    ("broken", pa.bool_()),
    ("distance", pa.float64()), ("distance_boundary", pa.float64()),  # of the point; null without, infinite: no flip
])  # fmt: skip


class Judged(TypedDict):
    """A row of it."""

    arm: str
    access: str
    image_id: int
    label: int
    step: int
    confirmed: bool
    p0: float
    p_chosen: float | None
    p_final: float | None
    draws: int
    broken: bool
    distance: float | None
    distance_boundary: float | None


@dataclass(frozen=True)
class Attacked:
    """A finished run of a step on one arm.

    Attributes:
        step: place in the battery.
        outcomes: by image.
        points: that it submitted at the end, in the order of its rows.
    """

    step: int
    outcomes: Mapping[int, Outcome]
    points: Callable[[], Points]


def winner(image: int, runs: Sequence[Attacked]) -> tuple[Attacked, Outcome] | None:
    """The run whose point an image is claimed with: a confirmed one, else that of the most errors; None without any."""
    mine = [(run, run.outcomes[image]) for run in runs if image in run.outcomes]
    candidates = [(run, outcome) for run, outcome in mine if outcome.candidate]
    return max(candidates, key=lambda pair: (pair[1].confirmed, pair[1].p_adv), default=None)


def judge(
    arm: str,
    access: Access,
    runs: Sequence[Attacked],
    ids: Sequence[int],
    x0: Tensor,
    y: Tensor,
    victim: Victim,
    config: RunConfig,
) -> pa.Table:
    """The rows of one claim.

    Args:
        arm: ``defended`` or ``bare``.
        access: of the claim.
        runs: of the steps that serve it, in order.
        ids: of the images, those that no run has included.
        x0: their clean images ``[N, C, H, W]``.
        y: int64 ``[N]``, their labels.
        victim: of the arm.
        config: of a run of the arm.
    """
    known = {image: next(run.outcomes[image] for run in runs if image in run.outcomes) for image in ids}
    won = {image: None if known[image].clean_wrong else winner(image, runs) for image in ids}
    random = config.defense.random or victim.random
    pairs = [(k, pair) for k, image in enumerate(ids) if (pair := won[image]) is not None]
    who = torch.tensor([k for k, _ in pairs], dtype=torch.int64)
    submitted = _points([pair for _, pair in pairs])
    asked = _asked(submitted, who, torch.tensor(ids), x0, y, victim, config, random)
    tests = dict(zip(who.tolist(), asked, strict=True))
    rows = []
    for k, image in enumerate(ids):
        chosen, test = won[image], tests.get(k)
        rows.append({
            "arm": arm, "access": access, "image_id": image, "label": int(y[k]),
            "step": chosen[0].step if chosen else NOBODY, "confirmed": bool(chosen and chosen[1].confirmed),
            "p0": known[image].p0, "p_chosen": chosen[1].p_adv if chosen else None,
            "p_final": test.p if test else None, "draws": FINAL if random else 1,
            "broken": known[image].clean_wrong or (test is not None and test.p >= HALF),
            "distance": test.distance if test else None, "distance_boundary": test.boundary if test else None,
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _points(won: Sequence[tuple[Attacked, Outcome]]) -> list[Tensor]:
    """The winning points, as they were submitted."""
    read = {run.step: run.points() for run in {run.step: run for run, _ in won}.values()}
    return [read[run.step].submitted[outcome.row] for run, outcome in won]


@dataclass(frozen=True)
class _Test:
    """Of one point the share of final draws that err, its distance, and where the majority flips on its ray."""

    p: float
    distance: float
    boundary: float


def _asked(
    submitted: Sequence[Tensor],
    who: Tensor,
    ids: Tensor,
    x0: Tensor,
    y: Tensor,
    victim: Victim,
    config: RunConfig,
    random: bool,
) -> list[_Test]:
    """The tests of points ``[C, H, W]`` of the images `who`, positions among `ids`, `x0` and `y`."""
    if not submitted:
        return []
    c, device = config, victim.defended.device
    x0, y, who = x0.to(device), y.to(device), who.to(device)
    criterion, points = Misclassified(y), torch.stack([*submitted]).to(device)
    with reproducible_kernels(), torch.random.fork_rng(devices=[]):
        moved = moved_out(x0[who], points, c.eps, c.norm, c.quantize)
        streams = victim.streams(c.seed, ids, 0, "final")  # anew for each claim: the same draws, where points agree
        labels = fresh_labels(victim.defended, moved, who, FINAL if random else 1, streams, AT_ONCE)
        p_final = share_met(criterion.met(labels, who), labels)
        draws, rays = DRAWS if random else 1, victim.streams(c.seed, ids, 0, "boundary")
        wrong = majority_wrong(victim.defended, criterion, who, draws, rays)
        at, flips = boundary_points(wrong, x0[who], points)
    where = torch.where(flips, length(at - x0[who], c.norm), torch.inf)
    found = zip(p_final.tolist(), length(points - x0[who], c.norm).tolist(), where.tolist(), strict=True)
    return [_Test(*one) for one in found]
