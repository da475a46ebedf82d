"""The paper's tables (arXiv:2101.04829) as cases to run and figures to compare with; the numbers are published.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any, NotRequired, TypedDict

from sndcli.errors import unknown

LEVEL = 0.05
PERCENT = ("success_seen", "success_seen_net", "accuracy")
KEYS = ("attack", "preset", "dataset", "model", "norm", "eps", "defense", "sigma", "beta", "votes")  # to choose runs by
ALL_RUN = ("p_mis",)  # counted over a whole run, so they belong to its largest budget


class Interval(TypedDict):
    """A rate with its 95 % interval."""

    value: float | None
    lo: float | None
    hi: float | None


class Beside(TypedDict):
    """A figure of ours beside the paper's; rates are fractions, the bounds are None where there is no interval."""

    table: str
    attack: str | None
    defense: str
    measure: str
    budget: int | None
    published: float
    published_std: float | None
    value: float
    lo: float | None
    hi: float | None
    n: int
    verdict: str
    std: NotRequired[float]
    paid: NotRequired[int]
    success_noisy: NotRequired[Interval | None]
    success_clean: NotRequired[Interval | None]
    floor: NotRequired[float | None]
    file: NotRequired[str]  # that it was read from, where that is not the case's own
    model: NotRequired[str]  # where it is not the paper's


@dataclass(frozen=True)
class Cell:
    """One published figure.

    Attributes:
        measure: its name in our summaries.
        budget: paid queries an image; None where it has none (accuracy, clean images).
        value: a fraction, or a distance.
        std: over repeats, where the paper has it.
    """

    measure: str
    budget: int | None
    value: float
    std: float | None = None


@dataclass(frozen=True)
class Case:
    """One run behind a table.

    Attributes:
        table: where the figures stand.
        attack: its name, or None for figures on clean images.
        preset: of the attack; None is ours.
        dataset, model, norm, eps, images: as the paper states them.
        defense, sigma, beta, votes: of the paper; ``pgd-at`` stands for the adversarially trained network.
        mismatch: whether P_mis is counted. The same for every table, so that tables share runs.
        cells: the figures.
        settings: hyper-parameters that the paper changed, as of ``--set``.
    """

    table: str
    attack: str | None
    preset: str | None
    dataset: str
    model: str
    norm: str
    eps: float
    images: int
    defense: str
    sigma: float | None
    beta: float | None
    votes: int
    mismatch: bool
    cells: tuple[Cell, ...]
    settings: tuple[str, ...] = ()

    def within(self, budget: int | None, paid: Callable[[int], int] = int) -> tuple[Cell, ...]:
        """The figures that runs of at most `budget` paid queries can be compared with; `paid` is of the paper's Q."""
        if budget is None:
            return self.cells
        top = paid(max((c.budget for c in self.cells if c.budget), default=0))
        known = [c for c in self.cells if c.budget is None or paid(c.budget) <= budget]
        return tuple(c for c in known if not (c.measure in ALL_RUN and top > budget))

    def without_p_mis(self) -> Case:
        """The same run without the second forward pass, and so without that figure."""
        return replace(self, mismatch=False, cells=tuple(c for c in self.cells if c.measure != "p_mis"))

    @property
    def label(self) -> str:
        """The defense in words."""
        text = self.defense + (f" {self.sigma:g}" if self.sigma else "")
        text += f" β={self.beta:g}" if self.beta is not None else ""
        return text + (f", T={self.votes}" if self.votes > 1 else "")


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The data file."""
    text = files("sndcli.paper").joinpath("published.json").read_text(encoding="utf-8")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def table_names(chosen: str) -> list[str]:
    """``all``, or one of ``table1`` to ``table8``.

    Raises:
        ConfigError: neither.
    """
    known = list(document()["tables"])
    if chosen == "all":
        return known
    if chosen not in known:
        raise unknown("table", chosen, [*known, "all"])
    return [chosen]


def assumptions(table: str) -> list[str]:
    """What the runs of a table need and the paper does not state."""
    return [group["assumption"] for group in document()["tables"][table]["settings"] if "assumption" in group]


def protocol(table: str) -> list[str]:
    """What the runs of a table take over from the paper where ours differ by default."""
    return [line["line"] for line in document()["protocol"] if table in line["tables"]]


def cases(table: str) -> list[Case]:
    """The runs behind a table, with their figures."""
    found = []
    for group in document()["tables"][table]["settings"]:
        for row in group["rows"]:
            rates = {m: row[m] for m in ("success_seen", "success_seen_net", "distance_last", "p_mis") if m in row}
            budgets = row.get("budgets", group.get("budgets", []))
            for attack in dict.fromkeys(name for by_attack in rates.values() for name in by_attack):
                cells = [c for m, by_attack in rates.items() for c in _along(m, budgets, by_attack[attack])]
                found.append(_case(table, group, row, attack, cells))
            alone = [_cell(m, None, row[m]) for m in ("accuracy", "noise_l2", "p_mis_clean") if m in row]
            if alone:
                found.append(_case(table, group, row, None, alone))
    return found


def _along(measure: str, budgets: list[int], values: Any) -> list[Cell]:
    if not isinstance(values, list):
        return [_cell(measure, budgets[-1], values)]
    return [_cell(measure, budget, value) for budget, value in zip(budgets, values, strict=True)]


def _cell(measure: str, budget: int | None, printed: Any) -> Cell:
    value, std = printed if isinstance(printed, list) else (printed, None)
    scale = 100 if measure in PERCENT else 1
    return Cell(measure, budget, value / scale, None if std is None else std / scale)


def _case(table: str, group: dict[str, Any], row: dict[str, Any], attack: str | None, cells: list[Cell]) -> Case:
    counted = document()["p_mis_runs"]
    mismatch = (
        group["dataset"] == counted["dataset"] and row["defense"] == counted["defense"]
        and row["sigma"] in counted["sigma"] and row.get("beta") is None and attack in counted["attacks"]
    )  # fmt: skip
    return Case(
        table, attack, document()["presets"].get(attack), group["dataset"], group["model"], group["norm"],
        group["eps"], 10_000 if attack is None and group["dataset"] == "cifar10" else group["images"],
        row["defense"], row["sigma"], row.get("beta"), row.get("votes", 1), mismatch, tuple(cells),
        tuple(document()["options"].get(attack, ())),
    )  # fmt: skip


def verdict(cell: Cell, case: Case, ours: float, n: int) -> str:
    """Whether our figure agrees with the paper's, and by how much it differs where it does not.

    Rates are compared as two independent samples (Fisher's exact test, 5 %): ours of n images, theirs of as many as
    they state. The other figures were published without an interval; there only the difference is told.
    """
    difference = ours - cell.value
    if cell.measure not in PERCENT:
        return f"Δ {difference:+.3f}"
    from scipy.stats import fisher_exact

    k, m = round(ours * n), case.images
    theirs = round(cell.value * m)
    p = float(fisher_exact([[k, n - k], [theirs, m - theirs]]).pvalue)
    return "agrees" if p >= LEVEL else f"differs by {100 * difference:+.1f} points (p = {p:.1g})"
