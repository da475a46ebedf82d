"""Options of commands that can ask a model over HTTP."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sndcli.models.remote.settings import Remote


@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """How ``--model http://…`` is asked; other models have no use for them."""

    endpoint: Annotated[
        Path | None, typer.Option(help="TOML about a remote model that says too little itself.", metavar="FILE")
    ] = None
    concurrency: Annotated[int, typer.Option(help="Requests at a time to a remote model.")] = 4
    rate: Annotated[float | None, typer.Option(help="Requests a second to a remote model, at most.")] = None
    timeout: Annotated[float, typer.Option(help="Seconds until a request to a remote model has failed.")] = 30.0
    retries: Annotated[int, typer.Option(help="Further attempts at a request that failed for a passing reason.")] = 6
    header_env: Annotated[
        list[str] | None,
        typer.Option(help="Environment variable with a header `Name: value`, or a bearer token alone; repeatable.",
                     metavar="NAME"),
    ] = None  # fmt: skip
    client_cert: Annotated[Path | None, typer.Option(help="PEM with this client's certificate.")] = None
    client_key: Annotated[Path | None, typer.Option(help="PEM with its key, where that is apart.")] = None
    ca_file: Annotated[Path | None, typer.Option(help="PEM with the authorities to trust.")] = None
    i_am_authorised: Annotated[
        bool, typer.Option("--i-am-authorised", help="You own the remote model, or are asked to test it.")
    ] = False
    request_log: Annotated[Path | None, typer.Option(help="Append a JSON line an attempt at a remote model.")] = None

    def remote(self) -> "Remote":
        """How a remote model is asked.

        Raises:
            ConfigError: an option out of its range.
        """
        from sndcli.models.remote.settings import Remote
        from sndcli.runs.request import explained

        with explained():
            return Remote(
                endpoint=self.endpoint, concurrency=self.concurrency, rate=self.rate, timeout=self.timeout,
                retries=self.retries, header_env=tuple(self.header_env or ()), client_cert=self.client_cert,
                client_key=self.client_key, ca_file=self.ca_file, authorised=self.i_am_authorised,
                log=self.request_log,
            )  # fmt: skip
