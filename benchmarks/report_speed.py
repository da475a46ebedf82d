"""How long `snd report` takes over 1,000 files of 1,000 rows: python benchmarks/report_speed.py [FILES] [ROWS].

The files are made up (20 improvement events a row, four report points, 50 settings), written to a temporary folder.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from sndcli.ball import within
from sndcli.defenses.parse import DefenseSpec
from sndcli.runs import columns, results
from sndcli.runs.config import RunConfig
from sndcli.runs.success import confirmed, fools_bare

BUDGETS = [500, 1000, 2000, 5000]
EVENTS = 20


def table(config: RunConfig, rows: int, rng: np.random.Generator) -> pa.Table:
    """Rows whose snapshots agree with their events."""
    query = np.sort(rng.integers(1, config.budget, (rows, EVENTS)), 1)
    distance = np.sort(rng.exponential(2.0, (rows, EVENTS)), 1)[:, ::-1]
    best = np.stack([np.where(query <= b, distance, np.inf).min(1) for b in BUDGETS], 1)
    p = rng.random((rows, len(BUDGETS)))
    same = columns.of_config(config.as_dict()) | {
        "run_id": config.run_id, "seed": config.seed, "label": 3, "status": "ok", "stop_reason": "budget",
        "queries": config.budget, "verify_draws": 100, "clean_draws": 300, "initially_wrong": False,
        "mismatches": None, "p_mis_clean": 0.02, "p0": 0.01,
    }  # fmt: skip
    found = {name: [value] * rows for name, value in same.items()}
    found |= {
        "image_id": list(range(rows)), "queries_by_phase": [[("check", 1), ("walk", config.budget - 1)]] * rows,
        "budgets": [BUDGETS] * rows, "distance_best": best.tolist(), "distance_last": (best + 0.1).tolist(),
        "distance_submitted": best.tolist(), "distance_boundary": (best + 0.2).tolist(), "p_adv": p.tolist(),
        "adv_clean": (p > 0.7).tolist(), "p_adv_submitted": p.tolist(), "adv_clean_submitted": (p > 0.7).tolist(),
        "seen": within(best, config.eps).tolist(), "noisy": confirmed(best, config.eps, p).tolist(),
        "as_submitted": confirmed(best, config.eps, p).tolist(),
        "clean": fools_bare(best, config.eps, p > 0.7).tolist(), "p_adv_also": [[]] * rows,
        "adv_clean_also": [[]] * rows,
        "event_query": query.tolist(), "event_distance": distance.tolist(),
    }  # fmt: skip
    return pa.table({name: found[name] for name in columns.SCHEMA.names}, schema=columns.SCHEMA)


def cpu_seconds() -> float:
    """CPU time of finished child processes: what a busy machine does not change."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(files: int = 1000, rows: int = 1000) -> None:
    """Writes the files, reports them, prints the seconds."""
    rng = np.random.default_rng(0)
    base = RunConfig("hsja", "cifar10", "made up", "0", "resnet20", "0", budget=BUDGETS[-1], budgets=(500, 1000, 2000))
    with tempfile.TemporaryDirectory() as folder:
        written = None
        for k in range(files):
            config = replace(base, defense=DefenseSpec("snd", 0.001 * (1 + k % 50)), seed=k // 50)
            if written is None or k % 50 == 0:
                written = table(config, rows, rng)
            own = written.set_column(
                written.column_names.index("sigma"), "sigma", pa.array([config.defense.sigma] * rows)
            )
            results.write_table(
                Path(folder) / f"{k:04d}.parquet", own, {"id": config.run_id, "config": config.as_dict()}
            )
        for extra in ([], ["--at", "1500", "--eps", "0.5"]):
            start, spent = time.perf_counter(), cpu_seconds()
            command = [sys.executable, "-m", "sndcli", "report", folder, "--json", "-q", *extra]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            count = len(json.loads(done.stdout)["rows"])
            what = f"{files} files of {rows} rows, {' '.join(extra) or 'stored points'}"
            print(f"{what}: {seconds:.1f} s ({cpu_seconds() - spent:.1f} s of CPU), {count} rows", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
