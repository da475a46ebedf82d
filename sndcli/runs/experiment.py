"""A run: units of work, resume, and the verification that the attack never sees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import Options, options_of
from sndcli.ball import as_sent, moved_out
from sndcli.datasets.base import ImageSet
from sndcli.datasets.load import choose
from sndcli.errors import IncompleteError, first_line
from sndcli.models.inference import reproducible_kernels
from sndcli.models.opaque import OpaqueModel
from sndcli.models.reference import Reference
from sndcli.queries.draws import repeated
from sndcli.queries.ledger import Ledger
from sndcli.queries.oracle import Oracle
from sndcli.runs import answers, points, results
from sndcli.runs.answers import AnswerLog, Diverged, Recalling
from sndcli.runs.config import PROTOCOL, RunConfig
from sndcli.runs.files import RunFiles
from sndcli.runs.meter import Meter, Tick
from sndcli.runs.provenance import command_line, commit, versions
from sndcli.runs.rows import Checked, table_of
from sndcli.runs.success import HALF
from sndcli.runs.verification import Verification
from sndcli.runs.victim import Victim
from sndcli.streams import ImageStreams, Purpose, Streams, hashed

Warn = Callable[[str], None]
UNIT = 100  # images that share a loop; of 25, small networks take a quarter longer for each


def _silent(_: object) -> None:
    pass


class Experiment:
    """Runs the units of a config that are not there yet and keeps each as a part file.

    Args:
        config: what to run.
        data: where images come from.
        victim: whom to ask.
        out: a folder, or the path of the result file.
        warn: told of failures that do not end the run.
        debug: let an attack's exception through instead of marking its images.
        references: the attacker's own models, for the attacks that take them.
        save_points: keep the points submitted at the end beside the result (see `points`).
        chooser: the data and the model, behind no defense, by which images are chosen; the victim's own by default.
    """

    def __init__(
        self,
        config: RunConfig,
        data: ImageSet,
        victim: Victim,
        out: Path,
        warn: Warn = _silent,
        debug: bool = False,
        references: Sequence[Reference] = (),
        save_points: bool = False,
        chooser: tuple[ImageSet, Victim] | None = None,
    ) -> None:
        self.chooser = chooser or (data, victim)
        self.config, self.data, self.victim, self.warn, self.debug = config, data, victim, warn, debug
        self.references, self.save_points = references, save_points
        self.files = RunFiles(out, config, save_points)
        self.options = options_of(spec_of(config.attack), config.preset, config.settings, config.norm)
        self.unit = config.unit or 0  # images that share a loop and a part file, once it is known
        self.random = config.defense.random or victim.random  # whether answers to one question may differ
        self.passes_differ: bool | None = None  # whether two passes on one image differ, as those of a defense should

    def run(self, fresh: bool = False, progress: Callable[[Tick], None] = _silent) -> pa.Table:
        """Runs what is missing and returns the whole table. A finished run is only read.

        Raises:
            ConfigError: the result file holds another config.
            IncompleteError: another process is at it, or the machine failed.
        """
        done = None if fresh else self.files.finished()
        if done is not None:
            return done
        with self.files.alone():
            return self._run(fresh, progress)

    def _run(self, fresh: bool, progress: Callable[[Tick], None]) -> pa.Table:
        if fresh:
            self.files.discard()
        done = self.files.finished()
        if done is not None:
            return done
        start = time.perf_counter()
        self.files.make_folder(self.warn)
        chosen = self._choose()
        self.unit = self.config.unit or self.files.unit() or UNIT
        units = [
            (self.config.seed + repeat, number, index)
            for repeat in range(self.config.repeats)
            for number, index in enumerate(chosen.split(self.unit))
        ]
        self.passes_differ = self._passes_differ(chosen)
        meter = Meter(self.config, sum(len(index) for _, _, index in units), progress)
        for seed, number, index in units:
            part = self.files.part(seed, number)
            rows = self.files.rows_of(part, self.warn, self.data.ids[index].tolist())
            missing = rows is None
            if rows is None:
                rows = self._kept(part, seed, number, index, meter)
            meter.ended(rows, missing)
        parts = [self.files.part(seed, number) for seed, number, _ in units]
        return self.files.merge(parts, self._metadata, time.perf_counter() - start)

    def _choose(self) -> Tensor:
        """Positions of the images; the same each time, for a model that draws from torch's own generator too."""
        c, (data, model) = self.config, self.chooser
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hashed(c.seed, 0, "selection"))
            return choose(data, c.images, c.select, c.seed, model.labels)

    def _kept(self, part: Path, seed: int, number: int, index: Tensor, meter: Meter) -> pa.Table:
        """The rows of a unit that is run, and kept as a part; it goes on with the answers that an earlier one had."""
        log = None
        if self.config.engine == "native" and self.victim.streams_are == "image":
            identity = answers.identity_of(self.config.run_id, seed, self.data.ids[index].tolist())
            log = AnswerLog(answers.path_of(part), identity)
        spent, began = log.seconds if log else 0.0, time.perf_counter()
        try:
            rows = self._unit(seed, number, index, meter, log)
        except Diverged:
            self.warn(f"{part.stem}: the questions are others than before the interruption. It is run again.")
            answers.path_of(part).unlink(missing_ok=True)
            spent, began = 0.0, time.perf_counter()
            rows = self._unit(seed, number, index, meter, None)
        results.write_table(part, rows, self._metadata(spent + time.perf_counter() - began))
        answers.path_of(part).unlink(missing_ok=True)
        return rows

    def _unit(self, seed: int, number: int, index: Tensor, meter: Meter, log: AnswerLog | None) -> pa.Table:
        c, device = self.config, self.victim.defended.device
        x0, y = self.data.pixels(index).to(device), self.data.labels[index].to(device)
        ids = self.data.ids[index]

        def streams(purpose: Purpose) -> Streams:
            return self.victim.streams(seed, ids, number, purpose)

        draws = streams("defense")
        oracle = Recalling(
            meter.attacked(self.victim.defended, lambda: oracle.ledger), x0, y, budget=c.budget,
            budgets=c.report_points, norm=c.norm, eps=c.eps, votes=c.votes,
            quantize=c.quantize, undefended=self.victim.bare if c.mismatch else None,
            streams=draws,
        )  # fmt: skip
        if log is not None and isinstance(draws, ImageStreams):
            oracle.remember(log, draws)
        with reproducible_kernels(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(hashed(seed, number, "model"))  # for models that draw by themselves
            self._attack(oracle, streams("attack"))
            oracle.remembered()
            ledger = oracle.close()
            defended = meter.verified(self.victim.defended, ledger)
            check = Verification(self.victim, c.verify, self.random, streams, oracle.criterion, defended)
            p0, p_mis = check.clean(x0)
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
        if self.save_points:
            self._save_points(points.path_of(self.files.part(seed, number)), seed, index, ledger)
        checked = Checked(p0, p_mis, p_adv, adv_clean, boundary, check.draws, check.clean_draws)
        return table_of(c, seed, ids, y, oracle, ledger, checked)

    def _attack(self, oracle: Oracle, streams: Streams) -> None:
        try:
            oracle.check(scores=spec_of(self.config.attack).access == "scores")
            run_attack(oracle, streams, self.config.attack, self.config.engine, self.options, self.references)
        except IncompleteError:
            raise
        except (MemoryError, OSError, torch.cuda.OutOfMemoryError) as error:
            raise IncompleteError(f"The machine failed: {first_line(error)}. The same command continues.") from None
        except Exception as error:
            if self.debug:
                raise
            self.warn(f"{self.config.attack} failed on {int(oracle.active.sum())} images: {first_line(error)}")
            oracle.retire(oracle.active.nonzero().squeeze(1), "error")

    def _save_points(self, path: Path, seed: int, index: Tensor, ledger: Ledger) -> None:
        clean, submitted = self.data.pixels(index), ledger.submitted[-1].cpu()
        kept = points.Points(
            image_id=self.data.ids[index], seed=torch.full_like(index, seed), label=self.data.labels[index],
            clean=(clean * 255).round().to(torch.uint8),
            submitted=submitted, has_submitted=ledger.has_submitted[:, -1].cpu(),
            bare_label=self.victim.labels(ledger.submitted[-1]),
            rounded_label=self.victim.labels(as_sent(ledger.submitted[-1], quantize=True)),
            classes=(*self.data.classes, *map(str, range(len(self.data.classes), self.victim.classes))),
            run_id=self.config.run_id,
        )  # fmt: skip
        points.write(path, kept)

    def _passes_differ(self, chosen: Tensor) -> bool | None:
        """Whether the defense is on: None where it promises no randomness, else whether 16 passes differ."""
        if not self.config.defense.random or not len(chosen):
            return None
        streams = self.victim.streams(self.config.seed, self.data.ids[chosen[:1]], 0, "self-test")
        one = self.data.pixels(chosen[:1]).to(self.victim.defended.device)
        image = torch.zeros(1, dtype=torch.int64, device=one.device)
        ((_, _, answers),) = repeated(self.victim.defended, one, image, 16, streams, 1)
        return bool((answers != answers[:, :1]).any())

    # -- what a file says of its run -------------------------------------------------------------------------

    def _metadata(self, wall_s: float) -> results.Metadata:
        return {
            "id": self.config.run_id,
            "config": self.config.as_dict(),
            "protocol": PROTOCOL,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command_line(),
            "commit": commit(),
            "streams": self.victim.streams_are,
            "unit": self.unit,
            "wall_s": round(wall_s, 3),
            "scales": self._scales(),
            "passes_differ": self.passes_differ,
            "answers_to_choose": self.chooser[1].answers_to_name if self.config.select == "correct" else 0,
            "sent": self.victim.model.sent() if isinstance(self.victim.model, OpaqueModel) else {},
            "versions": versions(self.config, self.victim.defended.device),
        }

    def _scales(self) -> dict[str, float | None]:
        """The attack's probe and search at distance ε, for comparison with the noise; L2 attacks only."""
        c = self.config
        if c.norm != "l2" or c.engine != "native":
            return {"probe": None, "search": None}
        d = math.prod(self.victim.model.input_size)
        probe, search = spec_of(c.attack).scales_at(self.options, d, c.eps, c.defense.sigma)
        return {"probe": probe, "search": search}


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
        extra = (references,) if spec.references else ()
        spec.run(oracle, streams, options, *extra)
