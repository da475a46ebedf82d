"""Square Attack (Andriushchenko, Croce, Flammarion and Hein, ECCV 2020), untargeted, L2 or L∞.

Random squares at the edge of the ball, kept where the margin improves. Differs from the authors' code: windows, signs
and shapes are drawn for each image (theirs shares them over the batch); the budget counts the first point, so there
are Q - 1 proposals; the clean image is not asked again; the last window offset is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sndcli.attacks.common.geometry import active, norms, per_image
from sndcli.attacks.common.scores import Incumbent, averaged, stop_at_success
from sndcli.attacks.ranges import Count, PositiveShare, Whole
from sndcli.attacks.spec import AttackSpec, Preset
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of p, in iterations of a run of 10,000


@dataclass(frozen=True)
class Options:
    """Hyper-parameters.

    Attributes:
        p_init: share of the image that the first square covers.
        rescale: stretch the schedule of p to the budget.
        draws: answers averaged for a proposal (ours; for noisy models).
        requery: ask the incumbent once more for each proposal and compare with its mean (ours).
        confirm: further answers, at most, most of which must be wrong before an attack ends (ours); 0 asks none.
    """

    p_init: PositiveShare = 0.8
    rescale: bool = False
    draws: Count = 1
    requery: bool = False
    confirm: Whole = 0


def share(iteration: int, budget: int, options: Options) -> float:
    """p at an iteration: halved at each of `HALVINGS`, ..., 512 times smaller at the end."""
    at = iteration * 10_000 // budget if options.rescale else iteration
    halvings = sum(at > limit for limit in HALVINGS)
    return options.p_init * 0.5**halvings


def run(oracle: Oracle, streams: Streams, options: Options) -> None:
    """Attacks every active image until success or the end of its budget."""
    n, everyone = len(oracle.x0), torch.arange(len(oracle.x0), device=oracle.x0.device)
    linf = oracle.norm == "linf"
    criterion = oracle.criterion
    loss = criterion.cross_entropy if criterion.targeted else criterion.margin  # as the authors'
    best, x = Incumbent(oracle.x0.new_full((n,), -torch.inf)), oracle.x0.clone()
    questions = oracle.budget // (oracle.votes * (options.draws + options.requery))
    oracle.submit(x, everyone)
    for iteration in range(oracle.budget):
        image = active(oracle)
        if options.requery and iteration and len(image):
            best.again(image, loss(oracle.scores(x[image], image, "incumbent"), image))
            image = active(oracle)
        if not len(image):
            break
        x0, now = oracle.x0[image], x[image]
        if iteration == 0:
            trial = (stripes if linf else mosaic)(x0, oracle.eps, streams, image)
        else:
            p = share(iteration - 1, max(1, questions), options)
            trial = (linf_step if linf else l2_step)(x0, now, oracle.eps, p, streams, image)
        scores = averaged(oracle, trial, image, "proposal", options.draws)
        value = loss(scores, image)
        taken = (value > best.value(image)) | ((value >= 0) & (not options.requery))
        x[image[taken]] = trial[taken]
        best.replace(image[taken], value[taken], options.draws)
        oracle.submit(trial[taken], image[taken])
        stop_at_success(oracle, trial, image, scores, options.confirm)
    oracle.retire(active(oracle), "budget")


def signs(shape: tuple[int, ...], like: Tensor, streams: Streams, image: Tensor) -> Tensor:
    """±1, each with probability ½: ``[n, *shape]``, a row for each of `image` ``[n]``."""
    return (streams.uniform(image, like.new_empty(1, *shape)) >= 0.5).to(like.dtype) * 2 - 1


def stripes(x0: Tensor, eps: float, streams: Streams, image: Tensor) -> Tensor:
    """L∞ start: vertical stripes of ±ε, one sign a channel and column."""
    _, channels, _, width = x0.shape
    return (x0 + eps * signs((channels, 1, width), x0, streams, image)).clamp(0.0, 1.0)


def windows(size: int, like: Tensor, streams: Streams, image: Tensor) -> Tensor:
    """``[n, 2]`` upper left corners of squares inside images of the height and width of `like`."""
    u = streams.uniform(image, like.new_empty(1, 2, dtype=torch.float64))
    return (u * (torch.tensor(like.shape[2:], device=u.device) - size + 1)).long()


def mask_of(corner: Tensor, size: int, like: Tensor) -> Tensor:
    """bool ``[n, 1, H, W]``: inside each image's square."""
    row, column = (torch.arange(side, device=corner.device) for side in like.shape[2:])
    down = (row >= corner[:, :1]) & (row < corner[:, :1] + size)
    across = (column >= corner[:, 1:]) & (column < corner[:, 1:] + size)
    return (down[:, :, None] & across[:, None, :])[:, None]


