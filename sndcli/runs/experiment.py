"""A run: which units of it are missing, where they are done, and what a file says of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from sndcli.attacks.registry import spec_of
from sndcli.attacks.spec import options_of
from sndcli.datasets.base import ImageSet
from sndcli.datasets.load import choose
from sndcli.errors import ConfigError
from sndcli.models.inference import reproducible_kernels
from sndcli.models.opaque import OpaqueModel
from sndcli.models.reference import Reference
from sndcli.queries.draws import repeated
from sndcli.runs import answers, layout, points, results
from sndcli.runs.config import PROTOCOL, RunConfig
from sndcli.runs.executors.attack import Attacking
from sndcli.runs.executors.base import Executor, Here
from sndcli.runs.executors.sent import Opened
from sndcli.runs.files import RunFiles
from sndcli.runs.fingerprint import told_apart
from sndcli.runs.gathered import Gathered
from sndcli.runs.layout import UNIT, Layout
from sndcli.runs.meter import Tick
from sndcli.runs.provenance import command_line, commit, versions
from sndcli.runs.shard import Shard
from sndcli.runs.unit import Attacker, Finished, Unit
from sndcli.runs.victim import Victim
from sndcli.streams import hashed

Warn = Callable[[str], None]
SELF_TEST, WAY = 8, 16  # images that a random defense is tried on, at most, and points on the way to the next


def _silent(_: object) -> None:
    pass


@dataclass(frozen=True)
class Share:
    """How far a run is after one share of it.

    Attributes:
        units: of the share, all finished.
        finished: units of the whole run.
        of: how many it has.
    """

    units: int
    finished: int
    of: int


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
        executor: where units are done.
        opened: the undefended model, as it was opened.
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
        executor: Executor | None = None,
        opened: Opened | None = None,
    ) -> None:
        self.chooser = chooser or (data, victim)
        self.config, self.data, self.victim, self.warn = config, data, victim, warn
        self.executor, self.opened = executor or Here(), opened or Opened(victim.model)
        self.files = RunFiles(out, config, save_points)
        self.attacker = Attacker(config, data, victim, references, save_points, debug, self.files.parts)
        self.unit = config.unit or 0  # images that share a loop and a part file, once it is known
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

    def share(self, shard: Shard, progress: Callable[[Tick], None] = _silent) -> Share:
        """Runs what is missing of one share of the units, beside the processes that run others.

        Raises:
            ConfigError: the result file holds another config.
            IncompleteError: another process is at this share or at the whole, or the machine failed.
        """
        if self.files.finished() is not None:
            return Share(0, 0, 0)
        with self.files.alone(shard.name):
            self.files.make_folder(self.warn, tidy=False)
            units = self._units(shard.of, alone=False)
            self._finish(shard.part(units), progress)
            there = sum(self.files.part(unit.name).is_file() for unit in units)
            return Share(len(shard.part(units)), there, len(units))

    def _run(self, fresh: bool, progress: Callable[[Tick], None]) -> pa.Table:
        if fresh:
            self.files.discard()
        done = self.files.finished()
        if done is not None:
            return done
        start = time.perf_counter()
        self.files.make_folder(self.warn)
        units = self._units(self.executor.workers, alone=True)
        fingerprint = self._finish(units, progress)
        parts = [self.files.part(unit.name) for unit in units]
        return self.files.merge(parts, lambda s: self._metadata(s, fingerprint), time.perf_counter() - start)

    def _units(self, at_once: int, alone: bool) -> tuple[Unit, ...]:
        """The run's units, as it began with them; else so many images each that `at_once` can be done at once.

        Smaller units than usual are only for runs in which a unit decides nothing but time.

        Args:
            at_once: workers or shares.
            alone: whether no other process does units of this run.

        Raises:
            ConfigError: other shares have units of another size.
        """
        c, begun = self.config, self.files.layout()
        if begun is not None and c.unit in (None, begun.unit):
            self.unit = begun.unit
            return begun.units
        if begun is not None and not alone:
            raise ConfigError(f"Expected `--unit` to be {begun.unit}, as other shares have it, but got {c.unit}.")
        chosen = self._choose()
        free = self.victim.streams_are == "image" and c.engine == "native"
        usual = layout.size_for(c.images, c.repeats, at_once) if free else UNIT
        self.unit = c.unit or self.files.unit() or usual
        made = layout.units_of(chosen, self.data.ids, c.seed, c.repeats, self.unit)
        return self.files.begin(Layout(c.run_id, self.unit, made), alone).units

    def _finish(self, units: Sequence[Unit], progress: Callable[[Tick], None]) -> str:
        """Does those of the units that are missing; the fingerprints of all."""
        self.passes_differ = self._passes_differ(units)
        gathered = Gathered(sum(len(unit.index) for unit in units), progress, self.warn)
        missing, fingerprints = [], [self.attacker.fingerprint]
        for unit in units:
            rows = self.files.rows_of(self.files.part(unit.name), self.warn, [*unit.ids])
            if rows is None:
                missing.append(unit)
            else:
                gathered.there(rows)
                fingerprints.append(results.run_of(rows).get("fingerprint", ""))
        work = Attacking(self.attacker, self.opened, missing)
        for place, finished in self.executor.map(work, missing, gathered.hear) if missing else ():
            self._keep(missing[place], finished)
            gathered.ended(place, finished.rows)
            fingerprints.append(finished.fingerprint)
        if (told := told_apart(fingerprints)) is not None:
            self.warn(told)
        return " ".join(sorted({each for each in fingerprints if each}))

    def _keep(self, unit: Unit, finished: Finished) -> None:
        """Writes the part of a unit; its answers are of no use any more."""
        part = self.files.part(unit.name)
        if finished.points is not None:
            points.write(points.path_of(part), finished.points)
        told = self._metadata(finished.seconds / self.executor.workers, finished.fingerprint)
        told["versions"] = {**told["versions"], "device": finished.device}
        results.write_table(part, finished.rows, told)
        answers.path_of(part).unlink(missing_ok=True)

    def _choose(self) -> Tensor:
        """Positions of the images; the same each time, for a model that draws from torch's own generator too."""
        c, (data, model) = self.config, self.chooser
        if c.image_ids:
            return self.data.positions(c.image_ids)
        with reproducible_kernels(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(hashed(c.seed, 0, "selection"))
            return choose(data, c.images, c.select, c.seed, model.labels)

    def _passes_differ(self, units: Sequence[Unit]) -> bool | None:
        """Whether the defense is on: None where it promises no randomness, else whether 16 passes on an image differ.

        Where they do not on the first image, on any of `SELF_TEST`, and then on the way from each to the next, where
        networks are unsure somewhere: a gate answers as the bare model does where that is sure.
        """
        if not self.config.defense.random or not units:
            return None
        index = [position for unit in units for position in unit.index][:SELF_TEST]
        return self._differ(index[:1], 0.0) or any(self._differ(index, k / WAY) for k in range(WAY))

    def _differ(self, index: Sequence[int], share: float) -> bool:
        """Whether 16 passes differ on any of the images at these positions, moved towards the next by a share."""
        which = torch.tensor(index)
        streams = self.victim.streams(self.config.seed, self.data.ids[which], 0, "self-test")
        x = self.data.pixels(which).to(self.victim.defended.device)
        image = torch.arange(len(index), device=x.device)
        rows = x.lerp(x.roll(1, 0), share)
        found = repeated(self.victim.defended, rows, image, 16, streams, SELF_TEST)
        return any(bool((answers != answers[:, :1]).any()) for _, _, answers in found)

    # -- what a file says of its run -------------------------------------------------------------------------

    def _metadata(self, wall_s: float, fingerprint: str) -> results.Metadata:
        return {
            "id": self.config.run_id,
            "config": self.config.as_dict(),
            "protocol": PROTOCOL,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command_line(),
            "commit": commit(),
            "streams": self.victim.streams_are,
            "unit": self.unit,
            "fingerprint": fingerprint,
            "wall_s": round(wall_s, 3),
            "scales": self._scales(),
            "passes_differ": self.passes_differ,
            "rounding": self.victim.rounding.as_dict(),
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
        options = options_of(spec_of(c.attack), c.preset, c.settings, c.norm)
        probe, search = spec_of(c.attack).scales_at(options, d, c.eps, c.defense.noise)
        told = {"probe": probe, "search": search}
        return told if c.defense.noise == c.defense.sigma else told | {"sigma_all": c.defense.noise}
