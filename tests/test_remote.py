"""Models over HTTP: against `snd serve` over loopback, against a mock of everything else, and against MLServer."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import torch
import uvicorn
from conftest import CPU, Done
from fastapi import FastAPI, Request, Response
from PIL import Image
from torch import Tensor, nn

from sndcli.cli.endpoint import assumptions
from sndcli.defenses.parse import parse
from sndcli.errors import ConfigError, DataError, IncompleteError
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.remote.model import RemoteModel, open_remote
from sndcli.models.remote.settings import Remote
from sndcli.models.remote.transport import Transport, retry_after
from sndcli.runs import results
from sndcli.runs.examine import IMAGES, examine, smooth
from sndcli.runs.victim import Victim
from sndcli.serving.app import make_app
from sndcli.serving.run import application
from sndcli.serving.service import Service
from sndcli.serving.settings import Answer, Limits, Settings

SHAPE = (3, 4, 4)
FAR = "https://models.example"
MINE = Remote(authorised=True)
Handler = Callable[[httpx.Request], httpx.Response]


class Means(nn.Module):
    """Three classes: the channels' means."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def bare(sigma: float = 0.0) -> Victim:
    return Victim.prepare(Classifier(Means(), IDENTITY, SHAPE, "means"), parse(None, sigma, None), CPU, 8)


def app(sigma: float = 0.0, answer: Answer = "logits", token: str = "") -> FastAPI:
    return make_app(Service(bare(sigma), "means", answer, lanes=16), Limits(max_batch=16), token)


@contextmanager
def served(application: FastAPI, **options: Any) -> Iterator[str]:
    """The address of a server in a thread, on a free port."""
    config = uvicorn.Config(application, port=0, log_config=None, access_log=False, lifespan="off", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def opened(handler: Handler, source: str = FAR, remote: Remote = MINE) -> RemoteModel:
    return open_remote(source, remote, httpx.MockTransport(handler))


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def of_v2(request: httpx.Request) -> Tensor:
    given = json.loads(request.content)["inputs"][0]
    return torch.tensor(given["data"], dtype=torch.float32).view(given["shape"])


def v2_answer(scores: Tensor) -> httpx.Response:
    output = {"name": "y", "shape": list(scores.shape), "datatype": "FP32", "data": scores.flatten().tolist()}
    return httpx.Response(200, json={"model_name": "m", "outputs": [output]})


METADATA: dict[str, Any] = {
    "name": "m", "platform": "other", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, *SHAPE]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}  # fmt: skip


class Server:
    """A server of the protocol v2 that is not ours.

    Args:
        metadata: changes of them.
        infer: answers about images.
    """

    def __init__(self, infer: Handler | None = None, **metadata: object) -> None:
        self.infer = infer or (lambda request: v2_answer(of_v2(request).mean((2, 3))))
        self.metadata, self.seen = METADATA | metadata, list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/infer"):
            self.seen.append(request)
            return self.infer(request)
        if request.url.path == "/v2/repository/index":
            return httpx.Response(200, json=[{"name": "m", "state": "READY"}])
        return httpx.Response(200, json=self.metadata)


# -- against `snd serve` --------------------------------------------------------------------------


def test_needs_nothing_but_the_address_of_snd_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(40)
    with served(app(token="sesame")) as address:
        with pytest.raises(DataError, match="401"):
            open_remote(address + "/v2/models/means", Remote())
        monkeypatch.setenv("SND_TOKEN", "sesame")
        model = open_remote(address, Remote(header_env=("SND_TOKEN",)))
        assert (model.name, model.input_size) == (f"means@{address.removeprefix('http://')}", SHAPE)
        facts = model.facts
        assert (facts.classes, facts.access, facts.score, facts.bare, model.batch) == (3, "scores", "logits", False, 16)
        assert torch.equal(model(x), bare().undefended(x))  # not one bit is lost on the way
        assert model(x[:0]).shape == (0, 3)
        assert model.sent() == {"requests": 4, "images": 41, "retries": 0, "failed": 0, "waited_s": 0.0}
        again = open_remote(address + "/v2/models/means/", Remote(header_env=("SND_TOKEN",), concurrency=1))
        assert again.facts.digest == facts.digest
        monkeypatch.setenv("SND_TOKEN", "Authorization: Bearer sesame")
        assert torch.equal(open_remote(address, Remote(header_env=("SND_TOKEN",)))(x), model(x))


