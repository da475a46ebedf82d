"""The server's routes: the Open Inference Protocol, health, metrics; every refusal is a 4xx with its reason."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sndcli import __version__
from sndcli.errors import IncompleteError
from sndcli.serving import wire
from sndcli.serving.log import RequestLog, png_hashes
from sndcli.serving.metrics import Metrics
from sndcli.serving.service import Service, Unanswered
from sndcli.serving.settings import Limits
from sndcli.serving.wire import Health, InferResponse, ModelMetadata, Problem, Refusal, ServerMetadata

Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
REQUEST = "#/components/schemas/InferRequest"
BODY = {"required": True, "content": {"application/json": {"schema": {"$ref": REQUEST}}}}
REFUSED: dict[int | str, dict[str, object]] = {
    400: {"model": Problem, "description": "What is wrong with the request."},
    401: {"model": Problem, "description": "No token, or another."},
    404: {"model": Problem, "description": "No such model."},
    413: {"model": Problem, "description": "More bytes or images than the server takes."},
    502: {"model": Problem, "description": "The model is a remote one and did not answer."},
    415: {"model": Problem, "description": "A body that is not JSON."},
}


def make_app(service: Service, limits: Limits, token: str = "", log: RequestLog | None = None) -> FastAPI:
    """The server.

    Args:
        service: whom it asks.
        limits: of one request.
        token: what clients must send as ``Authorization: Bearer``, but for health; empty: nothing.
        log: where requests are written.
    """
    kind, metrics = wire.metadata(service.name, service.shape, service.classes, service.answer, limits), Metrics()

    def allowed(given: Bearer) -> None:
        if token and not (given and secrets.compare_digest(given.credentials.encode(), token.encode())):
            raise Refusal("Expected the header `Authorization: Bearer` with this server's token.", 401)

    def known(name: str) -> None:
        if name != service.name:
            raise Refusal(f"Unknown model. Known: {service.name}.", 404)

    app = FastAPI(
        title="snd serve", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    app.add_middleware(Watch, metrics=metrics, log=log)
    for error, answer in ((Refusal, _refused), (HTTPException, _http), (RequestValidationError, _invalid)):
        app.add_exception_handler(error, cast("Callable[[Request, Exception], Response]", answer))
    guarded = [Depends(allowed)] if token else []

    @app.get("/v2", dependencies=guarded, responses={401: REFUSED[401]})
    def server() -> ServerMetadata:
        return ServerMetadata(name="snd", version=__version__, extensions=["model_repository"])

    @app.get("/v2/health/live", response_model_exclude_none=True)
    def live() -> Health:
        return Health(live=True)

    @app.get("/v2/health/ready", response_model_exclude_none=True)
    def ready() -> Health:
        return Health(ready=True)

    @app.post("/v2/repository/index", dependencies=guarded, responses={401: REFUSED[401]})
    def index() -> list[wire.Listed]:
        return [wire.Listed(name=service.name, version=wire.VERSION, state="READY")]

    @app.get("/v2/models/{name}", dependencies=guarded, responses={k: REFUSED[k] for k in (401, 404)})
    def model(name: str) -> ModelMetadata:
        known(name)
        return kind

    @app.get(
        "/v2/models/{name}/ready", dependencies=guarded, responses={k: REFUSED[k] for k in (401, 404)},
        response_model_exclude_none=True,
    )  # fmt: skip
    def model_ready(name: str) -> Health:
        known(name)
        return Health(ready=True)

    @app.post(
        "/v2/models/{name}/infer", dependencies=guarded, responses=REFUSED, response_model=InferResponse,
        openapi_extra={"requestBody": BODY},
    )  # fmt: skip
    async def infer(name: str, request: Request) -> Response:
        known(name)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal("Expected the content type application/json.", 415)
        body = await _body(request, limits.max_body)

        def answer() -> bytes:
            asked, x = wire.read(body, kind)
            if log is not None:
                request.state.png = png_hashes(x)
            with metrics.seconds.time():
                try:
                    found = service(x)
                except (Unanswered, IncompleteError):
                    raise Refusal("The model behind this server did not answer.", 502) from None
            metrics.images.inc(len(x))
            output = kind.outputs[0]
            answers = wire.Answers(
                name=output.name, shape=list(found.shape), datatype=output.datatype, data=found.flatten().tolist()
            )
            response = InferResponse(
                model_name=service.name, model_version=wire.VERSION, id=asked.id, outputs=[answers]
            )  # fmt: skip
            return response.model_dump_json(exclude_none=True).encode()

        return Response(await run_in_threadpool(answer), media_type="application/json")

    @app.get("/metrics", dependencies=guarded, responses={401: REFUSED[401]}, response_class=Response)
    def counted() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json", dependencies=guarded, include_in_schema=False)
    def schema() -> Response:
        return Response(json.dumps(described(app, service.name)), media_type="application/json")

    return app


def described(app: FastAPI, name: str) -> dict[str, object]:
    """The server's OpenAPI, with what FastAPI does not know: the schema of a request's body, and the model's name."""
    found = app.openapi()
    for path in found["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"]["enum"] = [name]
    mine = wire.InferRequest.model_json_schema(ref_template=REQUEST.replace("InferRequest", "{model}"))
    found["components"]["schemas"] |= mine.pop("$defs") | {"InferRequest": mine}
    return found


async def _body(request: Request, most: int) -> bytes:
    """The body, read no further than `most` bytes.

    Raises:
        Refusal: there is more of it, or the client went away.
    """
    told = request.headers.get("content-length", "0")
    refusal = Refusal(f"Expected a body of at most {most} bytes.", 413)
    if told.isdecimal() and int(told) > most:
        raise refusal
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise refusal
            parts.append(part)
    except ClientDisconnect:
        raise Refusal("The body ended early.") from None
    return b"".join(parts)


def _problem(request: Request, reason: str, status: int) -> Response:
    request.state.error = reason
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return Response(json.dumps({"error": reason}), status, headers, "application/json")


def _refused(request: Request, error: Refusal) -> Response:
    return _problem(request, error.reason, error.status)


def _http(request: Request, error: HTTPException) -> Response:
    response = _problem(request, str(error.detail), error.status_code)
    response.headers.update(error.headers or {})
    return response


def _invalid(request: Request, error: RequestValidationError) -> Response:
    return _problem(request, str(error.errors()[0]["msg"]), 400)


class Watch:
    """Counts and logs each request, however it was answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: RequestLog | None) -> None:
        self._app, self._metrics, self._log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, object] = {"png": [], "error": ""}
        scope["state"] = state
        status, start = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._metrics.requests.labels(str(status)).inc()
            if self._log is not None:
                client = (scope.get("client") or ("",))[0]
                png, error = cast("list[str]", state["png"]), str(state["error"])
                took = time.perf_counter() - start
                self._log.write(client, scope["method"], scope["path"], status, took, png, error)
