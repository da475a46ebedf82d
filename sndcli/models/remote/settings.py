"""How a remote model is asked, typed and checked; and what a file may say of an endpoint that says little itself."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sndcli.errors import ConfigError, DataError

AtLeastOne = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Kind = Literal["v2", "torchserve", "template"]
Answer = Literal["probabilities", "logits", "label"]
Encoding = Literal["png", "chw", "hwc"]


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Remote:
    """How requests are sent. Nothing here changes what an endpoint answers.

    Attributes:
        endpoint: a TOML file about an endpoint that says too little itself (`Endpoint`).
        concurrency: requests at a time.
        rate: requests a second, at most; None: as they come.
        timeout: seconds until a request counts as failed.
        retries: further attempts at a request that failed for a passing reason.
        header_env: environment variables, each with a header ``Name: value``, or with a token alone.
        client_cert: PEM file of this client's certificate.
        client_key: its key, where that is a file of its own.
        ca_file: PEM file of the authorities that are trusted, in place of the usual ones.
        authorised: the user says that the endpoint may be attacked.
        log: JSON lines, one an attempt; None: no log.
    """

    endpoint: Path | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    rate: Seconds | None = None
    timeout: Seconds = 30.0
    retries: Annotated[int, Field(ge=0, le=100)] = 6
    header_env: tuple[str, ...] = ()
    client_cert: Path | None = None
    client_key: Path | None = None
    ca_file: Path | None = None
    authorised: bool = False
    log: Path | None = None


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Endpoint:
    """What the file of ``--endpoint`` says; what is left out is asked of the endpoint, where it can tell.

    Attributes:
        protocol: None: guessed from the address, and from whether there is a `body`.
        size: ``(C, H, W)``.
        classes: how many, or their names in the order of the labels.
        answer: what is answered.
        batch: images a request; only for ``v2``.
        body: of a request, with ``{image}`` where the image stands.
        image: what stands there: a PNG in base64, or a JSON array of numbers in [0, 1], by channel or by pixel.
        content_type: of the body.
        response: where in the answer the scores or the label stand: names and places joined by dots.
    """

    protocol: Kind | None = None
    size: tuple[AtLeastOne, AtLeastOne, AtLeastOne] | None = None
    classes: Annotated[int, Field(ge=2)] | tuple[str, ...] | None = None
    answer: Answer | None = None
    batch: AtLeastOne | None = None
    body: str = ""
    image: Encoding = "png"
    content_type: str = "application/json"
    response: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, where they are known."""
        return self.classes if isinstance(self.classes, tuple) else ()

    @property
    def count(self) -> int | None:
        """How many classes there are, where that is known."""
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes


def read_endpoint(path: Path | None) -> Endpoint:
    """The file of ``--endpoint``; without one, nothing is said.

    Raises:
        DataError: it cannot be read.
        ConfigError: a key that is not known or not of its kind.
    """
    if path is None:
        return Endpoint()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"The endpoint's file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"The endpoint's file {path} is not TOML: {error}.") from None
    try:
        endpoint = TypeAdapter(Endpoint).validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"`{key}` in {path}: {first['msg']}.\nKnown: {', '.join(Endpoint.__dataclass_fields__)}."
        ) from None
    if endpoint.body and "{image}" not in endpoint.body:
        raise ConfigError(f"Expected `body` in {path} to hold {{image}} where the image goes.")
    if len(set(endpoint.names)) != len(endpoint.names) or len(endpoint.names) == 1:
        raise ConfigError(f"Expected `classes` in {path} to be at least two names, each once.")
    return endpoint