@pytest.mark.parametrize("answer", ["probabilities", "label"])
def test_snd_serve_says_what_it_answers(answer: Answer) -> None:
    x = images(20)
    with served(app(answer=answer)) as address:
        model = open_remote(address, Remote())
        logits = bare().undefended(x)
        wanted = logits.argmax(1) if answer == "label" else logits.softmax(1)
        assert model.facts.access == ("labels" if answer == "label" else "scores")
        assert answer in ("label", model.facts.score)
        assert torch.equal(model(x), wanted)


# -- addresses, credentials, certificates --------------------------------------------------------------------------


def test_refuses_addresses_that_must_not_be() -> None:
    def never(_: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing may be sent")

    for source, reason in {
        "http://me:secret@127.0.0.1:1": "without user and password",
        "http://me@127.0.0.1:1": "without user and password",
        "http://127.0.0.1:1?key=secret": "without `\\?`",
        "http://127.0.0.1:1/#x": "without `\\?`",
        "http://": "HOST:PORT",
        "http://127.0.0.1:x": "HOST:PORT",
        "http://127.0.0.1:99999": "HOST:PORT",
        "http://[::1": "HOST:PORT",
    }.items():
        with pytest.raises(ConfigError, match=reason) as caught:
            opened(never, source)
        assert "secret" not in str(caught.value)
    for host in ("models.example", "10.0.0.1", "0.0.0.0", "127.0.0.1.models.example"):
        with pytest.raises(ConfigError, match="--i-am-authorised"):
            opened(never, f"https://{host}", Remote())


def test_headers_come_from_the_environment_and_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setenv("ONE", "X-Key: s3cret")
    monkeypatch.setenv("TWO", "s4cret")
    opened(server, remote=Remote(authorised=True, header_env=("ONE", "TWO")))
    assert server.seen[0].headers["x-key"] == "s3cret"
    assert server.seen[0].headers["authorization"] == "Bearer s4cret"
    for text in ("", "X Key: s3cret", "X-Key:", "X-Key: s3cret\nX-Other: 1", "X-Key: s3crét"):
        monkeypatch.setenv("ONE", text)
        with pytest.raises(ConfigError, match="`ONE`") as caught:
            opened(server, remote=Remote(authorised=True, header_env=("ONE",)))
        assert "s3cr" not in str(caught.value)


def test_certificates_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "not.pem").write_text("nothing")
    for kwargs, option in (
        ({"ca_file": tmp_path / "not.pem"}, "--ca-file"),
        ({"ca_file": tmp_path / "missing"}, "--ca-file"),
        ({"client_cert": tmp_path / "not.pem"}, "--client-cert"),
        ({"client_key": tmp_path / "not.pem"}, "--client-cert"),
    ):
        with pytest.raises(ConfigError, match=option):
            opened(Server(), remote=Remote(authorised=True, **kwargs))  # type: ignore[arg-type]


