"""GeoDA (Rahmati, Moosavi-Dezfooli, Frossard and Dai, CVPR 2020), untargeted, L2 or L∞.

Estimates the normal of the boundary in a low-frequency DCT subspace and goes from the clean image along it. The
queries are allocated to iterations in advance from the whole budget, so a small report point of a long run is not
what a run planned for that budget would reach.

Differs from the authors' code: pixels in [0, 1] instead of normalised ones; probes are clipped and their directions
recomputed; the clean image is not asked again in each search; loops are capped; when no step along the normal is
adversarial the old boundary point stays; the closest boundary point is submitted, not the last. On 32 x 32 images
10 of 32 frequencies are used, as 75 of 224 on larger ones. The authors' probe, step and width are numbers of their
space, 224 x 224 pixels over a standard deviation; `geoda_plan.rescaled` brings them to [0, 1] and to the image's size.
Preset ``raw-224`` takes the bare numbers for pixels in [0, 1] instead, as ports of the attack do (on 32 x 32 images a
step of 5 leaves the box); ``step1`` is that with BlackboxBench's step. The bisection's width must stay below half the
probe's scale (ART's default of 0.1 makes every probe answer alike).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.confirm import submitting
from sndcli.attacks.common.dct import dct_rows, low_frequencies
from sndcli.attacks.common.geometry import block_size, norms, per_image, submit_closer, take_turns
from sndcli.attacks.common.noise import ESTIMATE, check_scale, known_scale, noise_scale, voted_but_first
from sndcli.attacks.decision.geoda_plan import PROBE, RESERVE, STEP, TOLERANCE, allocate, rescaled
from sndcli.attacks.ranges import Count, NonNegative, Odd, Positive, Side, Whole
from sndcli.attacks.spec import AttackSpec, Preset, Scales
from sndcli.ball import COLLAPSED
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams

SEARCH, HALVE, PROBING, GO = range(4)
MAX_HALVES = 60


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        probe: σ of the probes, on the [0, 1] pixel scale; 0 means the authors', rescaled.
        tolerance: width of the bisections, in L2; at most half of `probe` is sensible; 0 as above.
        sub_dim: DCT frequencies an axis; 0 means 75/224 of the side, rounded down.
        allocation: λ; the queries of successive iterations grow by λ^(-2/3).
        step: length of the steps along the summed normal; 0 as above.
        steps: of them, at most.
        start_draws: noise images of growing size tried, at most.
        sigma_hat: the model's noise (ours): a number, or ``estimate`` to measure it; `probe` is at least 2σ̂ and
            `tolerance` at least half of that.
        votes: odd, answers behind every decision but the probes (ours).
        confirm: with a number, a point 2 % and 2σ̂ further out is submitted that so many answers confirm (ours).
    """

    probe: NonNegative = 0.0
    tolerance: NonNegative = 0.0
    sub_dim: Side = 0
    allocation: Positive = 0.6
    step: NonNegative = 0.0
    steps: Count = 100
    start_draws: Count = 1_000
    sigma_hat: str = "0"
    votes: Odd = 1
    confirm: Whole = 0

    def __post_init__(self) -> None:
        check_scale(self.sigma_hat)


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until its allocation or its budget ends."""
    sigma_hat = noise_scale(oracle, streams, options.sigma_hat)
    take_turns(oracle, _Machine(oracle, streams, options, sigma_hat).turn)


class _Machine:
    """The state of all N images; b is the boundary point, `gradient` the sum of the normals' estimates."""

    def __init__(self, oracle: Oracle, streams: Streams, options: Options, sigma_hat: Tensor) -> None:
        x0, device = oracle.x0, oracle.x0.device
        n, size = len(x0), x0.shape[2:]
        sub_dim = options.sub_dim or max(1, 75 * min(size) // 224)
        self.oracle, self.streams, self.o = oracle, streams, options
        self.rows, self.columns = (dct_rows(side)[:sub_dim].to(device) for side in size)
        self.plan = torch.tensor(allocate(oracle.budget // oracle.votes, options.allocation), device=device)
        probe, tolerance, self.step = rescaled(
            options.probe, options.tolerance, options.step, x0[0].numel(), oracle.norm
        )
        self.probe = (2 * sigma_hat).clamp_min(probe)
        self.tolerance = sigma_hat.clamp_min(tolerance)
        self.sigma_hat, self.submit = sigma_hat, submitting(oracle, options.confirm)
        self.reserve = RESERVE * (options.votes + 1) // 2
        self.state = torch.full((n,), SEARCH, device=device)
        self.b, self.far, self.near = x0.clone(), x0.clone(), x0.clone()
        self.gradient, self.sum = torch.zeros_like(x0), torch.zeros_like(x0)
        self.count, self.k, self.iteration = (torch.zeros(n, dtype=torch.int64, device=device) for _ in range(3))
        self.quota = torch.zeros_like(self.count)
        self.reached = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.k += 1

    def turn(self, image: Tensor) -> None:
        """One batch: a block of probes of every image that probes, one query of every other."""
        state = self.state[image]
        probing, single = image[state == PROBING], image[state != PROBING]
        nth, eta, probes = self._probes(probing)
        kinds = [("start", single[self.state[single] == SEARCH]), ("line", single[self.state[single] == GO]),
                 ("bisection", single[self.state[single] == HALVE])]  # fmt: skip
        points = [self._noise(kinds[0][1]), self._along(kinds[1][1]), self._middle(kinds[2][1])]
        split = [len(nth), *(len(who) for _, who in kinds)]
        phases = list(zip(("gradient", *(name for name, _ in kinds)), split, strict=True))
        rows = torch.cat([probing[nth], *(who for _, who in kinds)])
        replies = voted_but_first(self.oracle, torch.cat([probes, *points]), rows, phases, self.o.votes).split(split)
        self._gather(probing, nth, eta, replies[0])
        steps = (self._searched, self._went, self._halved)
        for (_, who), sent, reply, step in zip(kinds, points, replies[1:], steps, strict=True):
            ok = reply != REFUSED
            step(who[ok], sent[ok], reply[ok] == 1)

    # -- questions -------------------------------------------------------------------------------------------

    def _noise(self, image: Tensor) -> Tensor:
        noise = self.streams.normal(image, self.oracle.x0)
        return (self.oracle.x0[image] + 0.02 * per_image(self.k[image], noise) * noise).clamp_(0.0, 1.0)

    def _along(self, image: Tensor) -> Tensor:
        direction = self.gradient[image]
        if self.oracle.norm == "linf":
            direction = direction.sign() / per_image(norms(direction).clamp_min(1e-12), direction)
        length = self.step * per_image(self.k[image], direction)
        return (self.oracle.x0[image] + length * direction).clamp_(0.0, 1.0)

    def _middle(self, image: Tensor) -> Tensor:
        return (self.near[image] + self.far[image]) / 2

    def _probes(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x0 = self.oracle.x0
        take = torch.clamp(self.quota[image] - self.count[image], max=block_size(len(x0), x0[0].numel()))
        nth = torch.repeat_interleave(torch.arange(len(image), device=image.device), take)
        weights = self.streams.normal(image[nth], x0.new_empty(1, x0.shape[1], len(self.rows) * len(self.columns)))
        eta = low_frequencies(weights, self.rows, self.columns)
        b = self.b[image[nth]]
        probe = per_image(self.probe[image[nth]], b)
        probes = (b + probe * eta).clamp_(0.0, 1.0)
        return nth, (probes - b) / probe, probes

    # -- answers ---------------------------------------------------------------------------------------------

    def _searched(self, image: Tensor, sent: Tensor, hit: Tensor) -> None:
        self.oracle.submit(sent[hit], image[hit])
        self._bisect(image[hit], sent[hit])
        miss = image[~hit]
        self.k[miss] += 1
        self.oracle.retire(miss[self.k[miss] > self.o.start_draws], "init_failed")

    def _bisect(self, image: Tensor, far: Tensor) -> None:
        self.near[image], self.far[image] = self.oracle.x0[image], far
        self.k[image] = 0
        self.state[image] = HALVE

    def _halved(self, image: Tensor, sent: Tensor, hit: Tensor) -> None:
        ended = ((sent == self.far[image]) | (sent == self.near[image])).flatten(1).all(1)  # as fine as float32 is
        self.far[image[hit]], self.near[image[~hit]] = sent[hit], sent[~hit]
        self.k[image] += 1
        width = norms(self.far[image] - self.near[image])
        done = image[(width < self.tolerance[image]) | ended | (self.k[image] >= MAX_HALVES)]
        self.b[done] = self.far[done]
        if self.o.confirm:
            self.submit(self.b[done], self.sigma_hat[done], done)
        else:
            submit_closer(self.oracle, self.b[done], done, self.reached)
        self.oracle.retire(done[self.oracle.distance(self.b[done], done) < COLLAPSED], "collapsed")
        self._begin(done)

    def _begin(self, image: Tensor) -> None:
        """The next iteration's probes; the last iterations shrink to what is left beyond the reserve."""
        left = self.oracle.remaining[image] - self.reserve
        over = (self.iteration[image] >= len(self.plan)) | (left < 1)
        self.oracle.retire(image[over], "exhausted")
        image, left = image[~over], left[~over]
        self.quota[image] = torch.minimum(self.plan[self.iteration[image]], left)
        self.iteration[image] += 1
        self.count[image] = 0
        self.sum[image] = 0.0
        self.state[image] = PROBING

    def _gather(self, image: Tensor, nth: Tensor, eta: Tensor, reply: Tensor) -> None:
        ok = reply != REFUSED
        sign = (2 * reply[ok] - 1).to(eta.dtype)
        self.sum.index_add_(0, image[nth[ok]], eta[ok] * per_image(sign, eta))
        self.count.index_add_(0, image[nth[ok]], torch.ones_like(reply[ok]))
        done = image[self.count[image] >= self.quota[image]]
        self.gradient[done] += self.sum[done] / per_image(self.quota[done], self.sum)
        self.k[done] = 1
        self.state[done] = GO

    def _went(self, image: Tensor, sent: Tensor, hit: Tensor) -> None:
        self._bisect(image[hit], sent[hit])
        miss = image[~hit]
        self.k[miss] += 1
        self._begin(miss[self.k[miss] > self.o.steps])


def scales(o: Options, d: int, distance: float, sigma: float) -> Scales:  # noqa: ARG001
    """Lengths of its own, whatever the distance."""
    noise, (probe, tolerance, _) = known_scale(o.sigma_hat, sigma), rescaled(o.probe, o.tolerance, o.step, d)
    return max(probe, 2 * noise), max(tolerance, noise)


SPEC = AttackSpec(
    name="geoda",
    access="labels",
    norms=("l2", "linf"),
    presets={
        "authors": Preset(
            Options(),
            source="Rahmati et al., CVPR 2020",
            note="step 5, probe 2e-4, width 1e-4 in their space, rescaled to the image",
        ),
        "raw-224": Preset(
            Options(PROBE, TOLERANCE, step=STEP),
            source="ports of the authors' code",
            note="those numbers taken for pixels in [0, 1]",
        ),
        "step1": Preset(
            Options(PROBE, TOLERANCE, step=1.0), source="BlackboxBench", note="as `raw-224`, steps of length 1"
        ),
        "na": Preset(
            Options(PROBE, TOLERANCE, step=1.0, sigma_hat=ESTIMATE, votes=5, confirm=9),
            noise_aware=True,
            ours=True,
            note="probes of 2σ̂, bisections that end at σ̂, majorities of five, a confirmed point; as `step1` else",
        ),
    },
    summary="GeoDA (Rahmati, Moosavi-Dezfooli, Frossard, Dai 2020)",
    run=run,
    scales=scales,
    wider=("probe=0.002", "probe=0.02"),
    floor="tolerance={}",
    told="sigma_hat={}",
    uses_eps="confirm",
)
