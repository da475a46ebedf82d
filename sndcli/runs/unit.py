"""A work unit: images that one worker attacks and verifies together, and the rows that come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import Options, options_of
from sndcli.ball import as_sent, moved_out
from sndcli.datasets.base import ImageSet
from sndcli.defenses.parse import guard
from sndcli.errors import IncompleteError, first_line
from sndcli.models.inference import reproducible_kernels
from sndcli.models.reference import Reference
from sndcli.queries.criterion import Criterion, Misclassified
from sndcli.queries.draws import labels_of
from sndcli.queries.ledger import Ledger
from sndcli.queries.oracle import Oracle
from sndcli.queries.stopping import CLEAN_WRONG, VOTES, Verified
from sndcli.runs import answers
from sndcli.runs.answers import AnswerLog, Diverged, Recalling
from sndcli.runs.config import RunConfig
from sndcli.runs.fingerprint import fingerprint_of
from sndcli.runs.meter import Meter, Tick
from sndcli.runs.points import Points
from sndcli.runs.provenance import device_name
from sndcli.runs.rows import Checked, table_of
from sndcli.runs.success import HALF
from sndcli.runs.targets import Goal, goal_of
from sndcli.runs.verification import Verification
from sndcli.runs.victim import Victim
from sndcli.streams import ImageStreams, Purpose, Streams, hashed

Tell = Callable[[Tick | str], None]  # how far a unit is; or a warning


@dataclass(frozen=True)
class Unit:
    """Some of the images of one seed of a run.

    Attributes:
        seed: of its randomness.
        number: among the units of its seed.
        index: positions of its images in the data.
        ids: of its images.
    """

    seed: int
    number: int
    index: tuple[int, ...]
    ids: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its files."""
        return f"seed{self.seed}-unit{self.number:04d}"


@dataclass(frozen=True)
class Finished:
    """What came of a unit.

    Attributes:
        rows: of the result.
        seconds: that it took, those of an interrupted process included.
        points: submitted at the end, where they are kept.
        fingerprint: of the arithmetic that it was computed with.
        device: that it was computed on.
    """

    rows: pa.Table
    seconds: float
    points: Points | None
    fingerprint: str
    device: str


@dataclass(frozen=True)
class _Early:
    """What a run that stops when it is verified knows before its attack.

    Attributes:
        clean: p0 and P_mis of the clean images, as `Verification.clean` tells them.
        verified: confirms points.
    """

    clean: tuple[Tensor, Tensor]
    verified: Verified


