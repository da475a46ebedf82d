"""The Python API: the same road as the command line, on tensors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from conftest import Done, half_space
from linear_victim import MODEL

import sndcli
from sndcli.datasets import cifar10
from sndcli.datasets.load import choose
from sndcli.errors import ConfigError
from sndcli.models.sources import load_model
from sndcli.runs import results

Snd = Callable[..., Done]
EXAMPLE = Path(__file__).parents[1] / "examples" / "attack_and_plot.py"


class Module(torch.nn.Module):
    """A half-space at a distance of 0.3 as a network of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.victim = half_space(margin=0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.victim(x)


def grey(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((n, 3, 32, 32), 0.5), torch.zeros(n, dtype=torch.int64)


def test_points_are_what_it_says() -> None:
    x, y = grey()
    model = Module()
    found = sndcli.attack("hsja", model, x, y, budget=600, eps=20.0, batch_rows=64)
    assert found.submitted.all()
    assert found.labels.tolist() == model(found.points).argmax(1).tolist() == [1, 1, 1]
    assert torch.allclose((found.points - x).flatten(1).norm(dim=1).double(), found.distances, rtol=1e-5)
    assert (found.distances >= 0.3 - 1e-6).all()
    assert found.queries.tolist() == [600] * 3
    assert found.noisy.all()
    assert found.seen.all()
    assert [row.budget for row in found.rows] == [600]


def test_it_is_the_command_lines_run(snd: Snd, tmp_path: Path) -> None:
    """The same images in the same order give the same rows, but for ids, which are positions here."""
    model, data = load_model(MODEL), cifar10.load_shipped()
    with torch.no_grad():
        index = choose(data, 3, "correct", 0, lambda x: model(x).argmax(1))
    path = tmp_path / "run.parquet"
    done = snd("attack", "null", "--sigma", 0.02, "--images", 3, "--budget", 60, "--verify", 10, "--out", path,
               "--budgets", 60, "--batch-size", 64, "-q")  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = results.read(path)
    found = sndcli.attack("null", model, data.pixels(index), data.labels[index], sigma=0.02, budget=60, verify=10,
                          batch_rows=64)  # fmt: skip
    ours = found.to_arrow()
    assert ours.schema.names == theirs.schema.names
    for name in ("label", "queries", "budgets", "sigma", "norm", "eps"):
        assert ours.column(name).to_pylist() == theirs.column(name).to_pylist()
    assert ours.column("image_id").to_pylist() == [0, 1, 2]


def test_rows_depend_on_their_own_image_only() -> None:
    x, y = grey(4)
    x[2] += 0.01
    together = sndcli.attack("hsja", Module(), x, y, sigma=0.01, budget=300, batch_rows=64)
    apart = sndcli.attack("hsja", Module(), x[:2], y[:2], sigma=0.01, budget=300, batch_rows=64)
    assert torch.equal(together.points[:2], apart.points)


def test_the_table_is_a_file_that_report_reads(snd: Snd, tmp_path: Path) -> None:
    x, y = grey()
    found = sndcli.attack("hsja", Module(), x, y, sigma=0.01, budget=300, batch_rows=64)
    pq.write_table(found.to_arrow(), tmp_path / "run.parquet")
    done = snd("report", tmp_path / "run.parquet", "--format", "csv", "-q")
    assert done.returncode == 0, done.stderr
    assert "hsja" in done.stdout


def test_evaluate_runs_all_of_them() -> None:
    x, y = grey()
    found = sndcli.evaluate(Module(), x, y, attacks=("hsja", "null"), sigmas=(0.0, 0.05), budget=200, eps=20.0)
    assert set(found.results) == {("hsja", 0.0), ("hsja", 0.05), ("null", 0.0), ("null", 0.05)}
    assert len(found.rows) == 4
    worst = found.worst()
    assert torch.equal(worst[0.0], found.results["hsja", 0.0].noisy | found.results["null", 0.0].noisy)
    assert worst[0.0].all()
    assert not found.results["null", 0.0].noisy.any()


def test_integers_are_pixels_of_eight_bits() -> None:
    x, y = grey()
    eight = torch.full_like(x, 128, dtype=torch.uint8)
    found = sndcli.attack("hsja", Module(), eight, y, budget=300, batch_rows=64)
    same = sndcli.attack("hsja", Module(), eight.float() / 255, y, budget=300, batch_rows=64)
    assert torch.equal(found.points, same.points)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.zeros(3, 32, 32), torch.zeros(3)),
        (torch.full((1, 3, 32, 32), 2.0), torch.zeros(1)),
        (torch.full((1, 3, 32, 32), torch.nan), torch.zeros(1)),
        (torch.zeros(2, 3, 32, 32), torch.zeros(1)),
    ],
)
def test_what_are_no_images_is_refused(x: torch.Tensor, y: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="Expected `x`"):
        sndcli.attack("hsja", Module(), x, y)


def test_names_are_checked() -> None:
    x, y = grey()
    with pytest.raises(ConfigError, match="Did you mean `hsja`"):
        sndcli.attack("hsjaa", Module(), x, y)
    with pytest.raises(ConfigError, match="option of hsja"):
        sndcli.attack("hsja", Module(), x, y, settings={"gama": 1})


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    out = tmp_path / "curve.svg"
    command = [sys.executable, str(EXAMPLE), "--images", "3", "--budget", "160", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.count("noisy") == 4
    assert "<svg" in out.read_text()
    assert len(EXAMPLE.read_text().splitlines()) < 100
