"""``snd audit``: is a defense broken, what does it cost and buy; one battery for all, no options of attacks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o
from sndcli.cli.machines import ShardOptions
from sndcli.cli.options import count, one_of, radii
from sndcli.cli.ranges import COUNT

if TYPE_CHECKING:
    from sndcli.analysis.audit_figures import Gate
    from sndcli.cli.output import Shown
    from sndcli.runs.audit import Audit as Planned
    from sndcli.runs.audited import Audited
    from sndcli.runs.listener import Listener
    from sndcli.runs.request import Request

FORMATS = ("table", "md")
QUICK_IMAGES, QUICK_BUDGET = 30, 2000


@dataclass(frozen=True, kw_only=True)
class Audit(o.NoiseOptions, o.LongTalk, ShardOptions, o.MachineOptions, o.DefenseOptions, o.DataOptions):
    """Attack a defense with the battery snd-1, and say whether it holds, what it costs and how many queries it buys.

    Every attack writes an ordinary result file, so that the same command continues. What is claimed rests on answers
    that no attack and no choice among attacks has seen.

    Example: snd audit --quick --defense aug:shift=2
    """

    access: Annotated[str, typer.Option(help="What the attacker sees.", metavar="labels|scores|both")] = "both"
    images: o.Images = None
    budget: Annotated[
        str | None, typer.Option(help="Queries an image, at most: 10000 or 10k. Default 10k; imagenet 20k.")
    ] = None
    norm: Annotated[str, typer.Option(help="l2 or linf.")] = "l2"
    eps: Annotated[str | None, typer.Option(help="ε, as 1.0 or 8/255. Default as of `snd attack`.")] = None
    reference: o.References = None
    seed: o.Seed = 0
    quick: Annotated[
        bool,
        typer.Option("--quick", help="30 images, 2,000 queries, no published attacks beside; options still count."),
    ] = False
    fail_if: Annotated[
        list[str] | None,
        typer.Option(help="A condition that fails, as 'robust_accuracy.hi < 0.5', flag:NAME or 'verdict == broken'."),
    ] = None
    format: Annotated[str, typer.Option("--format", help="table or md.", metavar="table|md")] = "table"
    out: Annotated[Path, typer.Option(help="A folder. A rerun continues.")] = Path("audits")
    unit: Annotated[int | None, COUNT, typer.Option(help="Images that share a loop and a part file.")] = None
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew.")] = False
    dry_run: o.DryRun = False

    def run(self, listener: "Listener") -> "Shown":
        """The battery, and what follows."""
        from sndcli.analysis import audit_figures
        from sndcli.cli.finished import planned
        from sndcli.cli.shares import shared
        from sndcli.errors import ConfigError
        from sndcli.runs.estimate import Planned as PlannedRun

        one_of(self.format, FORMATS, "--format")
        gates = {text: audit_figures.parse(text, count) for text in self.fail_if or ()}
        if self.out.suffix == ".parquet":
            raise ConfigError("`--out` of an audit is a folder: it writes one file for each attack.")
        plan, part = self.plan(listener), self.part()
        runs = [PlannedRun(job, spec, name=step.name) for step, job, spec in plan.jobs()]
        if self.dry_run:
            return planned(runs)
        with self.spread(runs) as executor:
            plan = replace(plan, executor=executor)
            if part is not None:
                return shared(part, plan.share(part))
            return shown(plan.run(), listener, gates, self.format)

    def plan(self, listener: "Listener") -> "Planned":
        """What is to be audited.

        Raises:
            ConfigError: an option that does not parse or is out of its range.
        """
        from sndcli.runs.audit import Audit as Planned
        from sndcli.runs.battery import ACCESSES as KNOWN
        from sndcli.runs.prepare import open_source

        request = self.request()
        self.check_rounding([request.defense])
        access = one_of(self.access, KNOWN, "--access")
        opened = cache(partial(open_source, request, listener))
        return Planned(
            request=request, access=access, yardsticks=not self.quick, listener=listener, debug=self.debug,
            opened=opened,
        )  # fmt: skip

    def request(self) -> "Request":
        """What all runs have in common.

        Raises:
            ConfigError: an option that does not parse or is out of its range.
        """
        from sndcli.cli.compiling import wished
        from sndcli.defenses.parse import parse
        from sndcli.errors import ConfigError
        from sndcli.runs.request import Request, explained

        eps = radii(self.eps)
        if len(eps) > 1:
            raise ConfigError(f"Expected one `--eps` but got `{self.eps}`.")
        images, budget = self.images, None if self.budget is None else count(self.budget, "--budget")
        if self.quick:
            images, budget = images or QUICK_IMAGES, budget or QUICK_BUDGET
        with explained():
            return Request(
                attack="null", model=self.model, dataset=self.dataset, data_dir=self.data_dir, download=self.download,
                classes=self.classes, skip_broken=self.skip_broken, remote=self.remote(),
                defense=parse(self.defense, self.sigma, self.beta, self.clip, self.defense_weights),
                references=None if self.reference is None else tuple(self.reference),
                norm=one_of(self.norm, o.NORMS, "--norm"), eps=eps, budget=budget, images=images, seed=self.seed,
                unit=self.unit, device=self.device, precision=self.arithmetic(), allow_rounding=self.allow_rounding,
                batch_rows=o.batch_rows(self.batch_size), compiled=wished(self.compiled, self.shard is not None),
                out=self.out, fresh=self.fresh,
            )  # fmt: skip


def shown(audited: "Audited", listener: "Listener", gates: "Mapping[str, Gate]", form: str) -> "Shown":
    """The figures of an audit and its gates; flags are notes."""
    from sndcli.analysis.audit import figures
    from sndcli.analysis.audit_figures import as_dict, check
    from sndcli.analysis.audit_words import flags
    from sndcli.cli.output import Shown
    from sndcli.reports import audit as tables

    found = figures(audited)
    for flag in flags(found):
        listener.note(str(flag))
    failed, unchecked = check(gates, found)
    run = {"ids": [*found.runs], "path": str(audited.path), "images": [*audited.ids]}
    answer = {"schema": 2, "audit": as_dict(found), "run": run}
    body = (lambda: [tables.markdown([found])]) if form == "md" else (lambda: tables.rich_parts(found))
    return Shown(answer, body, failures=tuple(failed), unchecked=tuple(unchecked))
