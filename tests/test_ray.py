"""Units as tasks of a local Ray cluster of two workers: the same bits, and no worker's end loses anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from crew import Doomed, Mortal, config, experiment
from test_interruption import same

from sndcli.errors import IncompleteError
from sndcli.runs import results
from sndcli.runs.executors.cluster import Cluster

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", exc_type=ImportError)


def test_a_local_cluster_gives_the_same_bits_also_where_a_worker_is_killed(tmp_path: Path) -> None:
    whole = experiment(tmp_path / "here.parquet", config()).run()
    lives = tmp_path / "lives"
    lives.mkdir()
    cluster = Cluster(None, 2)
    try:
        assert same(experiment(tmp_path / "a.parquet", config(), cluster).run(), whole)
        (lives / "one").touch()
        mortal = config(model_digest="another")  # a digest that workers know is not sent again
        table = experiment(tmp_path / "b.parquet", mortal, cluster, Mortal(lives)).run()
    finally:
        cluster.close()
    assert same(table, experiment(tmp_path / "c.parquet", mortal).run())
    assert [*lives.iterdir()] == []
    assert results.run_of(table)["unit"] == 3
    assert not ray.is_initialized()


def test_where_the_cluster_is_lost_the_same_command_goes_on(tmp_path: Path) -> None:
    run, out = config(unit=2), tmp_path / "a.parquet"
    cluster = Cluster(None, 2)
    try:
        with pytest.raises(IncompleteError, match="The Ray cluster is lost"):
            experiment(out, run, cluster, Doomed()).run()
    finally:
        cluster.close()
    whole = experiment(tmp_path / "b.parquet", run).run()
    assert same(experiment(out, run).run(), whole)


def test_nobody_at_the_address(tmp_path: Path) -> None:
    cluster = Cluster("127.0.0.1:9", 2)
    with pytest.raises(IncompleteError, match=r"No Ray cluster at 127\.0\.0\.1:9"):
        experiment(tmp_path / "a.parquet", config(), cluster).run()
    cluster.close()
