"""``snd serve``: a model with a defense on, behind the Open Inference Protocol."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.compiling import wished
from sndcli.cli.remote import RemoteOptions

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener
    from sndcli.serving.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Serve(o.Talk, o.MachineOptions, o.NoiseOptions, o.DefenseOptions, RemoteOptions):
    """Serve a model with a defense on (Open Inference Protocol v2) until interrupted.

    Example: snd serve --model resnet20 --sigma 0.01 --port 8000
    """

    model: o.Model = "resnet20"
    download: Annotated[bool, typer.Option("--download", help="Fetch the model's weights from its hub.")] = False
    name: Annotated[str | None, typer.Option(help="How clients call it; default the model's name.")] = None
    answer: Annotated[str, typer.Option(help="What clients get.", metavar="probabilities|logits|label")] = (
        "probabilities"
    )
    host: Annotated[str, typer.Option(help="Address to listen on; other than loopback needs --token-env.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option(help="0: a free one.")] = 8000
    workers: Annotated[int, typer.Option(help="Processes, each with its own model.")] = 1
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable with the token that clients must send.", metavar="NAME")
    ] = None
    log: Annotated[Path | None, typer.Option(help="Append a JSON line a request, with hashes of its images.")] = None
    max_body: Annotated[int, typer.Option(help="Bytes a request, at most.")] = 64 * 2**20
    max_batch: Annotated[int, typer.Option(help="Images a request, at most.")] = 256
    max_pixels: Annotated[int, typer.Option(help="Height x width of all images of a request, at most.")] = 2**24

    def settings(self) -> "Settings":
        """What the server is told.

        Raises:
            ConfigError: an option that cannot be.
        """
        from sndcli.defenses.parse import parse
        from sndcli.errors import ConfigError
        from sndcli.runs.request import explained
        from sndcli.serving.settings import ANSWERS, NAME, Limits, Settings

        if self.name and not NAME.fullmatch(self.name):
            raise ConfigError(f"Expected `--name` to be letters, digits and ._@- but got `{self.name}`.")
        with explained():
            return Settings(
                model=self.model, download=self.download, remote=self.remote(), name=self.name or "",
                device=self.device, precision=self.arithmetic(), allow_rounding=self.allow_rounding,
                defense=parse(self.defense, self.sigma, self.beta, self.clip, self.defense_weights),
                answer=o.one_of(self.answer, ANSWERS, "--answer"), batch_rows=o.batch_rows(self.batch_size),
                compiled=bool(wished(self.compiled)), host=self.host, port=self.port, workers=self.workers,
                token_env=self.token_env or "", log=self.log,
                limits=Limits(max_body=self.max_body, max_batch=self.max_batch, max_pixels=self.max_pixels),
            )  # fmt: skip

    def run(self, listener: "Listener") -> "Shown":
        """Loads the model, says where it is, and serves.

        Raises:
            ConfigError: the packages of the extra `serve` are missing, or an option cannot be.
        """
        from sndcli.cli.output import Shown
        from sndcli.errors import ConfigError

        try:
            from sndcli.serving.run import application, listening, serve
        except ImportError as error:
            raise ConfigError(f"`snd serve` needs the package {error.name}: pip install 'sndcli[serve]'.") from None
        settings = listening(self.settings())
        app, service = application(settings)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        noise = (
            f"{settings.defense.name}, σ = {settings.defense.sigma:g}"
            if settings.defense.sigma
            else (settings.defense.name)
        )
        listener.note(
            f"serving {service.name} ({noise}) at http://{host}:{settings.port}/v2/models/{service.name}; "
            "Ctrl-C ends it"
        )
        serve(app, settings)
        return Shown({"schema": 1, "served": service.name}, tuple)
