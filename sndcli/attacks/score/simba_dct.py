"""SimBA-DCT: SimBA (`simba`, whose file says what differs from the authors' code) along DCT directions."""

from __future__ import annotations

from sndcli.attacks.score.simba import AWARE, FITTED, SOURCE, Options, run, scales
from sndcli.attacks.spec import AttackSpec, Preset

SPEC = AttackSpec(
    name="simba-dct",
    access="scores",
    norms=("l2",),
    presets={
        "dct": Preset(Options(basis="dct", order="auto"), source=SOURCE, note="steps of 0.2, no projection"),
        "dct-fitted": Preset(Options(epsilon=0.05, relative=True, basis="dct", order="auto"), ours=True, note=FITTED),
        "dct-na": Preset(
            Options(basis="dct", order="strided", draws=4, requery=True, confirm=25),
            noise_aware=True,
            ours=True,
            note=f"{AWARE}; low frequencies first at every size",
        ),
    },
    summary="SimBA along low-frequency DCT directions",
    run=run,
    scales=scales,
    wider=("epsilon=0.5",),
)
