"""The free last step outwards, what is verified of both points, and images that the model errs on to begin with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import CPU, OLDEST, Done, generator, plain, write_as_schema_1
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sndcli.analysis import curves
from sndcli.analysis.frame import frame_of
from sndcli.analysis.notes import recompute_notes
from sndcli.analysis.summary import summarise
from sndcli.attacks.registry import ATTACKS
from sndcli.ball import as_sent, length, moved_out, reach, within
from sndcli.datasets import cifar10
from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import DefenseSpec
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.models.sources import load_model
from sndcli.queries.oracle import Oracle
from sndcli.runs import columns, points, results, unit
from sndcli.runs.config import RunConfig
from sndcli.runs.experiment import Experiment
from sndcli.runs.victim import Victim

Snd = Callable[..., Done]
SIZE = (1, 8, 8)
M = 0.3  # distance of the half-space
SIGMA = 0.02


# -- the point -----------------------------------------------------------------------------------------------


def on_the_ray(x0: Tensor, z: Tensor, s: float, quantize: bool) -> Tensor:
    return as_sent(x0 + s * (z - x0), quantize)


@settings(max_examples=20)
@given(
    norm=st.sampled_from(["l2", "linf"]), quantize=st.booleans(), seed=st.integers(0, 10_000),
    eps=st.floats(0.02, 3.0), size=st.floats(1e-3, 1.5), sparse=st.booleans(),
)  # fmt: skip
def test_the_largest_step_that_fits(
    norm: str, quantize: bool, seed: int, eps: float, size: float, sparse: bool
) -> None:
    random = generator(seed)
    x0 = torch.rand(3, *SIZE, generator=random)
    x0 = as_sent(x0, True) if quantize else x0
    direction = torch.randn(3, *SIZE, generator=random)
    direction *= torch.rand(3, *SIZE, generator=random) < (0.1 if sparse else 1.0)
    z = as_sent(x0 + size * direction / length(direction, norm).clamp_min(1e-9).float().view(-1, 1, 1, 1), quantize)
    moved = moved_out(x0, z, eps, norm, quantize)
    start, end = length(z - x0, norm), length(moved - x0, norm)
    still = (start == 0) | (start > reach(eps))
    assert torch.equal(moved[still], z[still])
    assert bool(within(end[~still], eps).all())
    assert bool((end >= start - 1e-7).all())
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert torch.equal(moved[z == x0], x0[z == x0])
    d, step = z - x0, moved - x0
    assert bool((d * step >= 0).all())
    if not quantize:  # the direction is kept where nothing clips
        for k in range(3):
            free = (moved[k] > 0) & (moved[k] < 1) & (d[k].abs() > 1e-4)
            if free.any() and not still[k]:
                s = (step[k][free] * d[k][free]).sum() / (d[k][free] ** 2).sum()
                torch.testing.assert_close(step[k][free], s * d[k][free], atol=3e-6, rtol=1e-4)
    for s in torch.logspace(0, 6, 80).tolist():  # no step that fits goes further
        further = length(on_the_ray(x0, z, s, quantize) - x0, norm)
        fits = ~still & within(further, eps)
        assert bool((further[fits] <= end[fits] * (1 + 2e-5) + 1e-7).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_without_clipping_it_is_at_epsilon_and_one_step_more_is_not(norm: str) -> None:
    x0 = torch.full((2, *SIZE), 0.5)
    z = x0 + 0.01 * torch.randn(2, *SIZE, generator=generator(2))
    eps = 0.4 if norm == "l2" else 0.1
    moved = moved_out(x0, z, eps, norm)
    assert length(moved - x0, norm).tolist() == pytest.approx([eps] * 2, rel=2e-6)
    s = (eps / length(z - x0, norm)).float().view(-1, 1, 1, 1)
    torch.testing.assert_close(moved, x0 + s * (z - x0), atol=1e-6, rtol=1e-5)
    assert not within(length((1 + 1e-4) * (moved - x0), norm), eps).any()
    assert torch.equal(moved_out(x0, moved, eps, norm), moved)  # a point on the surface stays to the bit


def test_a_ray_that_leaves_the_box_is_saturated() -> None:
    """All the pixels that move end at 0 or 1, where ε is out of reach; those that do not move stay."""
    x0 = torch.full((1, *SIZE), 0.25)
    z = x0.clone()
    z[0, 0, 0, :4] = torch.tensor([0.26, 0.24, 0.30, 0.2501])
    for norm, eps in (("l2", 5.0), ("linf", 0.9)):
        moved = moved_out(x0, z, eps, norm)
        assert moved[0, 0, 0, :4].tolist() == [1.0, 0.0, 1.0, 1.0]
        assert torch.equal(moved[0, 0, 1:], x0[0, 0, 1:])


@pytest.mark.parametrize("quantize", [False, True])
def test_a_point_outside_at_the_image_or_on_the_surface_stays_to_the_bit(quantize: bool) -> None:
    x0 = as_sent(torch.rand(1, *SIZE, generator=generator(5)) * 0.5 + 0.25, quantize)
    d = torch.randn(1, *SIZE, generator=generator(6))
    for norm in ("l2", "linf"):
        outside = as_sent(x0 + 0.3 * d / length(d, norm).float(), quantize)
        eps = float(length(outside - x0, norm)) * (1 - 1e-5)
        assert torch.equal(moved_out(x0, outside, eps, norm, quantize), outside)
        assert torch.equal(moved_out(x0, x0.clone(), eps, norm, quantize), x0)
        surface = float(length(outside - x0, norm))
        for share in (1.0, 1 + 5e-7, 1 - 5e-7):
            assert torch.equal(moved_out(x0, outside, surface * share, norm, quantize), outside)


# -- what a run verifies -------------------------------------------------------------------------------------


class HalfSpace(nn.Module):
    """Wrong where w·(z - x0) is more than `M`; w has length 1."""

    def __init__(self) -> None:
        super().__init__()
        w = torch.randn(SIZE, generator=generator(3)).flatten()
        self.w = w / w.norm()

    def forward(self, z: Tensor) -> Tensor:
        value = (z - grey(1).pixels()).flatten(1) @ self.w - M
        return torch.stack([-value, value], 1)


def grey(count: int) -> ImageSet:
    pixels = torch.full((count, *SIZE), 128, dtype=torch.uint8)
    labels = torch.zeros(count, dtype=torch.int64)
    return ImageSet("grey", "made here", pixels, labels, torch.arange(count), ("right", "wrong"))


def half_space_run(out: Path, name: str, sigma: float = SIGMA, **changes: object) -> pa.Table:
    defense = DefenseSpec("snd", sigma) if sigma else DefenseSpec()
    model = Classifier(HalfSpace(), Normalisation((0.0,), (1.0,)), SIZE, "half-space")
    given = {"budget": 150, "budgets": (60,), "images": 2, "verify": 200, "eps": 0.6, "defense": defense} | changes
    config = RunConfig(name, "cifar10", "made here", "", "half-space", "", **given)  # type: ignore[arg-type]
    victim = Victim.prepare(model, defense, CPU, 64)
    return Experiment(config, grey(2), victim, out, debug=True, save_points=True).run(True)


def submitting(at: float) -> Callable[..., None]:
    """An attack that submits the point at this distance along w."""

    def attack(oracle: Oracle, *_: object) -> None:
        everyone = torch.arange(len(oracle.x0))
        oracle.submit(oracle.x0 + at * HalfSpace().w.view(1, *SIZE), everyone)

    return attack


@pytest.mark.parametrize(("at", "submitted", "moved"), [(M, 0.5, 1.0), (0.7, 1.0, 1.0), (0.2, 0.0, 1.0)])
def test_verified_are_both_points(
    at: float, submitted: float, moved: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the draws err on a point of the boundary, and all on the same ray at ε. Outside ε nothing is moved."""
    monkeypatch.setattr(unit, "run_attack", submitting(at))
    table = half_space_run(tmp_path, "hsja")
    for row in table.to_pylist():
        assert row["distance_submitted"] == pytest.approx([at] * 2, rel=1e-5)
        assert row["p_adv_submitted"] == pytest.approx([submitted] * 2, abs=0.12)
        assert row["p_adv"] == pytest.approx([moved] * 2, abs=0.01)
        assert row["adv_clean"] == [True, True]
        assert row["adv_clean_submitted"] == [at > M] * 2 or at == M
    (_, late) = plain(summarise([table]))
    inside = at <= 0.6
    assert late["success_noisy"]["value"] == (1.0 if inside else 0.0)
    assert late["success_clean"]["value"] == (1.0 if inside else 0.0)
    assert inside or late["success_as_submitted"]["value"] == 0.0
    assert late["distance_submitted"] == pytest.approx(at, rel=1e-5)  # of the point as it was submitted


