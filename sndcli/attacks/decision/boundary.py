"""Boundary Attack (Brendel, Rauber and Bethge, ICLR 2018) in the form of Foolbox 3, untargeted, L2.

Differs from Foolbox: every image draws its own proposals (Foolbox shares one draw over the batch); the start is
blended at e = 1/50, 2/50, ... with a stop of its own for each image, never at e = 0, and is not tested twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.confirm import submitting
from sndcli.attacks.common.geometry import active, norms, per_image, straight, uniform_start
from sndcli.attacks.common.noise import ESTIMATE, check_scale, known_scale, majority, noise_scale
from sndcli.attacks.decision import boundary_art
from sndcli.attacks.ranges import Count, Factor, NonNegative, Odd, Positive, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

SPHERE_WINDOW, STEP_WINDOW = 100, 30


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        steps: proposals, at most.
        spherical_step: δ, length of the orthogonal step relative to the distance.
        source_step: ε, length of the step towards the clean image relative to the distance.
        adaptation: factor by which both are changed.
        source_step_convergence: an image has converged once ε is below.
        update_every: proposals between two tests of the sphere point.
        start_draws: uniform noise images tried, at most.
        blend_steps: of the linear blend between clean image and start.
        votes: 1, or an odd number of further answers whose majority must agree before a candidate is accepted (ours;
            for noisy models).
        retest: the incumbent is asked again after so many steps by as many votes, and moves out by 5 % while it
            fails (ours); 0: never.
        sigma_hat: noise that bounds the steps from below (ours): a number, or ``estimate``.
        floor: least orthogonal step in σ̂√d, and least source step in σ̂ (ours).
        confirm: with a number, what is submitted is a point 2 % and 2σ̂ further out than the incumbent, chosen after
            each retest, that so many answers confirm (ours).
    """

    steps: Count = 25_000
    spherical_step: Positive = 1e-2
    source_step: Positive = 1e-2
    adaptation: Factor = 1.5
    source_step_convergence: NonNegative = 1e-7
    update_every: Count = 10
    start_draws: Count = 1_000
    blend_steps: Count = 50
    votes: Odd = 1
    retest: Whole = 0
    sigma_hat: str = "0"
    floor: NonNegative = 0.1
    confirm: Whole = 0

    def __post_init__(self) -> None:
        check_scale(self.sigma_hat)