def linf_step(x0: Tensor, x: Tensor, eps: float, p: float, streams: Streams, image: Tensor) -> Tensor:
    """Moves one square by ±2ε a channel and clips back to the ball."""
    channels, height, width = x.shape[1:]
    size = min(height, width, max(1, round((p * height * width) ** 0.5)))
    inside = mask_of(windows(size, x, streams, image), size, x)
    moved = x + 2 * eps * signs((channels, 1, 1), x, streams, image) * inside
    return torch.minimum(torch.maximum(moved, x0 - eps), x0 + eps).clamp_(0.0, 1.0)


def bump(height: int, width: int) -> Tensor:
    """``[height, width]`` of unit norm: Σ_k 1/(k+1)² on rectangles of half-width k around the centre."""
    found: Tensor = torch.zeros(height, width)
    row, column = height // 2, width // 2
    for k in range(max(row, column) + 1):
        found[max(row - k, 0) : row + k + 1, max(column - k, 0) : column + k + 1] += 1 / (k + 1) ** 2
    return found / norms(found[None])


def eta(size: int) -> Tensor:
    """``[size, size]`` of unit norm: a positive bump above a negative one."""
    found = torch.cat([bump(size // 2, size), -bump(size - size // 2, size)])
    return found / norms(found[None])


def mosaic(x0: Tensor, eps: float, streams: Streams, image: Tensor) -> Tensor:
    """L2 start: 5 x 5 tiles of `eta` with random signs, the largest that fit, in the middle, scaled to norm ε."""
    n, (channels, height, width) = len(x0), x0.shape[1:]
    size = max(min(height, width) // 5, 1)
    top, left = (height - 5 * size) // 2, (width - 5 * size) // 2
    tile = eta(size).to(x0) if size > 1 else torch.ones(1, 1).to(x0)
    sign = signs((channels, 5, 5), x0, streams, image)
    plane = torch.einsum("ncij,ab->nciajb", sign, tile).reshape(n, channels, 5 * size, 5 * size)
    d = torch.zeros_like(x0)
    d[:, :, top : top + 5 * size, left : left + 5 * size] = plane
    return (x0 + eps * d / per_image(norms(d), d)).clamp(0.0, 1.0)


def l2_step(x0: Tensor, x: Tensor, eps: float, p: float, streams: Streams, image: Tensor) -> Tensor:
    """Moves the mass of one square, and what is left of ε, into another (paper, algorithm 3)."""
    n, (channels, height, width) = len(x), x.shape[1:]
    size, shorter = max(round((p * height * width) ** 0.5), 3), min(height, width)
    size = min(size + (size % 2 == 0), shorter - (shorter % 2 == 0))
    d = x - x0
    first, second = (windows(size, x, streams, image) for _ in range(2))
    one, two = mask_of(first, size, x), mask_of(second, size, x)
    pattern = eta(size).to(x)
    upright = streams.uniform(image, x.new_empty(1)) < 0.5
    pattern = torch.where(upright[:, None, None], pattern, pattern.T)
    sign = signs((channels, 1, 1), x, streams, image)
    content = (d * one)[one.expand_as(d)].view(n, channels, size, size)
    nu = sign * pattern[:, None] + content / (content.flatten(2).norm(dim=2)[..., None, None] + 1e-12)
    rest = (eps**2 - norms(d) ** 2).clamp_min(0.0)[:, None] / channels
    target = (rest + (d * (one | two)).flatten(2).norm(dim=2) ** 2).sqrt()[..., None, None]
    nu = nu * target / (nu.flatten(2).norm(dim=2)[..., None, None] + 1e-12)
    moved = d.masked_fill(two, 0.0).masked_scatter(one.expand_as(d), nu)
    return (x0 + eps * moved / per_image(norms(moved).clamp_min(1e-12), moved)).clamp_(0.0, 1.0)


SOURCE = "Andriushchenko et al., ECCV 2020"
SPEC = AttackSpec(
    name="square",
    access="scores",
    norms=("l2", "linf"),
    presets={
        "paper": Preset(Options(p_init=0.1, rescale=True), source=SOURCE, note="p = 0.1, rescaled to the budget"),
        "autoattack": Preset(Options(), source="AutoAttack", note="p = 0.8, no rescaling"),
        "na": Preset(
            Options(p_init=0.1, rescale=True, draws=2, requery=True, confirm=25),
            noise_aware=True,
            ours=True,
            note="proposals averaged over two answers, the incumbent is asked again, success must be confirmed",
        ),
    },
    summary="Square Attack (Andriushchenko, Croce, Flammarion, Hein 2020)",
    run=run,
    targeted=True,
    by_norm={"linf": "autoattack"},
)
