"""What an interrupted run keeps: parts of finished units, and the answers of the unit that was running."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from conftest import CPU, generator
from torch import Tensor, nn

from sndcli.analysis import frame
from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import parse
from sndcli.errors import DataError
from sndcli.models.classifier import Classifier, Normalisation
from sndcli.runs import answers, files, results
from sndcli.runs.config import RunConfig
from sndcli.runs.experiment import Experiment
from sndcli.runs.files import RunFiles
from sndcli.runs.meter import Tick
from sndcli.runs.victim import Victim

SIZE = (1, 8, 8)
Change = Callable[[Tensor], Tensor]


class Linear(nn.Module):
    """Three classes, of which the first is right on grey."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.randn(64, 3, generator=generator(5)) / 8

    def forward(self, z: Tensor) -> Tensor:
        return (z - 0.5).flatten(1) @ self.w + torch.tensor([0.05, 0.0, 0.0])


def images(count: int) -> ImageSet:
    pixels = torch.randint(110, 146, (count, *SIZE), generator=generator(4)).to(torch.uint8)
    labels = Linear()(pixels.float() / 255).argmax(1)
    return ImageSet("speckles", "made here", pixels, labels, torch.arange(count), ("a", "b", "c"))


@dataclass
class Interrupted:
    """Passes of a model until somebody presses Ctrl-C; None: nobody does."""

    logits: Callable[[Tensor], Tensor]
    left: int | None
    passes: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        if self.left is not None and self.passes >= self.left:
            raise KeyboardInterrupt
        self.passes += 1
        return self.logits(x)


