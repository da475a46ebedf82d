"""Clean image, submitted image and amplified perturbation, side by side, from the points beside result files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sndcli.analysis.frame import Frame
from sndcli.analysis.setting import NORMS
from sndcli.ball import within
from sndcli.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_RUN = 3  # pictures of each run
MOST = 24  # in all
OUTSIDE = "#D55E00"  # the frame of what lies outside ε
Pixels = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Shown:
    """One image of a gallery; pixels are ``[H, W, C]`` in [0, 1].

    Attributes:
        run: the run in words.
        clean, submitted: the images.
        amplified: ``0.5 + gain · (submitted - clean)``.
        gain: how much.
        was, now: the true class, and what the undefended model calls `submitted`.
        distance: in the run's norm.
        norm: its name.
        eps, radius: the run's bound, as a number and in words.
        p_adv: share of fresh draws of the defended model that err on `submitted`.
    """

    run: str
    clean: Pixels
    submitted: Pixels
    amplified: Pixels
    gain: float
    was: str
    now: str
    distance: float
    norm: str
    eps: float
    radius: str
    p_adv: float

    @property
    def inside(self) -> bool:
        """Whether it is within the bound."""
        return bool(within(self.distance, self.eps))

    def reach(self) -> str:
        """``L2 distance 2.31, outside ε = 1``."""
        where = "inside" if self.inside else "outside"
        return f"{self.norm} distance {self.distance:.3g}, {where} ε = {self.radius}"

    def caption(self) -> str:
        """Labels and distance in words."""
        return (
            f"{self.was} → {self.now} (undefended); {self.reach()}; the defended model errs "
            f"in {100 * self.p_adv:.0f} % of fresh draws"
        )


def _name(names: Sequence[str], label: int) -> str:
    """Of a label; there is none where the model did not answer."""
    return names[label] if label >= 0 else "no answer"


def choose(frames: Sequence[Frame], each: int = OF_RUN, most: int = MOST) -> list[Shown]:
    """The first images of each run that have a point, closest distances not preferred.

    Args:
        frames: the runs.
        each: pictures of a run; fewer where `most` would not do for all runs, but one at least.
        most: in all.

    Raises:
        DataError: no run has its points beside it.
    """
    from sndcli.runs import points

    paths = [(f, points.path_of(f.path)) for f in frames if f.path is not None]
    able = [(f, path) for f, path in paths if path.is_file()]
    if not able:
        raise DataError("A gallery needs the points of a run: `snd attack --save-points` keeps them.")
    each = max(1, min(each, most // len(able)))
    found: list[Shown] = []
    for frame, path in able[:most]:
        kept = points.read(path)
        if kept.run_id != frame.run["id"]:
            raise DataError(f"{path} belongs to another run than {frame.path}.")
        where = {pair: k for k, pair in enumerate(zip(frame.seed.tolist(), frame.image.tolist(), strict=True))}
        with_point = kept.has_submitted.nonzero().squeeze(1).tolist()
        for k in with_point[:each]:
            row = where[int(kept.seed[k]), int(kept.image_id[k])]
            clean = kept.clean[k].permute(1, 2, 0).numpy() / np.float32(255)
            submitted = kept.submitted[k].permute(1, 2, 0).numpy()
            change = submitted - clean
            gain = 0.5 / max(float(np.abs(change).max()), 1e-6)
            names = kept.classes
            found.append(
                Shown(
                    f"{frame.setting.attacked}, {frame.setting.defended}, Q={frame.budget:,}",
                    clean, submitted, np.clip(0.5 + gain * change, 0, 1), gain,
                    _name(names, int(kept.label[k])), _name(names, int(kept.bare_label[k])),
                    float(frame.submitted[row, -1]),
                    NORMS.get(frame.setting.norm, frame.setting.norm), frame.setting.eps, frame.setting.radius,
                    float(frame.p_adv_submitted[row, -1]),
                )
            )  # fmt: skip
    if not found:
        raise DataError("No attack submitted a point: there is nothing to show.")
    return found


def draw(shown: Sequence[Shown]) -> Figure:
    """Three pictures an image, as rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.25 * len(shown) + 0.3), layout="constrained")
    grid = figure.subplots(len(shown), 3, squeeze=False)
    for axes, image in zip(grid, shown, strict=True):
        texts = (
            f"clean: {image.was}",
            f"submitted: {image.now} (undefended)\ndefended errs in {100 * image.p_adv:.0f} %",
            f"perturbation × {image.gain:.3g}\n{image.reach()}",
        )
        for place, picture, text in zip(axes, (image.clean, image.submitted, image.amplified), texts, strict=True):
            _show(place, picture)
            place.set_title(text, fontsize=8)
        if not image.inside:
            for spine in axes[1].spines.values():
                spine.set(visible=True, color=OUTSIDE, linewidth=2, linestyle=(0, (4, 2)))
        axes[0].set_ylabel(image.run.replace(", ", "\n"), fontsize=8, rotation=0, ha="right", va="center")
    return figure


def _show(axes: Any, picture: Pixels) -> None:
    axes.imshow(
        picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
