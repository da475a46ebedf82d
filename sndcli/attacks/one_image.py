"""From anybody's attack on one image to an attack of `snd`: exact budget, many images a batch, judged by the oracle.

Example:
    >>> def nearest_grey(predict, x, y, *, steps: int = 8):
    ...     best = x
    ...     for k in range(1, steps + 1):
    ...         candidate = x + (0.5 - x) * k / steps
    ...         if predict(candidate) != y:
    ...             return candidate
    ...     return best
    >>> one_image(nearest_grey).presets["default"].options
    Options(steps=8)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, field, make_dataclass
from functools import partial
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sndcli.attacks.common.geometry import active
from sndcli.attacks.common.turns import Turn, take_turns
from sndcli.attacks.spec import API, Access, AttackSpec, Options, Preset
from sndcli.errors import ConfigError
from sndcli.queries.oracle import Oracle
from sndcli.streams import Streams
from sndcli.values import annotations_of

Pixels = Tensor | NDArray[Any]
OneImage = Callable[..., Pixels | None]  # f(predict, x, y, *, option=default, ...) -> x_adv


class Predict:
    """The model as an attack on one image sees it; every point that it is called with is a paid query.

    Attributes:
        norm: ``l2`` or ``linf``.
        eps: the bound ε, on the [0, 1] pixel scale.
        budget: paid queries, at most, the check of the clean image included.
    """

    def __init__(self, ask: Callable[[Tensor], Tensor], oracle: Oracle) -> None:
        self._ask, self._shape = ask, oracle.x0.shape[1:]
        self.norm, self.eps, self.budget = oracle.norm, oracle.eps, oracle.budget

    @overload
    def __call__(self, points: Tensor) -> Tensor: ...
    @overload
    def __call__(self, points: NDArray[Any]) -> NDArray[Any]: ...
    def __call__(self, points: Pixels) -> Pixels:
        """Labels int64 ``[n]`` or probabilities ``[n, K]`` of points in [0, 1], ``[n, C, H, W]`` or ``[C, H, W]``.

        Tensors are answered with tensors and arrays with arrays; one point by an answer of one row.

        Raises:
            ValueError: points of another shape.
            Ended: a `BaseException`: the budget is spent. Let it pass.
        """
        given = torch.as_tensor(points).detach().to("cpu", torch.float32)
        batch = given[None] if given.ndim == len(self._shape) else given
        if batch.shape[1:] != self._shape:
            raise ValueError(f"Expected points of shape [n, {', '.join(map(str, self._shape))}] but got {given.shape}.")
        answer = self._ask(batch)
        return answer.numpy() if isinstance(points, np.ndarray) else answer


def one_image(
    f: OneImage,
    *,
    name: str | None = None,
    access: Access = "labels",
    norms: Sequence[str] = ("l2", "linf"),
    noise_aware: bool = False,
    source: str = "",
) -> AttackSpec[Options]:
    """An attack that runs `f` on each image.

    The images take turns, so that their questions share a batch. `f` may draw from the global generators of torch,
    numpy and Python: each image has states of its own, seeded by the run. Until `f` returns, an image submits its
    closest paid query that was answered wrong. One that raises ends its image alone, with the reason in its row.

    Args:
        f: ``f(predict, x, y, *, option=default, ...)``; `predict` is a `Predict`, `x` a float32 tensor ``[C, H, W]`` in
            [0, 1] on the CPU, `y` an int. Its options become those of ``--set``.
        name: as it is called in tables; by default the function's.
        access: ``labels`` or ``scores``: what `predict` answers.
        norms: that it minimises; the first is the default. `f` reads the one of a run from ``predict.norm``.
        noise_aware: whether it knows that answers may be random.
        source: where it is published.

    Raises:
        ConfigError: `f` does not take three arguments, or an option without a default.
    """
    called = name or getattr(f, "__name__", type(f).__name__).replace("_", "-")
    options = _options(f, called)
    documented = (inspect.getdoc(f) or "").splitlines()
    run = partial(_run, f, access == "scores")
    run.__module__ = getattr(f, "__module__", __name__)  # whose source a run's identity holds
    return AttackSpec(
        name=called,
        access=access,
        norms=tuple(norms),
        presets={"default": Preset(options(), noise_aware=noise_aware, source=source)},
        summary=documented[0].rstrip(".") if documented else "an attack on one image at a time",
        run=run,
        api=API,
    )


def _options(f: OneImage, name: str) -> type[Options]:
    """A dataclass of the options of `f`."""
    given = list(inspect.signature(f).parameters.values())
    hints = annotations_of(f)
    for parameter in given[3:]:
        if parameter.default is parameter.empty:
            raise ConfigError(f"Expected `{name}(predict, x, y, ...)` to have a default for `{parameter.name}`.")
    if len(given) < 3:
        raise ConfigError(f"Expected `{name}` to take (predict, x, y) but it takes {len(given)} arguments.")
    fields = [(p.name, hints.get(p.name, type(p.default)), field(default=p.default)) for p in given[3:]]
    return make_dataclass("Options", fields, frozen=True)


def _run(f: OneImage, scores: bool, oracle: Oracle, streams: Streams, options: Options) -> None:
    seeds = streams.seeds(torch.arange(len(oracle.x0)))
    x0, y = oracle.x0.cpu(), oracle.y.tolist()
    by_name = asdict(options)

    def code(i: int, ask: Callable[[Tensor], Tensor]) -> Tensor | None:
        found = f(Predict(ask, oracle), x0[i].clone(), y[i], **by_name)
        if found is None:
            return None
        point = torch.as_tensor(found).detach().to("cpu", torch.float32).reshape(-1)
        if point.numel() != x0[i].numel():
            raise ValueError(f"expected a point of shape {list(x0[i].shape)} but got {list(np.shape(found))}")
        return point.reshape(x0[i].shape)

    take_turns(oracle, [Turn(partial(code, i), i, seeds[i]) for i in active(oracle).tolist()], scores)
