"""An image's draws, and with them its whole trajectory, are its own: who shares its batch changes no bit of it."""

from __future__ import annotations

import pytest
import torch
from conftest import CPU
from torch import Tensor

from sndcli.attacks.registry import ATTACKS, REFERENCES, spec_of
from sndcli.attacks.spec import options_of
from sndcli.datasets import cifar10
from sndcli.defenses.parse import DefenseSpec
from sndcli.errors import ConfigError
from sndcli.models.reference import Reference
from sndcli.models.sources import load_model
from sndcli.queries.oracle import Oracle
from sndcli.runs.unit import run_attack
from sndcli.runs.victim import Victim
from sndcli.streams import LARGEST_ID, PURPOSES, SITES, ImageStreams, UnitStreams, drawing, seed_of

CASES = [
    (name, preset, norm)
    for name, spec in ATTACKS.items()
    for norm in spec.norms
    for preset in spec.presets
    if preset not in ("l2", "linf") or preset == norm
]
DEFENSES = (DefenseSpec("snd", 0.01), DefenseSpec("snd", 0.02, 1.0), DefenseSpec("rnp+snd", 0.01))


@pytest.fixture(scope="module")
def victims() -> dict[str, Victim]:
    model = load_model("resnet20")
    specs = (*DEFENSES, DefenseSpec("rse"), DefenseSpec("pni"))
    return {spec.name + str(spec.beta or ""): Victim.prepare(model, spec, CPU, 64) for spec in specs}


def test_no_two_places_share_a_seed() -> None:
    """torch's CPU generator uses 32 bits of its seed; among ten thousand images hashes of 32 bits collide."""
    assert torch.equal(
        torch.rand(4, generator=torch.Generator().manual_seed(7)),
        torch.rand(4, generator=torch.Generator().manual_seed(7 + 2**32)),
    )
    for seed in (0, 1, 2**63 - 1):
        seeds = {seed_of(seed, image, purpose) for image in range(10_000) for purpose in PURPOSES}
        assert len(seeds) == 10_000 * len(PURPOSES)
        assert max(seeds) < 2**32
    assert len({seed_of(0, 3, "defense", site) for site in range(SITES)}) == SITES
    assert seed_of(0, 5, "attack") != seed_of(1, 5, "attack")
    for image in (-1, LARGEST_ID + 1):
        with pytest.raises(ConfigError, match="Expected image ids"):
            seed_of(0, image, "attack")


def test_blocks_of_rows_are_rows_after_rows_whatever_their_size() -> None:
    for shape in ((3, 32, 32), (1, 5, 5), (3, 7, 3)):
        like = torch.empty(1, *shape)
        image = torch.tensor([0, 0, 1, 0, 1, 1])
        for draw in ("normal", "uniform"):
            whole = getattr(ImageStreams(3, [11, 7], "attack"), draw)(image, like)
            streams = ImageStreams(3, [11, 7], "attack")
            single = torch.cat([getattr(streams, draw)(one[None], like) for one in image])
            assert torch.equal(whole, single)
            alone = getattr(ImageStreams(3, [7], "attack"), draw)(torch.zeros(3, dtype=torch.int64), like)
            assert torch.equal(whole[image == 1], alone)


def test_draws_have_their_law() -> None:
    like = torch.empty(1, 3, 16, 16, dtype=torch.float64)
    image = torch.arange(400)
    for streams in (ImageStreams(0, range(400), "defense"), UnitStreams(0, CPU)):
        normal, uniform = streams.normal(image, like), streams.uniform(image, like)
        assert float(normal.mean()) == pytest.approx(0, abs=0.01)
        assert float(normal.std()) == pytest.approx(1, abs=0.01)
        assert float(uniform.mean()) == pytest.approx(0.5, abs=0.005)
        assert float(streams.gamma(image, 2.0, like).mean()) == pytest.approx(2.0, abs=0.02)
        rows = torch.corrcoef(normal.flatten(1)[:40]) - torch.eye(40)
        assert float(rows.abs().max()) < 0.2
    assert len(set(ImageStreams(0, range(400), "attack").seeds(image))) == 400


@pytest.mark.parametrize("name", ["snd", "snd1.0", "rnp+snd", "rse", "pni"])
def test_defended_answers_follow_the_image(victims: dict[str, Victim], name: str) -> None:
    """Chunks, batch mates and order among images change nothing: RSE and PNI draw inside their layers."""
    victim, x = victims[name], cifar10.load_shipped().pixels(torch.arange(5))
    image = torch.tensor([0, 1, 1, 2, 3, 0, 4, 1, 1, 1, 4])

    def logits(which: Tensor, batch: int) -> Tensor:
        victim.defended.batch_size = batch
        with drawing(victim.streams(5, torch.arange(100, 105), 0, "defense"), which):
            return victim.defended(x[which])

    together = logits(image, 64)
    assert torch.equal(together, logits(image, 8))
    for one in range(5):
        assert torch.equal(together[image == one], logits(image[image == one], 64))
    assert not torch.equal(together[1], together[2])  # a fresh draw for every row


def trajectory(victim: Victim, ids: list[int], which: int, name: str, preset: str, norm: str) -> dict[str, object]:
    """Everything that a run stores of one image, among others."""
    data, spec, index = cifar10.load_shipped(), spec_of(name), torch.tensor(ids)
    oracle = Oracle(
        victim.defended, data.pixels(index), data.labels[index], budget=260, budgets=[100, 260], norm=norm,
        eps=1.0 if norm == "l2" else 8 / 255, streams=victim.streams(0, index, 0, "defense"),
    )  # fmt: skip
    oracle.check(scores=spec.access == "scores")
    references = [Reference(load_model(source), CPU) for source in REFERENCES["cifar10"]] if spec.references else []
    options = options_of(spec, preset, (), norm)
    run_attack(oracle, victim.streams(0, index, 0, "attack"), name, "native", options, references)
    ledger, k = oracle.close(), ids.index(which)
    return {
        "events": ledger.events_of(k), "used": int(ledger.used[k]), "stop": ledger.stop_reason[k],
        "phases": {name: int(count[k]) for name, count in ledger.phases.items() if int(count[k])},
        "last": ledger.last_l2[k].tolist(), "submitted": [submitted[k].tolist() for submitted in ledger.submitted],
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset", "norm"), CASES)
def test_an_image_is_its_own(victims: dict[str, Victim], name: str, preset: str, norm: str) -> None:
    victim = victims["snd"]
    alone = trajectory(victim, [3], 3, name, preset, norm)
    assert alone == trajectory(victim, [8, 0, 3, 5, 1, 6], 3, name, preset, norm)
    assert alone == trajectory(victim, [3, 9], 3, name, preset, norm)
