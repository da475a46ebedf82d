"""Boundary Attack as the Adversarial Robustness Toolbox has it since version 1.6, or had it in 1.2, untargeted, L2.

An iteration tries blocks of 20 orthogonal steps until one is adversarial (δ-phase), then moves the whole
adversarial set towards the clean image until one survives (ε-phase), and keeps the closest survivor.
Images in different phases share batches. As in ART, 25 failed trials in a phase end the attack on that image.
Differs from ART: 1,000 instead of 100 start draws are allowed, and a failed start is a failure, not the clean image.

`ART_1_2` is the form of ART 1.2.0 (art/attacks/evasion/boundary.py there; mended upstream in 1.3, 1.5 and 1.6): what is
accepted must keep the label of the start image, the first survivor is kept and not the closest, steps are not brought
back to the sphere, and the orthogonal part is taken by a matrix product for each channel, which is no projection.
`ART_1_3` is that of 1.3 to 1.5: as before, but steps are brought back to the sphere, and 100 start draws are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import active, norms, per_image, uniform_start
from sndcli.attacks.ranges import Count, Positive, PositiveShare
from sndcli.ball import COLLAPSED
from sndcli.queries.call import Phase, leads
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

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
        keep_class: adversarial is what has the label of the start image, not any wrong label.
        closest: of the survivors of an ε-phase the closest is kept, else the first.
        sphere: orthogonal steps are divided by √(1 + δ²), which keeps the distance.
        project: orthogonal steps are orthogonal to the way to the clean image, else what ART 1.2 took for it.
    """

    iterations: Count = 5_000
    delta: Positive = 0.01
    epsilon: Positive = 0.01
    step_adapt: PositiveShare = 0.667
    samples: Count = 20
    trials: Count = 25
    start_draws: Count = 1_000
    keep_class: bool = False
    closest: bool = True
    sphere: bool = True
    project: bool = True


ART_1_2 = Options(keep_class=True, closest=False, sphere=False, project=False)
ART_1_3 = replace(ART_1_2, sphere=True, start_draws=100)


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until its budget, its iterations or its trials end."""
    o, n, device = options, len(oracle.x0), oracle.x0.device
    wanted = torch.full((n,), REFUSED, device=device)  # the label of the start image

    def ask_start(oracle: Oracle, points: Tensor, image: Tensor, phase: Phase) -> Tensor:
        wanted[image] = oracle.labels(points, image, phase).clamp_min(REFUSED)  # what is blocked says nothing either
        return torch.where(wanted[image] == REFUSED, REFUSED, oracle.criterion.met(wanted[image], image).long())

    def ask(points: Tensor, image: Tensor, phases: Phase) -> Tensor:
        if not o.keep_class:
            return oracle.adversarial(points, image, phases)
        label = oracle.labels(points, image, phases).clamp_min(REFUSED)
        return torch.where(label == REFUSED, REFUSED, (label == wanted[image]).long())

    a, _ = uniform_start(oracle, streams, o.start_draws, ask_start)
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
        image = active(oracle)
        if not len(image):
            break
        first, second = image[phase[image] == ORTHOGONAL], image[phase[image] == SOURCE]
        candidates = orthogonal_steps(oracle.x0[first], a[first], delta[first], o, streams, first)
        whose, slot = valid[second].nonzero(as_tuple=True)
        whose = second[whose]
        inner = found[whose, slot] + per_image(epsilon[whose], a) * (oracle.x0[whose] - found[whose, slot])
        inner = inner.clamp_(0.0, 1.0)
        rows = torch.cat([first.repeat_interleave(o.samples), whose])
        phases = [("orthogonal", len(first) * o.samples), ("source", len(whose))]
        answer = ask(torch.cat([candidates.flatten(0, 1), inner]), rows, phases)
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

        hits = torch.zeros(n, device=device).index_add_(0, whose, (ask_second == 1).float())
        asked = torch.zeros(n, device=device).index_add_(0, whose, (ask_second != REFUSED).float())
        second = second[asked[second] > 0]
        adapt(epsilon, second, hits[second] / asked[second], o.step_adapt)
        survivors = ask_second == 1
        _keep(oracle, a, inner[survivors], whose[survivors], o.closest)
        some = hits[second] > 0
        phase[second[some]], trial[second[some]] = ORTHOGONAL, 0
        iteration[second[some]] += 1
        trial[second[~some]] += 1
        _quit(oracle, a, image, phase, trial, found, valid, o)
    oracle.retire(active(oracle), "exhausted")


def orthogonal_steps(x: Tensor, a: Tensor, delta: Tensor, options: Options, streams: Streams, image: Tensor) -> Tensor:
    """``[n, samples, C, H, W]`` points of about the distance of `a`, a relative step δ to the side of it."""
    o, n = options, len(x)
    distance = per_image(norms(x - a), x)
    away = (a - x).repeat_interleave(o.samples, 0)
    eta = streams.normal(image.repeat_interleave(o.samples), x)
    length = (per_image(delta, x) * distance).repeat_interleave(o.samples, 0)
    eta = eta * (length / per_image(norms(eta), x))
    if o.project:
        toward = ((x - a) / distance).repeat_interleave(o.samples, 0)
        eta = eta - per_image((eta * toward).flatten(1).sum(1), x) * toward
    else:  # P ← P - P Dᵀ D with D the channel's difference over its Frobenius norm
        frobenius = torch.linalg.matrix_norm(away, keepdim=True).clamp_min(COLLAPSED)
        eta = eta - eta @ (away / frobenius).mT @ (away / frobenius)
    shrink = per_image(torch.sqrt(1 + delta**2), x).repeat_interleave(o.samples, 0) if o.sphere else 1.0
    steps = x.repeat_interleave(o.samples, 0) + (away + eta) / shrink
    return steps.clamp_(0.0, 1.0).view(n, o.samples, *x.shape[1:])


def adapt(step: Tensor, image: Tensor, rate: Tensor, factor: float) -> None:
    """Shortens steps where less than 20 % of a trial was adversarial, lengthens them above 50 %."""
    step[image[rate < 0.2]] *= factor
    step[image[rate > 0.5]] /= factor


def _keep(oracle: Oracle, a: Tensor, points: Tensor, image: Tensor, closest: bool) -> None:
    """Makes the closest, or the first, of each image's points its incumbent."""
    order = torch.arange(len(image), device=image.device)
    if closest:
        order = torch.argsort(oracle.distance(points, image), stable=True)
    order = order[torch.argsort(image[order], stable=True)]  # by image, the one to keep first
    order = order[leads(image[order])]
    a[image[order]] = points[order]
    oracle.submit(points[order], image[order])


def _quit(
    oracle: Oracle,
    a: Tensor,
    image: Tensor,
    phase: Tensor,
    trial: Tensor,
    found: Tensor,
    valid: Tensor,
    options: Options,
) -> None:
    """ART's ending: after 25 failed trials, `a` in the δ-phase, the closest (first) of C in the ε-phase."""
    over = image[(trial[image] >= options.trials) & oracle.active[image]]
    mine, slot = valid[over[phase[over] == SOURCE]].nonzero(as_tuple=True)
    mine = over[phase[over] == SOURCE][mine]
    _keep(oracle, a, found[mine, slot], mine, options.closest)
    oracle.retire(over, "stuck")
