"""Compiled models, which can only be asked: ``onnx:FILE`` by onnxruntime, ``torchscript:FILE`` by torch's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sndcli.errors import ConfigError, DataError, first_line
from sndcli.models import query
from sndcli.models.answers import kind_of, padded, probe, scaled, tensor_of
from sndcli.models.inference import ROW_MULTIPLE
from sndcli.models.opaque import Facts, OpaqueModel
from sndcli.models.preprocessing import Preprocessing

Ask = Callable[[Tensor], Tensor]
FLOATS = {"tensor(float)": torch.float32, "tensor(double)": torch.float64, "tensor(float16)": torch.float16}


class Compiled(OpaqueModel):
    """A function from images to an answer, asked about a multiple of so many rows at a time.

    Args:
        facts: of the model.
        ask: the function.
        rows: of a call; the rest is padding.
        fixed: whether a call has just so many rows.
        module: what can be moved to another device; None: nothing, it computes on the CPU.
    """

    def __init__(
        self, facts: Facts, ask: Ask, rows: int, fixed: bool = False, module: torch.nn.Module | None = None
    ) -> None:
        super().__init__(facts)
        self._ask, self._rows, self._fixed, self._module = ask, rows, fixed, module
        self._device = torch.device("cpu")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """See `OpaqueModel.__call__`."""
        return _in_pieces(self._ask, images.to(self._device), self._rows, self._fixed)

    def to(self, device: torch.device) -> None:
        """Moves TorchScript."""
        if self._module is not None:
            self._module.to(device)
            self._device = device


def _in_pieces(ask: Ask, images: Tensor, rows: int, fixed: bool) -> Tensor:
    x = padded(images, rows)
    return torch.cat([ask(piece) for piece in (x.split(rows) if fixed else (x,))])[: len(images)]


def from_onnx(source: str) -> OpaqueModel:
    """``onnx:FILE``: the first input takes images in [0, 1], ``[N, C, H, W]``, the first output is the answer.

    Raises:
        ConfigError: onnxruntime is not installed; the graph takes something else, or does not say its size.
        DataError: the file is missing or broken.
    """
    text, options = query.split(source, "onnx:", query.ASKED)
    path = _file(text)
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("`onnx:` needs the package onnxruntime: pip install 'sndcli[onnx]'.") from None
    try:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session: Any = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own kinds, which have no common base
        raise DataError(f"{path} cannot be read as ONNX: {first_line(error)}") from None
    first, *others = session.get_inputs()
    shape = list(first.shape)
    if first.type not in FLOATS or len(shape) != 4 or others:
        what = " and ".join(f"{i.name}: {i.type} {i.shape}" for i in session.get_inputs())
        raise ConfigError(f"Expected {path} to take floating-point images [N, C, H, W] alone but it takes {what}.")
    size = _input_size(path, shape[1:], options)
    scale, kind, batch = scaled(options, size[0]), FLOATS[first.type], shape[0]

    def ask(x: Tensor) -> Tensor:
        feed = {first.name: scale(x).to(kind).contiguous().numpy()}
        try:
            answers = torch.as_tensor(session.run([session.get_outputs()[0].name], feed)[0])
        except Exception as error:
            raise ValueError(first_line(error).removeprefix("[ONNXRuntimeError] : ")) from None
        return _flat(answers)

    rows, fixed = (batch, True) if isinstance(batch, int) and batch > 0 else (ROW_MULTIPLE, False)
    return _opened(f"onnx:{path}", ask, rows, fixed, size, options, [path, Path(f"{path}.data")])


def from_torchscript(source: str) -> OpaqueModel:
    """``torchscript:FILE?size=224``: a module of ``torch.jit.save``.

    The file is a program that torch's interpreter runs: it has tensors and control flow, but neither files nor sockets.

    Raises:
        ConfigError: no size is given, or the answer is none.
        DataError: the file is missing or broken.
    """
    import warnings

    text, options = query.split(source, "torchscript:", query.ASKED)
    path = _file(text)
    try:
        with warnings.catch_warnings():  # torch would like another format
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as TorchScript: {first_line(error)}") from None
    size = _input_size(path, [None, None, None], options)
    scale = scaled(options, size[0])

    def ask(x: Tensor) -> Tensor:
        return _flat(tensor_of(module(scale(x))))

    return _opened(f"torchscript:{path}", ask, ROW_MULTIPLE, False, size, options, [path], module)


def _opened(
    what: str, ask: Ask, rows: int, fixed: bool, size: tuple[int, ...], options: dict[str, str],
    files: Iterable[Path], module: torch.nn.Module | None = None,
) -> OpaqueModel:  # fmt: skip
    """Asks once, to see what it answers.

    Raises:
        ConfigError: it cannot be asked about images of this size, or answers with something else.
    """
    try:
        with torch.no_grad():
            answers = _in_pieces(ask, probe(size), rows, fixed)
    except (RuntimeError, ValueError, TypeError) as error:
        shape = " x ".join(map(str, size))
        raise ConfigError(f"{what} fails on images of {shape}: {_reason(error)}") from None
    access, classes, score = kind_of(answers, options, what)
    chosen = query.preprocessing(options, Preprocessing(size[1], size[1]) if size[1] == size[2] else None)
    said = {key: options[key] for key in ("mean", "std", "norm", "scores") if key in options}
    facts = Facts(
        name=Path(what.partition(":")[2]).stem + "@" + what.partition(":")[0], input_size=size, classes=classes,
        access=access, score=score, digest=_digest(files, f"{what.partition(':')[0]} {size} {sorted(said.items())}"),
        preprocessing=chosen,
    )  # fmt: skip
    return Compiled(facts, ask, rows, fixed, module)


def _reason(error: Exception) -> str:
    """What is wrong, in a line: of TorchScript's traceback the last one, of other errors the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines and "TorchScript" in lines[0] else first_line(error)


