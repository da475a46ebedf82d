"""SurFree for one image (Maho, Furon and Le Merrer, CVPR 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from scipy.fft import dctn, idctn
from torch import Tensor

from reference.decisions import Ask, Draw

LIMIT = math.radians(89.9)


def surfree(
    x: Tensor,
    ask: Ask,
    draw: Draw,
    *,
    iterations: int,
    theta: float,
    rho: float,
    angles: int,
    bisections: int,
    gamma: float,
    history: int,
    frequencies: float,
    constant: bool,
    orthogonal: bool,
    start_noise: float,
    start_draws: int,
) -> None:
    """Submits the boundary point, which only comes closer. Ours: `orthogonal`, and an end to θ_max."""
    point = start(x, ask, draw, start_noise, start_draws)
    if point is None:
        return
    best = ask.hold_if_closer(point, math.inf)
    low, high, e = 0.0, 1.0, 0.8
    for _ in range(1 + bisections):
        low, high = (low, e) if ask((1 - e) * x + e * point) else (e, high)
        e = (low + high) / 2
    point = (1 - high) * x + high * point
    best = ask.hold_if_closer(point, best)

    largest, past = math.radians(theta), list[Tensor]()
    amplitude = amplitudes(x, frequencies, constant, 2 * history)
    for _ in range(iterations):
        if ask.distance(point) < 1e-6:
            return
        u = (point - x) / (point - x).norm()
        coefficients = amplitude * ((3 * draw.uniform()).floor() - 1)
        drawn = torch.from_numpy(idctn(coefficients.numpy(), axes=(1, 2), norm="ortho"))
        v, past = direction(drawn, u, past, history, orthogonal)
        on = circle(x, point, u, v)
        tried = (s * largest * (1 - k / angles) for k in range(angles) for s in (1, -1))
        inner = next((angle for angle in tried if ask(on(angle))), None)
        if inner is None:
            largest *= rho
            continue
        largest = min(largest / rho, LIMIT)
        z = on(doubled(ask, on, inner) if orthogonal else searched(ask, on, inner, largest / angles, bisections, gamma))
        if ask.distance(z) < ask.distance(point):
            point = z
            best = ask.hold_if_closer(point, best)


def start(x: Tensor, ask: Ask, draw: Draw, noise: float, draws: int) -> Tensor | None:
    """The first noisy image that is adversarial, submitted."""
    for _ in range(draws):
        z = (x + noise * draw.normal()).clamp(0, 1)
        if ask(z):
            return z
    return None


def amplitudes(x: Tensor, frequencies: float, constant: bool, fewest: int) -> Tensor:
    """What the signs of the coefficients are multiplied with."""
    channels, height, width = x.shape
    cells = sorted((i + j, i, j) for i in range(height) for j in range(width))
    kept = torch.zeros(height, width)
    for _, i, j in cells[: max(1, int(frequencies * height * width))]:
        kept[i, j] = 1
    own = torch.from_numpy(dctn(x.numpy(), axes=(1, 2), norm="ortho")) * kept
    there = own.abs() > 1e-6
    if there.sum() < fewest:
        return kept.expand(channels, height, width)
    return there.float() if constant else own.tanh() * there


def direction(v: Tensor, u: Tensor, past: list[Tensor], history: int, orthogonal: bool) -> tuple[Tensor, list[Tensor]]:
    """`v` less its parts along past directions, and what is past by then."""
    if orthogonal:
        past = past[-history:]
        rest = u - sum(((u * w).sum() * w for w in past), torch.zeros_like(u))
        others = [*past, rest / rest.norm()]
    else:
        others = past = past or [u]
    v = v - sum(((v * w).sum() * w for w in others), torch.zeros_like(v))
    v = v / v.norm()
    return v, [*(past if orthogonal else past[:1] + past[1 + len(past) - history :]), v]


def circle(x: Tensor, point: Tensor, u: Tensor, v: Tensor) -> Callable[[float], Tensor]:
    """z(θ) = x + D cos θ (u cos θ + v sin θ), clipped."""
    diameter = float((point - x).norm())

    def on(theta: float) -> Tensor:
        return (x + diameter * math.cos(theta) * (math.cos(theta) * u + math.sin(theta) * v)).clamp(0, 1)

    return on


def doubled(ask: Ask, on: Callable[[float], Tensor], inner: float) -> float:
    """The adversarial end of the first interval that fails, searched to a sixth of it."""
    for outer in doublings(inner):
        if not ask(on(outer)):
            break
        inner = outer
    else:
        return inner
    while abs(outer - inner) > abs(inner) / 6:
        middle = (inner + outer) / 2
        inner, outer = (middle, outer) if ask(on(middle)) else (inner, middle)
    return inner


def doublings(angle: float) -> Iterator[float]:
    """Twice the angle, four times, …, up to the largest."""
    while abs(angle) < LIMIT:
        angle = max(-LIMIT, min(LIMIT, 2 * angle))
        yield angle


def searched(
    ask: Ask, on: Callable[[float], Tensor], inner: float, step: float, bisections: int, gamma: float
) -> float:
    """As the authors: the outer end is not asked about; on the positive side each middle is asked on both sides."""
    outer = max(-LIMIT, min(LIMIT, inner + math.copysign(step, inner)))
    both = inner > 0
    for _ in range(bisections):
        if abs(math.cos(outer) - math.cos(inner)) <= gamma:
            break
        middle = (inner + outer) / 2
        hit, opposite = ask(on(middle)), both and ask(on(-middle))
        if hit:
            inner = middle
        elif opposite:
            inner, outer, both = -middle, -outer, False
        else:
            outer = middle
    return inner