@dataclass(frozen=True)
class Attacker:
    """Attacks and verifies units of one run.

    Attributes:
        config: of the run.
        data: where images come from.
        victim: whom to ask.
        references: the attacker's own models, for the attacks that take them.
        save_points: keep the points submitted at the end.
        debug: let an attack's exception through instead of marking its images.
        parts: the folder where the answers of a unit that is interrupted are kept; None: nowhere.
    """

    config: RunConfig
    data: ImageSet
    victim: Victim
    references: Sequence[Reference] = ()
    save_points: bool = False
    debug: bool = False
    parts: Path | None = None

    @property
    def options(self) -> Options:
        """The attack's hyper-parameters."""
        c = self.config
        return options_of(spec_of(c.attack), c.preset, c.settings, c.norm)

    @property
    def random(self) -> bool:
        """Whether answers to one question may differ."""
        return self.config.defense.random or self.victim.random

    def __call__(self, unit: Unit, tell: Tell) -> Finished:
        """The rows of a unit; it goes on with the answers that an earlier process had."""
        log = None
        if self.parts is not None and self.config.engine == "native" and self.victim.streams_are == "image":
            identity = answers.identity_of(self.config.run_id, unit.seed, unit.ids)
            log = AnswerLog(answers.path_of(self.parts / f"{unit.name}.parquet"), identity)
        spent, began = log.seconds if log else 0.0, time.perf_counter()
        try:
            rows, points = self._run(unit, log, tell)
        except Diverged:
            tell(f"{unit.name}: the questions are others than before the interruption. It is run again.")
            if log is not None:
                log.discard()
            spent, began = 0.0, time.perf_counter()
            rows, points = self._run(unit, None, tell)
        seconds = spent + time.perf_counter() - began
        return Finished(rows, seconds, points, self.fingerprint, device_name(self.victim.defended.device))

    @cached_property
    def fingerprint(self) -> str:
        """Of this machine's arithmetic (see `fingerprint_of`)."""
        return fingerprint_of(self.victim)

    def goal(self, y: Tensor, ids: Sequence[int], seed: int) -> Goal | None:
        """Of a targeted run: what the images with the true labels `y` ``[N]`` are to become."""
        bare = self.victim.bare
        right = None if bare is None else (lambda x, label: labels_of(bare(x)) == label)
        return goal_of(self.config.target, y, ids, seed, right) if self.config.target else None

    def _run(self, unit: Unit, log: AnswerLog | None, tell: Tell) -> tuple[pa.Table, Points | None]:
        c, device, index = self.config, self.victim.defended.device, torch.tensor(unit.index, dtype=torch.int64)
        x0, y = self.data.pixels(index).to(device), self.data.labels[index].to(device)
        ids = self.data.ids[index]
        meter = Meter(c, len(index), tell)

        def streams(purpose: Purpose) -> Streams:
            return self.victim.streams(unit.seed, ids, unit.number, purpose)

        goal = self.goal(y, ids.tolist(), unit.seed)
        criterion = goal.criterion if goal else Misclassified(y)
        with reproducible_kernels(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(hashed(unit.seed, unit.number, "model"))  # for models that draw by themselves
            early = self._look(x0, criterion, streams) if c.stop == "verified" else None
            draws = streams("defense")
            oracle = Recalling(
                meter.attacked(self.victim.defended, lambda: oracle.ledger), x0, y, budget=c.budget,
                budgets=c.report_points, norm=c.norm, eps=c.eps, votes=c.votes,
                quantize=c.quantize, undefended=self.victim.bare if c.mismatch else None,
                streams=draws, criterion=criterion, confirm=VOTES if c.stop == "confirmed" and self.random else 0,
                verified=early.verified if early else None, starts=goal.starts if goal else None,
                guard=guard(c.defense, len(index), self.data.size, unit.seed),
            )  # fmt: skip
            if log is not None and isinstance(draws, ImageStreams):
                oracle.remember(log, draws)
            self._attack(oracle, streams("attack"), tell, early)
            oracle.remembered()
            ledger = oracle.close()
            defended = meter.verified(self.victim.defended, ledger)
            check = Verification(self.victim, c.verify, self.random, streams, oracle.criterion, defended)
            p0, p_mis = early.clean if early else check.clean(x0)
            ledger.submit_as_it_is(x0, oracle.initially_wrong.cpu() & (p0 >= HALF))
            radii = (c.eps, *c.eps_also)
            moved = [
                moved_out(x0, submitted, eps, c.norm, c.quantize) for eps in radii for submitted in ledger.submitted
            ]  # fmt: skip
            has = ledger.has_submitted.repeat(1, len(radii) + 1)
            p_adv, adv_clean = check.points([*moved, *ledger.submitted], has)
            boundary = check.boundary(oracle, ledger) if c.boundary else None
        p_adv = p_adv.view(len(index), len(radii) + 1, -1)
        adv_clean = None if adv_clean is None else adv_clean.view(p_adv.shape)
        kept = self._points(unit.seed, index, ledger) if self.save_points else None
        checked = Checked(p0, p_mis, p_adv, adv_clean, boundary, check.draws, check.clean_draws)
        rows = table_of(c, unit.seed, ids, y, oracle, ledger, checked, goal)
        meter.ended(rows, True)
        return rows, kept

    def _look(self, x0: Tensor, criterion: Criterion, streams: Callable[[Purpose], Streams]) -> _Early:
        """Asks about the clean images, and makes what will confirm points."""
        c = self.config
        clean = Verification(self.victim, c.verify, self.random, streams, criterion).clean(x0)
        return _Early(clean, Verified(
            self.victim.defended, x0, criterion, eps=c.eps, norm=c.norm, quantize=c.quantize, budget=c.budget,
            streams=streams("confirm"), random=self.random,
        ))  # fmt: skip

    def _attack(self, oracle: Oracle, streams: Streams, tell: Tell, early: _Early | None) -> None:
        try:
            oracle.check(scores=spec_of(self.config.attack).access == "scores")
            if early is not None:
                wrong = (early.clean[0] >= HALF).nonzero().squeeze(1).to(oracle.x0.device)
                oracle.submit(oracle.x0[wrong], wrong)
                oracle.retire(wrong, CLEAN_WRONG)
                early.verified.decided(wrong)
            run_attack(oracle, streams, self.config.attack, self.config.engine, self.options, self.references)
        except IncompleteError:
            raise
        except (MemoryError, OSError, torch.cuda.OutOfMemoryError) as error:
            raise IncompleteError(f"The machine failed: {first_line(error)}. The same command continues.") from None
        except Exception as error:
            if self.debug:
                raise
            tell(f"{self.config.attack} failed on {int(oracle.active.sum())} images: {first_line(error)}")
            oracle.retire(oracle.active.nonzero().squeeze(1), "error")

    def _points(self, seed: int, index: Tensor, ledger: Ledger) -> Points:
        clean, submitted = self.data.pixels(index), ledger.submitted[-1].cpu()
        return Points(
            image_id=self.data.ids[index], seed=torch.full_like(index, seed), label=self.data.labels[index],
            clean=(clean * 255).round().to(torch.uint8),
            submitted=submitted, has_submitted=ledger.has_submitted[:, -1].cpu(),
            bare_label=self.victim.labels(ledger.submitted[-1]),
            rounded_label=self.victim.labels(as_sent(ledger.submitted[-1], quantize=True)),
            classes=(*self.data.classes, *map(str, range(len(self.data.classes), self.victim.classes))),
            run_id=self.config.run_id,
        )  # fmt: skip


def run_attack(
    oracle: Oracle,
    streams: Streams,
    name: str,
    engine: str,
    options: Options,
    references: Sequence[Reference] = (),
) -> None:
    """Attack `name` on every active image of `oracle`, by our own code or by Foolbox's.

    `references` go to the attacks whose spec asks for them.
    """
    spec = spec_of(name)
    if engine == "foolbox":
        from sndcli.attacks.decision import foolbox_engine

        foolbox_engine.run(oracle, streams, name)
    else:
        extra = (references,) if spec.references or spec.warm_start else ()
        spec.run(oracle, streams, options, *extra)
