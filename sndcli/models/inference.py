"""The forward pass: the one place that decides how rows travel through a network.

Rows are evaluated in chunks of at most `batch_size`; a chunk is padded to a multiple of eight rows, because the
matrix kernels of the last layer differ below that size, and the same row then gets the same bits whatever the
batch it came in. Batch-norm is folded into the convolutions and activations are channels-last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sndcli.errors import ConfigError, first_line
from sndcli.models.classifier import Classifier
from sndcli.streams import drawing_part

Precision = Literal["fp32", "bf16"]
REDUCED: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16}  # what rounds more than float32
ROW_MULTIPLE = 8
COMPILED_ROWS = 16  # of a piece, on the CPU
BUCKETS = (16, 64, 128, 256, 512, 1024, 2048, 4096)  # on CUDA
_KEPT: WeakKeyDictionary[Classifier, dict[tuple[str, tuple[int, ...], str], Classifier]] = WeakKeyDictionary()


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one.

    Raises:
        ConfigError: a device this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"Device `{name}` is not available: {first_line(error)}") from None
    return device


@torch.no_grad()
def fold_batch_norm(network: nn.Module, input_size: tuple[int, ...]) -> nn.Module:
    """A copy in eval mode with every batch-norm folded into the convolution before it.

    Where tracing fails, or the traced copy does not compute the same (a network that draws its own randomness would
    be frozen by it), a plain copy.
    """
    from torch.fx.experimental.optimization import fuse

    network = deepcopy(network).cpu().eval()
    x = torch.rand(3, *input_size, generator=torch.Generator().manual_seed(0))
    try:
        folded: nn.Module = fuse(network)
        same = torch.allclose(folded(x), network(x), rtol=1e-3, atol=1e-3)
    except Exception:
        return network  # control flow that cannot be traced: slower, not wrong
    return folded if same else network


class _Padded(nn.Module):
    """Pads a chunk to a multiple of eight rows, or, compiled, cuts it into pieces that it is compiled for.

    Each size of a piece is compiled when it is first met, once for each size of images (a defense may enlarge them).
    """

    def __init__(self, network: nn.Module, sizes: Sequence[int], cuda: bool) -> None:
        super().__init__()
        self.sizes, self.overwrites = sizes, cuda
        self.network: Callable[[Tensor], Tensor] = _compiled(network, cuda) if sizes else network

    def forward(self, x: Tensor) -> Tensor:
        if not self.sizes:
            return self.network(_filled(x, -(-len(x) // ROW_MULTIPLE) * ROW_MULTIPLE))[: len(x)]
        found, start = [], 0
        for size in pieces(len(x), self.sizes):
            rows = self.network(_filled(x[start : start + size], size))
            found.append(rows.clone() if self.overwrites else rows)  # a CUDA graph writes where it wrote before
            start += size
        return torch.cat(found)[: len(x)]


def _filled(x: Tensor, rows: int) -> Tensor:
    missing = rows - len(x)
    padded = F.pad(x, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else x
    return padded.contiguous(memory_format=torch.channels_last)


def _compiled(network: nn.Module, cuda: bool) -> Callable[[Tensor], Tensor]:
    if not cuda:
        return torch.compile(network, dynamic=False, options={"freezing": True})
    from torch._dynamo import config

    config.recompile_limit = max(config.recompile_limit, 4 * len(BUCKETS))
    return torch.compile(network, dynamic=False, options={"freezing": True, "triton.cudagraphs": True})


def sizes_to_compile(device: torch.device, batch_size: int) -> tuple[int, ...]:
    """Rows of the pieces that a network is compiled for, ascending.

    On the CPU one size: as fast a row as larger ones, and kernels of another size round differently. On CUDA, where a
    piece costs a launch, all of `BUCKETS` up to a batch.
    """
    if device.type == "cpu":
        return (min(batch_size, COMPILED_ROWS),)
    return (*(size for size in BUCKETS if size < batch_size), batch_size)


def pieces(rows: int, sizes: Sequence[int]) -> list[int]:
    """Sizes of the pieces of so many rows: the largest as often as it fits, then the smallest that takes the rest.

    Example:
        >>> pieces(100, (16,)), pieces(100, (16, 64, 128)), pieces(300, (16, 64, 128)), pieces(0, (16,))
        ([16, 16, 16, 16, 16, 16, 16], [128], [128, 128, 64], [16])
    """
    whole, rest = divmod(rows, sizes[-1])
    last = [next(size for size in sizes if size >= rest)] if rest or not whole else []
    return [sizes[-1]] * whole + last


def optimise(model: Classifier, device: torch.device, sizes: Sequence[int] = ()) -> Classifier:
    """The same classifier made fast for inference: eval mode, folded batch-norm, channels-last, on `device`.

    Args:
        model: left unchanged.
        device: where the copy goes.
        sizes: where there are some, the network is also compiled (needs a C++ compiler on the CPU), for pieces of so
            many rows (`sizes_to_compile`). Logits then differ from the plain ones by rounding, about 1e-6.
    """
    return ready(fold_batch_norm(model.network, model.input_size), model, device, sizes)


def compiled(model: Classifier, device: torch.device, sizes: tuple[int, ...], precision: Precision) -> Classifier:
    """As `optimise` with `sizes`, in this precision; kept for as long as the model, since compiling takes long."""
    kept = _KEPT.setdefault(model, {})
    key = (str(device), sizes, precision)
    if key not in kept:
        kept[key] = optimise(model, device, sizes)
        lower(kept[key], precision)
    return kept[key]


def ready(network: nn.Module, model: Classifier, device: torch.device, sizes: Sequence[int] = ()) -> Classifier:
    """`network` in the place of the model's own: padded, channels-last, in eval mode, on `device`."""
    network = network.to(device).to(memory_format=torch.channels_last)
    padded = _Padded(network, sizes, device.type == "cuda")
    fast = Classifier(padded, model.normalisation, model.input_size, model.name, model.preprocessing, model.clamp)
    return fast.to(device).eval().requires_grad_(False)


