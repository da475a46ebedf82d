"""From settings to a running server, in this process or in several."""

from __future__ import annotations

import os
import socket
import tempfile
from dataclasses import replace
from functools import partial

import uvicorn
from fastapi import FastAPI
from pydantic import TypeAdapter

from sndcli.defenses.parse import settle
from sndcli.errors import ConfigError
from sndcli.models.inference import forbid_rounding, resolve_device
from sndcli.models.sources import open_model
from sndcli.runs.rounding import check_rounding
from sndcli.runs.victim import Victim
from sndcli.serving import metrics
from sndcli.serving.app import make_app
from sndcli.serving.log import RequestLog
from sndcli.serving.service import Service
from sndcli.serving.settings import Settings, called
from sndcli.serving.wire import largest_batch

VARIABLE = "SNDCLI_SERVE_SETTINGS"  # how a worker is told; no secret is in it, the token stays in its own variable


def application(settings: Settings) -> tuple[FastAPI, Service]:
    """The server and whom it asks, loaded and tried.

    Raises:
        ConfigError: a model, defense, host or token that cannot be.
        DataError: weights that are missing or broken.
    """
    forbid_rounding()  # in all of the process: TF32 would be a defense that nobody asked for
    token = settings.token()
    check_rounding(settings.precision, settings.defense, settings.allow_rounding)
    log = RequestLog(settings.log) if settings.log else None
    model = open_model(settings.model, settings.download, settings.remote)
    if settings.defense.stateful:
        raise ConfigError(
            f"`{settings.defense.name}` remembers an attacker's questions, which only attacks have: "
            "`snd serve` does not tell its callers apart."
        )
    defense = settle(settings.defense, model)
    victim = Victim.prepare(
        model, defense, resolve_device(settings.device), settings.batch_rows, settings.precision, settings.compiled
    )
    lanes = largest_batch(model.input_size, settings.limits)
    service = Service(victim, settings.name or called(model.name), settings.answer, lanes)
    return make_app(service, settings.limits, token, log), service


def from_environment() -> FastAPI:
    """The application of a worker process."""
    return application(TypeAdapter(Settings).validate_json(os.environ[VARIABLE]))[0]


def listening(settings: Settings) -> Settings:
    """The same with a port that is free, where any will do.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host.strip("[]"), settings.port), family=family) as tried:
            return replace(settings, port=tried.getsockname()[1])
    except OSError as error:
        raise ConfigError(f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}.") from None


def serve(app: FastAPI, settings: Settings) -> None:
    """Serves until interrupted. `app` serves where one process does; several workers each load their own."""
    run = partial(
        uvicorn.run, host=settings.host.strip("[]"), port=settings.port, access_log=False, log_config=None,
        lifespan="off", server_header=False, workers=settings.workers,
    )  # fmt: skip
    if settings.workers == 1:
        run(app)
        return
    with tempfile.TemporaryDirectory(prefix="snd-metrics-") as folder:
        os.environ[metrics.SHARED] = folder
        os.environ[VARIABLE] = TypeAdapter(Settings).dump_json(settings).decode()
        run("sndcli.serving.run:from_environment", factory=True)
