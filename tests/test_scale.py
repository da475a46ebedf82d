"""The files of docs/scale.md parse, and say of snd what it takes; plans that fit into a time."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from conftest import Done, commands

from sndcli.cli.app import app
from sndcli.cli.reproduce import duration
from sndcli.errors import ConfigError
from sndcli.paper import published
from sndcli.paper.fitting import fit, limited, most_images, seconds_of
from sndcli.paper.reproduce import Plan, Wanted, plan_of
from sndcli.runs.cost import Rates
from sndcli.runs.estimate import Speeds
from sndcli.runs.listener import Listener
from sndcli.runs.request import Request
from sndcli.runs.shard import COUNT_OF_KUBERNETES

Snd = Callable[..., Done]
ROOT = Path(__file__).parents[1]
SCALE = ROOT / "examples" / "scale"
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def documents(name: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((SCALE / name).read_text(encoding="utf-8"))]


def parses(words: list[str]) -> None:
    """snd takes this command line."""
    name, *arguments = words
    group = commands(app)
    group.commands[name].make_context(name, arguments, parent=typer.Context(group))


def snd_lines(text: str) -> Iterator[list[str]]:
    """The words of each line that begins with snd."""
    for line in text.replace("\\\n", " ").splitlines():
        bare = line.lstrip("# ").removeprefix("exec ").removeprefix("srun ")
        if bare.startswith("snd "):
            yield shlex.split(bare, comments=True)[1:]


def test_every_file_is_on_the_page_and_the_other_way_round() -> None:
    assert {path.name for path in SCALE.iterdir()} == {"slurm.sh", "kubernetes.yaml", "ray-cluster.yaml"}
    assert all(f"examples/scale/{path.name}" in PAGE for path in SCALE.iterdir())


def test_the_slurm_array() -> None:
    text = (SCALE / "slurm.sh").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", SCALE / "slurm.sh"], check=True)
    assert "#SBATCH --array=0-19\n" in text
    found = [*snd_lines(text)]
    assert [words[0] for words in found] == ["merge", "attack"]
    assert found[1][-2:] == ["--shard", "auto"]
    for words in found:
        parses(words)


def test_the_kubernetes_jobs() -> None:
    claim, attack, merge = documents("kubernetes.yaml")
    assert [one["kind"] for one in (claim, attack, merge)] == ["PersistentVolumeClaim", "Job", "Job"]
    assert attack["spec"]["completionMode"] == "Indexed"
    for job in (attack, merge):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        (volume,) = job["spec"]["template"]["spec"]["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert container["volumeMounts"][0]["name"] == volume["name"]
        assert container["command"][0] == "snd"
        parses([*container["command"][1:], *container.get("args", [])])
    environment = {each["name"]: each["value"] for each in
                   attack["spec"]["template"]["spec"]["containers"][0]["env"]}  # fmt: skip
    assert int(environment[COUNT_OF_KUBERNETES]) == attack["spec"]["completions"]


def test_the_ray_cluster() -> None:
    (cluster,) = documents("ray-cluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    (head,) = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert 10001 in [port["containerPort"] for port in head["ports"]]
    for words in snd_lines((SCALE / "ray-cluster.yaml").read_text(encoding="utf-8")):
        parses(words)


def test_commands_of_the_page_parse() -> None:
    found = [*snd_lines(PAGE)]
    assert len(found) >= 6
    for words in found:
        parses(words)


def test_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(Exception, match="--shards") as caught:
        parses(["attack", "hsja", "--shards", "auto"])
    assert not isinstance(caught.value, typer.Exit)


# -- reproduce --within -----------------------------------------------------------------------------------------


class Known(Speeds):
    """A thousand rows a second, of any network."""

    def of(self, job: object, spec: object) -> Rates:
        return Rates(1000.0, 1000.0)


@pytest.fixture
def plans(tmp_path: Path) -> list[Plan]:
    cases = [c for c in published.cases("table2") if c.attack == "hsja" and c.dataset == "cifar10"][:2]
    usual = Request(attack="null", out=tmp_path, verify=10)
    return [plan_of(case, Wanted(usual=usual, limit=2000), Listener()) for case in cases]


def test_a_plan_that_fits_has_fewer_images_and_the_same_budget(plans: list[Plan]) -> None:
    speeds = Known()
    whole, most = seconds_of(plans, speeds), most_images(plans)
    assert fit(plans, speeds, whole) == most
    images = fit(plans, speeds, whole / 4)
    assert 1 <= images < most
    assert seconds_of([limited(plan, images) for plan in plans], speeds) <= whole / 4
    assert seconds_of([limited(plan, images + 1) for plan in plans], speeds) > whole / 4
    one, fewer = plans[0].ready()[0].config, limited(plans[0], images).ready()[0].config
    assert fewer == replace(one, images=images)
    with pytest.raises(ConfigError, match="--within"):
        fit(plans, speeds, 1e-3)


def test_what_is_there_and_what_is_shared_costs_nothing(plans: list[Plan]) -> None:
    one = seconds_of(plans[:1], Known())
    assert one > 0
    assert seconds_of([plans[0], plans[0]], Known()) == one
    assert seconds_of([replace(plans[0], skipped="no")], Known()) == 0


def test_times() -> None:
    assert [duration(text, "--within") for text in ("8h", "90m", "1h30m", "2d", "1.5h")] == [
        28_800, 5400, 5400, 172_800, 5400]  # fmt: skip
    for text in ("8", "h", "8h 3", "-1h", "0m"):
        with pytest.raises(ConfigError, match="--within"):
            duration(text, "--within")


@pytest.mark.slow
def test_reproduce_states_the_plan(snd: Snd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sndcli.runs.estimate.Speeds", Known)
    done = snd("reproduce", "table2", "--where", "attack=hsja", "--where", "dataset=cifar10", "--budget", 2000,
               "--within", "1h", "--dry-run", "--no-progress", "--out", tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--within 1h: at most " in done.stderr
    assert "to go on with this plan: --images " in done.stderr
