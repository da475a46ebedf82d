"""Endpoints that take one image a request: TorchServe, and anything that a file describes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import JsonValue
from torch import Tensor

from sndcli.errors import ConfigError
from sndcli.models.opaque import Facts
from sndcli.models.remote.address import Address
from sndcli.models.remote.encoding import access_of, as_text, fits_png, one_row, parsed, png
from sndcli.models.remote.exchange import BadAnswer, Outgoing
from sndcli.models.remote.settings import Answer, Endpoint, Kind


@dataclass(frozen=True)
class _OneImage:
    """What both protocols know; a request has one image."""

    facts: Facts
    url: str
    endpoint: Endpoint
    answer: Answer
    batch: int = 1


@dataclass(frozen=True)
class TorchServe(_OneImage):
    """``POST /predictions/NAME`` with a PNG; the answer is what TorchServe's image classifier gives, scores by label.

    https://docs.pytorch.org/serve/inference_api.html
    """

    def request(self, images: Tensor) -> Outgoing:
        """See `Exchange.request`."""
        return Outgoing(self.url, png(images[0]), "image/png", 1)

    def answers(self, content: bytes, rows: int) -> Tensor:  # noqa: ARG002 (always one)
        """See `Exchange.answers`."""
        return one_row(parsed(content), self.answer, self.facts.classes, self.endpoint.names)


@dataclass(frozen=True)
class Template(_OneImage):
    """A body with an image in it, and a place in the answer where the scores or the label stand."""

    def request(self, images: Tensor) -> Outgoing:
        """See `Exchange.request`."""
        body = self.endpoint.body.replace("{image}", as_text(images[0], self.endpoint.image))
        return Outgoing(self.url, body.encode(), self.endpoint.content_type, 1)

    def answers(self, content: bytes, rows: int) -> Tensor:  # noqa: ARG002 (always one)
        """See `Exchange.answers`."""
        found = at(parsed(content), self.endpoint.response)
        return one_row(found, self.answer, self.facts.classes, self.endpoint.names)


def at(value: JsonValue, path: str) -> JsonValue:
    """What stands at `path` in JSON: names and places joined by dots; empty for all of it.

    Raises:
        BadAnswer: nothing does.

    Example:
        >>> at({"predictions": [{"scores": [0.1, 0.9]}]}, "predictions.0.scores")
        [0.1, 0.9]
    """
    for part in path.split(".") if path else ():
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            there = ", ".join(list(value)[:10]) if isinstance(value, Mapping) else type(value).__name__
            raise BadAnswer(f"Expected `{path}` in the answer but `{part}` is not there: {there}.")
    return value


def opened(address: Address, endpoint: Endpoint, kind: Kind, concurrency: int) -> TorchServe | Template:
    """The endpoint at `address`, as its file describes it, to be asked about `concurrency` images at a time.

    Raises:
        ConfigError: the file says too little.
    """
    what = "TorchServe" if kind == "torchserve" else "a template"
    if endpoint.size is None or endpoint.count is None:
        raise ConfigError(
            f"What is asked by {what} does not say the size of its images nor its classes.\n"
            "Say both in a file, size = [3, 32, 32] and classes = 10, and name it: --endpoint FILE."
        )
    if kind == "template" and not endpoint.body:
        raise ConfigError("Expected `body` with {image} in the file of --endpoint.")
    if kind == "torchserve" or endpoint.image == "png":
        fits_png(endpoint.size, what)
    answer = endpoint.answer or "label"
    url = address.root + address.path
    told_of = json.dumps([url, kind, asdict(endpoint), answer], sort_keys=True)
    facts = Facts(
        name=f"{address.path.rpartition('/')[2] or 'endpoint'}@{address.place}", input_size=endpoint.size,
        classes=endpoint.count, digest=hashlib.sha256(told_of.encode()).hexdigest()[:16], access=access_of(answer),
        score="probabilities" if answer == "probabilities" else "logits", bare=False, batch_rows=concurrency,
        eight_bits=kind == "torchserve" or endpoint.image == "png",
    )  # fmt: skip
    return (TorchServe if kind == "torchserve" else Template)(facts, url, endpoint, answer)
