"""Boundary Attack as the Adversarial Robustness Toolbox has it since version 1.6, untargeted, L2.

An iteration tries blocks of 20 orthogonal steps until one is adversarial (δ-phase), then moves the whole
adversarial set towards the clean image until one survives (ε-phase), and keeps the closest survivor.
Images in different phases share batches. As in ART, 25 failed trials in a phase end the attack on that image.
Differs from ART: 1,000 instead of 100 start draws are allowed, and a failed start is a failure, not the clean image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.geometry import COLLAPSED, active, gaussian, norms, per_image, uniform_start
from sndcli.oracle import REFUSED, Oracle, leads

ORTHOGONAL, SOURCE = 0, 1


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        iterations: δ-phase and ε-phase count as one.
        delta: δ, orthogonal step relative to the distance.
        epsilon: ε, source step relative to the distance.
        step_adapt: factor by which a step shrinks; its inverse is the growth.
        samples: candidates a δ-trial.
        trials: of one phase, at most.
        start_draws: uniform noise images tried, at most.
    """

    iterations: int = 5_000
    delta: float = 0.01
    epsilon: float = 0.01
    step_adapt: float = 0.667
    samples: int = 20
    trials: int = 25
    start_draws: int = 1_000


def run(oracle: Oracle, generator: torch.Generator, options: Options) -> None:
    """Attacks every active image until its budget, its iterations or its trials end."""
    o, n, device = options, len(oracle.x0), oracle.x0.device
    a, _ = uniform_start(oracle, generator, o.start_draws)
    delta = torch.full((n,), o.delta, device=device)
    epsilon = torch.full((n,), o.epsilon, device=device)
    phase = torch.full((n,), ORTHOGONAL, device=device)
    trial = torch.zeros(n, dtype=torch.int64, device=device)
    iteration = torch.zeros(n, dtype=torch.int64, device=device)
    found = torch.zeros(n, o.samples, *a.shape[1:], device=device)  # C, the adversarial set of the δ-phase
    valid = torch.zeros(n, o.samples, dtype=torch.bool, device=device)

    for _ in range(2 * o.trials * o.iterations):
        oracle.retire(active(oracle)[oracle.distance(a, torch.arange(n, device=device))[oracle.active] < COLLAPSED],
                      "collapsed")  # fmt: skip
        oracle.retire((iteration >= o.iterations).nonzero().squeeze(1), "exhausted")
        owner = active(oracle)
        if not len(owner):
            break
        first, second = owner[phase[owner] == ORTHOGONAL], owner[phase[owner] == SOURCE]
        candidates = orthogonal_steps(oracle.x0[first], a[first], delta[first], o.samples, generator)
        image, slot = valid[second].nonzero(as_tuple=True)
        image = second[image]
        inner = found[image, slot] + per_image(epsilon[image], a) * (oracle.x0[image] - found[image, slot])
        inner = inner.clamp_(0.0, 1.0)
        rows = torch.cat([first.repeat_interleave(o.samples), image])
        phases = [("orthogonal", len(first) * o.samples), ("source", len(image))]
        answer = oracle.adversarial(torch.cat([candidates.flatten(0, 1), inner]), rows, phases)
        ask_first = answer[: len(first) * o.samples].view(len(first), o.samples)
        ask_second = answer[len(first) * o.samples :]

        whole = (ask_first != REFUSED).all(1)  # a truncated δ-block is discarded
        first, ask_first, candidates = first[whole], ask_first[whole] == 1, candidates[whole]
        rate = ask_first.float().mean(1)
        adapt(delta, first, rate, o.step_adapt)
        some = rate > 0
        found[first[some]], valid[first[some]] = candidates[some], ask_first[some]
        phase[first[some]], trial[first[some]] = SOURCE, 0
        trial[first[~some]] += 1

        hits = torch.zeros(n, device=device).index_add_(0, image, (ask_second == 1).float())
        asked = torch.zeros(n, device=device).index_add_(0, image, (ask_second != REFUSED).float())
        second = second[asked[second] > 0]
        adapt(epsilon, second, hits[second] / asked[second], o.step_adapt)
        survivors = ask_second == 1
        _keep_closest(oracle, a, inner[survivors], image[survivors])
        some = hits[second] > 0
        phase[second[some]], trial[second[some]] = ORTHOGONAL, 0
        iteration[second[some]] += 1
        trial[second[~some]] += 1
        _quit(oracle, a, owner, phase, trial, found, valid, o.trials)
    oracle.retire(active(oracle), "exhausted")


def orthogonal_steps(x: Tensor, a: Tensor, delta: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """``[n, samples, C, H, W]`` points of about the distance of `a`, a relative step δ to the side of it."""
    n = len(x)
    v = x - a
    distance = per_image(norms(v), x)
    toward = (v / distance).repeat_interleave(samples, 0)
    eta = gaussian(n * samples, x, generator)
    length = (per_image(delta, x) * distance).repeat_interleave(samples, 0)
    eta = eta * (length / per_image(norms(eta), x))
    eta = eta - per_image((eta * toward).flatten(1).sum(1), x) * toward
    shrink = per_image(torch.sqrt(1 + delta**2), x).repeat_interleave(samples, 0)
    steps = x.repeat_interleave(samples, 0) + ((a - x).repeat_interleave(samples, 0) + eta) / shrink
    return steps.clamp_(0.0, 1.0).view(n, samples, *x.shape[1:])


def adapt(step: Tensor, owner: Tensor, rate: Tensor, factor: float) -> None:
    """Shortens steps where less than 20 % of a trial was adversarial, lengthens them above 50 %."""
    step[owner[rate < 0.2]] *= factor
    step[owner[rate > 0.5]] /= factor


def _keep_closest(oracle: Oracle, a: Tensor, points: Tensor, image: Tensor) -> None:
    """Makes the closest of each image's points its incumbent."""
    order = torch.argsort(oracle.distance(points, image), stable=True)
    order = order[torch.argsort(image[order], stable=True)]  # by image, the closest first
    order = order[leads(image[order])]
    a[image[order]] = points[order]
    oracle.hold(points[order], image[order])


def _quit(
    oracle: Oracle,
    a: Tensor,
    owner: Tensor,
    phase: Tensor,
    trial: Tensor,
    found: Tensor,
    valid: Tensor,
    trials: int,
) -> None:
    """ART's ending: after 25 failed trials, `a` in the δ-phase, the closest of C in the ε-phase."""
    over = owner[(trial[owner] >= trials) & oracle.active[owner]]
    image, slot = valid[over[phase[over] == SOURCE]].nonzero(as_tuple=True)
    image = over[phase[over] == SOURCE][image]
    _keep_closest(oracle, a, found[image, slot], image)
    oracle.retire(over, "stuck")