@pytest.mark.slow
def test_both_sides_show_certificates(tmp_path: Path) -> None:
    """Over loopback: a server that asks for one answers those who have it, and only if they trust it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not here to make certificates")

    def make(*arguments: object) -> None:
        subprocess.run([openssl, *map(str, arguments)], cwd=tmp_path, check=True, capture_output=True)

    make("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        make("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=x")
        make("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
             "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    tls = {"ssl_certfile": tmp_path / "server.pem", "ssl_keyfile": tmp_path / "server.key",
           "ssl_ca_certs": str(tmp_path / "ca.pem"), "ssl_cert_reqs": ssl.CERT_REQUIRED}  # fmt: skip
    mine = Remote(client_cert=tmp_path / "client.pem", client_key=tmp_path / "client.key", ca_file=tmp_path / "ca.pem")
    with served(app(), **tls) as address:
        secure = address.replace("http:", "https:")
        assert torch.equal(open_remote(secure, mine)(images(2)), bare().undefended(images(2)))
        for other in (replace(mine, client_cert=None, client_key=None), replace(mine, ca_file=None)):
            with pytest.raises(DataError, match="cannot be asked"):
                open_remote(secure, other)


# -- other servers of the protocol --------------------------------------------------------------------------


def test_reads_the_metadata_of_other_servers(tmp_path: Path) -> None:
    model = opened(Server())
    assert (model.name, model.batch, model.facts.score) == ("m@models.example", 1, "logits")
    assert torch.equal(model(images(3)), Means()(images(3)))
    soft = opened(Server(lambda request: v2_answer(of_v2(request).mean((2, 3)).softmax(1))))
    assert soft.facts.score == "probabilities"

    def label(request: httpx.Request) -> httpx.Response:
        output = {
            "name": "y",
            "shape": [1],
            "datatype": "INT64",
            "data": of_v2(request).mean((2, 3)).argmax(1).tolist(),
        }
        return httpx.Response(200, json={"outputs": [output]})

    file = tmp_path / "endpoint.toml"
    file.write_text("classes = 3")
    said = Remote(authorised=True, endpoint=file)
    labels = opened(Server(label, outputs=[{"name": "y", "datatype": "INT64", "shape": [-1]}]), remote=said)
    assert torch.equal(labels(images(3)), Means()(images(3)).argmax(1))

    file.write_text("classes = 3\nsize = [3, 4, 4]\nanswer = 'logits'\nbatch = 2")
    silent = Server(inputs=[], outputs=[])
    model = opened(silent, remote=said)
    assert torch.equal(model(images(5)), Means()(images(5)))
    assert sorted(len(of_v2(request)) for request in silent.seen) == [1, 1, 2, 2]


def test_says_what_metadata_lack() -> None:
    for changes, reason in (
        ({"inputs": []}, "size = "),
        ({"outputs": []}, "classes = "),
        ({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, *SHAPE]}]}, "FP32"),
        ({"inputs": METADATA["inputs"] * 2}, "one input"),
        ({"outputs": [{"name": n, "datatype": "FP32", "shape": [-1, 3]} for n in "ab"]}, "one output"),
    ):
        with pytest.raises(ConfigError, match=reason):
            opened(Server(**changes))
    two = httpx.Response(200, json=[{"name": "a"}, {"name": "b"}])
    with pytest.raises(ConfigError, match="a, b"):
        opened(lambda _: two)
    with pytest.raises(ConfigError, match="/v2/models/NAME"):
        opened(lambda _: httpx.Response(404))
    with pytest.raises(DataError, match="cannot be asked"):
        open_remote("http://127.0.0.1:1", Remote())
    with pytest.raises(DataError, match="503"):
        opened(lambda _: httpx.Response(503))
    with pytest.raises(DataError, match="metadata"):
        opened(lambda _: httpx.Response(200, text="<html>"), f"{FAR}/v2/models/m")


# -- failures --------------------------------------------------------------------------


def test_fails_fast_until_one_answer_is_read() -> None:
    for infer, reason in (
        (lambda _: httpx.Response(503), "503"),
        (lambda _: httpx.Response(200, text="<html>"), "protocol v2"),
        (lambda _: v2_answer(torch.zeros(1, 4)), "3 numbers"),
        (
            lambda _: httpx.Response(
                200, text='{"outputs":[{"name":"y","shape":[1,3],"datatype":"FP32","data":[NaN,1,2]}]}'
            ),
            "finite",
        ),
        (lambda _: httpx.Response(200, json={"outputs": []}), "`y`"),
        (lambda _: httpx.Response(302, headers={"Location": "https://elsewhere.example"}), "302"),
    ):
        server = Server(infer)
        with pytest.raises(DataError, match=reason):
            opened(server)
        assert len(server.seen) == 1


def flaky(plan: list[httpx.Response | Exception]) -> Handler:
    """Answers as planned, then well; the first answer of all is the probe's."""
    lock, asked = threading.Lock(), 0

    def infer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        with lock:
            asked += 1
            step = plan.pop(0) if asked > 1 and plan else None
        if isinstance(step, Exception):
            raise step
        return step or v2_answer(of_v2(request).mean((2, 3)))

    return infer


def waiting(model: RemoteModel, remote: Remote = MINE) -> list[float]:
    """Makes a model's clock a list of its waits."""
    waits: list[float] = []
    old = model._transport
    model._transport = Transport(
        old._client, remote, model._log, sleep=waits.append, clock=lambda: sum(waits)
    )  # fmt: skip
    return waits


