"""The Open Inference Protocol, version 2 (KServe, Triton, Seldon, MLServer, `snd serve`): FP32 tensors as JSON.

https://github.com/kserve/open-inference-protocol, the REST form; and the model index of its repository extension.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError
from torch import Tensor

from sndcli.errors import ConfigError, DataError
from sndcli.models.opaque import Facts
from sndcli.models.remote.address import Address
from sndcli.models.remote.encoding import access_of, shown
from sndcli.models.remote.exchange import BadAnswer, Failure, Outgoing
from sndcli.models.remote.settings import Answer, Endpoint

OURS = "sndcli"  # the platform of `snd serve`, which draws for each row of a batch by itself
BYTES_A_NUMBER = 24  # of a float32 in JSON, at most
Fetch = Callable[[str, str], bytes | Failure]  # method and address to the body of an answer that is 200


class TensorKind(BaseModel):
    """An input or output, as metadata describe it."""

    name: str
    datatype: str
    shape: list[int]


class OurParameters(BaseModel):
    """What `snd serve` adds."""

    classes: Annotated[int, Field(ge=2)]
    answer: Answer
    max_batch: Annotated[int, Field(ge=1)]
    max_body: Annotated[int, Field(ge=1)]


class Metadata(BaseModel):
    """``GET /v2/models/NAME``."""

    name: str
    versions: list[str] | None = None
    platform: str = ""
    inputs: list[TensorKind] = []
    outputs: list[TensorKind] = []
    parameters: dict[str, JsonValue] | None = None


class Listed(BaseModel):
    """A model in ``POST /v2/repository/index``."""

    name: str
    state: str | None = None


class Output(BaseModel):
    """An output tensor of an answer, flat or nested."""

    name: str
    shape: list[int]
    datatype: str
    data: list[JsonValue]


class Answered(BaseModel):
    """``POST /v2/models/NAME/infer``."""

    outputs: list[Output]


@dataclass(frozen=True)
class V2:
    """A model of a server that speaks the protocol.

    Attributes:
        facts: of the model; `Facts.score` is settled by the first answer where metadata do not say.
        batch: images a request.
        url: of ``infer``.
        input: name of the input.
        output: name of the output; empty: the only one.
        said: whether it is known what the scores are.
    """

    facts: Facts
    batch: int
    url: str
    input: str
    output: str
    said: bool

    def request(self, images: Tensor) -> Outgoing:
        """See `Exchange.request`. Numbers are clipped, not rounded: a server that takes bytes rounds for itself."""
        images = images.clamp(0.0, 1.0)
        tensor = {
            "name": self.input, "shape": list(images.shape), "datatype": "FP32", "data": images.flatten().tolist()
        }  # fmt: skip
        content = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
        return Outgoing(self.url, content, "application/json", len(images))

    def answers(self, content: bytes, rows: int) -> Tensor:
        """See `Exchange.answers`."""
        try:
            found = Answered.model_validate_json(content).outputs
        except ValidationError:
            raise BadAnswer(f"Expected an answer of the protocol v2 but got {shown(content)}.") from None
        named = [output for output in found if output.name == self.output or not self.output]
        if len(named) != 1:
            wanted = f"the output `{self.output}`" if self.output else "one output"
            raise BadAnswer(f"Expected {wanted} but got {', '.join(output.name for output in found) or 'none'}.")
        try:
            array = np.asarray(named[0].data, dtype=np.float32 if self.facts.access == "scores" else np.int64)
        except (ValueError, TypeError, OverflowError):
            raise BadAnswer(f"Expected numbers in the output `{named[0].name}`.") from None
        size = rows if self.facts.access == "labels" else rows * self.facts.classes
        if array.size != size:
            raise BadAnswer(f"Expected {size} numbers for {rows} images but got {array.size}.")
        answers = torch.from_numpy(array.copy())
        if self.facts.access == "scores":
            if not bool(answers.isfinite().all()):
                raise BadAnswer("Expected finite scores.")
            return answers.view(rows, -1)
        if not bool(((answers >= 0) & (answers < self.facts.classes)).all()):
            raise BadAnswer(f"Expected labels from 0 to {self.facts.classes - 1}.")
        return answers.view(rows)


def opened(address: Address, endpoint: Endpoint, fetch: Fetch, concurrency: int) -> V2:
    """A model of the server at `address`: the one that its path names, else the only one there.

    `concurrency` requests are sent at a time.

    Raises:
        ConfigError: the server has several models, or says too little of this one and so does `endpoint`.
        DataError: its answers cannot be read.
    """
    found = re.fullmatch(r"(.*)/v2/models/([^/]+)((?:/versions/[^/]+)?)(?:/infer)?", address.path)
    base, name, version = found.groups() if found else (address.path.removesuffix("/v2"), "", "")
    root = address.root + base
    name = name or _only(root, fetch)
    url = f"{root}/v2/models/{name}{version}"
    content = fetch("GET", url)
    if isinstance(content, Failure):
        raise DataError(f"{url} cannot be asked. {content.reason}")
    try:
        told = Metadata.model_validate_json(content)
    except ValidationError:
        raise DataError(f"Expected metadata of the protocol v2 at {url} but they cannot be read.") from None
    return _model(address, url, told, endpoint, concurrency)


def _only(root: str, fetch: Fetch) -> str:
    """The server's only model."""
    content = fetch("POST", f"{root}/v2/repository/index")
    if isinstance(content, Failure) and content.gone:
        raise DataError(f"{root} cannot be asked. {content.reason}")
    try:
        listed = TypeAdapter(list[Listed]).validate_json(b"" if isinstance(content, Failure) else content)
    except ValidationError:
        raise ConfigError(
            f"{root} does not list its models: name one, as in {root}/v2/models/NAME.\n"
            "What speaks another protocol is described in a file: --endpoint FILE."
        ) from None
    if len(listed) != 1:
        names = ", ".join(sorted({model.name for model in listed})) or "none"
        raise ConfigError(
            f"Expected {root} to have one model, or one to be named: {root}/v2/models/NAME.\nIt has: {names}."
        )
    return listed[0].name