class _Window:
    """The last `size` answers of each image, emptied when they have led to a change."""

    def __init__(self, images: int, size: int, device: torch.device) -> None:
        self.answers = torch.zeros(images, size, device=device)
        self.filled = torch.zeros(images, dtype=torch.int64, device=device)
        self.size = size

    def push(self, image: Tensor, answer: Tensor) -> None:
        self.answers[image, self.filled[image] % self.size] = answer.to(self.answers.dtype)
        self.filled[image] += 1

    def empty(self, image: Tensor) -> None:
        self.filled[image] = 0

    def rates(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Owners whose window is full, and their share of adversarial answers."""
        full = image[self.filled[image] >= self.size]
        return full, self.answers[full].mean(1)


def run(oracle: Oracle, streams: Streams, options: Options | boundary_art.Options) -> None:
    """Walks along the boundary towards the clean image until the budget ends or ε has converged."""
    if isinstance(options, boundary_art.Options):
        boundary_art.run(oracle, streams, options)
        return
    o, n, device = options, len(oracle.x0), oracle.x0.device
    sigma_hat = noise_scale(oracle, streams, o.sigma_hat)
    submit = submitting(oracle, o.confirm)
    a = blended_start(oracle, streams, o)
    delta = torch.full((n,), o.spherical_step, device=device)
    epsilon = torch.full((n,), o.source_step, device=device)
    sphere, step = _Window(n, SPHERE_WINDOW, device), _Window(n, STEP_WINDOW, device)
    for k in range(1, o.steps + 1):
        image = active(oracle)
        oracle.retire(image[epsilon[image] < o.source_step_convergence], "converged")
        oracle.retire(image[oracle.distance(a[image], image) < COLLAPSED], "collapsed")
        image = active(oracle)
        if not len(image):
            break
        x = oracle.x0[image]
        least = o.floor * sigma_hat[image] / norms(x - a[image]).clamp_min(COLLAPSED)
        delta[image] = torch.maximum(delta[image], least.to(delta) * x[0].numel() ** 0.5)
        epsilon[image] = torch.maximum(epsilon[image], least.to(epsilon))
        s, c = propose(x, a[image], delta[image], epsilon[image], streams, image)
        closer = norms(c - x) < norms(a[image] - x)
        answer_c = oracle.adversarial(c, image, "candidate")
        accepted = (answer_c == 1) & closer
        if o.votes > 1:
            sure = majority(oracle, c[accepted], image[accepted], "confirm", o.votes) == 1
            accepted[accepted.clone()] = sure
        a[image[accepted]] = c[accepted]
        if not o.confirm:
            oracle.submit(c[accepted], image[accepted])
        if o.retest and k % o.retest == 0:
            moved = _retest(oracle, a, image, o.votes)
            who = image if o.confirm else moved
            submit(a[who], sigma_hat[who], who)
        if k % o.update_every == 0:
            answer_s = oracle.adversarial(s, image, "sphere")
            ok = (answer_s != REFUSED) & (answer_c != REFUSED)
            sphere.push(image[ok], answer_s[ok])
            step.push(image[ok], answer_c[ok])
            adapt(sphere, image[ok], (delta, epsilon), 0.2, 0.5, o.adaptation)
            adapt(step, image[ok], (epsilon,), 0.1, 0.25, o.adaptation)
    oracle.retire(active(oracle), "exhausted")


def _retest(oracle: Oracle, a: Tensor, image: Tensor, votes: int) -> Tensor:
    """Moves the incumbents out by 5 % whose majority is no longer adversarial; returns their images."""
    failed = image[majority(oracle, a[image], image, "retest", votes) == 0]
    out = torch.full((len(failed),), 1.05, device=a.device)
    a[failed] = straight(oracle.x0[failed], a[failed], out).clamp_(0.0, 1.0)
    return failed


def blended_start(oracle: Oracle, streams: Streams, o: Options) -> Tensor:
    """Uniform noise, blended towards the clean image up to the first adversarial of the equidistant points."""
    noise, image = uniform_start(oracle, streams, o.start_draws)
    a = noise.clone()
    for k in range(1, o.blend_steps):
        if not len(image):
            break
        e = torch.full((len(image),), k / o.blend_steps, device=noise.device)
        blend = straight(oracle.x0[image], noise[image], e)
        answer = oracle.adversarial(blend, image, "start")
        hit = answer == 1
        a[image[hit]] = blend[hit]
        oracle.submit(blend[hit], image[hit])
        image = image[answer == 0]
    return a


def propose(
    x: Tensor, a: Tensor, delta: Tensor, epsilon: Tensor, streams: Streams, image: Tensor
) -> tuple[Tensor, Tensor]:
    """A point on the sphere around `x` through `a`, and the candidate a source step further in.

    Args:
        x: clean images ``[n, C, H, W]``.
        a: incumbents ``[n, C, H, W]``.
        delta: ``[n]``, relative orthogonal step.
        epsilon: ``[n]``, relative source step.
        streams: of the direction η.
        image: ``[n]``, whose streams.

    Returns:
        (s, c), both ``[n, C, H, W]`` in [0, 1].
    """
    v = x - a
    distance = per_image(norms(v), x)
    toward = v / distance
    eta = streams.normal(image, x)
    eta = eta - per_image((eta * toward).flatten(1).sum(1), x) * toward
    d, e = per_image(delta, x), per_image(epsilon, x)
    eta = eta * (d * distance / per_image(norms(eta), x))
    s = (x + (eta - v) / torch.sqrt(1 + d**2)).clamp_(0.0, 1.0)
    gap = per_image(norms(x - s), x)
    length = (e * distance + gap - distance).clamp_min(0.0) / gap  # undoes what clipping shrank
    return s, (s + length * (x - s)).clamp_(0.0, 1.0)


def adapt(window: _Window, image: Tensor, steps: tuple[Tensor, ...], low: float, high: float, factor: float) -> None:
    """Lengthens `steps` where a full window's rate is above `high`, shortens them where it is below `low`."""
    full, rate = window.rates(image)
    for chosen, change in ((full[rate > high], factor), (full[rate < low], 1 / factor)):
        for step in steps:
            step[chosen] *= change
        window.empty(chosen)


def scales(o: Options | boundary_art.Options, d: int, distance: float, sigma: float) -> Scales:
    """The orthogonal step, of which 1/√d is along the normal, and the step towards the clean image."""
    if isinstance(o, boundary_art.Options):
        return o.delta * distance / d**0.5, o.epsilon * distance
    least = o.floor * known_scale(o.sigma_hat, sigma)
    return max(o.spherical_step * distance / d**0.5, least), max(o.source_step * distance, least)


SPEC = AttackSpec[Options | boundary_art.Options](
    name="ba",
    access="labels",
    norms=("l2",),
    presets={
        "foolbox": Preset(Options(), source="Brendel, Rauber, Bethge, ICLR 2018", note="the form of Foolbox 3"),
        "art": Preset(
            boundary_art.Options(),
            source="Adversarial Robustness Toolbox",
            note="the form of ART ≥ 1.6: blocks of 20 proposals, quits after 25 failed trials",
        ),
        "art12": Preset(
            boundary_art.ART_1_2,
            source="Adversarial Robustness Toolbox",
            note="the form of ART 1.2.0, which the paper cites: keeps the start's class, does not converge on a "
            "half-space",
        ),
        "art13": Preset(
            boundary_art.ART_1_3,
            source="Adversarial Robustness Toolbox",
            note="the form of ART 1.3 to 1.5: as `art12`, but back on the sphere",
        ),
        "na": Preset(
            Options(votes=5, retest=50, sigma_hat=ESTIMATE, confirm=9),
            noise_aware=True,
            ours=True,
            note="five answers must agree to a step, the incumbent is asked again, a confirmed point is submitted",
        ),
    },
    summary="Boundary Attack (Brendel, Rauber, Bethge 2018)",
    run=run,
    targeted=True,
    scales=scales,
    wider=("spherical_step=0.1", "delta=0.1"),
    told="sigma_hat={}",
    uses_eps="confirm",
)
