"""What a run is called: the one place that puts attack, defense and bound into words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sndcli.defenses.parse import DefenseSpec

NORMS = {"l2": "L2", "linf": "L∞"}
LONGEST = 60  # characters of a part of a file's name


def attack_words(attack: str, engine: str, preset: str | None, settings: Sequence[str], target: str = "") -> str:
    """``hsja``, ``hsja (foolbox)``, ``simba na (eps=0.1)``, ``hsja to next``."""
    text = attack + (" (foolbox)" if engine == "foolbox" else "")
    text += f" {preset}" if preset else ""
    text += f" ({', '.join(settings)})" if settings else ""
    return text + (f" to {target}" if target else "")


def defense_words(
    defense: DefenseSpec, votes: int, quantize: bool, precision: str, select: str, select_by: str | None
) -> str:
    """The defense, and what of a run is not as usual.

    Example:
        >>> defense_words(DefenseSpec("snd", 0.01, 2.0), 10, False, "fp32", "correct", None)
        'snd 0.01 β=2, T=10'
        >>> defense_words(DefenseSpec("snd", 0.0), 1, True, "bf16", "all", "resnet20 1f2e")
        'none, 8-bit, bf16, all images, images right on resnet20'
    """
    words = [defense.words]
    words += [f"T={votes}"] if votes > 1 else []
    words += ["8-bit"] if quantize else []
    words += [precision] if precision != "fp32" else []
    words += [f"{select} images"] if select != "correct" else []
    return ", ".join([*words, f"images right on {select_by.split()[0]}"] if select_by else words)


def bound_words(norm: str, eps: float) -> str:
    """``L2 ≤ 1``, ``L∞ ≤ 8/255``."""
    return f"{NORMS.get(norm, norm)} ≤ {radius_words(norm, eps)}"


def radius_words(norm: str, eps: float) -> str:
    """``1``, ``8/255``."""
    grey = round(255 * eps, 9)  # steps of an 8-bit image
    return f"{grey:g}/255" if norm == "linf" and grey == int(grey) else f"{eps:g}"


def slug(words: str) -> str:
    """Words as a part of a file's name: letters, digits and ``-.`` of ASCII.

    Example:
        >>> slug("snd 0.01 β=2, T=10"), slug("hsja (foolbox)")
        ('snd-0.01-beta2-T10', 'hsja-foolbox')
    """
    return re.sub(r"[^A-Za-z0-9.+_-]+", "-", words.replace("β", "beta").replace("=", "")).strip("-")[:LONGEST]
