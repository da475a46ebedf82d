"""The rows of a work unit: what an attack's ledger and the verification after it say, as columns of the result file."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sndcli.ball import within
from sndcli.queries.ledger import Ledger, best_distance
from sndcli.queries.oracle import Oracle
from sndcli.runs import columns
from sndcli.runs.config import RunConfig
from sndcli.runs.success import confirmed, fools_bare
from sndcli.runs.targets import Goal

FAILURES = ("init_failed", "error", "non_finite", "raised", "no_answer")


@dataclass(frozen=True)
class Checked:
    """What fresh draws say after an attack on N images with B report points, on the CPU.

    Attributes:
        p0, p_mis: float64 ``[N]``, of the clean images; NaN where it is not known.
        p_adv, adv_clean: float64 and bool ``[N, E + 1, B]``, of the points moved out to each of E ε (the run's own
            first), and as they were submitted (last). p_adv is NaN where no draw was answered, adv_clean None without
            a bare model.
        boundary: float64 ``[N, B]``; None where it was not measured.
        draws, clean_draws: how many, of each point and of each clean image.
    """

    p0: Tensor
    p_mis: Tensor
    p_adv: Tensor
    adv_clean: Tensor | None
    boundary: Tensor | None
    draws: int
    clean_draws: int


def table_of(
    config: RunConfig,
    seed: int,
    ids: Tensor,
    labels: Tensor,
    oracle: Oracle,
    ledger: Ledger,
    checked: Checked,
    goal: Goal | None = None,
) -> pa.Table:
    """The rows of one unit.

    Args:
        config: of the run.
        seed: of the unit.
        ids, labels: int64 ``[N]``, of its images.
        oracle: that was asked.
        ledger: that it closed.
        checked: what was found afterwards.
        goal: of a targeted run.
    """
    n, points = len(ids), config.report_points
    events = ledger.events_by_image()
    best = np.array([[best_distance(found, budget) for budget in points] for found in events])
    submitted = submitted_distance(oracle, ledger)
    distance, eps = submitted.numpy(), config.eps
    p_adv, adv_clean = checked.p_adv.numpy(), None if checked.adv_clean is None else checked.adv_clean.numpy()
    bare: dict[str, list[object]] = dict.fromkeys(
        ("clean", "adv_clean", "adv_clean_submitted", "adv_clean_also"), [None] * n
    )
    if adv_clean is not None:
        bare = {
            "clean": fools_bare(distance, eps, adv_clean[:, 0]).tolist(), "adv_clean": adv_clean[:, 0].tolist(),
            "adv_clean_submitted": adv_clean[:, -1].tolist(), "adv_clean_also": adv_clean[:, 1:-1].tolist(),
        }  # fmt: skip
    answered = ~(np.isnan(p_adv).any((1, 2)) | checked.p0.isnan().numpy())
    phases = {name: counts.tolist() for name, counts in ledger.phases.items()}
    own = {
        "run_id": [config.run_id] * n, "seed": [seed] * n, "image_id": ids.tolist(), "label": labels.tolist(),
        "target_label": [None] * n if goal is None else goal.labels.tolist(),
        "start_image": [None] * n if goal is None else list(goal.first),
        "status": [
            "failed" if reason.startswith(FAILURES) or not known else "ok"
            for reason, known in zip(ledger.stop_reason, answered, strict=True)
        ],
        "stop_reason": ledger.stop_reason, "queries": ledger.used.tolist(),
        "queries_by_phase": [[(name, k[i]) for name, k in phases.items() if k[i]] for i in range(n)],
        "budgets": [points] * n,
        "seen": within(best, eps).tolist(),
        "noisy": confirmed(distance, eps, p_adv[:, 0]).tolist(),
        "as_submitted": confirmed(distance, eps, p_adv[:, -1]).tolist(),
        "distance_best": best.tolist(), "distance_last": ledger.last_l2.tolist(),
        "distance_submitted": distance.tolist(),
        "distance_boundary": [None] * n if checked.boundary is None else checked.boundary.tolist(),
        "p_adv": p_adv[:, 0].tolist(), "p_adv_submitted": p_adv[:, -1].tolist(),
        "p_adv_also": p_adv[:, 1:-1].tolist(), "verify_draws": [checked.draws] * n,
        "p0": checked.p0.tolist(), "p_mis_clean": [None if math.isnan(p) else p for p in checked.p_mis.tolist()],
        "clean_draws": [checked.clean_draws] * n, "initially_wrong": oracle.initially_wrong.tolist(),
        "mismatches": ledger.mismatches.tolist() if config.mismatch else [None] * n,
        "blocked": ledger.blocked.tolist(), "detected_at": [at or None for at in ledger.detected_at.tolist()],
        "event_query": [[q for q, _ in found] for found in events],
        "event_distance": [[d for _, d in found] for found in events],
    }  # fmt: skip
    found = columns.repeated(config.as_dict(), n) | own | bare
    return pa.table({name: found[name] for name in columns.SCHEMA.names}, schema=columns.SCHEMA)


def submitted_distance(oracle: Oracle, ledger: Ledger) -> Tensor:
    """float64 ``[N, B]``, on the CPU: distance of the point submitted at each report point; infinite: there is none."""
    everyone = torch.arange(len(oracle.x0), device=oracle.x0.device)
    distance = torch.stack([oracle.distance(points, everyone) for points in ledger.submitted], 1).cpu()
    distance[~ledger.has_submitted] = float("inf")
    return distance
