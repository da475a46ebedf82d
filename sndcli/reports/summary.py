"""From per-image rows to one summary a budget: the JSON contract of `attack` and `report`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from sndcli import results, statistics
from sndcli.errors import DataError
from sndcli.reports.distances import distances

IDENTITY = ("attack", "engine", "dataset", "model", "defense", "sigma", "beta", "votes", "norm", "eps")
ALSO = ("preset", "settings", "quantize", "select", "precision", "compiled", "dataset_digest", "model_digest")
HALF = 0.5  # success_noisy: at least this share of fresh draws errs


def summarise(tables: Iterable[pa.Table]) -> list[dict[str, Any]]:
    """One row for each setting and report point, in the order of the contract.

    Rows of one setting and several seeds or files are pooled; `seed` is then the list of seeds. Where runs of
    several budgets hold the same image and seed, the longest run speaks.
    """
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for table in tables:
        run = results.run_of(table)
        config = run["config"]
        other = {key: config.get(key) for key in ALSO} | {"clip": config["defense"].get("clip")}
        for row in table.to_pylist():
            setting = {key: row[key] for key in IDENTITY}
            key = json.dumps([setting, other], sort_keys=True)
            settings[key] = setting | {"preset": other["preset"], "settings": other["settings"]} | _measured(run)
            groups.setdefault(key, []).append((config["budget"], row))
    summaries = []
    for key in sorted(groups):
        longest = {(row["seed"], row["image_id"]): row for _, row in sorted(groups[key], key=lambda pair: pair[0])}
        rows = list(longest.values())
        seeds = sorted({row["seed"] for row in rows})
        setting = settings[key] | {"seed": seeds[0] if len(seeds) == 1 else seeds}
        for budget in sorted({b for row in rows for b in row["budgets"]}):
            at = [row for row in rows if budget in row["budgets"]]
            summaries.append(setting | {"n": len(at)} | _at(at, budget, float(setting["eps"])))
    return summaries


def _at(rows: Sequence[dict[str, Any]], budget: int, eps: float) -> dict[str, Any]:
    seen, noisy, clean = ([rule(row, budget, eps) for row in rows] for rule in (_seen, _noisy, _clean))
    net = [s for s, row in zip(seen, rows, strict=True) if not row["initially_wrong"]]
    spent = [min(row["queries"], budget) for row in rows]
    # mismatches are counted over a whole run, so they belong to its last report point
    counted = [row for row in rows if row["mismatches"] is not None and row["budgets"][-1] == budget]
    queries = sum(row["queries"] for row in counted)
    return {
        "budget": budget,
        "success_seen": interval(seen),
        "success_seen_net": interval(net),
        "success_noisy": interval(noisy),
        "success_clean": interval(clean),
        "floor": statistics.floor([row["p0"] for row in rows], budget, rows[0]["votes"]),
        "l2_last": _mean([row["last_l2"][row["budgets"].index(budget)] for row in rows]),
        "l2_best": finite(statistics.median([statistics.best_distance(_events(row), budget) for row in rows])),
        **distances(rows, budget),
        "p_mis": sum(row["mismatches"] for row in counted) / queries if queries else None,
        "p_mis_clean": _mean([row["p_mis_clean"] for row in rows]),
        "queries_mean": _mean(spent),
        "queries_max": max(spent, default=0),
        "initially_wrong": sum(row["initially_wrong"] for row in rows),
        "failed": sum(row["status"] == "failed" for row in rows),
    }


def outcomes(table: pa.Table, budget: int) -> dict[str, dict[tuple[int, int], bool]]:
    """Success of each (seed, image id) at a report point, seen and noisy, for paired comparisons."""
    rows = table.to_pylist()
    keys = [(row["seed"], row["image_id"]) for row in rows]
    return {
        name: dict(zip(keys, [rule(row, budget, row["eps"]) for row in rows], strict=True))
        for name, rule in (("success_seen", _seen), ("success_noisy", _noisy))
    }


def _measured(run: dict[str, Any]) -> dict[str, Any]:
    """What `flags` compares with the noise; None where an older file does not say."""
    scales = run.get("scales") or {}
    return {
        "probe": scales.get("probe"),
        "search": scales.get("search"),
        "passes_differ": run.get("passes_differ"),
    }


def _events(row: dict[str, Any]) -> list[tuple[int, float]]:
    return list(zip(row["event_query"], row["event_l2"], strict=True))


def _seen(row: dict[str, Any], budget: int, eps: float) -> bool:
    return statistics.seen(_events(row), budget, eps)


def _noisy(row: dict[str, Any], budget: int, eps: float) -> bool:
    k = row["budgets"].index(budget)
    return bool(row["held_l2"][k] <= eps and row["p_adv"][k] >= HALF)


def _clean(row: dict[str, Any], budget: int, eps: float) -> bool:
    k = row["budgets"].index(budget)
    return bool(row["held_l2"][k] <= eps and row["adv_clean"][k])


def interval(outcomes: Sequence[bool]) -> dict[str, float | None]:
    """``{"value", "lo", "hi"}`` of a rate, 95 % Wilson."""
    rate = statistics.rate(sum(outcomes), len(outcomes))
    return {"value": finite(rate.value), "lo": rate.lo, "hi": rate.hi}


def finite(value: float) -> float | None:
    """`value`, or None where it is infinite or undefined: JSON has neither."""
    return value if math.isfinite(value) else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def read_all(paths: Sequence[Path], strict: bool = False) -> tuple[list[pa.Table], list[str]]:
    """Readable tables of `paths` (a folder means the Parquet files in it), and a line for each that is not.

    Raises:
        DataError: nothing readable at all, or, with `strict`, anything unreadable.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"No result files in {', '.join(map(str, paths))}. `snd attack` writes them.")
    tables, problems = [], []
    for file in files:
        try:
            tables.append(results.read(file))
        except DataError as error:
            problems.append(str(error))
    if problems and (strict or not tables):
        raise DataError("\n".join(problems))
    return tables, problems
