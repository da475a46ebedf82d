"""What a server is told, typed and checked; it travels to worker processes as JSON."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError
from sndcli.models.inference import Precision
from sndcli.models.remote.address import is_loopback
from sndcli.models.remote.settings import Remote

Answer = Literal["probabilities", "logits", "label"]
ANSWERS: tuple[Answer, ...] = ("probabilities", "logits", "label")
AtLeastOne = Annotated[int, Field(ge=1)]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Limits:
    """What one request may ask for, at most.

    Attributes:
        max_body: bytes.
        max_batch: images.
        max_pixels: height times width, over all images.
    """

    max_body: AtLeastOne = 64 * 2**20
    max_batch: AtLeastOne = 256
    max_pixels: AtLeastOne = 2**24


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Settings:
    """A server.

    Attributes:
        model: a source as of ``--model``.
        download: fetch weights that are not on this machine.
        remote: how a model at an address is asked.
        name: how clients call it; empty: the model's own.
        defense: what is on.
        answer: what clients get: probabilities, logits or the label alone.
        device: where it computes.
        precision: of the network's arithmetic.
        allow_rounding: a reduced precision is allowed without a defense.
        batch_rows: rows a forward pass; 0: measured.
        compiled: whether the network is compiled.
        host: address to listen on.
        port: 0: a free one.
        workers: processes.
        token_env: name of the environment variable with the token; empty: none is asked for.
        log: JSON lines, one a request; None: no log.
        limits: of one request.
    """

    model: str = "resnet20"
    download: bool = False
    remote: Remote = Remote()
    name: str = ""
    defense: DefenseSpec = DefenseSpec()
    answer: Answer = "probabilities"
    device: str = "auto"
    precision: Precision = "fp32"
    allow_rounding: bool = False
    batch_rows: Annotated[int, Field(ge=0)] = 0
    compiled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: AtLeastOne = 1
    token_env: str = ""
    log: Path | None = None
    limits: Limits = Limits()

    def token(self) -> str:
        """What clients must send as ``Authorization: Bearer …``; empty: nothing.

        Raises:
            ConfigError: others can reach the server and there is no token, or the variable is not set.
        """
        if not self.token_env:
            if not is_loopback(self.host):
                raise ConfigError(
                    f"`--host {self.host}` can be reached from other machines, so a token is needed:\n"
                    "put one into an environment variable and name it with --token-env NAME."
                )
            return ""
        token = os.environ.get(self.token_env, "")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError(
                f"Expected the environment variable `{self.token_env}` to hold a token: printable ASCII, no spaces."
            )
        return token


def called(name: str) -> str:
    """`name` as it stands in a URL: what is not a letter, a digit or one of ``._@-`` becomes a hyphen.

    Example:
        >>> called("torchvision:resnet50/random")
        'torchvision-resnet50-random'
    """
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", name).lstrip("._@-") or "model"
