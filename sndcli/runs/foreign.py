"""A look at the defenses of other people before they are run: what breaks the figures is refused, the rest is told."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sndcli.defenses.base import Defense
from sndcli.defenses.conformance import ANEW, ROW, checks_of
from sndcli.defenses.parse import NAMES, DefenseSpec
from sndcli.errors import ConfigError
from sndcli.runs.victim import Victim

COPIES = 8  # of one image, in each of the few passes
TOLD = (ROW, ANEW)  # weak, and perhaps meant so: figures are still those of the seed


def check_foreign(spec: DefenseSpec, victim: Victim, warn: Callable[[str], None]) -> None:
    """Makes the checks of ``snd doctor --defense`` behind the model itself, on one image of noise.

    A model that draws by itself hides what its defense does, so nothing is looked at there.

    Args:
        spec: of the defense; one that is ours throughout is not looked at.
        victim: fit to the data.
        warn: told in one line what does not hold but harms no figure.

    Raises:
        ConfigError: the same command would give other figures each time, or an image's depend on its batch.
    """
    foreign = [name for name in spec.names if name not in NAMES]
    made = victim.defended.model
    if not foreign or victim.bare is None or not isinstance(made, Defense):
        return
    x = torch.rand(1, *victim.model.input_size, generator=torch.Generator().manual_seed(0))
    failed = [
        check for check in checks_of(made, x.repeat(COPIES, 1, 1, 1).to(victim.defended.device)) if not check.good
    ]
    if "pni-shared" in spec.names:
        failed = [check for check in failed if check.name not in TOLD]
    more = f"`snd doctor --defense {foreign[-1]}` says more."
    grave = [check for check in failed if check.name not in TOLD]
    if grave:
        raise ConfigError(f"The defense `{spec.name}` does not keep this: {grave[0].name}. {grave[0].advice}.\n{more}")
    if failed:
        warn(f"the defense `{spec.name}` does not keep this: {failed[0].name}. {more}")