def _input_size(path: Path, shape: list[object], options: dict[str, str]) -> tuple[int, ...]:
    """``(C, H, W)``: what the model says, else ``size`` and ``channels`` (3).

    Raises:
        ConfigError: neither says, they contradict each other, or channels come last.
    """
    said = [value if isinstance(value, int) and value > 0 else None for value in shape]
    if said[2] in (1, 3, 4) and said[0] not in (1, 2, 3, 4, None):
        raise ConfigError(f"{path} takes images {said}, channels last; expected [N, C, H, W].")
    size = options.get("size")
    if None in said[1:] and size is None:
        raise ConfigError(f"{path} does not say the size of its images: {path.name}?size=224 does.")
    query.preprocessing({k: v for k, v in options.items() if k == "size"}, None)  # a number
    wanted = (query.channels(options), *(int(size) if size else None for _ in "hw"))
    for ours, theirs in zip(wanted, said, strict=True):
        if None not in (ours, theirs) and ours != theirs:
            raise ConfigError(f"{path} takes images of {tuple(said)}, not {wanted}.")
    channels, height, width = (theirs or ours for ours, theirs in zip(wanted, said, strict=True))
    return (channels or 3, int(height or 0), int(width or 0))


def _flat(answers: Tensor) -> Tensor:
    """Labels ``[N]`` of ``[N, 1]``; anything else as it is."""
    whole = not answers.is_floating_point()
    return answers.squeeze(1) if whole and answers.ndim == 2 and answers.shape[1] == 1 else answers


def _file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise DataError(f"{path} does not exist.")
    return path


def _digest(files: Iterable[Path], more: str) -> str:
    """A short hash of the files that there are, and of how images reach the model."""
    h = hashlib.sha256(more.encode())
    for file in files:
        if file.is_file():
            with file.open("rb") as opened:
                h.update(hashlib.file_digest(opened, "sha256").digest())
    return h.hexdigest()[:16]