def test_tries_again_what_may_pass_and_logs_it(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    remote = Remote(authorised=True, log=log)
    server = Server(flaky([httpx.Response(502), httpx.ConnectError("refused"), httpx.ReadTimeout("slow")]))
    model = opened(server, remote=remote)
    waits = waiting(model)
    assert torch.equal(model(images(1)), Means()(images(1)))
    assert waits == [0.5, 1.0, 2.0]
    assert (model.sent()["requests"], model.sent()["retries"], model.sent()["failed"]) == (2, 3, 0)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(line["attempt"], line["status"], line.get("reason", "")[:9]) for line in lines if line["images"]]
    assert told == [(0, 200, ""), (0, 502, "Status 50"), (1, None, "No connec"), (2, None, "No answer"), (3, 200, "")]


def test_waits_as_long_as_it_is_asked_to() -> None:
    busy = httpx.Response(429, headers={"Retry-After": "17"})
    model = opened(Server(flaky([busy])))
    waits = waiting(model)
    model(images(1))
    assert waits == [17.0]
    assert model.sent()["waited_s"] == 17.0
    assert retry_after("Fri, 01 Jan 1999 00:00:00 GMT") == 0.0
    assert retry_after("Fri, 01 Jan 2100 00:00:00 GMT") == 3600.0


def test_a_rate_is_kept() -> None:
    remote = Remote(authorised=True, rate=10.0, concurrency=1)
    model = opened(Server(), remote=remote)
    waits = waiting(model, remote)
    model(images(6))
    assert len(waits) == 5
    assert sum(waits) == pytest.approx(0.5)


def test_a_failed_request_is_never_a_label() -> None:
    """The answer about one image of three cannot be read, or is refused for its own sake: that row has no answer."""
    x = images(3)
    for bad in (httpx.Response(400, text="too dark"), httpx.Response(200, text="{}"), v2_answer(torch.zeros(1, 2))):

        def infer(request: httpx.Request, bad: httpx.Response = bad) -> httpx.Response:
            return bad if torch.equal(of_v2(request)[0], x[1]) else v2_answer(of_v2(request).mean((2, 3)))

        model = opened(Server(infer))
        answers = model(x)
        assert bool(answers[1].isnan().all())
        assert torch.equal(answers[[0, 2]], Means()(x[[0, 2]]))
        assert model.sent()["failed"] == 1


def test_stops_when_nobody_answers_any_more() -> None:
    for step, tries in ((httpx.ConnectError("refused"), 3), (httpx.Response(401), 1), (httpx.Response(500), 3)):
        remote = Remote(authorised=True, retries=2)
        server = Server(flaky([step] * 10))
        model = opened(server, remote=remote)
        waiting(model, remote)
        with pytest.raises(IncompleteError, match="does not answer any more"):
            model(images(1))
        assert len(server.seen) == 1 + tries


def test_redirections_are_not_followed() -> None:
    away = httpx.Response(307, headers={"Location": "https://elsewhere.example/infer"})
    server = Server(flaky([away]))
    model = opened(server)
    assert bool(model(images(1)).isnan().all())
    assert {request.url.host for request in server.seen} == {"models.example"}