def lower(model: nn.Module, precision: Precision) -> None:
    """Casts every network inside a (defended) model to `precision`, once; what is around them stays float32.

    Noise on images is so added before anything is rounded. (Under autocast every pass would cast all weights anew.)
    """
    if precision in REDUCED:
        for part in model.modules():
            if isinstance(part, Classifier):
                part.compute_in(REDUCED[precision])


class Forward:
    """Logits of a (defended) model for any number of rows, in chunks.

    Args:
        model: maps ``[M, C, H, W]`` in [0, 1] to logits ``[M, K]``; already on `device` and in eval mode.
        device: where to compute.
        batch_size: rows a chunk, at most; halved when memory runs out. It never changes results on the CPU.
    """

    def __init__(self, model: nn.Module, device: torch.device, batch_size: int = 128) -> None:
        if batch_size < 1:
            raise ConfigError(f"Expected `batch_size` to be at least 1 but got {batch_size}.")
        self.model = model
        self.device = device
        self.batch_size = max(ROW_MULTIPLE, batch_size - batch_size % ROW_MULTIPLE)
        self.rows = 0  # rows evaluated so far, without padding

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits float32 ``[M, K]``, on the device of `x`, of ``[M, C, H, W]`` in [0, 1]."""
        self.rows += len(x)
        logits: list[Tensor] = []
        position = 0
        while position < len(x):
            piece = x[position : position + self.batch_size]
            try:
                with drawing_part(position, position + len(piece), len(x)):
                    logits.append(self._chunk(piece))
            except torch.cuda.OutOfMemoryError:
                if self.batch_size <= ROW_MULTIPLE:
                    raise
                self.batch_size = max(ROW_MULTIPLE, self.batch_size // 2)
                torch.cuda.empty_cache()
                continue
            position += len(piece)
        return torch.cat(logits)

    def _chunk(self, piece: Tensor) -> Tensor:
        out: Tensor = self.model(piece.to(self.device))
        return out.float().to(piece.device)


def forbid_rounding() -> None:
    """TF32 off and deterministic cuDNN from here on (attacks sit 1e-6 from a boundary)."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


@contextmanager
def reproducible_kernels() -> Iterator[None]:
    """As `forbid_rounding`, inside the block."""
    before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    deterministic = torch.backends.cudnn.deterministic
    forbid_rounding()
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        torch.backends.cudnn.deterministic = deterministic


def measure_batch_size(model: nn.Module, input_size: tuple[int, ...], device: torch.device) -> int:
    """The batch size with the most rows per second on this machine: best of three passes each, in turns.

    Larger sizes are not tried once a pass takes half a second or memory runs out. Where it runs out at the
    smallest, the half (and so on) that fits is the size.
    """
    sizes = [32, 64, 128, 256] if device.type == "cpu" else [256, 512, 1024, 2048, 4096]
    fastest: dict[int, float] = {}
    for _ in range(3):
        for size in sizes:
            forward = Forward(model, device, size)
            x = torch.zeros(size, *input_size, device=device)
            seconds = _seconds(forward, x)
            if forward.batch_size < size:
                sizes = [s for s in sizes if s < size] or [forward.batch_size]
                break
            fastest[size] = min(seconds / size, fastest.get(size, seconds / size))
            if seconds > 0.5:
                sizes = [s for s in sizes if s <= size]
                break
    return min(fastest, key=lambda size: fastest[size], default=ROW_MULTIPLE)


def _seconds(forward: Forward, x: Tensor) -> float:
    start = time.perf_counter()
    forward(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start
