"""``snd attack NAME``: run an attack, write Parquet, print what can be claimed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sndcli.cli import options as o

if TYPE_CHECKING:
    from sndcli.cli.output import Shown
    from sndcli.runs.listener import Listener


@dataclass(frozen=True, kw_only=True)
class Attack(o.NoiseOptions, o.AttackOptions):
    """Attack a (defended) classifier and report success at several query budgets.

    Example: snd attack hsja --dataset cifar10 --sigma 0.01 --budget 10000
    """

    def run(self, listener: "Listener") -> "Shown":
        """One run."""
        from sndcli.cli.finished import planned, results
        from sndcli.defenses.parse import parse
        from sndcli.runs.estimate import Planned
        from sndcli.runs.prepare import prepare

        defense = parse(self.defense, self.sigma, self.beta, self.clip, self.defense_weights)
        job = prepare(self.request(defense), listener, self.debug)
        if self.dry_run:
            return planned([Planned(job, defense)])
        return results([job.run(defense)], listener)