def test_so_many_requests_at_a_time() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def infer(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return v2_answer(of_v2(request).mean((2, 3)))

    for concurrency in (1, 3):
        most = 0
        model = opened(Server(infer), remote=Remote(authorised=True, concurrency=concurrency))
        assert torch.equal(model(images(9)), Means()(images(9)))  # in the order of the images
        assert most == concurrency


def test_noise_of_this_side_is_clipped_before_it_is_sent() -> None:
    server = Server()
    model = opened(server)
    model(torch.tensor([-0.1, 1.1]).view(2, 1, 1, 1).expand(2, *SHAPE))
    assert [float(of_v2(request).mean()) for request in server.seen[1:]] in ([0.0, 1.0], [1.0, 0.0])


# -- TorchServe and templates --------------------------------------------------------------------------


def pixels(content: bytes) -> Tensor:
    """``[1, 3, H, W]`` in [0, 1] of a PNG."""
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "PNG"
    flat = torch.tensor(list(picture.tobytes()), dtype=torch.float32)
    return flat.view(1, picture.height, picture.width, 3).permute(0, 3, 1, 2) / 255


def test_torchserve(tmp_path: Path) -> None:
    file = tmp_path / "endpoint.toml"
    names = ["cat", "dog", "owl"]
    x = images(4)
    rounded = (x * 255).round() / 255

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/predictions/means"
        scores = Means()(pixels(request.content))[0].softmax(0).tolist()
        return httpx.Response(200, json=dict(zip(names, scores, strict=True)))

    remote = Remote(authorised=True, endpoint=file)
    source = f"{FAR}/predictions/means"
    with pytest.raises(ConfigError, match="size = "):
        opened(handler, source)
    file.write_text(f"size = [3, 4, 4]\nclasses = {names}\nanswer = 'probabilities'")
    model = opened(handler, source, remote)
    assert model.facts.eight_bits
    assert torch.allclose(model(x), Means()(rounded).softmax(1), atol=1e-6)
    file.write_text(f"size = [3, 4, 4]\nclasses = {names}")
    model = opened(handler, source, remote)
    assert model.facts.access == "labels"
    assert torch.equal(model(x), Means()(rounded).argmax(1))
    file.write_text("size = [3, 4, 4]\nclasses = 3")
    with pytest.raises(DataError, match="label from 0 to 2"):
        opened(handler, source, remote)


@pytest.mark.parametrize("image", ["png", "chw", "hwc"])
def test_template(tmp_path: Path, image: str) -> None:
    file = tmp_path / "endpoint.toml"
    quoted = '"{image}"' if image == "png" else "{image}"
    file.write_text(
        f"size = [3, 4, 4]\nclasses = 3\nanswer = 'logits'\nimage = '{image}'\nresponse = 'predictions.0.scores'\n"
        f"""body = '{{"instances": [{{"b64": {quoted}}}]}}'\n"""
    )

    def handler(request: httpx.Request) -> httpx.Response:
        given = json.loads(request.content)["instances"][0]["b64"]
        if image == "png":
            x = pixels(base64.b64decode(given))
        else:
            x = torch.tensor(given)[None]
            x = x if image == "chw" else x.permute(0, 3, 1, 2)
        return httpx.Response(200, json={"predictions": [{"scores": Means()(x)[0].tolist()}]})

    model = opened(handler, f"{FAR}/classify", Remote(authorised=True, endpoint=file))
    x = images(3)
    assert model.name == "classify@models.example"
    assert model.facts.eight_bits == (image == "png")
    wanted = Means()((x * 255).round() / 255) if image == "png" else Means()(x)
    assert torch.allclose(model(x), wanted, atol=1e-6)
    assert torch.allclose(model(x + 0.7), Means()((x + 0.7).clamp(0, 1)), atol=2e-3) or image != "png"


def test_answers_of_templates(tmp_path: Path) -> None:
    file = tmp_path / "endpoint.toml"
    start = "size = [3, 4, 4]\nbody = '{image}'\nclasses = ['cat', 'dog', 'owl']\n"
    for answer, content, wanted in (
        ("label", 2, [2]), ("label", "dog", [1]), ("label", "1", [1]), ("label", {"owl": 0.5, "cat": 0.1}, [2]),
        ("label", [0.1, 0.7, 0.2], [1]), ("label", [{"label": "dog", "score": 0.9}], [1]), ("label", ["owl"], [2]),
        ("probabilities", {"owl": 0.5, "cat": 0.25, "1": 0.25}, [[0.25, 0.25, 0.5]]),
        ("label", True, None), ("label", "bird", None), ("label", 3, None), ("label", -1, None), ("label", {}, None),
        ("label", None, None), ("label", 1.5, None), ("label", {"owl": "x"}, None), ("label", [], None),
        ("probabilities", {"owl": 0.5}, None), ("probabilities", [0.1, 0.9], None), ("probabilities", 1, None),
        ("probabilities", [0.1, None, 0.9], None), ("probabilities", [0.1, True, 0.9], None),
    ):  # fmt: skip
        file.write_text(start + f"answer = '{answer}'")
        well: dict[str, bool] = {"first": True}

        def handler(_: httpx.Request, well: dict[str, bool] = well, content: object = content) -> httpx.Response:
            return httpx.Response(200, json="cat" if well.pop("first", False) and answer == "label" else content)  # noqa: B023

        remote = Remote(authorised=True, endpoint=file)
        if wanted is None and answer == "probabilities":
            with pytest.raises(DataError, match="first question"):
                opened(handler, FAR, remote)
            continue
        got = opened(handler, FAR, remote)(images(1))
        assert got.tolist() == ([-1] if wanted is None else wanted), (answer, content, got)


def test_endpoint_files_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "endpoint.toml"
    for text, reason in {
        "sise = [3, 4, 4]": "sise",
        "size = [3, 4]": "size",
        "classes = 1": "classes",
        "classes = ['a', 'a']": "each once",
        "answer = 'all'": "answer",
        "body = 'x'": "{image}",
        "x": "TOML",
    }.items():
        file.write_text(text)
        with pytest.raises((ConfigError, DataError), match=reason):
            opened(Server(), FAR, Remote(authorised=True, endpoint=file))
    with pytest.raises(DataError, match="cannot be read"):
        opened(Server(), FAR, Remote(authorised=True, endpoint=tmp_path / "missing"))


# -- a whole run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet20() -> Iterator[str]:
    """The address of the zoo's network behind small noise."""
    settings = Settings(defense=parse(None, 0.01, None), device="cpu", batch_rows=64)
    with served(application(settings)[0]) as address:
        yield address


@pytest.mark.slow
def test_attacks_a_defended_server(snd: Callable[..., Done], resnet20: str, tmp_path: Path) -> None:
    out = tmp_path / "run.parquet"
    done = snd("attack", "hsja", "--model", resnet20, "--images", 2, "--budget", 40, "--budgets", 40, "--verify", 4,
               "--no-boundary", "--out", out, "--json", "--no-progress", "--request-log", tmp_path / "log")  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    (row,) = answer["rows"]
    assert row["model"] == "resnet20@" + resnet20.removeprefix("http://")
    assert row["success_clean"] is None  # nobody here has the bare model
    assert row["success_noisy"] is not None
    table = pq.read_table(out)
    assert set(table["adv_clean"].to_pylist()) == {None}
    assert max(table["queries"].to_pylist()) <= 40
    run = results.run_of(table)
    assert run["answers_to_choose"] % 9 == 0
    assert run["answers_to_choose"] >= 18
    asked = sum(json.loads(line)["images"] for line in (tmp_path / "log").read_text().splitlines())
    assert asked == run["sent"]["images"] > run["answers_to_choose"] + sum(table["queries"].to_pylist())
    assert "resnet20" in done.stderr
    assert f"{run['answers_to_choose']} unpaid answers" in done.stderr


@pytest.mark.slow
def test_a_run_goes_on_when_its_server_is_back(snd: Callable[..., Done], tmp_path: Path) -> None:
    """The server refuses after some questions: exit code 3, nothing is counted as a label; then the run is finished."""
    up, asked = False, 0

    def infer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if not up and asked > 200:
            return httpx.Response(401)
        x = of_v2(request)
        return v2_answer(torch.cat([x.mean((1, 2, 3), keepdim=True).flatten(1), x.flatten(1)[:, :9]], 1))

    kinds = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 32, 32]}],
             "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}]}  # fmt: skip
    handler = Server(infer, **kinds)
    bridge = FastAPI()

    @bridge.api_route("/{path:path}", methods=["GET", "POST"])
    async def any_path(path: str, request: Request) -> Response:
        sent = httpx.Request(request.method, f"http://x/{path}", content=await request.body())
        answer = handler(sent)
        return Response(answer.content, answer.status_code, media_type="application/json")

    with served(bridge) as address:
        command = ["attack", "hsja", "--model", address, "--select", "all", "--images", 2, "--budget", 60,
                   "--budgets", 60, "--verify", 2, "--no-boundary", "-q",
                   "--out", tmp_path / "run.parquet"]  # fmt: skip
        stopped = snd(*command)
        assert stopped.returncode == 3, stopped.stderr
        assert "does not answer any more. Status 401" in stopped.stderr
        assert not (tmp_path / "run.parquet").exists()
        up = True
        assert snd(*command).returncode == 0
    assert set(pq.read_table(tmp_path / "run.parquet")["status"].to_pylist()) == {"ok"}


