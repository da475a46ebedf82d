"""The table of a ladder: every rung beside the worst case over all of them, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sndcli.reports.summary import HALF, interval
from sndcli.reports.tables import rate_cell
from sndcli.statistics import seen

if TYPE_CHECKING:
    import pyarrow as pa

    from sndcli.attacks.ladder import Rung

SUCCESSES = ("success_seen", "success_noisy", "success_clean")


@dataclass(frozen=True)
class Climb:
    """A rung and the rows of its finished run."""

    rung: Rung
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, rung: Rung, table: pa.Table) -> Climb:
        """From the run's file."""
        return cls(rung, table.to_pylist())


def outcomes(rows: Sequence[dict[str, Any]], budget: int) -> dict[tuple[int, int], tuple[bool, bool, bool]]:
    """For each (seed, image id): seen, noisy and clean success within `budget`."""
    found = {}
    for row in rows:
        k, eps = row["budgets"].index(budget), row["eps"]
        inside = row["held_l2"][k] <= eps
        events = list(zip(row["event_query"], row["event_l2"], strict=True))
        noisy, clean = inside and row["p_adv"][k] >= HALF, inside and row["adv_clean"][k]
        found[row["seed"], row["image_id"]] = (seen(events, budget, eps), bool(noisy), bool(clean))
    return found


def ladder(climbs: Sequence[Climb]) -> dict[str, Any]:
    """The addition to the JSON object: the rungs, and at each budget what they paid and reached, and the worst case.

    ``worst`` counts an image where any rung succeeds: the attacker who owns every rung, chosen after the fact. Such
    an attacker pays for all of them, so it is a bound for the defense and not the result of one budget.
    """
    at = []
    for budget in climbs[0].rows[0]["budgets"]:
        found = [outcomes(climb.rows, budget) for climb in climbs]
        worst = {key: [any(values) for values in zip(*(f[key] for f in found), strict=True)] for key in found[0]}
        successes = [_intervals(list(f.values())) for f in found]
        winners = [
            sum(f[key][1] and sum(g[key][1] for g in found) == 1 for key in f) for f in found
        ]  # images that this rung alone breaks
        rungs = [
            {"rung": climb.rung.name, **s, "alone": alone, "paid": _paid(climb, budget)}
            for climb, s, alone in zip(climbs, successes, winners, strict=True)
        ]
        at.append({"budget": budget, "rungs": rungs, "worst": _intervals(list(worst.values()))})
    rungs_of = [
        {"rung": c.rung.name, "attack": c.rung.attack, "preset": c.rung.preset, "settings": list(c.rung.settings),
         "votes": c.rung.votes, "ours": c.rung.ours}
        for c in climbs
    ]  # fmt: skip
    return {"rungs": rungs_of, "at": at}


def table(found: dict[str, Any]) -> list[Table]:
    """One table a budget."""
    tables = []
    ours = {rung["rung"]: rung["ours"] for rung in found["rungs"]}
    for at in found["at"]:
        made = Table(
            title=f"ladder at Q={at['budget']:,} paid queries", title_justify="left", caption_justify="left",
            caption="success in % [95 % Wilson]; alone: images that only this rung breaks (noisy); worst: any rung, per"
            " image, after the fact; * ours, not a published attack",
        )  # fmt: skip
        for column in ("rung", "seen", "noisy", "clean", "alone", "paid, mean"):
            made.add_column(column, justify="left" if column == "rung" else "right")
        for rung in at["rungs"]:
            name = rung["rung"] + (" *" if ours[rung["rung"]] else "")
            made.add_row(name, *(rate_cell(rung[s]) for s in SUCCESSES), str(rung["alone"]), f"{rung['paid']:.0f}")
        made.add_section()
        made.add_row("worst", *(rate_cell(at["worst"][s]) for s in SUCCESSES), "", "")
        tables.append(made)
    return tables


def _intervals(values: Sequence[Sequence[bool]]) -> dict[str, Any]:
    return {name: interval([v[k] for v in values]) for k, name in enumerate(SUCCESSES)}


def _paid(climb: Climb, budget: int) -> float:
    paid = [min(int(row["queries"]), budget) for row in climb.rows]
    return sum(paid) / len(paid)
