"""The Open Inference Protocol, version 2: what is sent and answered, and images out of a request."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from torch import Tensor

from sndcli.serving.settings import Answer, Limits

INPUT, VERSION = "images", "1"
OUTPUTS: dict[Answer, tuple[str, Literal["FP32", "INT64"]]] = {
    "probabilities": ("scores", "FP32"), "logits": ("scores", "FP32"), "label": ("label", "INT64"),
}  # fmt: skip

Pixel = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Size = Annotated[int, Field(strict=True, ge=0, le=2**31)]
Data = Annotated[list[Pixel] | list[list[list[list[Pixel]]]], Field(union_mode="left_to_right")]
Parameters = dict[str, JsonValue]


class Refusal(Exception):
    """What is wrong with a request, and the status it is answered with."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


class Wire(BaseModel):
    """What the protocol's objects have in common: the fields that we know, and others, which say nothing to us."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class ImagesIn(Wire):
    """A tensor of images, flat (row-major) or nested."""

    name: str
    shape: Annotated[list[Size], Field(min_length=4, max_length=4)]
    datatype: Literal["FP32"]
    data: Data
    parameters: Parameters | None = None


class Wanted(Wire):
    """An output that a client wants."""

    name: str
    parameters: Parameters | None = None


class InferRequest(Wire):
    """Body of ``POST /v2/models/NAME/infer``."""

    id: str | None = None
    inputs: Annotated[list[ImagesIn], Field(min_length=1, max_length=1)]
    outputs: list[Wanted] | None = None
    parameters: Parameters | None = None


class Answers(Wire):
    """An output tensor, flat."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float] | list[int]


class InferResponse(Wire):
    """Answer of ``POST /v2/models/NAME/infer``."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Answers]


class TensorKind(Wire):
    """Name, type and shape of a tensor; -1 is any number of images."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Wire):
    """Answer of ``GET /v2/models/NAME``; `parameters` are ours: `classes`, `answer`, `low`, `high`, `max_batch`,
    `max_body`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorKind]
    outputs: list[TensorKind]
    parameters: dict[str, str | int | float]


class ServerMetadata(Wire):
    """Answer of ``GET /v2``."""

    name: str
    version: str
    extensions: list[str]


class Health(Wire):
    """Answer of the health endpoints; the status says the same."""

    live: bool | None = None
    ready: bool | None = None


class Listed(Wire):
    """A model in the answer of ``POST /v2/repository/index``."""

    name: str
    version: str
    state: str
    reason: str = ""


class Problem(Wire):
    """Every answer that is not 200."""

    error: str


def metadata(name: str, shape: tuple[int, ...], classes: int, answer: Answer, limits: Limits) -> ModelMetadata:
    """What clients are told about a model."""
    output, datatype = OUTPUTS[answer]
    return ModelMetadata(
        name=name, versions=[VERSION], platform="sndcli",
        inputs=[TensorKind(name=INPUT, datatype="FP32", shape=[-1, *shape])],
        outputs=[TensorKind(name=output, datatype=datatype, shape=[-1] if answer == "label" else [-1, classes])],
        parameters={"classes": classes, "answer": answer, "low": 0.0, "high": 1.0,
                    "max_batch": largest_batch(shape, limits), "max_body": limits.max_body},
    )  # fmt: skip


def largest_batch(shape: tuple[int, ...], limits: Limits) -> int:
    """How many images of this shape one request may hold, but for its bytes; at least 1."""
    return max(1, min(limits.max_batch, limits.max_pixels // (shape[-2] * shape[-1])))


def read(body: bytes, kind: ModelMetadata) -> tuple[InferRequest, Tensor]:
    """The request in `body`, and its images float32 ``[M, C, H, W]``.

    Raises:
        Refusal: whatever is wrong with it.
    """
    try:
        request = InferRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refusal(f"{where}: {first['msg']}" if where else first["msg"]) from None
    (given,) = request.inputs
    if given.name != kind.inputs[0].name:
        raise Refusal(f"Expected the input `{kind.inputs[0].name}` but got `{given.name[:100]}`.")
    for wanted in request.outputs or ():
        if wanted.name != kind.outputs[0].name:
            raise Refusal(f"Expected the output `{kind.outputs[0].name}` but got `{wanted.name[:100]}`.")
    shape, (rows, *image) = kind.inputs[0].shape[1:], given.shape
    if image != shape:
        raise Refusal(f"Expected the shape [N, {', '.join(map(str, shape))}] but got {given.shape}.")
    most = int(kind.parameters["max_batch"])
    if not 1 <= rows <= most:
        raise Refusal(f"Expected 1 to {most} images but got {rows}.", 400 if rows < 1 else 413)
    return request, _images(given.data, given.shape)


def _images(data: Data, shape: list[int]) -> Tensor:
    """The pixels, which must be as many as the shape says, and laid out so where they are nested."""
    try:
        array = np.asarray(data, dtype=np.float32)
    except ValueError:
        raise Refusal("Expected nested data in which all rows are of one length.") from None
    if array.ndim == 4 and list(array.shape) != shape:
        raise Refusal(f"Expected data of the shape {shape} but got {list(array.shape)}.")
    if array.size != int(np.prod(shape)):
        raise Refusal(f"Expected {int(np.prod(shape))} numbers for the shape {shape} but got {array.size}.")
    return torch.from_numpy(array.reshape(shape))