def _model(address: Address, url: str, told: Metadata, endpoint: Endpoint, concurrency: int) -> V2:
    ours = None
    if told.platform == OURS:
        try:
            ours = OurParameters.model_validate(told.parameters)
        except ValidationError:
            raise DataError(f"The metadata of `snd serve` at {url} cannot be read.") from None
    if len(told.inputs) > 1:
        raise ConfigError(f"Expected one input of {told.name} but it has {len(told.inputs)}.")
    if told.inputs and told.inputs[0].datatype != "FP32":
        raise ConfigError(f"Expected an FP32 input of {told.name} but it is {told.inputs[0].datatype}.")
    shape = told.inputs[0].shape if told.inputs else []
    size = endpoint.size or (tuple(shape[1:]) if len(shape) == 4 and min(shape[1:]) > 0 else None)
    if size is None:
        raise ConfigError(
            f"The metadata of {told.name} do not say the size of its images (N, C, H, W): they have {shape}.\n"
            "Say it in a file, size = [3, 32, 32], and name it: --endpoint FILE."
        )
    output = told.outputs[0] if len(told.outputs) == 1 else None
    if len(told.outputs) > 1:
        several = [kind for kind in told.outputs if kind.name in ("scores", "logits", "probabilities", "label")]
        output = several[0] if len(several) == 1 else None
        if output is None:
            raise ConfigError(f"Expected one output of {told.name}: {', '.join(kind.name for kind in told.outputs)}.")
    answer = ours.answer if ours else endpoint.answer
    if answer is None and output and output.datatype.startswith(("INT", "UINT")):
        answer = "label"
    last = output.shape[-1] if output and len(output.shape) == 2 and output.shape[-1] > 1 else None
    classes = ours.classes if ours else endpoint.count or last
    if classes is None:
        raise ConfigError(
            f"The metadata of {told.name} do not say how many classes it has.\n"
            "Say it in a file, classes = 10, and name it: --endpoint FILE."
        )
    channels, height, width = size
    fits = ours.max_body // (BYTES_A_NUMBER * channels * height * width) if ours else 1
    one_at_a_time = bool(shape) and shape[0] == 1
    batch = 1 if one_at_a_time else max(1, min(ours.max_batch, fits)) if ours else endpoint.batch or 1
    told_of = [url, told.name, told.versions, size, classes, answer, output.name if output else ""]
    facts = Facts(
        name=f"{told.name}@{address.place}", input_size=size, classes=classes,
        digest=hashlib.sha256(json.dumps(told_of).encode()).hexdigest()[:16],
        access=access_of(answer or "logits"), score="probabilities" if answer == "probabilities" else "logits",
        bare=False, batch_rows=batch * concurrency, rows_a_request=batch,
    )  # fmt: skip
    given = told.inputs[0].name if told.inputs else "images"
    return V2(facts, batch, f"{url}/infer", given, output.name if output else "", answer is not None)
