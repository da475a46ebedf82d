"""How far each attack looks: the scale of its probes and of its searches, to be compared with the noise.

A probe of L2 length δ moves the margin by about a = δ/√d, input noise by σ. Once σ/a = σ√d/δ exceeds one, equally good
gradients cost about (σ/a)² times the queries. A search that ends below σ flips coins. Figures are for the attack as it
is some way in, at a given distance from the clean image; L2 only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sndcli.attacks.common.noise import ESTIMATE
from sndcli.attacks.common.prior import Prior
from sndcli.attacks.decision.geoda_plan import rescaled

Scales = tuple[float | None, float | None]  # probe a, search width


def _noise(options: Any, sigma: float) -> float:
    """σ̂ of an attack that has one; an estimate is taken to be right."""
    text = options.sigma_hat
    return sigma if text == ESTIMATE else float(text)


def _hsja(o: Any, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    theta = o.gamma * d**o.power
    return o.probe_scale * theta * distance, max(theta * distance, o.floor)


def _hsja_na(o: Any, d: int, distance: float, sigma: float) -> Scales:
    noise, cell = _noise(o, sigma), 1.5 * distance / o.grid
    gain = Prior(o.colour).gain(3 if d % 3 == 0 else 1) ** 0.5  # a normal that lies where the prior expects it
    return gain * max(cell, o.floor * noise), max(cell, o.fineness * noise)


def _popskipjump(o: Any, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    return distance / o.grid, distance / o.grid


def _ba(o: Any, d: int, distance: float, sigma: float) -> Scales:
    if hasattr(o, "delta"):
        return o.delta * distance / d**0.5, o.epsilon * distance
    least = o.floor * _noise(o, sigma)
    return max(o.spherical_step * distance / d**0.5, least), max(o.source_step * distance, least)


def _sign_opt(o: Any, d: int, distance: float, sigma: float) -> Scales:
    noise = _noise(o, sigma)
    return max(o.beta * distance / d**0.5, noise), max(o.beta / 500, noise / 10)


def _geoda(o: Any, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    noise, (probe, tolerance, _) = _noise(o, sigma), rescaled(o.probe, o.tolerance, o.step, d)
    return max(probe, 2 * noise), max(tolerance, noise)


def _rays(o: Any, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    return None, o.tolerance


def _simba(o: Any, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    return o.epsilon * (distance if o.relative else 1.0) / d**0.5, None


def _nes(o: Any, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    return o.probe, None


def _bandit(o: Any, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    return o.fd_eta / d**0.5, None


RULES: dict[str, Callable[[Any, int, float, float], Scales]] = {
    "hsja": _hsja, "hsja-na": _hsja_na, "popskipjump": _popskipjump, "ba": _ba, "sign-opt": _sign_opt,
    "geoda": _geoda, "rays": _rays, "simba": _simba, "simba-dct": _simba, "nes": _nes, "bandit-td": _bandit,
}  # fmt: skip


def scales_of(attack: str, options: Any, d: int, distance: float, sigma: float) -> dict[str, float | None]:
    """Scale of probes and searches of an attack; None where it has none, or none is known.

    Args:
        attack: its name.
        options: its options.
        d: number of pixels and channels.
        distance: L2 from the clean image.
        sigma: σ of the noise, for attacks that measure it.

    Returns:
        ``{"probe": a, "search": width}`` on the [0, 1] pixel scale: standard deviation of a probe along the normal
        of the boundary, and L2 length of a search's last interval.
    """
    probe, search = RULES[attack](options, d, distance, sigma) if attack in RULES else (None, None)
    return {"probe": probe, "search": search}