def test_further_radii_are_verified_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0.22 the half-space is out of reach; at 0.4 and at 0.6 it is not. Each has its own moved point."""
    monkeypatch.setattr(unit, "run_attack", submitting(0.2))
    table = half_space_run(tmp_path, "hsja", eps_also=(0.22, 0.4))
    row = table.to_pylist()[0]
    assert row["p_adv_also"] == [[0.0, 0.0], [1.0, 1.0]]
    assert row["adv_clean_also"] == [[False, False], [True, True]]
    found = {(r["eps"], r["budget"]): r["success_noisy"]["value"] for r in plain(summarise([table]))}
    assert found == {(eps, b): float(eps > M) for eps in (0.22, 0.4, 0.6) for b in (60, 150)}
    (_, one) = plain(summarise([table], eps=0.4))
    assert one["success_clean"]["value"] == 1.0


@pytest.mark.parametrize("name", ["hsja", "square", "simba", "nes", "bandit-td", "subspace"])
def test_the_boundary_is_measured_for_every_attack(name: str, snd: Snd, tmp_path: Path) -> None:
    """At the distance m/cos ψ of the ray, scores or labels; and `report --eps` counts by it."""
    norm = "l2"
    table = half_space_run(tmp_path, name, sigma=0.0, norm=norm, budget=400, budgets=(300,))
    (path,) = tmp_path.glob("*.parquet")
    ray = (points.read(points.path_of(path)).submitted - grey(2).pixels()).flatten(1)
    expected = (M * ray.norm(dim=1) / (ray @ HalfSpace().w)).tolist()
    border = [row["distance_boundary"][-1] for row in table.to_pylist()]
    assert border == pytest.approx(expected, rel=0.01)
    for eps in (1.02 * max(border), 0.98 * min(border)):
        done = snd("report", path, "--eps", eps, "--json")
        (_, late) = json.loads(done.stdout)["rows"]
        assert late["eps"] == eps
        assert late["success_noisy"]["value"] == float(eps > max(border))
        assert late["success_clean"] is None
        assert "success_noisy is whether the majority boundary" in done.stderr  # the reader is told what noisy is here
    assert ATTACKS[name].access == "labels" or "a lower bound" in done.stderr


def test_runs_without_a_boundary_know_no_noisy_success_elsewhere(tmp_path: Path) -> None:
    table = half_space_run(tmp_path, "square", boundary=False)
    (_, late) = plain(summarise([table], eps=0.5))
    assert late["success_noisy"] is None
    assert late["success_seen"] is not None
    assert table.to_pylist()[0]["distance_boundary"] is None
    (note, *_) = recompute_notes([frame_of(table)], (), 0.5)
    assert "success_noisy and success_clean are not known of runs that measured no boundary" in note
    members = [frame_of(table)]
    assert curves.success_along_eps("", members, 150, np.array([0.3, 0.5]), noisy=True) is None
    found = curves.success_along_eps("", members, 150, np.array([0.3, 0.6]), noisy=True)
    assert found is not None
    assert found.x.tolist() == [0.6]


def test_files_of_protocol_1_verified_the_points_as_submitted(tmp_path: Path, snd: Snd) -> None:
    table = half_space_run(tmp_path / "new", "hsja")
    path = tmp_path / "old.parquet"
    write_as_schema_1(path, table, [name for name in OLDEST if name != "distance_boundary"])
    read = results.read(path)
    assert read.column_names == columns.SCHEMA.names
    assert read.column("p_adv").null_count == read.column("adv_clean").null_count == 2
    assert read.column("p_adv_submitted").to_pylist() == table.column("p_adv").to_pylist()
    assert read.column("adv_clean_submitted").to_pylist() == table.column("adv_clean").to_pylist()
    (_, late), (_, new) = plain(summarise([read])), plain(summarise([table]))
    assert (late["success_noisy"], late["success_clean"]) == (None, None)
    assert late["success_as_submitted"] == new["success_noisy"]
    assert late["success_seen"] == new["success_seen"]
    done = snd("report", path, "--fail-if", "success_noisy@150 > 0.5")
    assert done.returncode == 2
    assert "not known" in done.stderr
    assert "runs of version 0.1.0 verified points as they were submitted" in snd("report", path).stderr
    assert curves.noisy_along_queries("", [frame_of(read)]) is None
    known = curves.noisy_along_queries("", [frame_of(table)])
    assert known is not None
    assert known.x.tolist() == [60, 150]


def test_an_old_file_is_drawn_and_its_unconfirmed_distance_is_infinite(tmp_path: Path, snd: Snd) -> None:
    table = half_space_run(tmp_path / "new", "square", budget=2, budgets=(1,))  # too few queries for any success
    path = tmp_path / "old.parquet"
    write_as_schema_1(path, table, ["p_adv_submitted", "adv_clean_submitted"])
    (_, found) = summarise([results.read(path)])
    assert found.number("success_as_submitted") == 0.0
    assert found.text("distance_verified") == "∞"
    done = snd("report", path, "--plot", tmp_path / "a.svg", "--html", tmp_path / "a.html")
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "a.svg").read_text()


# -- images that the model errs on ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong() -> ImageSet:
    """Shipped images that the shipped network gets wrong."""
    data = cifar10.load_shipped()
    victim = Victim.prepare(load_model("resnet20"), DefenseSpec(), CPU, 64)
    first = torch.arange(120)
    errs = victim.undefended(data.pixels(first)).argmax(1) != data.labels[first]
    return data.part(first[errs][:3], "images that the network gets wrong")


@pytest.mark.parametrize(("name", "preset"), [
    ("hsja", None), ("square", None),
    *(pytest.param(*v, marks=pytest.mark.slow) for v in (
        ("ba", "foolbox"), ("ba", "art"), ("sign-opt", None), ("geoda", None), ("hsja-na", None), ("ba", "engine"),
    )),
])  # fmt: skip
@pytest.mark.parametrize("sigma", [0.0, 0.005])
def test_an_image_that_is_wrong_is_submitted_as_it_is(
    name: str, preset: str | None, sigma: float, wrong: ImageSet, tmp_path: Path
) -> None:
    defense = DefenseSpec("snd", sigma) if sigma else DefenseSpec()
    victim = Victim.prepare(load_model("resnet20"), defense, CPU, 64)
    engine, preset = ("foolbox", None) if preset == "engine" else ("native", preset)
    config = RunConfig(name, "cifar10", wrong.source, "", "resnet20", "", defense, engine, preset, budget=40,
                       budgets=(1, 40), images=3, select="all", verify=20, boundary=False)  # fmt: skip
    table = Experiment(config, wrong, victim, tmp_path, debug=True).run()
    surely = [row for row in table.to_pylist() if row["p0"] >= 0.9 and row["initially_wrong"]]
    assert len(surely) >= (3 if sigma == 0 else 1)
    for row in surely:
        assert row["distance_submitted"] == [0.0, 0.0]
        assert row["distance_best"] == [0.0, 0.0]
        assert min(row["p_adv"]) >= 0.5
        assert row["p_adv"] == row["p_adv_submitted"]
        assert row["adv_clean"] == [True, True]
    for late in plain(summarise([table])):
        assert late["success_seen"]["value"] * late["n"] == late["initially_wrong"] or sigma
        assert late["success_noisy"]["value"] * late["n"] >= len(surely)
        assert late["success_seen_net"]["value"] <= 1 - len(surely) / late["n"]
