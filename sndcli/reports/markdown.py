"""A report as Markdown that stands by itself, such as the summary of a CI job: the verdict first."""

from __future__ import annotations

from collections.abc import Sequence

from sndcli.analysis.flags import Flag
from sndcli.analysis.summary import Summary
from sndcli.analysis.verdict import GateResult, Verdict
from sndcli.reports import comparison, tables

STATES = {"passed": "held", "failed": "**failed**", "unchecked": "**not checked**", "none": ""}
MOST_FLAGS = 5  # of one name; a report of many runs raises the same flag many times


def summary(verdict: Verdict, rows: Sequence[Summary], method: str = "wilson") -> str:
    """Verdict, gates, baseline, figures, flags and notes; a part that has nothing to say is left out.

    Args:
        verdict: on the report.
        rows: its summaries.
        method: of the intervals.
    """
    sections = comparison.of_baseline(verdict.comparisons)
    parts = {
        "Gates": _gates(verdict.gates),
        "Against the baseline": comparison.markdown(sections) if sections else "",
        "Figures": tables.markdown(rows, method),
        "Flags": _flags(verdict.flags),
        "Notes": "\n".join(f"- {_text(note)}" for note in verdict.notes),
    }
    told = [f"### {title}\n\n{body}" for title, body in parts.items() if body]
    return "\n\n".join([f"## Robustness: {verdict.title.lower()}", _text(verdict.sentence), *told])


def _gates(gates: Sequence[GateResult]) -> str:
    if not gates:
        return ""
    lines = ["| fails if | rows | result |", "| --- | ---: | --- |"]
    lines += [f"| `{_cell(gate.gate)}` | {gate.checked} | {STATES[gate.state]} |" for gate in gates]
    details = [
        f"- `{gate.gate}`: {f.where}: {f.measure} = {f.value:.4g} (n={f.n})" for gate in gates for f in gate.failures
    ]
    details += [f"- {gate.reason}" for gate in gates if gate.reason]
    details += [f"- {gap}" for gate in gates for gap in gate.gaps]
    return "\n".join(lines) + ("\n\n" + "\n".join(_text(line) for line in details) if details else "")


def _flags(flags: Sequence[Flag]) -> str:
    by_name: dict[str, list[Flag]] = {}
    for flag in flags:
        by_name.setdefault(flag.name, []).append(flag)
    lines = []
    for name, members in by_name.items():
        lines += [f"- **{name}**: {flag.where}: {_text(flag.text)}" for flag in members[:MOST_FLAGS]]
        more = len(members) - MOST_FLAGS
        lines += [f"- **{name}**: and {more} more"] if more > 0 else []
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _text(text: str) -> str:
    """In one paragraph, nothing of it taken for HTML."""
    return " ".join(text.split()).replace("<", "&lt;")
