"""Tables of attacks in Markdown, from what the attacks say of themselves. Those of docs/attacks.md are made here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sndcli.analysis.setting import NORMS
from sndcli.attacks.spec import AttackSpec, Options


def tables(specs: Sequence[AttackSpec[Options]]) -> str:
    """The attacks, their presets, and their ladders, one table after the other."""
    return "\n\n".join([attacks(specs), presets(specs), ladders(specs)])


def attacks(specs: Sequence[AttackSpec[Options]]) -> str:
    """One row an attack; norms in the order of `AttackSpec.norms`, the default first."""
    rows = [[f"`{spec.name}`", spec.summary, spec.access, _norms(spec.norms)] for spec in specs]
    return markdown(("attack", "what", "sees", "norms"), rows)


def presets(specs: Sequence[AttackSpec[Options]]) -> str:
    """One row a preset: whose it is, what it is, and whether it knows that answers may be random."""
    rows = []
    for spec in specs:
        for name, preset in spec.presets.items():
            source = "ours" if preset.ours else preset.source or "–"
            known = "yes" if preset.noise_aware else ""
            rows.append([f"`{spec.name}`", f"`{name}`{_default(spec, name)}", source, preset.note or "–", known])
    return markdown(("attack", "preset", "source", "what it is", "noise-aware"), rows)


def ladders(specs: Sequence[AttackSpec[Options]]) -> str:
    """One row an attack that has more on its ladder than votes."""
    rows = []
    for spec in specs:
        aware = [] if spec.noise_aware() else [name for name in spec.presets if spec.noise_aware(name)]
        others = [f"{name} {preset}" if preset else name for name, preset in spec.relatives.items()]
        cells = [_code(spec.wider), _code([spec.floor.format("σ")] if spec.floor else ()), _code(aware), _code(others)]
        if any(cells):
            rows.append([f"`{spec.name}`", *(cell or "–" for cell in cells)])
    return markdown(("attack", "wider probes", "searches end at σ", "presets that know", "other attacks"), rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines).replace("|  |", "| |")


def _default(spec: AttackSpec[Options], preset: str) -> str:
    """In which norms a run without ``--preset`` takes it."""
    norms = [norm for norm in spec.norms if spec.default_preset(norm) == preset]
    if not norms:
        return ""
    return " (default)" if len(norms) == len(spec.norms) else f" (default of {_norms(norms)})"


def _norms(norms: Iterable[str]) -> str:
    return ", ".join(NORMS.get(norm, norm) for norm in norms)


def _code(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)
