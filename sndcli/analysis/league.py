"""The table of a league: groups or ranks with exact paired tests, the front of accuracy and robustness, what is bought.

All rows are of the same images. With fewer than `RANKED` of them, rows are compared with the references of the suite
only (the bare model and SND 0.01, say), and stand in groups; from there on every pair is compared, and rows have ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType

from sndcli.analysis.audit import Figure, Figures, ratios_of
from sndcli.analysis.statistics import holm, mcnemar, paired_difference
from sndcli.runs.battery import Access
from sndcli.runs.suite import Row

RANKED = 500  # images
ALPHA = 0.05
AGREEMENT_AT = 0.02  # standard deviation of probes
MORE, SAME, LESS = "more", "same", "less"  # than a reference


@dataclass(frozen=True)
class Standing:
    """Where a row stands under one access.

    Attributes:
        against: by reference, `MORE`, `SAME` or `LESS` images stand, after Holm's correction.
        group: 1 is best: more than the last reference; 2: more than the first; 3: as that; 4: less.
        ranks: from and to, where there are images enough.
    """

    against: Mapping[str, str]
    group: int
    ranks: tuple[int, int] | None

    @property
    def text(self) -> str:
        """``2``, ``1-3``, or the group: ``B``."""
        if self.ranks is None:
            return "ABCD"[self.group - 1]
        lo, hi = self.ranks
        return f"{lo}" if lo == hi else f"{lo}-{hi}"


@dataclass(frozen=True)
class Price:
    """What `snd evidence --price` found of a defense (docs/theory.md).

    Attributes:
        margin_noise: σ_m, how far the defense moves the margin, in L2 of pixels.
        agreement: ρ, how far the gradients of two draws agree, at `AGREEMENT_AT`; None where it was not measured.
        measured, predicted: times the queries a direction costs, at the best width of probes.
    """

    margin_noise: float
    agreement: float | None
    measured: float
    predicted: float


@dataclass(frozen=True)
class Placed:
    """A row of the table.

    Attributes:
        row: of the suite.
        figures: of its audit; for a defense on another network drop and ratios are beside the league's bare one.
        standings: by access.
        front: whether no row is as right and significantly more robust, or the reverse.
        price: of the defense, on the league's own network; None where nobody measured it.
    """

    row: Row
    figures: Figures
    standings: Mapping[Access, Standing]
    front: bool
    price: Price | None = None


@dataclass(frozen=True)
class Table:
    """All rows, the best first, and what they are compared with."""

    placed: tuple[Placed, ...]
    against: tuple[str, ...]
    missing: tuple[str, ...]


def table(
    rows: Sequence[tuple[Row, Figures]],
    against: Sequence[str],
    missing: Sequence[str] = (),
    prices: Mapping[str, Price] = MappingProxyType({}),
) -> Table:
    """Makes the table.

    Args:
        rows: those whose audit is finished.
        against: names of the references.
        missing: names of rows whose audit is not.
        prices: by what the defense is called in words.
    """
    base = next((figures for row, figures in rows if row.name == against[0]), None) if against else None
    told = [(row, _beside(row, figures, base)) for row, figures in rows]
    accesses = [claim.access for claim in told[0][1].claims] if told else []
    standings = {access: _standings(told, access, against) for access in accesses}
    front = _front(told)
    placed = [
        Placed(row, figures, {access: standings[access][k] for access in accesses}, front[k], _price(row, prices))
        for k, (row, figures) in enumerate(told)
    ]

    def order(one: Placed) -> tuple[int, int, float, float]:
        standing = one.standings[one.figures.claim.access]
        low = standing.ranks[0] if standing.ranks else 0
        return (
            standing.group if not standing.ranks else 0,
            low,
            -one.figures.claim.robust.value,
            -one.figures.accuracy.value,
        )

    return Table(tuple(sorted(placed, key=order)), tuple(against), tuple(missing))


def _beside(row: Row, figures: Figures, base: Figures | None) -> Figures:
    """Figures whose drop and ratios are beside the league's bare network, where the row's own is another."""
    if not row.own_model or base is None:
        return figures
    both = [image for image in base.correct if image in figures.correct]
    drop = paired_difference([base.correct[image] - figures.correct[image] for image in both])
    ratios = ratios_of(base.times, figures.times, figures.budget)
    name = row.name if figures.defense == "none" else figures.defense
    return replace(figures, drop=Figure(*drop), accuracy_bare=base.accuracy, ratios=ratios, defense=name)


def _price(row: Row, prices: Mapping[str, Price]) -> Price | None:
    return None if row.own_model else prices.get(row.spec.words)


def _broken(figures: Figures, access: Access) -> Mapping[int, bool]:
    return next(claim.broken for claim in figures.claims if claim.access == access)


def _compared(one: Figures, other: Figures, access: Access) -> tuple[int, int]:
    """Images that stand in the first and not in the second, and the reverse."""
    a, b = _broken(one, access), _broken(other, access)
    both = [image for image in a if image in b]
    return sum(b[i] and not a[i] for i in both), sum(a[i] and not b[i] for i in both)


def _standings(rows: Sequence[tuple[Row, Figures]], access: Access, against: Sequence[str]) -> list[Standing]:
    names = [row.name for row, _ in rows]
    pairs = [(k, names.index(name)) for k in range(len(rows)) for name in against if name in names and names[k] != name]
    pairs = [
        (a, b)
        for a, b in dict.fromkeys(pairs)
        if names[a] not in against or against.index(names[a]) > against.index(names[b])
    ]
    tests = [_compared(rows[a][1], rows[b][1], access) for a, b in pairs]
    words: list[dict[str, str]] = [{} for _ in rows]
    for (a, b), (more, less), p in zip(pairs, tests, holm([mcnemar(*test) for test in tests]), strict=True):
        words[a][names[b]] = SAME if p >= ALPHA else MORE if more > less else LESS
    enough = bool(rows) and rows[0][1].n >= RANKED
    ranks = _ranks(rows, access) if enough else [None] * len(rows)
    return [Standing(told, _group(told, against), rank) for told, rank in zip(words, ranks, strict=True)]


def _group(told: Mapping[str, str], against: Sequence[str]) -> int:
    known = [told[name] for name in against if name in told]
    if known and len(against) > 1 and told.get(against[-1]) == MORE:
        return 1
    first = told.get(against[0]) if against else None
    return {MORE: 2, LESS: 4}.get(first or SAME, 3)


def _ranks(rows: Sequence[tuple[Row, Figures]], access: Access) -> list[tuple[int, int]]:
    """1 + rows that are significantly better … all but those that are significantly worse; Holm over all pairs."""
    pairs = [*combinations(range(len(rows)), 2)]
    tests = [_compared(rows[a][1], rows[b][1], access) for a, b in pairs]
    better, worse = [0] * len(rows), [0] * len(rows)
    for (a, b), (more, less), p in zip(pairs, tests, holm([mcnemar(*test) for test in tests]), strict=True):
        if p < ALPHA:
            up, down = (a, b) if more > less else (b, a)
            better[down] += 1
            worse[up] += 1
    return [(1 + better[k], len(rows) - worse[k]) for k in range(len(rows))]


def _front(rows: Sequence[tuple[Row, Figures]]) -> list[bool]:
    """Whether no other row beats one in one thing, significantly, and is not worse in the other."""
    pairs = [(a, b) for a in range(len(rows)) for b in range(len(rows)) if a != b]
    tests = {(a, b): _compared(rows[a][1], rows[b][1], rows[a][1].claim.access) for a, b in pairs if a < b}
    adjusted = dict(zip(tests, holm([mcnemar(*test) for test in tests.values()]), strict=True))

    def more_robust(a: int, b: int) -> int:
        """1: a stands significantly more; -1: b does; 0: neither."""
        key = (min(a, b), max(a, b))
        if adjusted[key] >= ALPHA:
            return 0
        more, less = tests[key]
        return (1 if more > less else -1) * (1 if a < b else -1)

    def more_right(a: int, b: int) -> int:
        one, other = rows[a][1].correct, rows[b][1].correct
        both = [image for image in one if image in other]
        _, lo, hi = paired_difference([one[image] - other[image] for image in both], resamples=500)
        return 1 if lo > 0 else -1 if hi < 0 else 0

    dominated = [False] * len(rows)
    for a, b in pairs:
        robust = more_robust(a, b)
        if robust < 0 or dominated[b]:
            continue
        right = more_right(a, b)
        dominated[b] |= right >= 0 and robust >= 0 and (right > 0 or robust > 0)
    return [not each for each in dominated]
