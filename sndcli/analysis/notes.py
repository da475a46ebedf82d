"""What a reader must know of figures at points that the runs did not store."""

from __future__ import annotations

from collections.abc import Sequence

from sndcli.analysis.frame import Frame
from sndcli.attacks.registry import find


def recompute_notes(frames: Sequence[Frame], at: Sequence[int], eps: float | None) -> list[str]:
    """What a reader must know of figures at points that the runs did not store; a line each."""
    lines = []
    for budget in at:
        short = sorted({_name(f) for f in frames if f.budget < budget})
        if short:
            lines.append(f"no figures at {budget:,} queries for {', '.join(short)}: the runs end before.")
    away = [b for b in at if any(b not in f.position for f in frames if f.budget >= b)]
    if away:
        lines.append(
            f"at {', '.join(f'{b:,}' for b in away)} queries success_noisy, success_clean and distance_last are not "
            "stored and cannot be recomputed; success_seen and distance_best come from the events of longer runs. An "
            "attack that plans for its whole budget (geoda, hsja) can reach more in a run of its own."
        )
    changed = [f for f in frames if eps is not None and f.setting.eps != eps]
    elsewhere = [f for f in changed if eps not in f.also]
    if any(f.boundary is not None for f in elsewhere):
        lines.append(
            f"at ε = {eps:g} success_noisy is whether the majority boundary on the ray of the submitted point lies "
            "within ε, and success_clean is not known; `snd attack --eps a,b` verifies at several."
        )
    if any(f.boundary is None for f in elsewhere):
        lines.append(
            f"at ε = {eps:g} success_noisy and success_clean are not known of runs that measured no boundary "
            "(--no-boundary); `snd attack --eps a,b` verifies at several."
        )
    if any(f.p_adv is None and eps in (None, f.setting.eps) for f in frames):
        lines.append(
            "runs of version 0.1.0 verified points as they were submitted (success_as_submitted): success_noisy and "
            "success_clean, of points moved out to ε, are not known of them."
        )
    aware = sorted({_named(f) for f in changed if _uses_eps(f)})
    if aware:
        lines.append(
            f"{', '.join(aware)}: which points are asked about or submitted depends on ε. Figures at ε = {eps:g} are "
            "those of runs with another ε, a lower bound of what the attack reaches."
        )
    return lines


def _uses_eps(frame: Frame) -> bool:
    """Whether what an attack submits depends on ε; of one that is not installed here, perhaps."""
    spec = find(frame.setting.attack)
    return spec is None or spec.depends_on_eps(frame.run["config"].get("options") or {})


def _named(frame: Frame) -> str:
    return " ".join([frame.setting.attack, *filter(None, [frame.setting.preset])])


def _name(frame: Frame) -> str:
    return f"{frame.setting.attack} against {frame.setting.defended}"
