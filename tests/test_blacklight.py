"""A stateful defense: what it detects, what is paid for what it blocks, and that every attack ends."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import generator
from torch import Tensor

from sndcli.attacks.common.noise import jittered, majority
from sndcli.attacks.registry import ATTACKS, spec_of
from sndcli.attacks.spec import options_of, told
from sndcli.datasets.load import load
from sndcli.defenses import blacklight, parse
from sndcli.defenses.blacklight import KEPT, Fingerprinter
from sndcli.errors import ConfigError
from sndcli.queries import guard as guards
from sndcli.queries.draws import BLOCKED
from sndcli.queries.guard import Guard
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.runs.unit import run_attack
from sndcli.streams import ImageStreams

N, SIZE = 2, (3, 8, 8)


def guard(policy: str = "reject", images: int = N) -> Guard:
    return blacklight.guard(policy, 25, images, SIZE, 0)


def linear(x: Tensor) -> Tensor:
    """Logits ``[M, 3]`` of images of `SIZE`."""
    w = torch.randn(3, 192, generator=generator(1))
    logits: Tensor = 5 * (x - 0.5).flatten(1) @ (w / w.norm(dim=1, keepdim=True)).T
    return logits


def oracle(policy: str = "reject", budget: int = 20, norm: str = "l2", images: int = N) -> Oracle:
    x0 = torch.rand(images, *SIZE, generator=generator(0))
    eps = 1.0 if norm == "l2" else 0.05
    return Oracle(
        linear, x0, linear(x0).argmax(1), budget=budget, norm=norm, eps=eps, guard=guard(policy, images=images)
    )


def rand(rows: int, seed: int = 7) -> Tensor:
    return torch.rand(rows, *SIZE, generator=generator(seed))


# -- fingerprints --------------------------------------------------------------------------------------------


def test_a_fingerprint_by_hand() -> None:
    """The definition, slowly: hexadecimal digests, reversed, the largest of a set."""
    x = rand(1)[0]
    mine = Fingerprinter(SIZE, 3)
    v = np.mod(255 * x.double().numpy().ravel() + mine._salt, 255)
    v = (np.round(v / 50) * 50).astype(np.int16)
    texts = {hashlib.sha256(v[k : k + 20].tobytes()).hexdigest()[::-1] for k in range(len(v) - 19)}
    largest = sorted(texts, reverse=True)[:KEPT]
    assert sorted(int(text[:16], 16) for text in largest) == mine(x.numpy()).tolist()
    assert 0 <= mine._salt.min() <= 5
    assert 249 <= mine._salt.max() <= 254


def test_the_salt_is_the_deployments() -> None:
    x = rand(1)[0].numpy()
    assert np.array_equal(Fingerprinter(SIZE, 0)(x), Fingerprinter(SIZE, 0)(x))
    assert not len(np.intersect1d(Fingerprinter(SIZE, 0)(x), Fingerprinter(SIZE, 1)(x)))


def test_probes_of_one_centre_as_computed() -> None:
    """12 test images; medians of shared hashes as computed elsewhere for 40: 37, 29, 18, at most 13."""
    data = load("cifar10")
    fingerprint, centres = Fingerprinter(data.size, 0), data.pixels(torch.arange(12))
    middle = [fingerprint(x.numpy()) for x in centres]
    found = {}
    for a in (0.001, 0.005, 0.01, 0.015):
        probes = (centres + a * torch.randn(centres.shape, generator=generator(2))).clamp(0, 1)
        shared = [len(np.intersect1d(m, fingerprint(x.numpy()))) for m, x in zip(middle, probes, strict=True)]
        found[a] = float(np.median(shared))
    assert found == pytest.approx({0.001: 37, 0.005: 29, 0.01: 18, 0.015: 10}, abs=3)
    different = [len(np.intersect1d(a, b)) for k, a in enumerate(middle) for b in middle[:k]]
    assert max(different) <= 5


def test_large_pictures_have_other_windows() -> None:
    x = torch.rand(3, 64, 64, generator=generator(3)).numpy()
    assert len(Fingerprinter((3, 64, 64), 0)(x)) == KEPT
    assert Fingerprinter((3, 64, 64), 0)._window == 50
    with pytest.raises(ConfigError, match="at least 20 values"):
        Fingerprinter((1, 4, 4), 0)


def test_a_constant_window_has_one_hash_and_is_never_caught() -> None:
    """With salt 0 a picture of one colour is one hash; the store then shares one at most."""
    fingerprint = Fingerprinter(SIZE, 0)
    fingerprint._salt[:] = 0
    store = blacklight.Fingerprints(1, fingerprint, 25)
    grey = torch.full((3, *SIZE), 0.5)
    assert len(fingerprint(grey[0].numpy())) == 1
    assert store.similar(grey, np.zeros(3, dtype=np.int64)).tolist() == [False] * 3


# -- the oracle ----------------------------------------------------------------------------------------------


def test_the_second_of_two_alike_is_blocked_paid_and_counted() -> None:
    one, image = oracle(), torch.tensor([0, 1, 0, 1])
    x = rand(2)
    answer = one.labels(torch.cat([x, x]), image, "a")
    assert (answer == BLOCKED).tolist() == [False, False, True, True]
    assert one.adversarial(x, image[:2], "a").tolist() == [REFUSED] * 2
    scores = one.scores(torch.cat([x, rand(2, 8)]), image, "b")
    assert scores.isnan().all(1).tolist() == [True, True, False, False]
    assert scores.shape == (4, 3)
    ledger = one.close()
    assert ledger.used.tolist() == [5, 5]
    assert ledger.blocked.tolist() == [3, 3]
    assert ledger.detected_at.tolist() == [2, 2]
    assert {name: k.tolist() for name, k in ledger.phases.items()} == {"a": [1, 1], "b": [1, 1], "blocked": [3, 3]}
    assert one.active.all()


def test_an_attacker_sees_his_own_store_alone() -> None:
    one, x = oracle(), rand(1)
    assert (one.labels(x.repeat(2, 1, 1, 1), torch.tensor([0, 1]), "a") >= 0).all()


def test_how_rows_are_called_changes_nothing() -> None:
    points, image = rand(6, 3)[[0, 1, 2, 0, 3, 1, 4, 5, 4, 0]], torch.tensor([0, 1, 0, 0, 1, 1, 0, 1, 1, 1])
    whole, parts = oracle(), oracle()
    together = whole.labels(points, image, "a")
    apart = torch.cat([parts.labels(points[k : k + 3], image[k : k + 3], "a") for k in range(0, 10, 3)])
    assert torch.equal(together, apart)
    assert whole.ledger.blocked.tolist() == parts.ledger.blocked.tolist() == [1, 1]
    assert whole.ledger.detected_at.tolist() == parts.ledger.detected_at.tolist() == [3, 3]
    alone = oracle().labels(points[image == 1], image[image == 1], "a")
    assert torch.equal(alone, together[image == 1])


def test_a_ban_ends_the_images_attack_at_the_kth_detection() -> None:
    one, x = oracle("ban:2"), rand(1)
    answer = one.labels(x.repeat(6, 1, 1, 1), torch.tensor([0, 0, 0, 0, 0, 1]), "a")
    assert [int(a) for a in answer[1:5]] == [BLOCKED, BLOCKED, REFUSED, REFUSED]
    assert answer[5] >= 0
    ledger = one.close()
    assert ledger.used.tolist() == [3, 1]  # what comes after the ban is not paid
    assert ledger.blocked.tolist() == [2, 0]
    assert one.active.tolist() == [False, True]
    assert ledger.stop_reason == [guards.BANNED, "budget"]


def test_a_log_answers_and_counts() -> None:
    one, x = oracle("log"), rand(1)
    assert (one.labels(x.repeat(4, 1, 1, 1), torch.zeros(4, dtype=torch.int64), "a") >= 0).all()
    ledger = one.close()
    assert ledger.blocked.tolist() == [3, 0]
    assert ledger.detected_at.tolist() == [2, 0]
    assert ledger.phases["a"].tolist() == [4, 0]


def test_asking_in_vain_ends_and_an_answer_starts_the_count_anew() -> None:
    one, x = oracle(budget=2000), rand(2)
    zeros = torch.zeros(201, dtype=torch.int64)
    one.labels(torch.cat([x[:1].repeat(200, 1, 1, 1), x[1:]]), zeros, "a")
    one.labels(x[:1].repeat(200, 1, 1, 1), zeros[:200], "a")
    assert one.active[0]
    one.labels(x[:1].repeat(100, 1, 1, 1), zeros[:100], "a")
    assert one.close().stop_reason[0] == guards.BLOCKED
    assert one.ledger.used[0] == 501


def test_what_is_blocked_is_no_success_and_the_budget_holds() -> None:
    one = oracle(budget=4)
    far = 1 - one.x0[:1]
    answer = one.adversarial(far.repeat(6, 1, 1, 1), torch.zeros(6, dtype=torch.int64), "a")
    assert answer[1:].tolist() == [REFUSED] * 5
    ledger = one.close()
    assert ledger.used.tolist() == [4, 0]
    assert len(ledger.events_of(0)) <= 1


def test_votes_of_the_same_question_are_refused() -> None:
    x0 = rand(1)
    with pytest.raises(ConfigError, match="blocks repeats"):
        Oracle(linear, x0, torch.zeros(1, dtype=torch.int64), budget=9, votes=3, guard=guard())


# -- attacks -------------------------------------------------------------------------------------------------


QUICK = ("hsja", "hsja-na", "rays", "nes-na", "simba", "null")  # the others take seconds


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in ATTACKS
        if not spec_of(name).references
    ],
)
def test_every_attack_ends(name: str) -> None:
    """On a linear model that blocks: no exception, no endless loop, and never more than the budget."""
    spec = spec_of(name)
    one = oracle(budget=300, norm=spec.norms[0], images=1)
    one.check(scores=spec.access == "scores")
    pay, calls = one._pay, [0]

    def counted(points: Tensor, image: Tensor, phase: object, scores: bool) -> object:
        calls[0] += 1
        assert calls[0] < 3000
        return pay(points, image, phase, scores)  # type: ignore[arg-type]

    one._pay = counted  # type: ignore[method-assign, assignment]
    run_attack(one, ImageStreams(0, range(1), "attack"), name, "native", options_of(spec, None))
    ledger = one.close()
    assert (ledger.used <= 300).all()
    assert torch.equal(torch.stack([*ledger.phases.values()]).sum(0), ledger.used)
    assert ledger.stop_reason[0] in {"blocked", "budget", "reserve", "success", "exhausted", "collapsed"}


def test_foolbox_is_told_the_true_label() -> None:
    pytest.importorskip("foolbox")
    one = oracle(budget=300, images=1)
    one.check()
    run_attack(one, ImageStreams(0, range(1), "attack"), "hsja", "foolbox", options_of(spec_of("hsja"), None))
    assert one.close().used[0] <= 300
    assert one.ledger.blocked[0] > 0


def test_a_vote_takes_the_answers_that_there_are() -> None:
    """Its first question is answered and the next one blocked; it asks no more. With jitter none is blocked."""
    one = oracle(budget=50)
    x = rand(1)
    wrong = int(linear(x).argmax(1) != one.y[0])
    assert majority(one, x, torch.zeros(1, dtype=torch.int64), "a", 5).tolist() == [wrong]
    assert one.ledger.blocked[0] == 2
    assert majority(one, x, torch.zeros(1, dtype=torch.int64), "a", 5).tolist() == [REFUSED]
    before = int(one.ledger.blocked[0])
    jitter = jittered(ImageStreams(0, range(2), "attack"), 0.03)
    assert majority(one, x, torch.zeros(1, dtype=torch.int64), "a", 5, jitter=jitter).tolist() == [wrong]
    assert int(one.ledger.blocked[0]) == before
    assert jittered(ImageStreams(0, range(2), "attack"), 0.0) is None


def test_an_option_that_came_later_leaves_old_ids() -> None:
    for name in ("hsja-na", "nes-na"):
        options = options_of(spec_of(name), None)
        assert "jitter" not in told(options)
        assert told(replace(options, jitter=0.02))["jitter"] == 0.02


# -- as a defense --------------------------------------------------------------------------------------------


def test_how_it_is_written() -> None:
    full = "blacklight:policy=reject,threshold=25"
    assert parse.parse("blacklight", None, None).name == full
    assert parse.parse("blacklight+snd", None, None).name == f"snd+{full}"  # it sees questions first
    assert parse.parse("blacklight:ban:3+set:vgg", None, None).names == ["set", "blacklight"]
    assert parse.parse("snd+blacklight", 0.0, None).stateful
    assert not parse.parse("snd", None, None).stateful
    assert not parse.parse("blacklight", None, None).random
    assert parse.guard(parse.parse("snd", None, None), 1, SIZE, 0) is None
    banned = parse.guard(parse.parse("blacklight:policy=ban:3", None, None), 1, SIZE, 0)
    assert banned is not None
    assert (banned.blocks, banned.bans) == (True, 3)


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("blacklight:policy=ban", "ban:3"),
        ("blacklight:policy=ban:0", "at least 1"),
        ("blacklight:policy=reject:2", "without a number"),
        ("blacklight:rejekt", "Did you mean `reject`"),
        ("blacklight:threshold=51", "at most 50"),
        ("blacklight+blacklight:log", "once"),
        ("gate:0.5(blacklight)", "cannot stand in"),
    ],
)
def test_what_cannot_be(written: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        parse.parse(written, None, None)