@dataclass
class Bench:
    """A run of a tiny model that can be interrupted and begun again."""

    config: RunConfig
    out: Path
    data: ImageSet

    def run(self, after: int | None = None, **changes: object) -> tuple[pa.Table | None, int, list[Tick]]:
        """The table, None where it was interrupted; passes of the defended model but for a self-test; what was told."""
        config = replace(self.config, **changes)  # type: ignore[arg-type]
        model = Classifier(Linear(), Normalisation((0.0,), (1.0,)), SIZE, "linear")
        victim = Victim.prepare(model, config.defense, CPU, 4096)
        network = victim.defended.model
        watched = Interrupted(network.forward, None if after is None else after + config.defense.random)
        network.forward = watched
        ticks: list[Tick] = []
        try:
            table = Experiment(config, self.data, victim, self.out).run(progress=ticks.append)
        except KeyboardInterrupt:
            table = None
        return table, watched.passes - config.defense.random, ticks


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    monkeypatch.setattr(answers, "SAVE_S", 0.0)
    monkeypatch.setattr(answers, "PATIENCE", 0)

    def make(attack: str, sigma: float = 0.02, budget: int = 120, **changes: object) -> Bench:
        config = RunConfig(
            attack, "cifar10", "made here", "", "linear", "", parse(None, sigma, None), budget=budget,
            budgets=(budget // 2, budget), images=5, boundary=False, verify=4, eps=0.5,
        )  # fmt: skip
        return Bench(replace(config, **changes), tmp_path / "a.parquet", images(5))  # type: ignore[arg-type]

    return make


def asked(ticks: list[Tick]) -> int:
    """Passes of attacks; the end of a unit tells of none."""
    return sum(tick.phase == "attack" and tick.share < 1 for tick in ticks)


def same(one: pa.Table | None, two: pa.Table | None) -> bool:
    return one is not None and two is not None and one.to_pylist() == two.to_pylist()


@pytest.mark.parametrize(
    ("attack", "changes"),
    [
        ("hsja", {"mismatch": True}),
        ("hsja-na", {"votes": 3}),
        ("sign-opt", {"defense": parse(None, 0.02, 2.0)}),
        ("ba", {"quantize": True}),
        ("square", {"mismatch": True}),
        ("nes", {"defense": parse(None, 0.0, None)}),
    ],
)
def test_a_unit_goes_on_where_it_was_interrupted(
    bench: Callable[..., Bench], attack: str, changes: dict[str, object], tmp_path: Path
) -> None:
    """The same bits, and no question is asked of the model that was answered before."""
    made = bench(attack, **changes)
    whole, _, ticks = made.run()
    made.out.unlink()
    passes = asked(ticks)
    for stop in (passes // 3, passes // 3):  # interrupted twice
        assert made.run(after=stop)[0] is None
        assert answers.paid(made.out.with_suffix(".parts")) > 0
    table, _, ticks = made.run()
    assert same(table, whole)
    assert asked(ticks) == passes - 2 * (passes // 3)
    assert not made.out.with_suffix(".parts").exists()
    assert ticks[-1].queries < sum(whole.column("queries").to_pylist())  # type: ignore[union-attr]


def test_an_interrupted_verification_asks_no_paid_question_again(bench: Callable[..., Bench]) -> None:
    made = bench("hsja")
    whole, passes, ticks = made.run()
    made.out.unlink()
    paid = asked(ticks)
    assert made.run(after=paid + 1)[0] is None
    table, again, _ = made.run()
    assert same(table, whole)
    assert again == passes - paid


@pytest.mark.parametrize("attack", ["square", pytest.param("hsja-na", marks=pytest.mark.slow)])
def test_what_was_confirmed_is_confirmed_again(bench: Callable[..., Bench], attack: str) -> None:
    """Unpaid draws are made anew, from the same streams, so that the same images end at the same queries."""
    made = bench(attack, stop="verified")
    whole, passes, _ = made.run()
    assert whole is not None
    assert "confirmed" in whole.column("stop_reason").to_pylist()
    made.out.unlink()
    assert made.run(after=2 * passes // 3)[0] is None
    table, again, _ = made.run()
    assert same(table, whole)
    assert again < passes


def test_answers_to_other_questions_are_of_no_use(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a machine that rounds otherwise; and neither are those of other images, or a damaged file."""
    made = bench("hsja")
    whole, passes, _ = made.run()
    made.out.unlink()
    assert made.run(after=passes // 2)[0] is None
    (log,) = made.out.with_suffix(".parts").glob("*.answers.safetensors")
    kept = log.read_bytes()
    checksum = answers.checksum
    with monkeypatch.context() as patched:
        patched.setattr(answers, "checksum", lambda *call: checksum(*call) ^ 1)
        table, again, _ = made.run()
    assert same(table, whole)
    assert again == passes
    made.out.unlink()
    for content in (kept[:-50], b""):
        log.parent.mkdir()
        log.write_bytes(content)
        assert same(made.run()[0], whole)
        made.out.unlink()
    log.parent.mkdir()
    log.write_bytes(kept)
    assert same(made.run(unit=2)[0], whole)


def test_a_run_goes_on_with_the_unit_it_began_with(bench: Callable[..., Bench]) -> None:
    made = bench("null", unit=2)
    whole, passes, _ = made.run()
    made.out.unlink()
    assert made.run(after=passes * 3 // 4)[0] is None
    parts = made.out.with_suffix(".parts")
    assert len([*parts.glob("*.parquet")]) == 2
    table, _, ticks = made.run(unit=None)
    assert same(table, whole)
    assert next(tick.images for tick in ticks) == 4


def test_a_run_in_progress_is_read(bench: Callable[..., Bench]) -> None:
    made = bench("hsja", unit=2)
    _, passes, _ = made.run()
    made.out.unlink()
    made.run(after=passes * 3 // 4)
    for path in (made.out, made.out.with_suffix(".parts"), made.out.parent):
        (found,), problems = frame.load([path], events=True)
        assert not problems
        assert found.unfinished == f"in progress, {len(found)} of 5 images"
        assert 0 < len(found) < 5
    assert RunFiles(made.out, made.config).unit() == 2


def test_a_run_without_a_finished_image_says_what_it_paid(bench: Callable[..., Bench]) -> None:
    made = bench("hsja")
    _, passes, _ = made.run()
    made.out.unlink()
    made.run(after=passes // 2)
    with pytest.raises(DataError, match=r"in progress, [1-9]\d* queries paid, no image is finished yet"):
        files.begun(made.out.with_suffix(".parts"))


def test_images_of_two_units_count_once(bench: Callable[..., Bench]) -> None:
    made = bench("null", unit=2)
    made.run()
    table = results.read(made.out)
    parts = made.out.with_suffix(".parts")
    for number, (start, count) in enumerate([(0, 3), (2, 2)]):
        results.write_table(parts / f"seed0-unit{number:04d}.parquet", table.slice(start, count), results.run_of(table))
    assert files.begun(parts).column("image_id").to_pylist() == table.column("image_id").to_pylist()[:4]
    assert results.run_of(files.begun(parts))["progress"] == {"images": 4, "of": 5}


def test_what_is_seen_inside_a_unit_and_the_verification_are_told(bench: Callable[..., Bench]) -> None:
    table, _, ticks = bench("hsja", budget=400).run()
    assert table is not None
    seen = sum(along[-1] for along in table.column("seen").to_pylist())
    assert seen > 0
    inside = [tick for tick in ticks if tick.images == 0]
    assert max(tick.seen for tick in inside if tick.phase == "attack") == seen
    assert {tick.phase for tick in inside} == {"attack", "verification"}
    shares = [tick.share for tick in ticks]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert ticks[-1].seen == seen