@pytest.mark.slow
def test_the_doctor_looks_at_a_server(snd: Callable[..., Done], resnet20: str) -> None:
    done = snd("doctor", "--model", resnet20, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    seen = answer["seen"]
    assert (seen["differ"], seen["mates_share"], seen["eight_bits"], seen["unanswered"]) == (True, False, None, 0)
    assert 0 <= seen["flips"] < 0.2
    assert seen["questions"] == 160
    assert answer["sent"]["images"] == 161
    assert "answers are random" in snd("doctor", "--model", resnet20).stdout
    assert snd("doctor", "--model", "resnet20").returncode == 2


def test_a_server_is_seen_through(tmp_path: Path) -> None:
    """One that repeats itself, one that rounds, one whose batch mates share a draw, one that gives labels alone."""
    x = smooth(SHAPE, IMAGES)
    seen = examine(opened(Server()), x)
    assert (seen.differ, seen.flips, seen.eight_bits, seen.mates_share) == (False, 0.0, False, None)

    def rounding(request: httpx.Request) -> httpx.Response:
        return v2_answer(((of_v2(request) * 255).round() / 255).mean((2, 3)))

    assert examine(opened(Server(rounding)), x).eight_bits is True
    file = tmp_path / "endpoint.toml"
    file.write_text("batch = 8\nanswer = 'logits'")
    draws = torch.Generator().manual_seed(0)

    def sharing(request: httpx.Request) -> httpx.Response:
        return v2_answer(of_v2(request).mean((2, 3)) + 0.1 * torch.randn(1, 3, generator=draws))

    model = opened(Server(sharing), remote=Remote(authorised=True, endpoint=file, concurrency=1))
    seen = examine(model, x)
    assert (seen.differ, seen.eight_bits, seen.mates_share) == (True, None, True)
    assert 0 < seen.flips < 0.7
    assert any("share a draw" in line for line in assumptions(model.facts, seen))


# -- against MLServer -----------------------------------------------------------------------------------------------

RUNTIME = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Means(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        scores = x.reshape(len(x), 3, -1).mean(2).astype(np.float32)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", scores)])
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLServer 1.7 in an environment of its own, whose fastapi is older than ours."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not here to make an environment for MLServer")
    folder = tmp_path_factory.mktemp("mlserver")
    python = folder / "env" / "bin" / "python"
    commands: tuple[list[str | Path], ...] = (
        [uv, "venv", "--quiet", "--python", sys.executable, folder / "env"],
        [uv, "pip", "install", "--quiet", "--python", python, "mlserver==1.7.*"],
    )
    for command in commands:
        made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if made.returncode:
            pytest.skip(f"MLServer cannot be installed here: {made.stderr.strip()[-200:]}")
    http, grpc, metrics = free_ports(3)
    model = folder / "models" / "m"
    model.mkdir(parents=True)
    (model / "means.py").write_text(RUNTIME)
    kinds = {key: METADATA[key] for key in ("inputs", "outputs")}
    (model / "model-settings.json").write_text(json.dumps({"name": "m", "implementation": "means.Means", **kinds}))
    (folder / "models" / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics,
                    "parallel_workers": 0})
    )  # fmt: skip
    log = (folder / "log").open("w")
    started: list[str | Path] = [python, "-m", "mlserver.cli.main", "start", folder / "models"]
    with subprocess.Popen(started, stdout=log, stderr=log, cwd=model) as process:
        try:
            address, end = f"http://127.0.0.1:{http}", time.monotonic() + 90
            while process.poll() is None and time.monotonic() < end:
                with suppress(httpx.HTTPError):
                    if httpx.get(f"{address}/v2/models/m/ready", timeout=5).status_code == 200:
                        break
                time.sleep(0.2)
            else:
                pytest.fail((folder / "log").read_text()[-2000:])
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.slow
def test_mlserver(mlserver: str, snd: Callable[..., Done], tmp_path: Path) -> None:
    x = images(6)
    for address in (mlserver, f"{mlserver}/v2/models/m"):
        model = open_remote(address, Remote())
        assert (model.name, model.facts.classes, model.facts.score, model.batch) == (
            "m@" + mlserver.removeprefix("http://"), 3, "logits", 1,
        )  # fmt: skip
        assert torch.allclose(model(x), Means()(x), atol=1e-6)
    file = tmp_path / "endpoint.toml"
    file.write_text("batch = 4")
    model = open_remote(mlserver, Remote(endpoint=file))
    assert torch.allclose(model(x), Means()(x), atol=1e-6)
    assert model.sent()["requests"] == 3
    done = snd("doctor", "--model", mlserver)
    assert done.returncode == 0, done.stderr
    assert "answers repeat: no randomness was seen" in done.stdout
    assert "makes no difference: no" in done.stdout
    with pytest.raises(DataError, match="404"):
        open_remote(f"{mlserver}/v2/models/other", Remote())
