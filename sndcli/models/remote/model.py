"""The remote model: images in, scores or labels out, NaN or -1 where a request failed."""

from __future__ import annotations

from dataclasses import replace

import httpx
import torch
from torch import Tensor

from sndcli.errors import ConfigError, DataError, IncompleteError
from sndcli.models.opaque import NO_LABEL, OpaqueModel
from sndcli.models.remote import address as addresses
from sndcli.models.remote import plain, v2
from sndcli.models.remote.exchange import BadAnswer, Exchange, Failure
from sndcli.models.remote.log import SentLog
from sndcli.models.remote.settings import Endpoint, Kind, Remote, read_endpoint
from sndcli.models.remote.transport import Transport

SUM_ROUNDING = 1e-3  # how far from 1 the sum of probabilities may lie that were printed with some digits


class RemoteModel(OpaqueModel):
    """A model that is asked over HTTP.

    Args:
        exchange: how its protocol writes and reads.
        transport: how requests are sent.
        log: of what was sent.
    """

    def __init__(self, exchange: Exchange, transport: Transport, log: SentLog) -> None:
        super().__init__(exchange.facts)
        self._exchange, self._transport, self._log = exchange, transport, log
        self.batch = exchange.batch
        self.last_failure = ""

    def probe(self) -> Tensor:
        """The answer about one grey image, asked for once: who cannot be understood is told so at the start.

        Raises:
            DataError: there is no answer that can be read.
        """
        request = self._exchange.request(torch.full((1, *self.input_size), 0.5))
        (found,) = self._transport.ask([request], retry=False)
        try:
            answers = None if isinstance(found, Failure) else self._exchange.answers(found, 1)
            reason = found.reason if isinstance(found, Failure) else ""
        except BadAnswer as error:
            answers, reason = None, str(error)
        self._log.ended(1, answers is not None)
        if answers is None:
            raise DataError(f"{self.name} did not answer the first question: {reason}")
        return answers

    def __call__(self, images: Tensor) -> Tensor:
        """See `OpaqueModel`; rows of a request that failed have no answer.

        Raises:
            IncompleteError: the endpoint does not answer any more, or not us.
        """
        pieces = images.detach().float().cpu().split(self.batch) if len(images) else ()
        found = self._transport.ask([self._exchange.request(piece) for piece in pieces])
        answers, gone = [self._nothing(0)], ""
        for piece, content in zip(pieces, found, strict=True):
            read = self._read(content, len(piece))
            answers.append(self._nothing(len(piece)) if read is None else read)
            if isinstance(content, Failure) and content.gone:
                gone = content.reason
        if gone:
            raise IncompleteError(f"{self.name} does not answer any more. {gone}\nThe same command continues.")
        return torch.cat(answers).to(images.device)

    def _read(self, content: bytes | Failure, rows: int) -> Tensor | None:
        """Answers, or None where there are none."""
        try:
            if isinstance(content, Failure):
                raise BadAnswer(content.reason)
            read = self._exchange.answers(content, rows)
        except BadAnswer as error:
            self.last_failure = str(error)
            self._log.ended(rows, answered=False)
            return None
        self._log.ended(rows, answered=True)
        return read

    def _nothing(self, rows: int) -> Tensor:
        if self.facts.access == "labels":
            return torch.full((rows,), NO_LABEL)
        return torch.full((rows, self.facts.classes), float("nan"))

    def sent(self) -> dict[str, int | float]:
        """Requests, images, retries and failures so far, and seconds waited."""
        return self._log.as_dict()


def open_remote(source: str, remote: Remote, transport: httpx.BaseTransport | None = None) -> RemoteModel:
    """The model at ``http://HOST:PORT[/PATH]``, once it has answered.

    Args:
        source: the address.
        remote: how it is asked.
        transport: of httpx, in place of the network.

    Raises:
        ConfigError: an address, credentials or certificates that cannot be; or too little is known of the endpoint.
        DataError: the endpoint does not answer, or not in its protocol.
    """
    at = addresses.parse(source, remote.authorised)
    endpoint = read_endpoint(remote.endpoint)
    client = httpx.Client(
        headers=addresses.headers(remote.header_env), timeout=remote.timeout, verify=addresses.certificates(remote),
        transport=transport, trust_env=not at.loopback, follow_redirects=False,
        limits=httpx.Limits(max_connections=remote.concurrency, max_keepalive_connections=remote.concurrency),
    )  # fmt: skip
    log = SentLog(remote.log)
    sender = Transport(client, remote, log)

    kind = endpoint.protocol or _guessed(at, endpoint)
    if kind != "v2":
        model = RemoteModel(plain.opened(at, endpoint, kind, remote.concurrency), sender, log)
        model.probe()
        return model
    if endpoint.body or endpoint.response:
        raise ConfigError('`body` and `response` belong to `protocol = "template"`.')
    spoken = v2.opened(at, endpoint, sender.fetch, remote.concurrency)
    model = RemoteModel(spoken, sender, log)
    first = model.probe()
    if model.facts.access == "scores" and not spoken.said and _probabilities(first):
        spoken = replace(spoken, facts=replace(spoken.facts, score="probabilities"))
        model = RemoteModel(spoken, sender, log)
    return model


def _guessed(at: addresses.Address, endpoint: Endpoint) -> Kind:
    if endpoint.body:
        return "template"
    return "torchserve" if "/predictions/" in at.path + "/" else "v2"


def _probabilities(scores: Tensor) -> bool:
    """Whether scores ``[1, K]`` of an endpoint that does not say what they are look like probabilities."""
    return bool((scores >= 0).all()) and abs(float(scores.sum()) - 1.0) < SUM_ROUNDING
