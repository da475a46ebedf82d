"""The files that `bad_inputs.py` names: each broken in one way."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from sndcli.models.sources import load_model

MODELS = """
import sys

import torch
from torch import nn

from sndcli import Classifier, Normalisation


def broken():
    raise RuntimeError("broken on purpose")


def exits():
    sys.exit("exits on purpose")


def needs(something):
    return something


class Of(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


def classifier(answer):
    return Classifier(Of(answer).eval(), Normalisation((0.5,) * 3, (0.25,) * 3), (3, 32, 32), "of")


def flat():
    return classifier(lambda x: x.mean((1, 2, 3)))


def nan():
    return classifier(lambda x: torch.full((len(x), 10), float("nan")))


def raises():
    def answer(x):
        raise ValueError("raises on purpose")
    return classifier(answer)


def few():
    return classifier(lambda x: x.mean((2, 3)))


def two(classes=2):
    return classifier(lambda x: x.mean((2, 3)).repeat(1, 9)[:, :classes])


def one():
    return two(1)


def tiny():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    return Classifier(network.eval(), Normalisation((0.5,) * 3, (0.25,) * 3), (3, 32, 32), "tiny")
"""


class Evil:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("ran-code-of-a-pickle",)


def make(folder: Path, good: Path) -> Mapping[str, str]:
    """Writes all; name -> path.

    Args:
        folder: where.
        good: a result of a run.
    """
    named = {"good": good, "folder": folder, "long": folder / ("x" * 300), "empty": folder / "empty"}
    named["empty"].mkdir()
    (folder / "bad_models.py").write_text(MODELS)
    (folder / "bad_syntax.py").write_text("def model(:\n")
    (folder / "bad_import.py").write_text("import nosuchpackage\n")
    makers = {"pt": _checkpoints, "st": _safetensors, "pq": _results, "toml": _configs, "cifar": _cifar}
    for kind, maker in makers.items():
        (folder / kind).mkdir()
        named |= {f"{kind}:{name}": path for name, path in maker(folder / kind, good).items()}
    named |= _pictures(folder)
    return {name: str(path) for name, path in named.items()}


def _checkpoints(folder: Path, _: Path) -> dict[str, Path]:
    state = load_model("resnet20").network.state_dict()
    (folder / "empty.pt").touch()
    (folder / "text.pt").write_text("no tensors\n")
    (folder / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save([torch.zeros(3)], folder / "list.pt")
    torch.save(3, folder / "number.pt")
    torch.save({}, folder / "none.pt")
    torch.save({"conv.weight": torch.zeros(3)}, folder / "other.pt")
    torch.save(state | {"conv1.weight": torch.zeros(3)}, folder / "shapes.pt")
    torch.save(state | {"conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}, folder / "nan.pt")
    torch.save(state, folder / "good.pt")
    return {path.stem: path for path in folder.iterdir()} | {"missing": folder / "missing.pt"}


def _safetensors(folder: Path, _: Path) -> dict[str, Path]:
    (folder / "empty.safetensors").touch()
    (folder / "text.safetensors").write_text("no tensors here, only text\n")
    (folder / "long.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    (folder / "list.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]")
    (folder / "latin.safetensors").write_bytes((4).to_bytes(8, "little") + b"{\xff\xfe}")
    save_file({"conv.weight": torch.zeros(3)}, folder / "other.safetensors")
    return {path.stem: path for path in folder.iterdir()}


def _results(folder: Path, good: Path) -> dict[str, Path]:
    table = pq.read_table(good)
    told = dict(table.schema.metadata)
    run = json.loads(told[b"run"])

    def write(name: str, rows: pa.Table, **metadata: bytes) -> None:
        keep = told | {key.encode(): value for key, value in metadata.items()}
        pq.write_table(rows.replace_schema_metadata(keep), folder / f"{name}.parquet")

    def config(name: str, **changes: object) -> None:
        write(name, table, run=json.dumps(run | {"config": run["config"] | changes}).encode())

    def column(name: str, key: str, value: object) -> None:
        """Every number of a column is `value`."""
        place, old = table.schema.get_field_index(key), table.column(key).to_pylist()
        rows = [[value for _ in each] if isinstance(each, list) else value for each in old]
        write(name, table.set_column(place, table.schema.field(key), pa.array(rows, table.schema.field(key).type)))

    (folder / "folder.parquet").mkdir()
    (folder / "empty.parquet").touch()
    (folder / "text.parquet").write_text("no table\n")
    (folder / "short.parquet").write_bytes(good.read_bytes()[:-100])
    pq.write_table(pa.table({"a": [1]}), folder / "foreign.parquet")
    write("version", table, schema_version=b"99")
    write("json", table, run=b"{")
    write("latin", table, run=b"\xff")
    write("config", table, run=json.dumps({"id": "x"}).encode())
    write("id_missing", table, run=json.dumps({"config": run["config"]}).encode())
    config("budget", budget="many")
    config("budget_negative", budget=-5)
    config("eps_text", eps="much")
    config("eps_nan", eps=float("nan"))
    config("votes_zero", votes=0)
    config("attack_number", attack=3)
    config("defense_list", defense=[])
    write("rows", table.slice(0, 0))
    write("lacks", table.drop_columns(["p_adv"]))
    seeds = table.column("seed").cast(pa.float64())
    write("type", table.set_column(table.schema.get_field_index("seed"), "seed", seeds))
    write("twice", pa.concat_tables([table, table.slice(0, 1)]))
    budgets = table.column("budgets").to_pylist()
    place, field = table.schema.get_field_index("budgets"), table.schema.field("budgets")
    moved = [[q + k for q in points] for k, points in enumerate(budgets)]
    write("points", table.set_column(place, field, pa.array(moved, field.type)))
    write("no_points", table.set_column(place, field, pa.array([[] for _ in budgets], field.type)))
    nan = float("nan")
    for name, key, value in (
        ("p_adv_7", "p_adv", 7.0), ("p_adv_nan", "p_adv", nan), ("p_adv_negative", "p_adv", -0.1),
        ("p_adv_submitted_2", "p_adv_submitted", 2.0), ("p0_2", "p0", 2.0), ("p0_nan", "p0", nan),
        ("p_mis_clean_negative", "p_mis_clean", -1.0), ("best_negative", "distance_best", -1.0),
        ("best_nan", "distance_best", nan), ("last_negative", "distance_last", -1.0),
        ("submitted_nan", "distance_submitted", nan), ("boundary_negative", "distance_boundary", -1.0),
        ("queries_negative", "queries", -1), ("mismatches_negative", "mismatches", -1), ("budgets_zero", "budgets", 0),
        ("seed_negative", "seed", -1), ("image_negative", "image_id", -1), ("event_query_zero", "event_query", 0),
        ("event_distance_nan", "event_distance", nan),
    ):  # fmt: skip
        column(name, key, value)
    return {path.stem: path for path in folder.iterdir()}


CONFIGS = {
    "text": "no toml here", "twice": "seed = 1\nseed = 2", "typo": "bugdet = 3", "table_typo": "[attack]\nsimga = 0.1",
    "command_typo": "[atack]\nseed = 1", "not_its": "[attack]\nvotes = 3", "config": 'config = "other.toml"',
    "date": "seed = 2026-01-01", "nested": "[attack.images]\nx = 1", "images_text": 'images = "many"',
    "images_true": "images = true", "images_half": "images = 1.5", "images_list": "images = [1, 2]",
    "images_negative": "images = -3", "sigma_nan": "sigma = nan", "sigma_list": "[attack]\nsigma = [0.1, 'x']",
    "eps_inf": "eps = inf", "flag": 'quantize = "maybe"', "norm": 'norm = "l1"', "scalar": "attack = 3",
    "set_table": "[attack.set]\ngamma = nan", "set_list": 'set = ["gamma=x"]', "set_key": "set = {gama = 1}",
    "budgets": "budgets = [0, 1]",
    "other_table": "[train]\nepohcs = 3", "where": 'where = "atack=null"', "gate": 'fail-if = ["succes > 0.1"]',
    "votes": "votes = 0", "drop": "[sigma-sweep]\nmax-drop = -5", "epochs": "epochs = 0", "sigmas": 'sigma = ["x"]',
    "draws": "draws = 1", "verify": "verify = 0", "device": 'device = "gpu"',
}  # fmt: skip


def _configs(folder: Path, _: Path) -> dict[str, Path]:
    for name, text in CONFIGS.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "latin.toml").write_bytes(b'model = "\xff"')
    return {path.stem: path for path in folder.iterdir()}


def _cifar(folder: Path, _: Path) -> dict[str, Path]:
    def binary(name: str, size: int) -> None:
        (folder / name / "cifar-10-batches-bin").mkdir(parents=True)
        for batch in ("test_batch", *(f"data_batch_{k}" for k in range(1, 6))):
            with (folder / name / "cifar-10-batches-bin" / f"{batch}.bin").open("wb") as file:
                file.truncate(size)

    def python(name: str, content: bytes) -> None:
        (folder / name / "cifar-10-batches-py").mkdir(parents=True)
        (folder / name / "cifar-10-batches-py" / "test_batch").write_bytes(content)

    binary("short", 100)
    binary("zero", 10_000 * 3073)  # a hole, not so many bytes on the disk
    python("pickle", b"no pickle")
    python("evil", pickle.dumps(Evil()))
    python("list", pickle.dumps([1, 2]))
    return {path.name: path for path in folder.iterdir()}


def _pictures(folder: Path) -> dict[str, Path]:
    def picture(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (90, 90, 90)).save(path)

    for name in ("cat", "dog"):
        picture(folder / "pictures" / name / "a.png")
    picture(folder / "flat" / "a.png")
    picture(folder / "broken" / "cat" / "a.png")
    (folder / "broken" / "cat" / "broken.png").write_bytes(b"no picture")
    for k in range(12):
        picture(folder / "many" / f"class{k:02d}" / "a.png")
    return {name: folder / name for name in ("pictures", "flat", "broken", "many")}
