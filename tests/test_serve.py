"""``snd serve``: the protocol, fresh draws for every row, limits, the log, and no 5xx whatever is sent."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from conftest import CPU, Done
from fastapi.testclient import TestClient
from PIL import Image
from torch import Tensor, nn

from sndcli.defenses.parse import DefenseSpec, parse
from sndcli.errors import ConfigError
from sndcli.models.classifier import IDENTITY, Classifier
from sndcli.models.remote.address import is_loopback
from sndcli.models.sources import load_model
from sndcli.runs.victim import Victim
from sndcli.serving.app import described, make_app
from sndcli.serving.log import RequestLog
from sndcli.serving.service import Service
from sndcli.serving.settings import Answer, Limits, Settings

SHAPE = (3, 4, 4)
INFER = "/v2/models/tiny/infer"


class Linear(nn.Module):
    """Three classes: the channels' means."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class DrawsOnce(nn.Module):
    """Draws by itself, one number for all rows of a pass."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.randn(1)


def service(sigma: float = 0.0, answer: Answer = "logits", network: nn.Module | None = None, seed: int = 0) -> Service:
    model = Classifier(network or Linear(), IDENTITY, SHAPE, "tiny")
    victim = Victim.prepare(model, parse(None, sigma, None), CPU, 8)
    return Service(victim, "tiny", answer, lanes=16, seed=seed)


def client(limits: Limits | None = None, token: str = "", log: RequestLog | None = None, **kwargs: Any) -> TestClient:
    return TestClient(make_app(service(**kwargs), limits or Limits(), token, log))


def body(x: Tensor, **changes: object) -> dict[str, object]:
    given = {"name": "images", "shape": list(x.shape), "datatype": "FP32", "data": x.flatten().tolist()}
    return {"inputs": [given | changes]}


def test_speaks_the_protocol() -> None:
    server = client()
    assert server.get("/v2").json()["name"] == "snd"
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2/models/tiny/ready").status_code == 200
    assert [found["name"] for found in server.post("/v2/repository/index").json()] == ["tiny"]
    told = server.get("/v2/models/tiny").json()
    assert told["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, *SHAPE]}]
    assert told["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}]
    assert told["parameters"] == {
        "classes": 3,
        "answer": "logits",
        "low": 0.0,
        "high": 1.0,
        "max_batch": 256,
        "max_body": 2**26,
    }
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    for data in (x.flatten().tolist(), x.tolist()):
        answer = server.post(INFER, json={"id": "seven", **body(x, data=data)}).json()
        assert answer["id"] == "seven"
        (output,) = answer["outputs"]
        assert output["shape"] == [2, 3]
        assert torch.equal(torch.tensor(output["data"]).view(2, 3), service()(x))


def test_answers_probabilities_or_labels() -> None:
    x = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    logits = service()(x)
    (output,) = client(answer="probabilities").post(INFER, json=body(x)).json()["outputs"]
    assert torch.equal(torch.tensor(output["data"]).view(5, 3), logits.softmax(1))
    (output,) = client(answer="label").post(INFER, json=body(x)).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("INT64", [5])
    assert output["data"] == logits.argmax(1).tolist()


@pytest.mark.parametrize("network", [None, DrawsOnce()], ids=["snd", "draws by itself"])
def test_no_two_rows_share_a_draw(network: nn.Module | None) -> None:
    server = client(sigma=0.0 if network else 0.1, network=network)
    x = torch.full((16, *SHAPE), 0.5)
    rows = [
        tuple(row)
        for _ in range(3)
        for row in torch.tensor(server.post(INFER, json=body(x)).json()["outputs"][0]["data"]).view(16, 3).tolist()
    ]
    assert len(set(rows)) == 48


def test_a_network_that_shares_its_draws_gets_a_pass_a_row() -> None:
    model = load_model("resnet20")
    victim = Victim.prepare(model, DefenseSpec("pni-shared"), CPU, 8)
    shared = Service(victim, "resnet20", "logits", lanes=4)
    x = torch.full((4, 3, 32, 32), 0.5)
    assert len({tuple(row) for row in shared(x).tolist()}) == 4


def test_two_servers_do_not_draw_the_same() -> None:
    x = torch.full((1, *SHAPE), 0.5)
    model = Classifier(Linear(), IDENTITY, SHAPE, "tiny")
    one, two = (
        Service(Victim.prepare(model, parse(None, 0.1, None), CPU, 8), "tiny", "logits", lanes=1) for _ in range(2)
    )
    assert not torch.equal(one(x), two(x))


def test_threads_share_no_draw() -> None:
    asked, x = service(sigma=0.1), torch.full((8, *SHAPE), 0.5)
    found: list[tuple[float, ...]] = []

    def ask() -> None:
        for _ in range(10):
            found.extend(tuple(row) for row in asked(x).tolist())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 320


ONE = torch.full((1, *SHAPE), 0.5)
WRONG: dict[str, tuple[object, int, str]] = {
    "no object": ([], 400, "object"),
    "no inputs": ({"inputs": []}, 400, "at least 1"),
    "two inputs": ({"inputs": body(ONE)["inputs"] * 2}, 400, "at most 1"),  # type: ignore[operator]
    "other input": (body(ONE, name="x"), 400, "`images`"),
    "other output": ({**body(ONE), "outputs": [{"name": "x"}]}, 400, "`scores`"),
    "other type": (body(ONE, datatype="UINT8"), 400, "FP32"),
    "other size": (body(ONE, shape=[1, 3, 2, 8]), 400, "[N, 3, 4, 4]"),
    "no images": (body(ONE, shape=[0, *SHAPE], data=[]), 400, "1 to 256"),
    "many images": (body(ONE, shape=[257, *SHAPE]), 413, "1 to 256"),
    "huge": (body(ONE, shape=[2**40, *SHAPE]), 400, "less than or equal"),
    "negative": (body(ONE, shape=[-1, *SHAPE]), 400, "greater than or equal"),
    "missing data": (body(ONE, data=[0.5] * 47), 400, "48 numbers"),
    "above 1": (body(ONE, data=[1.5] * 48), 400, "less than or equal to 1"),
    "text": (body(ONE, data=["0.5"] * 48), 400, "valid number"),
    "booleans": (body(ONE, data=[True] * 48), 400, "valid number"),
    "nulls": (body(ONE, data=[None] * 48), 400, "valid number"),
    "ragged": (body(ONE, data=[[[[0.5] * 4] * 4, [[0.5] * 4] * 3, [[0.5] * 4] * 4]]), 400, "one length"),
    "other nesting": (body(ONE, data=torch.full((1, 3, 2, 8), 0.5).tolist()), 400, "[1, 3, 2, 8]"),
}


def test_says_what_is_wrong() -> None:
    server = client()
    for name, (sent, status, reason) in WRONG.items():
        answer = server.post(INFER, json=sent)
        assert (answer.status_code, reason in answer.json()["error"]) == (status, True), (name, answer.text)
    raw = {
        b"": "EOF", b"{": "EOF", b"\xff\xfe": "Invalid JSON", b"[" * 100_000: "recursion",
        b'{"id": "\\ud800"}': "escape",
        json.dumps(body(ONE, data=[float("nan")] * 48)).encode(): "finite",
        json.dumps(body(ONE)).replace("0.5", "1e999").encode(): "finite",
    }  # fmt: skip
    for sent_raw, reason in raw.items():
        answer = server.post(INFER, content=sent_raw, headers={"content-type": "application/json"})
        assert (answer.status_code, reason in answer.json()["error"]) == (400, True), answer.text
    assert server.post(INFER, content=json.dumps(body(ONE))).status_code == 415
    assert server.post("/v2/models/other/infer", json=body(ONE)).status_code == 404
    assert "tiny" in server.get("/v2/models/other").json()["error"]
    assert server.get(INFER).status_code == 405
    assert server.get("/nowhere").json() == {"error": "Not Found"}


def test_limits_of_body_batch_and_pixels() -> None:
    x = torch.full((3, *SHAPE), 0.5)
    small = client(Limits(max_body=200))
    assert small.post(INFER, json=body(x)).status_code == 413
    chunked: Iterator[bytes] = iter([b"[" * 100] * 3)
    answer = small.post(INFER, content=chunked, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert client(Limits(max_batch=2)).post(INFER, json=body(x)).status_code == 413
    few = client(Limits(max_pixels=40))
    assert few.get("/v2/models/tiny").json()["parameters"]["max_batch"] == 2
    assert few.post(INFER, json=body(x)).status_code == 413
    assert few.post(INFER, json=body(x[:2])).status_code == 200


def test_the_token_guards_all_but_health() -> None:
    server = client(token="sesame")
    asked = [("GET", "/v2"), ("GET", "/v2/models/tiny"), ("POST", INFER), ("GET", "/metrics"), ("GET", "/openapi.json")]
    for method, path in asked:
        for sent in ({}, {"Authorization": "Bearer sesam"}, {"Authorization": "Basic sesame"}):
            answer = server.request(method, path, headers=sent)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        given = server.request(method, path, headers={"Authorization": "Bearer sesame"})
        assert given.status_code in (200, 415)
    assert server.request("GET", "/v2", headers={b"Authorization": b"Bearer \xff"}).status_code == 401
    assert server.get("/v2/health/live").status_code == 200


def test_other_hosts_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", "")] == [False] * 5
    with pytest.raises(ConfigError, match="--token-env NAME"):
        Settings(host="0.0.0.0").token()
    with pytest.raises(ConfigError, match="`SND_T`"):
        Settings(host="0.0.0.0", token_env="SND_T").token()
    monkeypatch.setenv("SND_T", "sesame")
    assert Settings(host="0.0.0.0", token_env="SND_T").token() == "sesame"
    monkeypatch.setenv("SND_T", "ses ame")
    with pytest.raises(ConfigError, match="no spaces"):
        Settings(token_env="SND_T").token()


def test_counts_and_logs(tmp_path: Path) -> None:
    x = torch.stack([torch.full(SHAPE, 0.5), torch.full(SHAPE, 0.5 + 1e-4), torch.zeros(SHAPE)])
    server = client(log=RequestLog(tmp_path / "log.jsonl"))
    server.post(INFER, json=body(x))
    server.post(INFER, json={})
    first, second = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["status"], first["images"], first["path"]) == (200, 3, INFER)
    assert first["png"][0] == first["png"][1] != first["png"][2]
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (128, 128, 128)).save(file, "PNG")
    assert first["png"][0] == hashlib.sha256(file.getvalue()).hexdigest()
    assert (second["status"], second["png"], "Field required" in second["error"]) == (400, [], True)
    counted = server.get("/metrics").text
    assert 'snd_requests_total{status="200"} 1.0' in counted
    assert 'snd_requests_total{status="400"} 1.0' in counted
    assert "snd_images_total 3.0" in counted


def test_one_line_for_what_cannot_be_served(snd: Any) -> None:
    def told(*arguments: object) -> Done:
        done: Done = snd("serve", "--port", 0, *arguments)
        assert done.returncode == 2, done
        return done

    assert "--token-env NAME" in told("--host", "0.0.0.0").stderr
    assert "`--answer`" in told("--answer", "all").stderr
    assert "at least 1" in told("--max-batch", 0).stderr
    assert "at most 65535" in told("--port", 70000).stderr
    assert "`--name`" in told("--name", "a/b").stderr
    assert "cannot be written" in told("--log", "/nowhere/log").stderr
    assert "Did you mean `resnet20`" in told("--model", "resnet21").stderr


@pytest.mark.slow
def test_fuzzed_by_its_openapi() -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks as ours

    app = make_app(service(sigma=0.1), Limits(), "", None)
    schema = schemathesis.openapi.from_dict(described(app, "tiny"))
    schema.app = app
    statuses: dict[int, int] = {}
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 8
    checks = [
        not_a_server_error, ours.response_schema_conformance, ours.content_type_conformance,
        ours.status_code_conformance, ours.negative_data_rejection,
    ]  # fmt: skip
    for operation in operations:
        varied = operation.body or operation.path_parameters
        for mode in schemathesis.GenerationMode if varied else [schemathesis.GenerationMode.POSITIVE]:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=100 if operation.body else 20, suppress_health_check=list(HealthCheck))
            def fuzz(case: Any) -> None:
                response = case.call()
                statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
                case.validate_response(response, checks=checks)

            fuzz()
    assert max(statuses) < 500
    assert {200, 400, 404} <= {*statuses}, statuses


@pytest.mark.slow
def test_workers_count_together_and_draw_apart(tmp_path: Path) -> None:
    import os
    import signal
    import subprocess
    import sys
    import time

    command = [sys.executable, "-m", "sndcli", "serve", "--sigma", "0.1", "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = line.split(" at ")[1].split(";")[0]
        root = url.split("/v2")[0]
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                httpx.get(f"{root}/v2/health/ready", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        x = torch.full((2, 3, 32, 32), 0.5)
        rows = set()
        for _ in range(20):  # a connection each, so that both are asked
            answer = httpx.post(f"{url}/infer", json=body(x), timeout=60).json()
            rows |= {tuple(row) for row in torch.tensor(answer["outputs"][0]["data"]).view(2, 10).tolist()}
        assert len(rows) == 40
        assert "snd_images_total 40.0" in httpx.get(f"{root}/metrics", timeout=60).text
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out.strip()) == (0, "")
