"""What an audit says in words: a verdict, a sentence, and warnings about itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from sndcli.analysis.audit import Claim, Figures
from sndcli.analysis.flags import FLOOR_SHARE, Flag
from sndcli.runs.words import bound_words

Verdict = Literal["broken", "weakened", "holds", "unclear"]
BROKEN, HELD = 0.1, 0.5  # of the accuracy
DISAGREE = 0.02  # of all images
FAR = 0.5  # of the battery's success
OPTIMISM = 0.03
BLOCKED = 0.05  # of the paid queries of an attack


def verdict(figures: Figures, claim: Claim | None = None) -> Verdict:
    """From the interval of the robust accuracy, so that few images give ``unclear``."""
    robust, accuracy = (claim or figures.claim).robust, figures.accuracy.value
    if robust.hi < BROKEN * accuracy:
        return "broken"
    if robust.lo > HELD * accuracy:
        return "holds"
    if robust.hi < HELD * accuracy and robust.lo > BROKEN * accuracy:
        return "weakened"
    return "unclear"


def sentence(figures: Figures) -> str:
    """What it costs, what it buys, and what stands: of the widest access, with what that was measured against."""
    f, parts = figures, list[str]()
    if f.drop is not None and f.defense != "none":
        parts.append(f"costs {100 * f.drop.value:.1f} points [{100 * f.drop.lo:.1f}, {100 * f.drop.hi:.1f}]")
    if f.defense != "none" and f.ratios:
        parts.append(f"buys {bought_words(f)}")
    robust = f.claim.robust
    parts.append(
        f"{100 * robust.value:.0f} % [{100 * robust.lo:.0f}, {100 * robust.hi:.0f}] of images stand at "
        f"{f.budget:,} queries of {access_words(f.access)}"
    )
    said = {"broken": "is broken", "weakened": "is weakened", "holds": "holds", "unclear": "is not settled"}
    told = f"{f.defense} {said[verdict(f)]} against battery {f.battery} ({f.budget:,} queries, {bound(f)}): "
    return told + ", ".join(parts[:-1]) + ("; " if parts[:-1] else "") + parts[-1] + "."


def bought_words(figures: Figures) -> str:
    """``1.8 [1.4, 2.4] times the queries``; where half of the images stand, more than so many."""
    ratio = figures.ratio
    if ratio is None:
        return "an unknown number of queries, since half of the images stand without it"
    if ratio.at_least is not None:
        return f"more than {ratio.at_least:.1f} times the queries (at least {ratio.lo:.1f})"
    upper = f"{ratio.hi:.1f}" if math.isfinite(ratio.hi) else "∞"
    return f"{ratio.value:.1f} [{ratio.lo:.1f}, {upper}] times the queries"


def access_words(access: str) -> str:
    """``labels``, ``scores``, ``labels and scores``."""
    return "labels and scores" if access == "both" else access


def bound(figures: Figures) -> str:
    """``L2 ≤ 1``."""
    return bound_words(figures.norm, figures.eps)


def flags(figures: Figures) -> list[Flag]:
    """Warnings, each with a page of its own in docs/flags.md."""
    return [*_of_defense(figures), *_of_battery(figures)]


def _of_defense(f: Figures) -> Iterator[Flag]:
    place, option = f"{f.defense} on {f.model}", f"--defense {f.defense.split()[0]}"
    if f.random and f.passes_differ is False and not f.inconsistent.value:
        text = (
            "The defense says it is random, but its answers do not change: it is off, and was not tested; "
            f"run `snd doctor {option}`"
        )
        yield Flag("defense_off", text, place)
    if not f.random and f.defense != "none" and not any(one.blocked for one in f.steps):
        text = "Answers of this defense never change, so one answer decided each test; run `snd accuracy` to see it"
        yield Flag("deterministic", text, place)
    most = max(f.steps, key=lambda one: one.blocked, default=None)
    if most is not None and most.blocked > BLOCKED:
        text = (
            f"{100 * most.blocked:.0f} percent of the queries of {most.step.attack} were recognised as like earlier "
            f"ones, and it knows nothing of that; run `snd attack hsja-na --set jitter=0.015 {option}`"
        )
        yield Flag("blocked", text, place)
    if f.seen and f.floor > FLOOR_SHARE * f.seen:
        text = "Sending the clean image again explains more than half of the wrong answers seen; run `snd attack null`"
        yield Flag("floor_explains", text, place)


def _of_battery(f: Figures) -> Iterator[Flag]:
    place, claim = f"{f.defense} on {f.model}", f.claim
    champions = [one for one in f.steps if one.step.role == "champion"]
    others = [one for one in f.steps if one.step.role != "champion"]
    best = max(others, key=lambda one: one.alone, default=None)
    if best is not None and best.alone > max(1, DISAGREE * f.n):
        names = " and ".join(one.step.attack for one in champions)
        text = (
            f"{best.step.attack} alone breaks {best.alone} of {f.n} images, which {names} should have broken; "
            f"run `snd attack {best.step.attack}` and look at why"
        )
        yield Flag("battery_disagrees", text, place)
    for one in f.steps:
        if one.step.role == "yardstick" and one.broken < FAR * one.by_any:
            share = 100 * one.broken / one.images
            text = (
                f"The published {one.step.attack} alone breaks {share:.0f} percent, less than half of what breaks; "
                f"quote this audit, not it, or run `snd attack {one.step.attack}`"
            )
            yield Flag("yardstick_far", text, place)
    if claim.optimism > OPTIMISM:
        text = (
            f"{100 * claim.optimism:.0f} percent of images were confirmed and then not held by final draws; "
            "run `snd audit` with more images"
        )
        yield Flag("optimism", text, place)
    if any(ratio is not None and ratio.censored for ratio in f.ratios.values()):
        text = (
            "Half of the images stand at the last query, so the price is only bounded below; run `snd audit --budget`"
        )
        yield Flag("ratio_censored", text, place)
